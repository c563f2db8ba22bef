"""Every customer's events in one row, so that each moment that is looked back on costs one pass and no shuffle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F  # noqa: N812

from shelfkin.profile import EventType, purchase_type

# Whose a row is: a known user's, an order's that names no user, or a moment's of events with neither.
USER, ORDER, MOMENT = 0, 1, 2
# Of one length per row, by rising item.
TIMELINE_ARRAYS = ("items", "types", "orders", "started_at", "ended_at")

_SECONDS_PER_DAY = 86_400.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def type_names(event_types: Mapping[str, EventType]) -> list[str]:
    """Return the names that the numbers in ``types`` stand for."""
    return sorted({*event_types, purchase_type(event_types)})


def purchase_number(event_types: Mapping[str, EventType]) -> int:
    """Return the number in ``types`` of the event type that counts as buying."""
    return type_names(event_types).index(purchase_type(event_types))


def timelines(events: DataFrame, items: DataFrame, event_types: Mapping[str, EventType]) -> DataFrame:
    """Return one row per known user, per order that names no user, and per moment of events with neither.

    An entry is a product, kind of event and order: two lines of one order say no more about taste than one. A user's
    events without an order id count once a day. Those of nobody known, without an order id either, count once each
    moment: a day holds many customers.

    Parameters
    ----------
    events
        Contract table ``events``.
    items
        Columns ``product_id`` string and ``item`` int. Events of other products only show that their user was there.
    event_types
        The profile's; others get the number -1.

    Returns
    -------
    DataFrame
        ``kind`` int (`USER`, `ORDER` or `MOMENT`), ``id`` string, ``seen_at`` bigint (its first event), and arrays of
        one length by rising item, 28 bytes an entry: ``items``, ``types`` (see `type_names`) and ``orders`` (numbers of
        the row's orders, by rising id) array<int>, ``started_at`` and ``ended_at`` (the order's first and last line)
        array<bigint>. Moments are microseconds since 1970, UTC.
    """
    user, order, at = F.col("user_id"), F.col("order_id"), F.col("occurred_at")
    moment = F.when(user.isNull(), at.cast("string"))
    known = events.join(F.broadcast(items), "product_id", how="left").filter(
        F.col("item").isNotNull() | user.isNotNull()
    )
    names = type_names(event_types)
    of_type = F.coalesce(*(F.when(F.col("event_type") == name, F.lit(names.index(name))) for name in names), F.lit(-1))
    entries = known.groupBy(
        F.when(user.isNotNull(), F.lit(USER))
        .when(order.isNotNull(), F.lit(ORDER))
        .otherwise(F.lit(MOMENT))
        .alias("kind"),
        F.coalesce(user, order, moment).alias("id"),
        F.coalesce(order, moment, F.to_date(at).cast("string")).alias("order_key"),
        "item",
        of_type.alias("type"),
    ).agg(F.unix_micros(F.min(at)).alias("started_at"), F.unix_micros(F.max(at)).alias("ended_at"))
    order_number = F.dense_rank().over(Window.partitionBy("kind", "id").orderBy("order_key"))
    # The item first: the arrays are sorted by it.
    entry = F.struct(
        F.col("item").alias("items"), F.col("type").alias("types"), F.col("order").alias("orders"), *TIMELINE_ARRAYS[3:]
    )
    return (
        entries.withColumn("order", order_number)
        .groupBy("kind", "id")
        .agg(
            F.min("started_at").alias("seen_at"),
            F.sort_array(F.collect_list(F.when(F.col("item").isNotNull(), entry))).alias("entries"),
        )
        .select("kind", "id", "seen_at", *(F.col(f"entries.{name}").alias(name) for name in TIMELINE_ARRAYS))
    )


def microseconds(moment: datetime) -> int:
    """Return a moment as timelines hold it."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


@dataclass(frozen=True)
class Entries:
    """Entries of a batch of timelines as they stood at a moment, end to end, by rising row and item.

    Attributes
    ----------
    rows
        (n,) int64: the row of the batch.
    items, types, orders
        (n,) int32, see `timelines`.
    ages
        (n,) float64: days to the moment from the order's last line before it that is known.
    """

    rows: np.ndarray
    items: np.ndarray
    types: np.ndarray
    orders: np.ndarray
    ages: np.ndarray

    def only(self, keep: np.ndarray) -> Entries:
        """Return some of the entries, by a mask or by their places."""
        return Entries(self.rows[keep], self.items[keep], self.types[keep], self.orders[keep], self.ages[keep])

    def firsts(self, *columns: np.ndarray) -> np.ndarray:
        """Return where a run of equal values of `columns` begins: (n_runs,) places, for ``ufunc.reduceat``."""
        changed = np.zeros(len(self.rows), dtype=bool)
        changed[:1] = True
        for column in columns:
            changed[1:] |= column[1:] != column[:-1]
        return np.flatnonzero(changed)


def flattened(lists: pa.ListArray | pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Return where each row's values begin, (n_rows + 1,) int32, and the values of all rows, end to end."""
    lengths = np.asarray(pc.list_value_length(lists))
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32), np.asarray(pc.list_flatten(lists))


def entries_before(batch: pa.RecordBatch, as_of: datetime) -> Entries:
    """Return what `timelines` held at a moment.

    Of an order that went on at the moment only its first line counts: the last one before it isn't known.
    """
    starts, _ = flattened(batch.column("items"))
    flat = {name: flattened(batch.column(name))[1] for name in TIMELINE_ARRAYS}
    moment = microseconds(as_of)
    last = np.where(flat["ended_at"] < moment, flat["ended_at"], flat["started_at"])
    entries = Entries(
        rows=np.repeat(np.arange(batch.num_rows), np.diff(starts)),
        items=flat["items"],
        types=flat["types"],
        orders=flat["orders"],
        ages=(as_of.timestamp() - last / 1e6) / _SECONDS_PER_DAY,
    )
    return entries.only(flat["started_at"] < moment)
