"""What became of raw rows, field by field: the table that cleaning stages leave, and what `make check` prints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

_EXAMPLE_CHARS = 60
_SCHEMA = "topic string, name string, rows long, read long, empty long, unread long, examples array<string>"

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


@dataclass(frozen=True)
class ReportRow:
    """One line of a report.

    Attributes
    ----------
    topic
        ``field``; ``reason``, why rows are turned away; ``event_type``; ``repeated_title``.
    name
        The field's, the reason code, the event type or the title.
    rows
        Rows looked at, or of that reason, type or title.
    read, empty, unread
        Of fields: rows with a value, with none, and with one that couldn't be read.
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
    reasons = _grouped(parsed.where(F.col("reason").isNotNull()), "reason", "detail")
    rows = [*_fields(parsed, fields, reasons), *[ReportRow("reason", *reason) for reason in reasons]]
    good = parsed.where(F.col("reason").isNull())
    if "event_type" in fields:
        rows += [ReportRow("event_type", *kind) for kind in _grouped(good, "event_type", "product_id")]
    if "title" in fields:
        named = good.groupBy("title").agg(F.count_distinct("product_id").alias("n"))
        top = named.where(F.col("n") > 1).orderBy(F.desc("n"), "title").limit(5).collect()
        rows += [ReportRow("repeated_title", row["title"], row["n"]) for row in top]
    return rows


def as_table(session: SparkSession, rows: list[ReportRow]) -> DataFrame:
    """Return a report as the table that a stage writes."""
    return session.createDataFrame([list(asdict(row).values()) for row in rows], _SCHEMA)


def _short(column: Column) -> Column:
    return F.substring(column.cast("string"), 1, _EXAMPLE_CHARS)


def _grouped(rows: DataFrame, key: str, example: str) -> list[tuple[str, int, int, int, int, tuple[str, ...]]]:
    """Return name, number of rows and examples of each value of `key`, the most frequent first."""
    shown = _short(F.col(example))
    counts = rows.groupBy(key).agg(F.count("*").alias("n"), F.min(shown).alias("first"), F.max(shown).alias("last"))
    found = counts.orderBy(F.desc("n"), key).collect()
    return [(row[key], row["n"], 0, 0, 0, _distinct(row["first"], row["last"])) for row in found]


def _distinct(*examples: str | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys(example for example in examples if example is not None))


def _fields(
    parsed: DataFrame, fields: Mapping[str, str], reasons: list[tuple[str, int, int, int, int, tuple[str, ...]]]
) -> list[ReportRow]:
    figures = [F.count("*").alias("rows")]
    for name, column in fields.items():
        value = F.array_join(column, " > ") if column == "category_path" else F.col(column)
        figures += [F.count(column).alias(f"{name}:read"), F.min(_short(value)).alias(f"{name}:first")]
        figures.append(F.max(_short(value)).alias(f"{name}:last"))
        if f"unread_{name}" in parsed.columns:
            unread = F.col(f"unread_{name}")
            figures += [F.count(unread).alias(f"{name}:unread"), F.min(_short(unread)).alias(f"{name}:unread_first")]
            figures.append(F.max(_short(unread)).alias(f"{name}:unread_last"))
    seen = parsed.agg(*figures).collect()[0].asDict()
    turned_away = {field: reason for reason in reasons for field in _UNREAD.get(reason[0], ())}
    rows = []
    for name in fields:
        unread, examples = (
            seen.get(f"{name}:unread", 0),
            _distinct(seen.get(f"{name}:unread_first"), seen.get(f"{name}:unread_last")),
        )
        if name in turned_away:
            unread, examples = unread + turned_away[name][1], examples or turned_away[name][5]
        # An id that breaks its rule was read, and yet is no id.
        read = min(seen[f"{name}:read"], seen["rows"] - unread)
        shown = examples or _distinct(seen[f"{name}:first"], seen[f"{name}:last"])
        rows.append(ReportRow("field", name, seen["rows"], read, seen["rows"] - read - unread, unread, shown))
    return rows
