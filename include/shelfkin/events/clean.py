"""Clean an event log: one row per thing a customer did, before the run's date.

Cancellations and returns are taken back from the purchases they undo, last in first out, per user, product and event
type. With signed quantities summed in time order to S_j, the stock of units that are still bought is the walk reflected
at zero, h_j = S_j - min(0, min_{i<=j} S_i), and purchase i keeps the units of its layer (h_{i-1}, h_i] that no later
dip of h takes away: min(h_i, min_{j>i} h_j) - h_{i-1}, at least 0. This is the matching of brackets by nesting depth,
written with window functions, so that no group of rows has to fit into one Python process.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import date, datetime

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F  # noqa: N812

from shelfkin import sources
from shelfkin.profile import Events, IdRule
from shelfkin.quarantine import (
    IGNORED,
    Rule,
    after_as_of,
    good_rows,
    ignored_types,
    judged,
    shared_rules,
    shown,
    shown_raw,
    time_rules,
)
from shelfkin.sources import RawTable
from shelfkin.values import missing
from shelfkin.values.ids import breaks_pattern, normalised_id, too_long
from shelfkin.values.numbers import amount, number
from shelfkin.values.times import timestamp

# Quantities are decimal numbers held as doubles: a remainder below this many units is rounding, not goods.
_QUANTUM = 1e-9
_KEY = ("user_id", "product_id", "event_type")
_FIELDS = (*_KEY, "occurred_at", "quantity", "order_id")


@dataclass(frozen=True)
class Settled:
    """What became of the rows that passed every rule of their own.

    Attributes
    ----------
    events
        Contract columns: the rows that are kept, quantities reduced by what was cancelled.
    unmatched
        `reason`, `detail`, `raw`: cancellations that found nothing to undo.
    netted
        Number of cancellations and of purchases that they undid entirely.
    reduced
        Number of kept purchases of which a part was cancelled.
    """

    events: DataFrame
    unmatched: DataFrame
    netted: int
    reduced: int


def wanted_columns(events: Events) -> dict[str, str]:
    """Return the raw column that each profile key asks for."""
    fields = events.fields.model_dump(exclude_none=True)
    return {f"events.fields.{name}": column for name, column in fields.items()}


def parse_events(
    raw: RawTable,
    events: Events,
    product_rule: IdRule,
    timezone: str,
    cutoff: datetime,
    own_missing_words: Collection[str] | None = None,
) -> DataFrame:
    """Return one row per raw row, with its clean fields and the reason why it is turned away, if any.

    Parameters
    ----------
    raw
        The raw rows.
    product_rule
        How product ids are written: the events' own rule, or the catalogue's.
    timezone
        IANA zone of times without an offset.
    cutoff
        Midnight UTC of the run's date.
    own_missing_words
        The profile's words for no value; None for those of the package.

    Returns
    -------
    DataFrame
        user_id, product_id, event_type, occurred_at, quantity (absolute), order_id, is_cancellation, row_hash,
        after_as_of (bool), reason and detail (NULL for good rows), raw (JSON; only for rows that may be quarantined).
    """
    fields = events.fields
    raw = replace(raw, frame=missing.blanked(raw.frame, missing.missing_words(own_missing_words)))
    product_rule = events.product_id or product_rule
    mark = events.decimal_mark
    has_quantity = fields.quantity is not None
    parsed = raw.frame.select(
        normalised_id(sources.text(fields.user_id), events.user_id).alias("user_id"),
        normalised_id(sources.text(fields.product_id), product_rule).alias("product_id"),
        _event_type(events).alias("event_type"),
        timestamp(raw, fields.occurred_at, events.timestamp_format, timezone).alias("occurred_at"),
        (number(raw, fields.quantity, mark) if has_quantity else F.lit(1.0)).alias("signed_quantity"),
        sources.text(fields.order_id).alias("order_id"),
        amount(raw, fields.price, mark).alias("price"),
        sources.row_hash().alias("row_hash"),
        "raw",
        "malformed",
    )
    parsed = parsed.select(
        "*",
        F.coalesce(_is_cancellation(events), F.lit(False)).alias("is_cancellation"),
        after_as_of("occurred_at", cutoff).alias("after_as_of"),
    )
    known, turned_away = ~F.col("after_as_of"), F.col("verdict.reason") != IGNORED
    return judged(parsed, _rules(events, product_rule)).select(
        "user_id",
        "product_id",
        "event_type",
        "occurred_at",
        F.abs("signed_quantity").alias("quantity"),
        "order_id",
        "is_cancellation",
        "row_hash",
        "after_as_of",
        F.col("verdict.reason").alias("reason"),
        F.col("verdict.detail").alias("detail"),
        # Only rows that may end in quarantine pay for their JSON.
        F.when(known & (turned_away | F.col("is_cancellation")), sources.raw_json()).alias("raw"),
    )


def _event_type(events: Events) -> Column:
    default = next(iter(events.event_types))
    if events.fields.event_type is None:
        return F.lit(default)
    written = F.lower(sources.text(events.fields.event_type))
    found = F.lit(None).cast("string")
    for name, kind in events.event_types.items():
        known = sorted({name.lower(), *(alias.lower() for alias in kind.aliases)})
        found = F.when(written.isin(known), F.lit(name)).otherwise(found)
    return found


def _is_cancellation(events: Events) -> Column:
    rule = events.cancellations
    undone = F.col("signed_quantity") < 0 if rule.negative_quantity else F.lit(False)
    if rule.order_id_pattern is not None and events.fields.order_id is not None:
        undone = undone | F.col("order_id").rlike(rule.order_id_pattern)
    return undone


def _rules(events: Events, product_rule: IdRule) -> list[Rule]:
    """Return why a single event row is turned away, the most telling reason first."""
    fields = events.fields
    rules = [
        *ignored_types(events),
        *shared_rules(fields.product_id, product_rule),
        Rule("user_id_too_long", too_long(F.col("user_id")), shown_raw(fields.user_id)),
        Rule("invalid_user_id", breaks_pattern(F.col("user_id"), events.user_id), shown_raw(fields.user_id)),
        *time_rules("occurred_at", fields.occurred_at, events.earliest),
    ]
    if fields.event_type is not None:
        rules.append(Rule("unknown_event_type", F.col("event_type").isNull(), shown_raw(fields.event_type)))
    if fields.quantity is not None:
        quantity, shown_quantity = F.col("signed_quantity"), shown_raw(fields.quantity)
        rules.append(Rule("bad_quantity", quantity.isNull(), shown_quantity))
        rules.append(Rule("zero_quantity", F.abs(quantity) < _QUANTUM, shown_quantity))
        if not events.cancellations.negative_quantity:
            rules.append(Rule("negative_quantity", (quantity < 0) & ~F.col("is_cancellation"), shown_quantity))
        if events.max_quantity is not None:
            rules.append(Rule("quantity_too_large", F.abs(quantity) > events.max_quantity, shown_quantity))
    if events.require_positive_price and fields.price is not None:
        rules.append(Rule("bad_price", F.col("price").isNull(), shown_raw(fields.price)))
        rules.append(Rule("non_positive_price", F.col("price") <= 0, shown_raw(fields.price)))
    without_user = F.col("is_cancellation") & F.col("user_id").isNull()
    return [*rules, Rule("cancellation_without_user", without_user, shown("order", F.col("order_id")))]


def drop_copies(parsed: DataFrame) -> DataFrame:
    """Return the good rows without exact copies: rows equal in every raw column stand once.

    All columns are keys, so that Spark aggregates by hash and never sorts.
    """
    return good_rows(parsed).select(*_FIELDS, "is_cancellation", "row_hash", "raw").distinct()


def count_distinct(parsed: DataFrame) -> int:
    """Return how many rows `drop_copies` must leave, counted apart from it.

    The manifest's check compares the two. Rows are told apart by moment and 64-bit hash: two numbers are shuffled
    instead of whole rows, and for rows that differ to share both is out of the question.
    """
    return good_rows(parsed).select("occurred_at", "row_hash").distinct().count()


def settle(distinct: DataFrame, has_cancellations: bool) -> Settled:
    """Take cancellations back from the purchases they undo.

    The newest earlier purchases of the same user, product and event type lose the cancelled units first; a purchase
    left with nothing is netted together with its cancellation. A cancellation of which no unit finds a purchase
    (bought before the log begins, or by somebody else) is turned away as `cancellation_without_purchase`. Rows of one
    moment count purchases first. Runs one small job when there are cancellations.

    Parameters
    ----------
    distinct
        What `drop_copies` returns.
    has_cancellations
        Whether any row is one; without, nothing is shuffled.
    """
    quarantine_columns = [F.lit(None).cast("string").alias(name) for name in ("reason", "detail", "raw")]
    if not has_cancellations:
        none = distinct.where(F.lit(False)).select(*quarantine_columns)
        return Settled(distinct.select(*_FIELDS), none, 0, 0)
    keys = distinct.where("is_cancellation").select(*_KEY).distinct()
    involved = _remaining(distinct.join(keys, on=list(_KEY), how="left_semi")).persist()
    untouched = distinct.join(keys, on=list(_KEY), how="left_anti")
    purchase = ~F.col("is_cancellation")
    left = F.col("remaining") > _QUANTUM
    matched = F.col("matched") > _QUANTUM
    kept = involved.where(purchase & left)
    row = involved.agg(
        F.sum(((purchase & ~left) | (~purchase & matched)).cast("long")).alias("netted"),
        F.sum((purchase & left & (F.col("remaining") < F.col("quantity"))).cast("long")).alias("reduced"),
    ).head()
    netted, reduced = (int(row["netted"] or 0), int(row["reduced"] or 0)) if row is not None else (0, 0)
    events = untouched.select(*_FIELDS).unionByName(kept.withColumn("quantity", F.col("remaining")).select(*_FIELDS))
    unmatched = involved.where(~purchase & ~matched).select(
        F.lit("cancellation_without_purchase").alias("reason"), shown("order", F.col("order_id")).alias("detail"), "raw"
    )
    return Settled(events, unmatched, netted, reduced)


def _remaining(rows: DataFrame) -> DataFrame:
    """Add `remaining` (units of a purchase still bought) and `matched` (units that a cancellation took back)."""
    # Ties within a moment are broken by content, never by the order in which rows arrive.
    order = [F.col("occurred_at"), F.col("is_cancellation"), F.col("order_id"), F.col("quantity"), F.col("row_hash")]
    in_time = Window.partitionBy(*_KEY).orderBy(*order)
    so_far = in_time.rowsBetween(Window.unboundedPreceding, Window.currentRow)
    later = in_time.rowsBetween(1, Window.unboundedFollowing)
    signed = F.when(F.col("is_cancellation"), -F.col("quantity")).otherwise(F.col("quantity"))
    summed = rows.withColumn("sum_units", F.sum(signed).over(so_far))
    floored = summed.withColumn("floor_units", F.least(F.lit(0.0), F.min("sum_units").over(so_far)))
    height = floored.withColumn("height", F.col("sum_units") - F.col("floor_units"))
    before = F.coalesce(F.lag("height").over(in_time), F.lit(0.0))
    stepped = height.withColumn("below", before).withColumn("lowest_later", F.min("height").over(later))
    remaining = F.least(F.col("height"), F.coalesce(F.col("lowest_later"), F.col("height"))) - F.col("below")
    return stepped.withColumn("remaining", F.greatest(F.lit(0.0), remaining)).withColumn(
        "matched", F.col("below") - F.col("height")
    )


def day_after(moment: datetime) -> date:
    """Return the first as_of that sees an event of `moment` (UTC)."""
    return date.fromordinal(moment.date().toordinal() + 1)
