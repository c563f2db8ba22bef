"""From recognised files to the two sections of a profile: which file is what, and how files are joined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb

from shelfkin.drafting import id_join
from shelfkin.drafting.field_names import event_word, word_list, words_of
from shelfkin.drafting.id_join import Join
from shelfkin.drafting.recognise import CATALOG_FIELDS, EVENT_FIELDS, Recognised
from shelfkin.drafting.shop_file import literal, quoted
from shelfkin.errors import SourceError


@dataclass
class Section:
    """One section of a profile, `catalog` or `events`.

    Attributes
    ----------
    files
        What it is read from; the first holds the fields.
    fields
        Column of each field, of the file or of the query's result.
    also
        Further fields that the query must give: those of a catalogue that is derived from the events.
    selected, join, wheres, fill_down, unions
        Pieces of a query; without any, and with one flat file, none is needed.
    keys
        Further keys of the section.
    saw, unsure
        Sentences for the comments, by field where they are about one.
    """

    files: list[Recognised]
    fields: dict[str, Any] = field(default_factory=dict)
    also: dict[str, Any] = field(default_factory=dict)
    selected: dict[str, str] = field(default_factory=dict)
    join: str = ""
    wheres: dict[str, str] = field(default_factory=dict)
    fill_down: str | None = None
    unions: list[Recognised] = field(default_factory=list)
    stands_in_for_title: bool = False
    type_by_file: bool = False
    keys: dict[str, Any] = field(default_factory=dict)
    saw: list[str] = field(default_factory=list)
    unsure: list[str] = field(default_factory=list)

    @property
    def main(self) -> Recognised:
        """The file that holds the fields."""
        return self.files[0]

    @property
    def needs_query(self) -> bool:
        """Whether the files can't be read as they are."""
        shaped = self.wheres or self.fill_down or self.selected or self.stands_in_for_title
        return bool(len(self.files) > 1 or shaped or self.main.file.nested)


@dataclass
class Plan:
    """What a draft says."""

    catalog: Section
    events: Section | None
    catalog_from_events: bool
    unused: list[str]
    join: Join | None = None
    currency: str | None = None
    unsure: list[str] = field(default_factory=list)


def make_plan(session: duckdb.DuckDBPyConnection, files: Sequence[Recognised]) -> Plan:
    """Decide which file is catalogue, events, or orders and lines to be joined.

    Raises
    ------
    SourceError
        No file holds anything like a product id.
    """
    events = _events(session, files)
    used = [id(each) for each in events.files] if events else []
    catalogues = [each for each in files if id(each) not in used and each.is_catalogue]
    if not catalogues and events is None:
        catalogues = [each for each in files if each.has("product_id")]
    join = None
    if catalogues:
        best = catalogues[0]
        if events is not None:
            joins = [(_product_join(session, events, each), each) for each in catalogues]
            join, best = max(joins, key=lambda each: (each[0].share if each[0] else 0.0, each[1].has("title")))
        else:
            best = max(catalogues, key=lambda each: (each.has("title"), len(each.fields)))
        catalog = _catalog(session, best, join)
        if events is not None:
            _apply(join, catalog, events)
    elif events is not None:
        catalog = Section(events.files)
    else:
        seen = "; ".join(f"{each.file.path}: {', '.join(each.facts)}" for each in files)
        raise SourceError(
            f"No column looks like a product id. Columns: {seen[:600]}",
            next_step="Describe the shop by hand: include/stores/examples holds profiles to start from.",
        )
    used += [id(each) for each in catalog.files]
    plan = Plan(catalog, events, not catalogues, [each.file.path for each in files if id(each) not in used], join)
    _name_fields(plan)
    if "title" not in catalog.fields:
        catalog.fields["title"] = "title"
        (events if plan.catalog_from_events and events else catalog).stands_in_for_title = True
        plan.unsure.append("no column holds titles: brand and category, or else the id, stand in")
    if plan.catalog_from_events and events is not None:
        events.also = {name: column for name, column in catalog.fields.items() if name not in events.fields}
    plan.currency = _currency(plan)
    return plan


def _events(session: duckdb.DuckDBPyConnection, files: Sequence[Recognised]) -> Section | None:
    direct = [each for each in files if each.is_events]
    if direct:
        section = Section([max(direct, key=lambda each: (each.has("event_type"), each.file.rows))])
        others = [each for each in direct if each is not section.main]
        section.unions = others
        section.files += others
        section.type_by_file = bool(others) and not any(each.has("event_type") for each in direct)
    else:
        pair = _orders_and_lines(session, files)
        if pair is None:
            return None
        section = pair
    main = section.main
    _fill_down_events(session, section)
    if main.has("order_status"):
        lost = [value for value, _ in main.fact("order_status").top if event_word(value) == "lost_orders"]
        if lost:
            _leave_out(section, "order_status", main, lost)
    return section


