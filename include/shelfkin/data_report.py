"""What became of raw rows, field by field: the table that cleaning stages leave, and what `make check` prints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from shelfkin.profile import StoreProfile
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


def named_columns(profile: StoreProfile, section: Literal["catalog", "events"]) -> dict[str, str]:
    """Return the fields that a section of a profile names, and their columns in cleaned rows."""
    if section == "events":
        fields = profile.events.fields if profile.events else None
        return {name: column for name, column in EVENT_COLUMNS.items() if getattr(fields, name, None)}
    named = {name for name in CATALOG_COLUMNS if getattr(profile.catalog.fields, name)}
    # A catalogue that is made of order lines has their prices.
    if profile.catalog_events is not None and profile.catalog_events.fields.price:
        named.add("price")
    return {name: column for name, column in CATALOG_COLUMNS.items() if name in named}


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
    reasons = _reasons(parsed)
    wanted = parsed.where(~F.col("reason").eqNullSafe(IGNORED))
    rows = [*_fields(wanted, fields, reasons), *reasons]
    good = parsed.where(F.col("reason").isNull())
    if "event_type" in fields:
        counts = good.groupBy("event_type").count().orderBy(F.desc("count"), "event_type").collect()
        rows += [ReportRow("event_type", row["event_type"], row["count"]) for row in counts]
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


def _reasons(parsed: DataFrame) -> list[ReportRow]:
    """Return one line for each reason to leave rows out, the most frequent first, ignored rows last."""
    counts = (
        parsed.where(F.col("reason").isNotNull())
        .groupBy("reason")
        .agg(
            F.count("*").alias("n"),
            _short(F.min("detail")).alias("first"),
            _short(F.max("detail")).alias("last"),
            F.count_if(F.col("detail").endswith(" ''")).alias("blank"),
        )
    )
    rows = [
        ReportRow(
            "ignored" if row["reason"] == IGNORED else "reason",
            row["reason"],
            row["n"],
            empty=row["blank"],
            examples=_distinct(row["first"], row["last"]),
        )
        for row in counts.collect()
    ]
    return sorted(rows, key=lambda row: (row.topic == "ignored", -row.rows, row.name))


def _distinct(*examples: str | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys(example for example in examples if example is not None))


def _fields(parsed: DataFrame, fields: Mapping[str, str], reasons: list[ReportRow]) -> list[ReportRow]:
    figures = [F.count("*").alias("rows")]
    for name, column in fields.items():
        figures += _figures(name, column)
        if f"unread_{name}" in parsed.columns:
            figures += _figures(f"unread_{name}", f"unread_{name}")
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


def _figures(name: str, column: str) -> list[Column]:
    # Of whole values, and cut afterwards: a text cut in every row would be made a million times.
    ends = F.min(column), F.max(column)
    first, last = (F.array_join(end, " > ") if column == "category_path" else end for end in ends)
    return [F.count(column).alias(name), _short(first).alias(f"{name}:first"), _short(last).alias(f"{name}:last")]


def _examples(seen: Mapping[str, Any], name: str) -> tuple[str, ...]:
    return _distinct(seen.get(f"{name}:first"), seen.get(f"{name}:last"))
