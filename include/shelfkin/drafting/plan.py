"""From recognised files to the two sections of a profile: which file is what, and how files are joined."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb

from shelfkin.drafting import id_join
from shelfkin.drafting.column_facts import ColumnFacts
from shelfkin.drafting.field_names import event_word, is_lost, word_list, words_of
from shelfkin.drafting.id_join import Join
from shelfkin.drafting.recognise import CATALOG_FIELDS, EVENT_FIELDS, Recognised
from shelfkin.drafting.shop_file import ShopFile, ident, literal, quoted
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
    unused: list[ShopFile]
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
    _unnamed_ids(session, files)
    events = _events(session, files)
    used = [id(each) for each in events.files] if events else []
    unused = [each for each in files if id(each) not in used]
    catalogues = [each for each in unused if each.is_catalogue]
    if not catalogues and events is None:
        catalogues = [each for each in files if each.has("product_id")]
    joins = []
    if events is not None:
        joins = [(_product_join(session, events, each), each) for each in catalogues]
        # Whatever its ids are called: a file with titles whose ids the events name is the catalogue.
        nameless = [each for each in unused if each.has("title") and not each.has("product_id")]
        found = [(_product_join(session, events, each), each) for each in nameless]
        joins += [(each, of) for each, of in found if each and each.share > 0.5]
        catalogues = [of for _, of in joins]
    join = None
    if catalogues:
        if joins:
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
    plan = Plan(catalog, events, not catalogues, [each.file for each in files if id(each) not in used], join)
    _name_fields(session, plan)
    if "title" not in catalog.fields:
        catalog.fields["title"] = "title"
        (events if plan.catalog_from_events and events else catalog).stands_in_for_title = True
        plan.unsure.append("no column holds titles: brand and category, or else the id, stand in")
    if plan.catalog_from_events and events is not None:
        events.also = {name: column for name, column in catalog.fields.items() if name not in events.fields}
    plan.currency = _currency(plan)
    return plan


def _unnamed_ids(session: duckdb.DuckDBPyConnection, files: Sequence[Recognised]) -> None:
    """Find product ids by what they name, where no log's column is called so: it names rows of a file with titles."""
    if any(each.is_events or each.is_lines for each in files):
        return
    for log in (each for each in files if each.has("user_id", "occurred_at") and not each.has("product_id")):
        free = [name for name in log.facts if name not in log.fields.values()]
        for catalogue in (each for each in files if each is not log and each.has("title")):
            # Small figures may be among the ids by chance: many different ones hardly.
            several = [name for name in free if log.facts[name].distinct > max(4, catalogue.file.rows / 5)]
            join = id_join.best_join(session, (log.file.name, several), (catalogue.file.name, _ids(catalogue)))
            if join and join.share > 0.9:
                log.fields["product_id"], log.scores["product_id"] = join.left, 0.3
                catalogue.fields.setdefault("product_id", join.right)
                catalogue.scores.setdefault("product_id", 0.3)
                return


def _events(session: duckdb.DuckDBPyConnection, files: Sequence[Recognised]) -> Section | None:
    direct = [each for each in files if each.is_events]
    pair = None if direct else _orders_and_lines(session, files)
    if pair is None:
        direct = direct or [each for each in files if each.is_receipts]
    if direct:
        section = Section([max(direct, key=lambda each: (each.has("event_type"), each.file.rows))])
        others = [each for each in direct if each is not section.main]
        section.unions = others
        section.files += others
        section.type_by_file = bool(others) and not any(each.has("event_type") for each in direct)
    elif pair is not None:
        section = pair
    else:
        return None
    main = section.main
    _fill_down_events(session, section)
    _lost_orders(section, main)
    _low_ratings(section, main)
    _parts(section, main)
    blank = 1 - main.fact("product_id").filled_share
    if blank >= 0.05 and not section.fill_down:
        section.wheres["product_id"] = "nullif(trim({}), '') IS NOT NULL"
        section.unsure.append(
            f"{blank:.0%} of the rows of {main.file.name} have no {main.fields['product_id']} and are left out: "
            "shipping, fees, coupons?"
        )
    return section