def _orders_and_lines(session: duckdb.DuckDBPyConnection, files: Sequence[Recognised]) -> Section | None:
    """Return order lines joined to the orders that tell who and when."""
    best: tuple[Join, Recognised, Recognised] | None = None
    for lines in files:
        if not lines.has("product_id"):
            continue
        for orders in files:
            if orders is lines or not (orders.has("user_id") or orders.has("occurred_at")):
                continue
            join = id_join.best_join(
                session,
                (lines.file.name, lines.candidates("order_id")[:3]),
                (orders.file.name, orders.candidates("order_id")[:3]),
            )
            if join and join.share > 0.5 and (best is None or join.share > best[0].share):
                best = (join, lines, orders)
    if best is None:
        return None
    join, lines, orders = best
    section = Section([lines, orders])
    left, right = lines.file.name, orders.file.name
    one, other = (f"{left}.{quoted(join.left)}", f"{right}.{quoted(join.right)}")
    section.join = f"JOIN {right} ON {join.spark(one) or one} = {join.spark(other) or other}"
    section.saw.append(
        f"{join.share:.0%} of the lines of {left} name an order of {right} ({join.left} = {join.right}, {join.rule})"
    )
    lines.fields["order_id"] = join.left
    for name in EVENT_FIELDS:
        # Who and when are the order's; what and how many are the line's.
        source = orders if orders.has(name) and (name in ("user_id", "occurred_at") or not lines.has(name)) else lines
        if name == "product_id" or not source.has(name) or (source is orders and name in ("price", "quantity")):
            source = lines
        if source.has(name):
            section.selected[name] = f"{source.file.name}.{quoted(source.fields[name])}"
    if orders.has("order_status"):
        lost = [value for value, _ in orders.fact("order_status").top if event_word(value) == "lost_orders"]
        if lost:
            _leave_out(section, "order_status", orders, lost)
    return section


def _in_template(value: str) -> str:
    return literal(value).replace("{", "{{").replace("}", "}}")


def _leave_out(section: Section, name: str, of: Recognised, values: list[str]) -> None:
    listed = ", ".join(_in_template(value.lower()) for value in values)
    section.wheres[name] = f"lower(coalesce({{}}, '')) NOT IN ({listed})"
    section.unsure.append(f"orders whose {of.fields[name]} is {', '.join(values)} are left out")


def _fill_down_events(session: duckdb.DuckDBPyConnection, section: Section) -> None:
    """Find fields that only the first line of an order has."""
    main = section.main
    if section.join or not main.has("order_id"):
        return
    blank = [
        name
        for name in ("user_id", "occurred_at", "order_status")
        if main.has(name) and main.fact(name).filled_share < 0.95
    ]
    key = main.fields["order_id"]
    filled = [name for name in blank if id_join.group_key(session, main.file.name, main.fields[name], [key])]
    if filled and main.fact("order_id").filled_share > 0.99:
        section.fill_down = key
        section.saw.append(
            f"{', '.join(main.fields[name] for name in filled)}: only on the first line of each {key}, filled down"
        )


def _product_join(session: duckdb.DuckDBPyConnection, events: Section, catalogue: Recognised) -> Join | None:
    main = events.main
    known = main.file.source.get("header", True)
    left = (
        main.candidates("product_id")[:4] if known else [name for name in main.facts if main.facts[name].distinct > 1]
    )
    first = main.fields.get("product_id")
    left = [*([first] if first else []), *[each for each in left if each != first]]
    mine = catalogue.fields["product_id"]
    further = [name for name, facts in catalogue.facts.items() if facts.distinct_share > 0.5 and facts.length <= 40]
    right = [mine, *[each for each in dict.fromkeys((*catalogue.candidates("product_id"), *further)) if each != mine]]
    return id_join.best_join(session, (main.file.name, left), (catalogue.file.name, right[:8]))


