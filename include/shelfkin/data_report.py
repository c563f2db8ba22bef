"""What became of raw rows, field by field: the table that cleaning stages leave, and what `make check` prints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from shelfkin.profile import Catalog, Events
from shelfkin.quarantine import IGNORED
from shelfkin.tables import EVENTS_REPORT, SCHEMAS

_EXAMPLE_CHARS = 60

# Columns of the cleaned rows, by the profile's name of the field.
CATALOG_COLUMNS = {
    "product_id": "product_id",
    "title": "title",
    "description": "description",
    "brand": "brand",
    "category_path": "category_path",
    "price": "price",
    "in_stock": "in_stock",
    "updated_at": "seen_at",
}
EVENT_COLUMNS = {
    "user_id": "user_id",
    "product_id": "product_id",
    "occurred_at": "occurred_at",
    "event_type": "event_type",
    "quantity": "quantity",
    "order_id": "order_id",
}

# Reasons to turn a row away which mean that a value was there and couldn't be read.
_UNREAD = {
    "bad_time": ("occurred_at", "updated_at"),
    "unknown_event_type": ("event_type",),
    "bad_quantity": ("quantity",),
    "not_a_product_id": ("product_id",),
    "product_id_too_long": ("product_id",),
    "invalid_user_id": ("user_id",),
}


def named_columns(section: Catalog | Events) -> dict[str, str]:
    """Return the fields that a section of a profile names, and their columns in cleaned rows."""
    every = CATALOG_COLUMNS if isinstance(section, Catalog) else EVENT_COLUMNS
    return {name: column for name, column in every.items() if getattr(section.fields, name)}


@dataclass(frozen=True)
class ReportRow:
    """One line of a report.

    Attributes
    ----------
    topic
        ``field``; ``reason``, why rows are turned away; ``ignored``, events that aren't wanted; ``event_type``;
        ``repeated_title``.
    name
        The field's, the reason code, the event type or the title.
    rows
        Rows looked at, or of that reason, type or title.
    read, empty, unread
        Of fields: rows with a value, with none, and with one that couldn't be read; of reasons, `empty` counts those
        of blank values.
    examples
        Up to two values, the first and the last in order; of what couldn't be read, where there is any.
    """

    topic: str
    name: str
    rows: int
    read: int = 0
    empty: int = 0
    unread: int = 0
    examples: tuple[str, ...] = ()


def report_rows(parsed: DataFrame, fields: Mapping[str, str]) -> list[ReportRow]:
    """Return the report of cleaned rows, kept and turned away, as the cleaning code leaves them.

    Parameters
    ----------
    parsed
        What `parse_catalog` or `parse_events` returns, without rows after the run's date.
    fields
        The profile's fields, and their columns there.
    """
    is_ignored = F.coalesce(F.col("reason") == IGNORED, F.lit(False))
    wanted = parsed.where(~is_ignored)
    reasons = _grouped(wanted.where(F.col("reason").isNotNull()), "reason", "reason", "detail")
    rows = [*_fields(wanted, fields, reasons), *reasons]
    rows += _grouped(parsed.where(is_ignored), "ignored", "reason", "detail")
    good = parsed.where(F.col("reason").isNull())
    if "event_type" in fields:
        rows += _grouped(good, "event_type", "event_type", "product_id")
    if "title" in fields:
        named = good.groupBy("title").agg(F.count_distinct("product_id").alias("n"))
        top = named.where(F.col("n") > 1).orderBy(F.desc("n"), "title").limit(5).collect()
        rows += [ReportRow("repeated_title", row["title"], row["n"]) for row in top]
    return rows


def as_table(session: SparkSession, rows: list[ReportRow]) -> DataFrame:
    """Return a report as the table that a stage writes."""
    return session.createDataFrame([list(asdict(row).values()) for row in rows], SCHEMAS[EVENTS_REPORT])


def _short(column: Column) -> Column:
    return F.substring(column.cast("string"), 1, _EXAMPLE_CHARS)


def _grouped(rows: DataFrame, topic: str, key: str, example: str) -> list[ReportRow]:
    """Return one line for each value of `key`, the most frequent first; `empty` counts blank examples."""
    shown = _short(F.col(example))
    counts = rows.groupBy(key).agg(
        F.count("*").alias("n"),
        F.min(shown).alias("first"),
        F.max(shown).alias("last"),
        F.count_if(F.col(example).endswith(" ''")).alias("blank"),
    )
    found = counts.orderBy(F.desc("n"), key).collect()
    return [
        ReportRow(topic, row[key], row["n"], empty=row["blank"], examples=_distinct(row["first"], row["last"]))
        for row in found
    ]


def _distinct(*examples: str | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys(example for example in examples if example is not None))


def _fields(parsed: DataFrame, fields: Mapping[str, str], reasons: list[ReportRow]) -> list[ReportRow]:
    figures = [F.count("*").alias("rows")]
    for name, column in fields.items():
        value = F.array_join(column, " > ") if column == "category_path" else F.col(column)
        figures += _figures(name, F.col(column), value)
        if f"unread_{name}" in parsed.columns:
            figures += _figures(f"unread_{name}", F.col(f"unread_{name}"), F.col(f"unread_{name}"))
    seen = parsed.agg(*figures).collect()[0].asDict()
    turned_away = {field: reason for reason in reasons for field in _UNREAD.get(reason.name, ())}
    rows = []
    for name in fields:
        unread, examples = seen.get(f"unread_{name}", 0), _examples(seen, f"unread_{name}")
        reason = turned_away.get(name)
        if reason is not None and reason.rows > reason.empty:
            unread, examples = unread + reason.rows - reason.empty, examples or reason.examples
        # An id that breaks its rule was read, and yet is no id.
        read = min(seen[name], seen["rows"] - unread)
        empty = seen["rows"] - read - unread
        rows.append(ReportRow("field", name, seen["rows"], read, empty, unread, examples or _examples(seen, name)))
    return rows


def _figures(name: str, counted: Column, shown: Column) -> list[Column]:
    first, last = F.min(_short(shown)), F.max(_short(shown))
    return [F.count(counted).alias(name), first.alias(f"{name}:first"), last.alias(f"{name}:last")]


def _examples(seen: Mapping[str, Any], name: str) -> tuple[str, ...]:
    return _distinct(seen.get(f"{name}:first"), seen.get(f"{name}:last"))
