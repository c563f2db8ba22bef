"""Which column of a file is which field: by its name, if its values allow it, else by its values alone."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from shelfkin.drafting.column_facts import ColumnFacts, TimeFormat
from shelfkin.drafting.field_names import event_word, name_score, word_list, words_of
from shelfkin.drafting.shop_file import ShopFile

CATALOG_FIELDS = ("product_id", "title", "description", "brand", "category_path", "price", "in_stock", "updated_at")
EVENT_FIELDS = ("user_id", "product_id", "occurred_at", "event_type", "quantity", "order_id", "price")
_HELPERS = ("currency", "order_status", "time_of_day", "language", "rating", "parent_line")
_SURE = 0.45
# Names that don't say whose id or number it is.
_BARE = {"id", "entityid", "number", "no", "nummer", "numero", "numer", "nr", "code", "reference", "ref"}
_NO_PARENT = set(word_list("field_names")["parent_line"]["nothing"])
# What entries of a list, such as the lines of an order, tell better than what they stand in.
_OF_ENTRIES = ("product_id", "title", "brand", "category_path", "price", "quantity")


def _id_like(c: ColumnFacts) -> bool:
    share = c.share
    numbers = share["fraction"] <= share["float_like"] + 0.2
    return (
        numbers
        and share["spaced"] < 0.3
        and c.length <= 80
        and not share["link"]
        and not _time_like(c)
        and (c.distinct > 1 or c.rows < 20)
    )


def _text_like(c: ColumnFacts) -> bool:
    return c.share["letters"] >= 0.5 and c.share["link"] < 0.2 and c.share["mail"] < 0.2 and not _time_like(c)


def _time_like(c: ColumnFacts) -> bool:
    return c.time is not None


def _event_words(c: ColumnFacts) -> float:
    total = sum(n for _, n in c.top)
    known = (None, "lost_orders", "returns")
    return sum(n for value, n in c.top if event_word(value) not in known) / total if total else 0.0


def _codes(c: ColumnFacts) -> bool:
    """Return whether a column of event types holds figures: 1 to 4 for view, favourite, cart, purchase."""
    named = name_score("event_type", c.name)[0] >= 0.9
    return named and 1 < c.distinct <= 12 and c.share["whole"] >= 0.99


# What the values of a field must look like.
_FITS: dict[str, Callable[[ColumnFacts], bool]] = {
    "product_id": _id_like,
    "user_id": lambda c: (
        c.share["link"] < 0.1 and not _time_like(c) and c.share["fraction"] <= c.share["float_like"] + 0.2
    ),
    "order_id": lambda c: _id_like(c) and c.share["mail"] < 0.1,
    "title": lambda c: (
        _text_like(c) and 2 <= c.length <= 300 and (c.distinct > 1 or c.rows < 20) and _event_words(c) < 0.5
    ),
    "description": lambda c: _text_like(c) and c.length >= 3,
    "brand": lambda c: c.share["link"] < 0.1 and c.length <= 60 and c.share["letters"] >= 0.4,
    "category_path": lambda c: c.share["letters"] >= 0.4 and c.share["link"] < 0.1 and c.length <= 300,
    "price": lambda c: c.share["money"] >= 0.7 and c.share["epoch"] < 0.5 and not _time_like(c),
    "in_stock": lambda c: c.distinct <= 10 or c.share["money"] >= 0.9,
    "updated_at": _time_like,
    # Times that can't be read are still the times; the draft says so.
    "occurred_at": lambda c: _time_like(c) or (c.share["dated"] >= 0.9 and not c.share["numeric"]),
    "event_type": lambda c: _codes(c) or (c.distinct <= 60 and c.share["letters"] >= 0.5 and _event_words(c) > 0),
    "quantity": lambda c: c.share["numeric"] >= 0.9 and c.share["whole"] >= 0.7,
    "currency": lambda c: c.length <= 4 and c.distinct <= 30 and c.share["letters"] >= 0.9,
    "order_status": lambda c: c.distinct <= 40 and c.share["letters"] >= 0.5,
    "time_of_day": lambda c: c.share["clock"] >= 0.9,
    "parent_line": lambda c: c.filled_share < 0.95 or bool(_NO_PARENT & set(c.examples)),
    "rating": lambda c: 2 < c.distinct <= 20 and c.share["numeric"] >= 0.99 and c.length <= 4,
    "language": lambda c: c.distinct <= 40 and c.length <= 8 and c.share["letters"] >= 0.9,
}


def _by_values(name: str, c: ColumnFacts) -> float:
    """Return how much a column looks like a field when its name says nothing."""
    if name == "event_type":
        return 0.6 if _event_words(c) >= 0.5 else 0.0
    if name == "occurred_at":
        return 0.3 if c.distinct > 1 else 0.2
    if name == "order_id":
        return 0.85 if c.share["numbered"] >= 0.9 else 0.0
    if name == "user_id":
        return 0.35 if c.share["mail"] >= 0.9 else 0.0
    return 0.0


@dataclass
class Recognised:
    """What the columns of one file are.

    Attributes
    ----------
    fields
        Column of each field.
    scores, others
        How sure that is, and which other columns it could have been.
    """

    file: ShopFile
    facts: dict[str, ColumnFacts]
    fields: dict[str, str] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    others: dict[str, list[str]] = field(default_factory=dict)

    def has(self, *names: str) -> bool:
        """Return whether every one of these fields was found."""
        return all(name in self.fields for name in names)

    def fact(self, name: str) -> ColumnFacts:
        """Return the facts of a field's column."""
        return self.facts[self.fields[name]]

    def time(self, name: str = "occurred_at") -> TimeFormat | None:
        """Return how a field's times are written."""
        return self.fact(name).time

    def candidates(self, name: str) -> list[str]:
        """Return the columns that could be a field, the likeliest first."""
        scored = [(score_of(name, column, facts, self.file), column) for column, facts in self.facts.items()]
        return [column for score, column in sorted(scored, key=lambda each: -each[0]) if score > 0]

    @property
    def is_events(self) -> bool:
        """Whether each row tells who did something with a product, and when."""
        return self.has("product_id", "occurred_at", "user_id") and not self.one_row_a_product

    @property
    def is_receipts(self) -> bool:
        """Whether each row tells what was bought, and when, but not by whom."""
        counted = self.has("order_id") or self.has("quantity")
        return self.has("product_id", "occurred_at") and counted and not self.one_row_a_product

    @property
    def is_catalogue(self) -> bool:
        """Whether each row describes a product."""
        described = any(self.has(name) for name in ("title", "brand", "category_path", "description"))
        return self.has("product_id") and described and not self.is_events and not self.has("order_id", "quantity")

    @property
    def one_row_a_product(self) -> bool:
        """Whether product ids hardly come twice."""
        return (
            self.has("product_id")
            and self.fact("product_id").distinct_share > 0.95
            and self.has("title")
            and not self.has("order_id")
        )

    @property
    def is_orders(self) -> bool:
        """Whether each row is an order without its products."""
        return self.has("order_id") and not self.has("product_id") and (self.has("user_id") or self.has("occurred_at"))

    @property
    def is_lines(self) -> bool:
        """Whether each row is a product of an order that another file tells more about."""
        return self.has("order_id", "product_id") and not self.has("user_id", "occurred_at")


