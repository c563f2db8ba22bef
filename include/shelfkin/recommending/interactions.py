"""What every user did with every product, as weights that fade with time."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812

from shelfkin.profile import EventType
from shelfkin.recommending.time_decay import DECIMALS, decay, exact, rounded
from shelfkin.recommending.timelines import ORDER, USER, entries_before, microseconds, purchase_number, type_names

# What a user wants now fades four times as fast as what the user likes: with half-lives of 120 days, after 30.
RECENT_SHARE = 0.25

# Arrays of one length per user, and what one number per user says; `candidates.UserBlock` holds the same.
HISTORY_ARRAYS = ("items", "strengths", "n_bought", "recent", "first_days", "last_days")
HISTORY_COLUMNS = ("user_id", "n_orders", *HISTORY_ARRAYS)
_SCHEMA = (
    "id string, n_orders int, items array<int>, strengths array<double>, n_bought array<int>, recent array<double>, "
    "first_days array<double>, last_days array<double>"
)

# An anonymous order of n products holds n * (n - 1) pairs: unchecked, a few wholesalers' orders of hundreds of lines
# decide what goes with what. Measured on Online Retail (mean of four 30-day windows, May to August 2011, task new,
# NDCG@10): .1514 with anonymous orders at full weight, .1549 with this limit, .1548 without anonymous orders.
FULL_WEIGHT_PRODUCTS = 20


def user_histories(timelines: DataFrame, event_types: Mapping[str, EventType], as_of: datetime) -> DataFrame:
    """Return every known user's products with their faded weights.

    The strength of a product is the sum over its orders of ``weight * 0.5 ** (age_days / half_life_days)``, with weight
    and half-life of the event's type.

    Parameters
    ----------
    timelines
        Result of `timelines.timelines` for the same event types.
    event_types
        The profile's event types.
    as_of
        Moment that ages are counted from (UTC); only what was there before it counts.

    Returns
    -------
    DataFrame
        One row per user seen before `as_of`: ``user_id`` string, ``n_orders`` int, and arrays of one length, by rising
        item: ``items`` array<int>, ``strengths`` array<double>, ``n_bought`` array<int> (orders that bought it; 0: only
        looked at), ``recent`` array<double> (strengths that fade four times as fast), ``first_days`` and ``last_days``
        array<double> (days from the first and the last event with it to `as_of`). The arrays are empty for users all of
        whose products have left the catalogue.
    """
    seen = timelines.filter((F.col("kind") == USER) & (F.col("seen_at") < microseconds(as_of)))
    return _faded(seen, event_types, as_of).withColumnRenamed("id", "user_id")


def anonymous_baskets(timelines: DataFrame, event_types: Mapping[str, EventType], as_of: datetime) -> DataFrame:
    """Return the products of every order that names no user, in the shape of `user_histories`.

    What one order holds went to one customer, whoever that was: such orders tell which products belong together, and
    nothing else. Baskets of one product are left out, because they hold no pair; in baskets of more than
    `FULL_WEIGHT_PRODUCTS` each product counts less, so that no order speaks louder than one of that size.

    Parameters
    ----------
    timelines, event_types, as_of
        As in `user_histories`.

    Returns
    -------
    DataFrame
        One row per order: ``order_id`` string, and the arrays.
    """
    orders = timelines.filter(F.col("kind") == ORDER)
    baskets = _faded(orders, event_types, as_of, full_weight_products=FULL_WEIGHT_PRODUCTS)
    return baskets.filter(F.size("items") > 1).drop("n_orders").withColumnRenamed("id", "order_id")


def _faded(
    timelines: DataFrame,
    event_types: Mapping[str, EventType],
    as_of: datetime,
    full_weight_products: int | None = None,
) -> DataFrame:
    """Return the faded weights of each row's products as arrays, see `user_histories`."""
    return timelines.mapInArrow(
        lambda batches: (_fade(batch, event_types, as_of, full_weight_products) for batch in batches), _SCHEMA
    )


def _fade(
    batch: pa.RecordBatch, event_types: Mapping[str, EventType], as_of: datetime, full_weight_products: int | None
) -> pa.RecordBatch:
    # One place more: the number of an unknown type is -1, and such an event weighs nothing.
    known = [event_types.get(name) for name in type_names(event_types)]
    of_type = [(one.weight, one.half_life_days) if one else (0.0, 1.0) for one in (*known, None)]
    weights, half_lives = np.array(of_type).T
    entries = entries_before(batch, as_of)
    weight, half_life = weights[entries.types], half_lives[entries.types]
    first = entries.firsts(entries.rows, entries.items)
    n_items = np.bincount(entries.rows[first], minlength=batch.num_rows)
    strengths, recent = (
        rounded(np.add.reduceat(exact(weight * decay(entries.ages, life)), first))
        for life in (half_life, half_life * RECENT_SHARE)
    )
    if full_weight_products is not None:
        share = np.minimum(1.0, full_weight_products / np.maximum(n_items, 1))[entries.rows[first]]
        strengths, recent = np.round(strengths * share, DECIMALS), np.round(recent * share, DECIMALS)
    bought = (entries.types == purchase_number(event_types)).astype(np.int32)
    orders = np.unique(entries.rows * 2**32 + entries.orders) >> 32  # the row of each
    arrays = {
        "items": entries.items[first],
        "strengths": strengths,
        "n_bought": np.add.reduceat(bought, first).astype(np.int32),
        "recent": recent,
        "first_days": np.round(np.maximum.reduceat(entries.ages, first), DECIMALS),
        "last_days": np.round(np.minimum.reduceat(entries.ages, first), DECIMALS),
    }
    offsets = pa.array(np.concatenate([[0], np.cumsum(n_items)]), pa.int32())
    return pa.RecordBatch.from_arrays(
        [
            batch.column("id"),
            pa.array(np.bincount(orders, minlength=batch.num_rows), pa.int32()),
            *(pa.ListArray.from_arrays(offsets, pa.array(arrays[name])) for name in HISTORY_ARRAYS),
        ],
        names=["id", "n_orders", *HISTORY_ARRAYS],
    )