def _lost_orders(section: Section, holder: Recognised) -> None:
    """Leave out orders that never became a purchase."""
    if holder.has("order_status"):
        lost = [value for value, _ in holder.fact("order_status").top if is_lost(value)]
        if lost:
            listed = ", ".join(_in_template(value.lower()) for value in lost)
            section.wheres["order_status"] = f"lower(coalesce({{}}, '')) NOT IN ({listed})"
            section.unsure.append(f"orders whose {holder.fields['order_status']} is {', '.join(lost)} are left out")


def _parts(section: Section, lines: Recognised) -> None:
    """Leave out lines that are a part of another line."""
    if lines.has("parent_line"):
        name = lines.fields["parent_line"]
        nothing = word_list("field_names")["parent_line"]["nothing"]
        section.wheres["parent_line"] = f"coalesce(trim({{}}), '') IN ({', '.join(map(_in_template, nothing))})"
        section.unsure.append(f"lines with a {name} are left out, as parts of another line")


def _low_ratings(section: Section, main: Recognised) -> None:
    """Leave out what people rated badly: an event says that somebody liked a product."""
    if main.has("rating") and not main.has("event_type"):
        name = main.fields["rating"]
        best = max(float(value.replace(",", ".")) for value, _ in main.fact("rating").top)
        section.wheres["rating"] = f"try_cast(replace({{}}, ',', '.') AS DOUBLE) >= {0.7 * best:g}"
        section.unsure.append(f"events whose {name} is below {0.7 * best:g} are left out: not liked")


