"""What sells now, and what sells better than it used to: signals of products alone, the same for every user."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np
import pandas as pd
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812

from shelfkin.recommending.time_decay import DECIMALS, decay, exact, rounded
from shelfkin.recommending.timelines import USER, entries_before

# Trend compares the last days with the usual level: the sums of a 7-day and a 120-day half-life.
TREND_HALF_LIFE_DAYS = 7.0
MONTH_HALF_LIFE_DAYS = 30.0
USUAL_HALF_LIFE_DAYS = 120.0
# Orders of one product by one customer that count, one a day for a year: a bot's thousands say nothing of taste.
MAX_ORDERS_OF_A_PRODUCT = 366

_SPEEDS = ("recent", "trend", "month", "usual")
_COUNTS = (*_SPEEDS, "total", "buyers", "repeat_buyers", "new_buyers_week", "new_buyers_month")


def item_popularity(
    timelines: DataFrame, bought: int, as_of: datetime, popular_half_life_days: float, n_items: int
) -> pd.DataFrame:
    """Count the orders and the buyers of each item, orders fading at four speeds; anonymous orders count too.

    Of one customer's orders of one item, `MAX_ORDERS_OF_A_PRODUCT` count at most.

    Parameters
    ----------
    timelines
        Result of `timelines.timelines`.
    bought
        Number of the event type that counts as buying: a view is no sale.
    as_of
        Moment that ages are counted from (UTC); only what was there before it counts.
    popular_half_life_days
        Half-life of ``recent``.
    n_items
        Number of items; the result has one row for each, collected on the driver.

    Returns
    -------
    pandas.DataFrame
        Row i stands for item i, all float64: ``recent``, ``trend``, ``month``, ``usual`` (faded order counts),
        ``total`` (all orders), ``buyers`` and ``repeat_buyers`` (known users who bought it, and more than once),
        ``new_buyers_week`` and ``new_buyers_month`` (whose first order of it lies within 7 or 30 days), ``first_days``
        and ``last_days`` (days since its first and last order; 0 where there is none).
    """
    speeds = (popular_half_life_days, TREND_HALF_LIFE_DAYS, MONTH_HALF_LIFE_DAYS, USUAL_HALF_LIFE_DAYS)

    counts = ", ".join(f"{name} bigint" for name in _COUNTS)
    counted = timelines.mapInArrow(
        lambda batches: (_count(batch, bought, as_of, speeds) for batch in batches),
        f"item int, {counts}, first_days double, last_days double",
    )
    table = (
        counted.groupBy("item")
        .agg(
            *(F.sum(name).alias(name) for name in _COUNTS),
            F.max("first_days").alias("first_days"),
            F.min("last_days").alias("last_days"),
        )
        .toPandas()
        .set_index("item")
        .reindex(range(n_items), fill_value=0)
        .astype(np.float64)
    )
    table[list(_SPEEDS)] = rounded(table[list(_SPEEDS)].to_numpy())
    return table


def _count(batch: pa.RecordBatch, bought: int, as_of: datetime, speeds: Sequence[float]) -> pa.RecordBatch:
    """Return what the rows of one batch add to each item's counts; faded ones in billionths."""
    entries = entries_before(batch, as_of)
    entries = entries.only(entries.types == bought)
    # By customer and item first: buyers are counted, not their orders.
    first = entries.firsts(entries.rows, entries.items)
    n_orders = np.diff(first, append=len(entries.rows))
    oldest, newest = np.maximum.reduceat(entries.ages, first), np.minimum.reduceat(entries.ages, first)
    known = np.asarray(batch.column("kind"))[entries.rows[first]] == USER
    # A row of unknown customers may be of many.
    most = np.where(known, MAX_ORDERS_OF_A_PRODUCT, n_orders)
    of_pairs = [
        *(
            np.minimum(np.add.reduceat(exact(decay(entries.ages, half_life)), first), exact(most))
            for half_life in speeds
        ),
        np.minimum(n_orders, most),
        *(known & condition for condition in (True, n_orders > 1, oldest < 7, oldest < 30)),
    ]
    by_item = np.argsort(entries.items[first], kind="stable")
    items = entries.items[first][by_item]
    group = np.flatnonzero(np.diff(items, prepend=-1))
    return pa.RecordBatch.from_arrays(
        [
            pa.array(items[group]),
            *(pa.array(np.add.reduceat(values[by_item].astype(np.int64), group)) for values in of_pairs),
            pa.array(np.round(np.maximum.reduceat(oldest[by_item], group), DECIMALS)),
            pa.array(np.round(np.minimum.reduceat(newest[by_item], group), DECIMALS)),
        ],
        names=["item", *_COUNTS, "first_days", "last_days"],
    )


def popular_scores(recent: np.ndarray) -> np.ndarray:
    """Return popularity in [0, 1]: the square root of the recent faded order count over its maximum.

    The root keeps one bestseller from flattening all others.
    """
    return _over_max(np.sqrt(recent))


def trending_scores(trend: np.ndarray, usual: np.ndarray) -> np.ndarray:
    """Return how far demand of the last days exceeds the usual level, in [0, 1]; 0 where it doesn't."""
    return _over_max(np.maximum(log_trend(trend, usual, TREND_HALF_LIFE_DAYS), 0.0))


def log_trend(count: np.ndarray, usual: np.ndarray, half_life_days: float) -> np.ndarray:
    """Return how far a faded order count lies above the usual level, as a logarithm.

    ``log((count + 1) / (usual * half_life_days / 120 + 1))``: a faded count grows in proportion to its half-life, so
    the fraction brings the usual level to the scale of the count; one order is added to both, so that rare products
    don't trend by chance.
    """
    expected = usual * half_life_days / USUAL_HALF_LIFE_DAYS
    return np.asarray(np.log((count + 1.0) / (expected + 1.0)))


def popularity_rank(total: np.ndarray, usual: np.ndarray) -> np.ndarray:
    """Return each item's place (int64, 0 is the most popular): by usual demand, all orders, then item number."""
    # The place of each in the order that puts the best first; sorting is stable, so ties stay in the order of items.
    return np.argsort(np.lexsort((-total, -usual)))


def popular_products(
    scores: np.ndarray,
    rank: np.ndarray,
    allowed: np.ndarray,
    product_ids: np.ndarray,
    clusters: np.ndarray,
    length: int,
) -> pd.DataFrame:
    """Return the rows of ``popular_products``: the best of the whole store and of every cluster.

    Parameters
    ----------
    scores, rank, allowed, product_ids
        Per item: recent faded order count, `popularity_rank`, whether it may be shown, id.
    clusters
        Per item: cluster id, or -1 for none.
    length
        Longest list of one scope. Products without a recent order are left out.
    """
    order = np.lexsort((rank, -np.round(scores, DECIMALS)))
    order = order[allowed[order] & (np.round(scores[order], DECIMALS) > 0)]
    best = pd.DataFrame({"scope": "all", "product_id": product_ids[order], "score": scores[order].astype(np.float32)})
    of_order = clusters[order]
    by_cluster = best.assign(scope=[f"cluster:{cluster}" for cluster in of_order], cluster=of_order)
    by_cluster = by_cluster[of_order >= 0].sort_values("cluster", kind="stable")
    rows = pd.concat([best, by_cluster.drop(columns="cluster")], ignore_index=True)
    rows.insert(1, "rank", (rows.groupby("scope").cumcount() + 1).astype(np.int32))
    return rows[rows["rank"] <= length].reset_index(drop=True)


def _over_max(values: np.ndarray) -> np.ndarray:
    top = float(values.max(initial=0.0))
    return values / top if top > 0 else np.zeros_like(values)
