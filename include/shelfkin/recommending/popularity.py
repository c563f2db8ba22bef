"""What sells now, and what sells better than it used to: signals of products alone, the same for every user."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812

from shelfkin.recommending.interactions import DECIMALS, age_days, decay, exact, rounded

# Trend compares the last days with the usual level: the sums of a 7-day and a 120-day half-life.
TREND_HALF_LIFE_DAYS = 7.0
MONTH_HALF_LIFE_DAYS = 30.0
USUAL_HALF_LIFE_DAYS = 120.0


def item_popularity(orders: DataFrame, as_of: datetime, popular_half_life_days: float, n_items: int) -> pd.DataFrame:
    """Count the orders and the buyers of each item, orders fading at four speeds; anonymous orders count too.

    Parameters
    ----------
    orders
        Rows of `interactions.orders` of the type that counts as buying: a view is no sale.
    as_of
        Moment that ages are counted from (UTC).
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
    age = age_days(F.col("occurred_at"), as_of)
    speeds = {
        "recent": popular_half_life_days,
        "trend": TREND_HALF_LIFE_DAYS,
        "month": MONTH_HALF_LIFE_DAYS,
        "usual": USUAL_HALF_LIFE_DAYS,
    }
    by_user = orders.groupBy("item", "user_id").agg(
        *(F.sum(exact(decay(age, half_life))).alias(name) for name, half_life in speeds.items()),
        F.count(F.lit(1)).alias("n"),
        F.max(age).alias("first"),
        F.min(age).alias("last"),
    )
    known = F.col("user_id").isNotNull()
    counted = by_user.groupBy("item").agg(
        *(rounded(F.sum(name)).alias(name) for name in speeds),
        F.sum("n").cast("double").alias("total"),
        *(
            F.sum((known & condition).cast("double")).alias(name)
            for name, condition in {
                "buyers": F.lit(True),
                "repeat_buyers": F.col("n") > 1,
                "new_buyers_week": F.col("first") < 7,
                "new_buyers_month": F.col("first") < 30,
            }.items()
        ),
        F.round(F.max("first"), DECIMALS).alias("first_days"),
        F.round(F.min("last"), DECIMALS).alias("last_days"),
    )
    return counted.toPandas().set_index("item").reindex(range(n_items), fill_value=0.0).sort_index()


def popular_scores(recent: np.ndarray) -> np.ndarray:
    """Return popularity in [0, 1]: the square root of the recent faded order count over its maximum.

    The root keeps one bestseller from flattening all others.
    """
    return _over_max(np.sqrt(recent))


def trending_scores(trend: np.ndarray, usual: np.ndarray) -> np.ndarray:
    """Return how far recent demand exceeds the usual level, in [0, 1]; 0 where it doesn't.

    ``log((trend + 1) / (usual * 7 / 120 + 1))``: a faded count grows in proportion to its half-life, so the fraction
    brings the usual level to the scale of seven days; one order is added to both, so that rare products don't trend
    by chance.
    """
    expected = usual * TREND_HALF_LIFE_DAYS / USUAL_HALF_LIFE_DAYS
    return _over_max(np.maximum(np.log((trend + 1.0) / (expected + 1.0)), 0.0))


def popularity_rank(total: np.ndarray, usual: np.ndarray) -> np.ndarray:
    """Return each item's place (int64, 0 is the most popular): by usual demand, all orders, then item number."""
    order = np.lexsort((np.arange(len(total)), -total, -usual))
    rank = np.empty(len(total), dtype=np.int64)
    rank[order] = np.arange(len(total))
    return rank


def popular_products(
    scores: np.ndarray,
    rank: np.ndarray,
    allowed: np.ndarray,
    product_ids: np.ndarray,
    clusters: np.ndarray | None,
    length: int,
) -> pd.DataFrame:
    """Return the rows of ``popular_products``: the best of the whole store and of every cluster.

    Parameters
    ----------
    scores, rank, allowed, product_ids
        Per item: recent faded order count, `popularity_rank`, whether it may be shown, id.
    clusters
        Per item: cluster id, or -1 for none. Without clusters only the scope ``all`` is made.
    length
        Longest list of one scope. Products without a recent order are left out.
    """
    order = np.lexsort((rank, -np.round(scores, DECIMALS)))
    order = order[allowed[order] & (np.round(scores[order], DECIMALS) > 0)]
    scopes = [("all", order[:length])]
    if clusters is not None:
        for cluster in np.unique(clusters[clusters >= 0]):
            scopes.append((f"cluster:{cluster}", order[clusters[order] == cluster][:length]))
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "scope": scope,
                    "rank": np.arange(1, len(items) + 1, dtype=np.int32),
                    "product_id": product_ids[items],
                    "score": scores[items].astype(np.float32),
                }
            )
            for scope, items in scopes
        ],
        ignore_index=True,
    )


def _over_max(values: np.ndarray) -> np.ndarray:
    top = float(values.max(initial=0.0))
    return values / top if top > 0 else np.zeros_like(values)