def _catalog(session: duckdb.DuckDBPyConnection, best: Recognised, join: Join | None) -> Section:
    section = Section([best])
    if join:
        _take(best, "product_id", join.right)
    _levels(best)
    if best.has("title") and best.fact("title").filled_share < 0.9:
        groups = [
            name for name, facts in best.facts.items() if facts.filled_share > 0.99 and facts.distinct < facts.rows
        ]
        key = id_join.group_key(session, best.file.name, best.fields["title"], groups)
        if key:
            section.fill_down = key
            section.saw.append(f"{best.fields['title']}: only on the first row of each {key}, filled down")
            section.wheres["product_id"] = "nullif(trim({}), '') IS NOT NULL"
    if best.has("language") and best.fact("product_id").distinct_share < 0.9 and len(best.fact("language").top) > 1:
        facts = best.fact("language")
        chosen = facts.examples[0] if dict(facts.top)[facts.examples[0]] >= 0.9 * facts.top[0][1] else facts.top[0][0]
        section.wheres["language"] = "{} = " + _in_template(chosen)
        section.unsure.append(
            f"one row per product and {facts.name}: {', '.join(value for value, _ in facts.top)}; {chosen} is taken"
        )
    return section


def _levels(found: Recognised) -> None:
    """Take categories in several columns (category1, category2; Kategorie, Unterkategorie) as one path."""
    first = found.fields.get("category_path")
    if first is None or not found.file.source.get("header", True):
        return
    stem = first.rstrip("0123456789 _-").lower()
    levels = [name for name in found.facts if name.rstrip("0123456789 _-").lower() == stem]
    sub = [
        name
        for name in found.facts
        if name.lower() in (f"sub{stem}", f"sub_{stem}", f"sub-{stem}", f"unter{stem}", f"sub {stem}", f"sous_{stem}")
    ]
    if len(levels) + len(sub) > 1:
        found.fields["category_path"] = [*sorted(levels), *sub]  # type: ignore[assignment]


def _take(found: Recognised, name: str, column: str) -> None:
    """Give a field another column; who had it goes without."""
    if found.fields.get(name) == column:
        return
    taken = next((other for other, each in found.fields.items() if each == column), None)
    previous = found.fields.get(name)
    if taken is not None:
        del found.fields[taken]
        if taken in ("user_id", "order_id") and previous:
            found.fields[taken] = previous
    found.fields[name], found.scores[name] = column, 1.0


def _apply(join: Join | None, catalog: Section, events: Section) -> None:
    """Write both sides' ids alike."""
    if join is None:
        return
    _take(events.main, "product_id", join.left)
    if "product_id" in events.selected:
        events.selected["product_id"] = f"{events.main.file.name}.{quoted(join.left)}"
    if join.rule == "in one case":
        catalog.keys["product_id"] = {"case": "upper"}
    elif join.rule == "without .0":
        catalog.keys["product_id"] = {"strip_suffix": ".0"}
    elif join.rule != "as they are":
        for section, column in ((catalog, join.right), (events, join.left)):
            expression = section.selected.get("product_id") or section.main.file.expressions[column]
            section.selected["product_id"] = str(join.spark(expression))


def _name_fields(plan: Plan) -> None:
    """Name every field's column, as the file or the query has it."""
    # Order lines tell of the price and the time anyway.
    of_catalog = CATALOG_FIELDS[:5] if plan.catalog_from_events else CATALOG_FIELDS
    sections: list[tuple[Section, tuple[str, ...]]] = [(plan.catalog, of_catalog)]
    if plan.events:
        sections.append((plan.events, EVENT_FIELDS))
    for section, names in sections:
        for name in names:
            holder = source_of(section, name) or next((each for each in section.unions if each.has(name)), None)
            if holder is not None:
                section.fields[name] = holder.fields[name]
    if plan.events:
        user = source_of(plan.events, "user_id")
        if user and user.fact("user_id").share["float_like"] >= 0.9:
            plan.events.keys["user_id"] = {"strip_suffix": ".0"}
        _times(plan.events)
        _types(plan.events)


def source_of(section: Section, name: str) -> Recognised | None:
    """Return the file that a field is read from."""
    if section.join and section.selected.get(name, "").startswith(f"{section.files[1].file.name}."):
        return section.files[1]
    return section.main if section.main.has(name) else None


def _times(section: Section) -> None:
    holder = source_of(section, "occurred_at")
    found = holder.time() if holder else None
    if holder is None or found is None:
        section.unsure.append("occurred_at: its times could not be read; set timestamp_format")
        return
    pattern = found.pattern
    column = holder.fields["occurred_at"]
    if (
        holder.has("time_of_day")
        and not any(":" in value for value in holder.fact("occurred_at").examples[:20])
        and found.kind != "seconds since 1970"
    ):
        clock = holder.fields["time_of_day"]
        seconds = ":ss" if holder.fact("time_of_day").examples[0].count(":") == 2 else ""
        prefix = f"{holder.file.name}." if section.join else ""
        section.selected["occurred_at"] = f"concat({prefix}{quoted(column)}, ' ', {prefix}{quoted(clock)})"
        section.saw.append(f"date and time of day stand in two columns, {column} and {clock}")
        pattern = f"{pattern} H:mm{seconds}" if pattern else None
    if pattern:
        section.keys["timestamp_format"] = pattern
    section.saw.append(f"times: {found.kind}, from {found.first} to {found.last} in a sample")
    if found.doubt:
        section.unsure.append(found.doubt)