def score_of(name: str, column: str, facts: ColumnFacts, file: ShopFile) -> float:
    """Return how likely a column is a field, from 0 to 1.2."""
    if not _FITS[name](facts):
        return 0.0
    score = name_score(name, column)[0]
    if "".join(words_of(column)) in _BARE:
        score = _bare_id(name, file.path, score)
    if name == "product_id":
        score *= 0.9 + 0.1 * facts.distinct_share if facts.filled_share > 0.02 else 0.0
    if name in ("user_id", "product_id"):
        score *= 0.5 + 0.5 * min(1.0, facts.filled_share * 4)
    if name == "price":
        score *= 0.6 + 0.4 * facts.filled_share
    if name in ("occurred_at", "title", "category_path", "brand"):
        score *= 0.7 + 0.3 * min(1.0, 2 * facts.filled_share)
    if name in ("category_path", "user_id") and facts.distinct == 1:
        score *= 0.7
    if file.unnested and name in _OF_ENTRIES and score > 0:
        score += 0.15 if column.startswith(f"{file.unnested}.") else -0.15
    return max(score, _by_values(name, facts))


def _bare_id(name: str, path: str, score: float) -> float:
    """Judge a column called just "id" or "number": whose it is, the file's name may say."""
    words = set(words_of(path.rpartition("/")[2]))
    lists = word_list("field_names")["files"]
    owners = [owner for owner in lists if words & {"".join(words_of(word)) for word in lists[owner]}]
    if "event" in owners:
        return 0.0
    if owners:
        return 0.8 if name in owners else 0.0
    return score