def _orders_and_lines(session: duckdb.DuckDBPyConnection, files: Sequence[Recognised]) -> Section | None:
    """Return order lines joined to the orders that tell who and when."""
    best: tuple[Join, Recognised, Recognised] | None = None
    for lines in files:
        if not lines.has("product_id"):
            continue
        for orders in files:
            if orders is lines or not (orders.has("user_id") or orders.has("occurred_at")):
                continue
            numbers = orders.candidates("order_id")[:3]
            numbers += [each for each in _ids(orders) if each not in numbers][:5]
            join = id_join.best_join(
                session, (lines.file.name, lines.candidates("order_id")[:3]), (orders.file.name, numbers)
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
    _lost_orders(section, orders)
    _parts(section, lines)
    return section


def _ids(of: Recognised) -> list[str]:
    """Return columns that may tell the rows of a file apart, whatever their names."""
    return [name for name, facts in of.facts.items() if facts.distinct_share > 0.95 and facts.length <= 40]


def _in_template(value: str) -> str:
    return literal(value).replace("{", "{{").replace("}", "}}")


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
    if main.file.source.get("header", True):
        free = [name for name in main.facts if name not in main.fields.values()]
        several = [name for name in free if main.facts[name].distinct > max(4, catalogue.file.rows / 5)]
        left = list(dict.fromkeys((main.fields["product_id"], *main.candidates("product_id")[:4], *several[:4])))
    else:
        # Figures of users may be among those of products: the ids are those of which there are as many.
        several = [name for name in main.facts if main.facts[name].distinct > 1]
        left = sorted(several, key=lambda name: abs(main.facts[name].distinct - catalogue.file.rows))
    known = [catalogue.fields["product_id"]] if catalogue.has("product_id") else []
    further = [name for name, facts in catalogue.facts.items() if facts.distinct_share > 0.5 and facts.length <= 40]
    right = list(dict.fromkeys((*known, *catalogue.candidates("product_id"), *further)))
    return id_join.best_join(session, (main.file.name, left), (catalogue.file.name, right[:8])) if right else None


def _catalog(session: duckdb.DuckDBPyConnection, best: Recognised, join: Join | None) -> Section:
    section = Section([best])
    if join:
        _take(best, "product_id", join.right)
    _levels(best)
    if isinstance(best.fields.get("category_path"), str):
        _parallel(section, best.fact("category_path"))
    if best.has("title") and best.fact("title").filled_share < 0.9:
        groups = [
            name for name, facts in best.facts.items() if facts.filled_share > 0.99 and facts.distinct < facts.rows
        ]
        key = id_join.group_key(session, best.file.name, best.fields["title"], groups)
        if key:
            section.fill_down = key
            section.saw.append(f"{best.fields['title']}: only on the first row of each {key}, filled down")
            section.wheres["product_id"] = "nullif(trim({}), '') IS NOT NULL"
    if not section.fill_down and not best.has("language") and best.fact("product_id").distinct_share < 0.5:
        section.unsure.append(
            f"each {best.fields['product_id']} comes several times: perhaps these are events, without times"
        )
    if best.has("language") and best.fact("product_id").distinct_share < 0.9 and len(best.fact("language").top) > 1:
        facts = best.fact("language")
        chosen = facts.examples[0] if dict(facts.top)[facts.examples[0]] >= 0.9 * facts.top[0][1] else facts.top[0][0]
        section.wheres["language"] = "{} = " + _in_template(chosen)
        section.unsure.append(
            f"one row per product and {facts.name}: {', '.join(value for value, _ in facts.top)}; {chosen} is taken"
        )
    return section


def _parallel(section: Section, facts: ColumnFacts) -> None:
    """Find commas or bars between several categories of one product: "Shop/Men,Shop/Men/Shirts"."""
    for separator in (",", "|"):
        split = [[part.strip() for part in value.split(separator)] for value in facts.examples]
        several = [parts for parts in split if len(parts) > 1]
        levels = next(
            (each for each in (" > ", ">", "/") if any(each in part for parts in split for part in parts)), ""
        )
        if not levels or len(several) < 0.2 * len(split):
            continue
        tops = {parts[0].split(levels)[0] for parts in split}
        if all(part.split(levels)[0] in tops for parts in several for part in parts):
            section.keys["parallel_separator"] = separator
            section.saw.append(f"{facts.name}: {separator!r} stands between several categories of a product")
            return


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


def _name_fields(session: duckdb.DuckDBPyConnection, plan: Plan) -> None:
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
    updated = plan.catalog.main.time("updated_at") if "updated_at" in plan.catalog.fields else None
    if updated and updated.pattern:
        plan.catalog.keys["timestamp_format"] = updated.pattern
    if plan.events:
        user = source_of(plan.events, "user_id")
        if user is None:
            plan.events.selected["user_id"] = "CAST(NULL AS STRING)"
            plan.events.fields["user_id"] = "user_id"
            plan.unsure.append(
                "user_id: no column holds customers. Without them there are no personal lists; "
                "put an expression in place of NULL, such as concat(first_name, ' ', last_name)"
            )
        if user and user.fact("user_id").share["float_like"] >= 0.9:
            plan.events.keys["user_id"] = {"strip_suffix": ".0"}
        if user:
            _guests(session, plan.events, user)
        _quantities(plan.events)
        _times(plan.events)
        _types(session, plan.events)


def _guests(session: duckdb.DuckDBPyConnection, section: Section, holder: Recognised) -> None:
    """Find what stands in place of a customer, or beside one, where somebody came without an account."""
    name, words = holder.fields["user_id"], word_list("field_names")["guests"]
    counted = session.execute(
        f"SELECT lower({ident(name)}) AS user, count(*) AS n FROM {ident(holder.file.name)} "
        f"WHERE {ident(name)} IS NOT NULL GROUP BY 1 ORDER BY n DESC, 1 LIMIT 50"
    ).fetchall()
    facts = holder.fact("user_id")
    often = 5 * facts.filled_share * holder.file.rows / max(1, facts.distinct)
    guests = [user for user, n in counted if user in words["words"] or (user in words["figures"] and n > often)]
    devices = [each for each in holder.candidates("user_id") if set(words_of(each)) & set(words["devices"])]
    column = _of_holder(section, holder, name)
    if guests:
        listed = ", ".join(literal(user) for user in guests)
        column = f"CASE WHEN lower({column}) NOT IN ({listed}) THEN {column} END"
        section.unsure.append(f"{name} {', '.join(guests)} is taken for guests: events of nobody in particular")
    if devices and devices[0] != name and (guests or facts.filled_share < 0.95):
        column = f"coalesce({column}, {_of_holder(section, holder, devices[0])})"
        section.unsure.append(f"user_id: where {name} is empty, {devices[0]} stands for the person")
    if column != _of_holder(section, holder, name):
        section.selected["user_id"] = column


def _quantities(section: Section) -> None:
    """Count one piece where a file counts none: of a product that was viewed, say."""
    holder = source_of(section, "quantity")
    if holder and holder.fact("quantity").filled_share < 0.95:
        name = holder.fields["quantity"]
        section.selected["quantity"] = f"coalesce(CAST({_of_holder(section, holder, name)} AS STRING), '1')"
        section.unsure.append(f"quantity: where {name} is empty, one piece is counted")


def _of_holder(section: Section, holder: Recognised, name: str) -> str:
    """Return a column in Spark SQL."""
    return f"{holder.file.name}.{quoted(name)}" if section.join else holder.file.expressions[name]


def source_of(section: Section, name: str) -> Recognised | None:
    """Return the file that a field is read from."""
    if section.join and section.selected.get(name, "").startswith(f"{section.files[1].file.name}."):
        return section.files[1]
    return section.main if section.main.has(name) else None


def _times(section: Section) -> None:
    holder = source_of(section, "occurred_at")
    found = holder.time() if holder else None
    if holder is None:
        section.selected["occurred_at"] = "CAST(NULL AS TIMESTAMP)"
        section.fields["occurred_at"] = "occurred_at"
        section.unsure.append(
            "occurred_at: no column holds times, and without them no event counts. Put an expression in place of NULL, "
            "such as date_add(DATE '2024-01-01', CAST(order_number AS INT)) where only the order of events is known"
        )
        return
    if found is None:
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
        written = holder.fact("time_of_day").examples[0]
        seconds = ":ss" if written.count(":") == 2 else ""
        of_day = f" h:mm{seconds} a" if written[-1:] in "mM" else f" H:mm{seconds}"
        prefix = f"{holder.file.name}." if section.join else ""
        section.selected["occurred_at"] = f"concat({prefix}{quoted(column)}, ' ', {prefix}{quoted(clock)})"
        section.saw.append(f"date and time of day stand in two columns, {column} and {clock}")
        pattern = f"{pattern or 'yyyy-M-d'}{of_day}" if pattern or " a" in of_day else None
    if pattern:
        section.keys["timestamp_format"] = pattern
    section.saw.append(f"times: {found.kind}, from {found.first} to {found.last} in a sample")
    if found.doubt:
        section.unsure.append(found.doubt)


def _types(session: duckdb.DuckDBPyConnection, section: Section) -> None:
    """Draft the event types, with their weights, from the words of the type column."""
    if section.type_by_file:
        section.fields["event_type"] = "event_type"
        kinds = dict.fromkeys(type_of_file(each) for each in section.files)
        section.keys["event_types"] = {kind: _weight_of(kind) for kind in kinds}
        section.unsure.append(f"event types are told by the names of the files: {', '.join(kinds)}")
        return
    main = section.main
    if not main.has("event_type"):
        section.keys["event_types"] = {"purchase": _weight_of("purchase")}
        return
    by_kind: dict[str, list[str]] = {}
    for value, _ in main.fact("event_type").top:
        by_kind.setdefault(event_word(value) or "unknown", []).append(value)
    returns = by_kind.pop("returns", [])
    if returns and _all_negative(session, main, returns):
        by_kind.setdefault("purchase", []).extend(returns)
        section.saw.append(f"{', '.join(returns)}: quantities are negative, and take back what was bought")
    else:
        by_kind.setdefault("ignore", []).extend(returns)
    if not by_kind.keys() & _KINDS:
        _unknown_types(section, by_kind)
    types: dict[str, Any] = {}
    for kind in _KINDS:
        if kind in by_kind:
            types[kind] = _weight_of(kind)
            aliases = [value for value in by_kind[kind] if value.lower() != kind]
            if aliases:
                types[kind]["aliases"] = aliases
    section.keys["event_types"] = types
    ignored = [value for kind in ("ignore", "lost_orders", "unknown") for value in by_kind.get(kind, [])]
    if ignored:
        section.keys["ignore"] = ignored
    if by_kind.get("unknown"):
        section.unsure.append(
            f"event types {', '.join(by_kind['unknown'])} are ignored, for nothing here knows them; "
            "name those that count under event_types"
        )


_KINDS = ("purchase", "cart", "wishlist", "view")


def _unknown_types(section: Section, by_kind: dict[str, list[str]]) -> None:
    """Give event types that nobody knows a meaning by how often they come: people look often, and buy seldom."""
    column = section.main.fields["event_type"]
    values = by_kind.pop("unknown")
    kinds = {1: ["purchase"], 2: ["view", "purchase"], 3: ["view", "cart", "purchase"]}.get(
        len(values), ["view", "cart", "wishlist", "purchase"]
    )
    by_kind |= {kind: [value] for kind, value in zip(kinds, values, strict=False)}
    if values[4:]:
        by_kind["unknown"] = values[4:]
    taken = ", ".join(f"{value} for {kind}" for kind, value in zip(kinds, values, strict=False))
    section.unsure.append(f"event_types: what {column} means isn't known; by how often it comes, {taken}: correct that")


def _all_negative(session: duckdb.DuckDBPyConnection, main: Recognised, types: list[str]) -> bool:
    """Return whether all events of these types have a quantity below zero."""
    if not main.has("quantity"):
        return False
    row = session.execute(
        f"SELECT bool_and({ident(main.fields['quantity'])} LIKE '-%') FROM {ident(main.file.name)} "
        f"WHERE list_contains(?, {ident(main.fields['event_type'])})",
        [types],
    ).fetchone()
    return bool(row and row[0])


def _weight_of(kind: str) -> dict[str, Any]:
    return {"weight": word_list("event_words")[kind]["weight"], "half_life_days": 120 if kind == "purchase" else 30}


def type_of_file(of: Recognised) -> str:
    """Return the event type that a file's name tells."""
    words = [event_word(word) for word in words_of(of.file.path.rpartition("/")[2])]
    return next((word for word in words if word in _KINDS), None) or "purchase"


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
            written = _currency_of_prices(found) if found.has("price") else None
            if written:
                signs = {
                    sign
                    for value in found.fact("price").examples
                    for sign in "$¥"
                    if value.strip(sign + "0123456789., ") == ""
                }
                if signs:
                    plan.unsure.append(f"currency: {', '.join(sorted(signs))} is taken for {written}")
                return written
    plan.unsure.append("currency: the files don't name it")
    return None


def _currency_of_prices(found: Recognised) -> str | None:
    """Return the currency that most prices name, or else the name of their column."""
    # Not imported at the top: that module needs pyspark.
    from shelfkin.values.prices import read_price

    read = [price[1] for price in map(read_price, found.fact("price").examples) if price]
    codes = Counter(code for code in read if code)
    named = [
        word.upper() for word in words_of(found.fields["price"]) if word.upper() in word_list("field_names")["codes"]
    ]
    return codes.most_common(1)[0][0] if codes else next(iter(named), None)


def decimal_mark(found: Recognised, names: Sequence[str]) -> str | None:
    """Return the decimal mark that numbers prove, None where the reader's own guess is right or nothing proves it.

    Columns of these fields prove it, or else any other column of numbers.
    """
    named = [found.fact(name) for name in names if found.has(name)]
    others = [each for each in found.facts.values() if each.share["money"] >= 0.9 and each.share["dated"] < 0.1]
    proof = _proof(named)
    proof = proof if any(proof.values()) else _proof(others)
    if proof[","] and not proof["."]:
        return ","
    return "." if proof["."] and not proof[","] and _grouped(found, names) else None


def _proof(columns: Sequence[ColumnFacts]) -> dict[str, int]:
    """Count the numbers whose decimal mark leaves no doubt."""
    proof = {",": 0, ".": 0}
    for facts in columns:
        # Nobody buys thousands throughout: 1,000 and 3,000 are one piece and three.
        if all(re.fullmatch(r"\d+,000", value) for value in facts.examples):
            proof[","] += 1
        for value in facts.examples:
            digits = "".join(letter for letter in value if letter in "0123456789.,")
            last = max(digits.rfind("."), digits.rfind(","))
            if last >= 0 and (len(digits) - last - 1 != 3 or len(set(digits) & {".", ","}) == 2):
                proof[digits[last]] += 1
    return proof


def _grouped(found: Recognised, names: Sequence[str]) -> bool:
    return any("," in value for name in names if found.has(name) for value in found.fact(name).examples)