def _types(section: Section) -> None:
    """Draft the event types, with their weights, from the words of the type column."""
    if section.type_by_file:
        section.fields["event_type"] = "event_type"
        kinds = dict.fromkeys(type_of_file(each) for each in section.files)
        section.keys["event_types"] = {kind: _weight_of(kind) for kind in kinds}
        section.unsure.append(f"event types are told by the names of the files: {', '.join(kinds)}")
        return
    if not section.main.has("event_type"):
        section.keys["event_types"] = {"purchase": {"weight": 1.0, "half_life_days": 120}}
        return
    by_kind: dict[str, list[str]] = {}
    for value, _ in section.main.fact("event_type").top:
        by_kind.setdefault(event_word(value) or "unknown", []).append(value)
    types: dict[str, Any] = {}
    for kind in ("purchase", "cart", "wishlist", "view"):
        if kind in by_kind:
            types[kind] = _weight_of(kind)
            aliases = [value for value in by_kind[kind] if value.lower() != kind]
            if aliases:
                types[kind]["aliases"] = aliases
    section.keys["event_types"] = types
    ignored = [*by_kind.get("ignore", []), *by_kind.get("lost_orders", []), *by_kind.get("unknown", [])]
    if ignored:
        section.keys["ignore"] = ignored
    if by_kind.get("unknown"):
        section.unsure.append(
            f"event types {', '.join(by_kind['unknown'])} are ignored, for nothing here knows them; "
            "name those that count under event_types"
        )


def _weight_of(kind: str) -> dict[str, Any]:
    return {"weight": word_list("event_words")[kind]["weight"], "half_life_days": 120 if kind == "purchase" else 30}


def type_of_file(of: Recognised) -> str:
    """Return the event type that a file's name tells."""
    words = [event_word(word) for word in words_of(of.file.path.rpartition("/")[2])]
    return next((word for word in words if word not in (None, "ignore", "lost_orders")), None) or "purchase"


def _currency(plan: Plan) -> str | None:
    for section in (plan.catalog, plan.events):
        for found in section.files if section else ():
            if found.has("currency"):
                top = found.fact("currency").top
                if len(top) > 1:
                    plan.unsure.append(
                        f"currency: {', '.join(value for value, _ in top[:5])} occur; the first is the most frequent"
                    )
                code = top[0][0].upper() if top else ""
                if len(code) == 3 and code.isalpha():
                    return code
            if found.has("price"):
                signs = {
                    "€": "EUR",
                    "£": "GBP",
                    "₹": "INR",
                    "₽": "RUB",
                    "₺": "TRY",
                    "zł": "PLN",
                    "Kč": "CZK",
                    "R$": "BRL",
                    "円": "JPY",
                    "元": "CNY",
                    "원": "KRW",
                }
                text = " ".join([*found.fact("price").examples[:50], found.fields["price"]])
                words = [
                    word
                    for word in text.replace("(", " ").replace(")", " ").replace("_", " ").upper().split()
                    if word in ("EUR", "USD", "GBP", "CHF", "PLN", "SEK", "DKK", "NOK", "CZK", "JPY")
                ]
                code = words[0] if words else next((code for sign, code in signs.items() if sign in text), "")
                if code:
                    return code
    plan.unsure.append("currency: the files don't name it")
    return None


def decimal_mark(found: Recognised, names: Sequence[str]) -> str | None:
    """Return the decimal mark that numbers prove, None where the reader's own guess is right or nothing proves it."""
    proof = {",": 0, ".": 0}
    for name in names:
        if not found.has(name):
            continue
        for value in found.fact(name).examples:
            digits = "".join(letter for letter in value if letter in "0123456789.,")
            last = max(digits.rfind("."), digits.rfind(","))
            if last >= 0 and (len(digits) - last - 1 != 3 or len(set(digits) & {".", ","}) == 2):
                proof[digits[last]] += 1
    if proof[","] and not proof["."]:
        return ","
    return "." if proof["."] and not proof[","] and _grouped(found, names) else None


def _grouped(found: Recognised, names: Sequence[str]) -> bool:
    return any("," in value for name in names if found.has(name) for value in found.fact(name).examples)