def recognise(file: ShopFile, facts: dict[str, ColumnFacts]) -> Recognised:
    """Give every field the likeliest column that no surer field has taken."""
    found = Recognised(file, facts)
    names = list(dict.fromkeys((*CATALOG_FIELDS, *EVENT_FIELDS, *_HELPERS)))
    scored = sorted(
        ((score_of(name, column, each, file), name, column) for name in names for column, each in facts.items()),
        key=lambda each: -each[0],
    )
    for score, name, column in scored:
        if score <= 0.25:
            break
        if name in found.fields:
            if score >= _SURE and column not in found.fields.values():
                found.others.setdefault(name, []).append(column)
        elif column not in found.fields.values():
            found.fields[name], found.scores[name] = column, score
    if not file.source.get("header", True):
        _headerless(found)
    if (
        found.is_catalogue
        and found.has("quantity")
        and not found.has("in_stock")
        and "0" in found.fact("quantity").examples
    ):
        # What a catalogue counts, down to nothing, is its stock.
        found.fields["in_stock"], found.scores["in_stock"] = found.fields.pop("quantity"), 0.4
    if not found.has("title") and found.has("description") and _FITS["title"](found.fact("description")):
        found.fields["title"], found.scores["title"] = found.fields.pop("description"), 0.6
    return found


def _as_product_id(found: Recognised, c: ColumnFacts) -> float:
    """Return how likely a nameless column holds product ids: one a row in a catalogue, one a title in a log."""
    if not found.has("occurred_at"):
        return c.distinct_share + c.share["padded"]
    return -abs(c.distinct - found.fact("title").distinct) if found.has("title") else c.share["padded"]


def _headerless(found: Recognised) -> None:
    """Judge columns without names by what they hold: time, text, price, quantity, and what is left as ids."""
    found.fields, found.scores = {}, {}

    def take(name: str, fits: Callable[[ColumnFacts], bool], key: Callable[[ColumnFacts], float]) -> None:
        free = [c for c in found.facts.values() if c.name not in found.fields.values() and fits(c)]
        if free:
            found.fields[name], found.scores[name] = max(free, key=key).name, 0.3

    take("occurred_at", _time_like, lambda c: c.distinct)
    take("event_type", _FITS["event_type"], _event_words)
    take(
        "title",
        lambda c: _text_like(c) and c.share["spaced"] > 0.3 and c.distinct_share > 0.05,
        lambda c: c.distinct_share - c.length / 1000,
    )
    take(
        "description",
        lambda c: _text_like(c) and c.share["spaced"] > 0.5 and found.has("title") and c.length > 20,
        lambda c: c.length,
    )
    take(
        "currency",
        lambda c: _FITS["currency"](c) and bool(re.fullmatch("[A-Z]{3}", c.examples[0])),
        lambda c: -c.distinct,
    )
    take("price", lambda c: c.share["money"] >= 0.9 and c.share["fraction"] >= 0.5, lambda c: c.share["fraction"])
    if found.has("occurred_at"):
        # Of few figures, that come often: most people take one piece, and give more than one star.
        few = [c for c in found.facts.values() if c.top and c.share["whole"] >= 0.95 and c.length <= 4]
        often = {c.name: float(c.top[0][0].replace(",", ".")) for c in few if c.top[0][1] >= 0.25 * c.filled}
        take("rating", lambda c: _FITS["rating"](c) and often.get(c.name, 0) > 1, lambda c: -c.distinct)
        take("quantity", lambda c: often.get(c.name) == 1 and c.distinct > 1, lambda c: -c.length)
    take("product_id", _id_like, lambda c: _as_product_id(found, c))
    if found.has("occurred_at"):
        take("user_id", _id_like, lambda c: -c.distinct)
        take("order_id", _id_like, lambda c: c.distinct)
    if found.has("title"):
        take("category_path", lambda c: _text_like(c) and c.distinct_share < 0.5, lambda c: -c.distinct)
