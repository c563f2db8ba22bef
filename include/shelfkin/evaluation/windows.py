"""Windows of the past: a cut, and what the same users bought in the days after it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

import pandas as pd
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import Window as SqlWindow
from pyspark.sql import functions as F  # noqa: N812

from shelfkin.recommending.repurchase import Repurchase
from shelfkin.recommending.sampling import sampled

# Task "all" counts repeats, so its lists may hold past purchases; task "new" counts only what was never bought.
TASKS: dict[str, Repurchase] = {"all": "allow", "new": "exclude"}
# Users whose lists are collected and scored on the driver; beyond, a sample. The standard error of a mean NDCG over
# this many users is about 0.001.
MAX_USERS = 50_000


@dataclass(frozen=True)
class Window:
    """One cut and how far ahead of it is judged.

    Attributes
    ----------
    cut
        Models know only what happened strictly before it (UTC).
    horizon_days
        What users buy from the cut up to this many days later is the truth.
    """

    cut: datetime
    horizon_days: int

    @classmethod
    def before(cls, as_of: datetime, horizon_days: int) -> Window:
        """Return the newest window that is complete at `as_of`."""
        return cls(as_of - timedelta(days=horizon_days), horizon_days)

    @property
    def end(self) -> datetime:
        """First moment that no longer counts."""
        return self.cut + timedelta(days=self.horizon_days)

    def windows_before(self, n: int) -> list[Window]:
        """Return the `n` windows of the same length that end where this one begins, newest first."""
        horizon = timedelta(days=self.horizon_days)
        return [Window(self.cut - back * horizon, self.horizon_days) for back in range(1, n + 1)]


def dated_purchases(purchases: DataFrame, since: datetime) -> DataFrame:
    """Return what known users bought from a moment on, beside when it all began.

    One pass over the whole history for all windows, where each window by itself would need one; and one exchange, by
    user.

    Parameters
    ----------
    purchases
        Events of the type that counts as buying, of the whole history.
    since
        Earlier purchases only count for the beginnings: the earliest cut of all windows.

    Returns
    -------
    DataFrame
        ``user_id`` string, ``product_id`` string, ``occurred_at``, ``owned_since`` (the user's first purchase of the
        product), ``sold_since`` (anybody's first purchase of it), ``known_since`` (the user's first purchase), all
        timestamps.
    """
    at = F.col("occurred_at")
    products = purchases.groupBy("product_id").agg(F.min(at).alias("sold_since"))
    pairs = (
        purchases.filter(F.col("user_id").isNotNull())
        .select("user_id", "product_id", "occurred_at")
        .repartition("user_id")
        .groupBy("user_id", "product_id")
        .agg(F.min(at).alias("owned_since"), F.collect_set(F.when(at >= F.lit(since), at)).alias("bought_at"))
        .withColumn("known_since", F.min("owned_since").over(SqlWindow.partitionBy("user_id")))
    )
    return (
        pairs.filter(F.size("bought_at") > 0)
        .join(products, "product_id", how="inner")
        .select(
            "user_id",
            "product_id",
            F.explode("bought_at").alias("occurred_at"),
            "owned_since",
            "sold_since",
            "known_since",
        )
    )


def truth(dated: DataFrame, window: Window) -> DataFrame:
    """Return what known users bought within the window.

    Users count who bought before the cut; products count that were sold before it.

    Parameters
    ----------
    dated
        Result of `dated_purchases`, since the cut or earlier.
    window
        The cut and the horizon.

    Returns
    -------
    DataFrame
        Distinct ``user_id`` string, ``product_id`` string, ``is_new`` boolean (never bought by the user before).
    """
    at, cut = F.col("occurred_at"), F.lit(window.cut)
    within = (at >= cut) & (at < F.lit(window.end))
    return (
        dated.filter(within & (F.col("sold_since") < cut) & (F.col("known_since") < cut))
        .select("user_id", "product_id", (F.col("owned_since") >= cut).alias("is_new"))
        .distinct()
    )


def wanted_products(truth: DataFrame, task: str, max_users: int = MAX_USERS) -> pd.DataFrame:
    """Return the truth of one task on the driver, for at most about `max_users` users: ``user_id``, ``product_id``."""
    counted = truth.filter(F.col("is_new")) if task == "new" else truth
    n_users = counted.select("user_id").distinct().count()
    return sampled(counted, "user_id", n_users, max_users, "truth").select("user_id", "product_id").toPandas()


def users_of(session: SparkSession, wanted: Iterable[pd.DataFrame]) -> DataFrame:
    """Return the distinct users of some results of `wanted_products`."""
    users = pd.concat([of_task[["user_id"]] for of_task in wanted]).drop_duplicates()
    return session.createDataFrame(users, "user_id string")
