"""How large each cluster is, how tight, and which of its products hardly belong.

Distances are cosine distances to the centroid. All figures are exact and don't depend on partitioning: percentiles are
taken from the counts of distances rounded to `STEP_DECIMALS`, of which a cluster has a few thousand however many
products it holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812 - the name every PySpark reader knows

from shelfkin.clustering.vectors import IntArray
from shelfkin.errors import DataQualityError

STEP_DECIMALS = 4

# Tukey's fence is 1.5 interquartile ranges beyond the third quartile. Where a cluster is nearly all twins its range is
# next to nothing, and any other product would lie beyond; 0.02 is what a reworded title costs (bundled model).
FENCE_RANGES = 1.5
MIN_RANGE = 0.02
# Quartiles of fewer products say little.
MIN_PRODUCTS = 20


@dataclass(frozen=True)
class ClusterStats:
    """Size of a cluster, and how far its products are from its centroid.

    Attributes
    ----------
    size
        Products.
    total_distance
        Sum of their cosine distances.
    median, p90
        Cosine distance that half, and nine in ten, of the products don't exceed.
    fence
        Products beyond it are outliers; infinite in a cluster of fewer than `MIN_PRODUCTS`.
    n_outliers
        Number of products beyond the fence.
    """

    size: int
    total_distance: float
    median: float
    p90: float
    fence: float
    n_outliers: int


def cluster_stats(products: DataFrame) -> dict[int, ClusterStats]:
    """Return the figures of each cluster, the largest cluster first.

    The p-th percentile is the lowest distance that at least p per cent of the products don't exceed (nearest rank).
    The fence is that of Tukey (1977), "Exploratory Data Analysis": third quartile + 1.5 interquartile ranges, where
    the range is at least `MIN_RANGE`.

    Parameters
    ----------
    products
        Columns cluster_id and distance, one row per product.

    Raises
    ------
    DataQualityError
        A distance is null: the vector has no direction.
    """
    counts = products.groupBy("cluster_id", _step().alias("step")).agg(
        F.count("*").alias("n"),
        # As decimals, their sum doesn't depend on the order of partitions.
        F.sum(F.col("distance").cast("decimal(18,6)")).cast("double").alias("distance"),
    )
    table = counts.orderBy("cluster_id", "step").toPandas()
    n_unusable = int(table.loc[table["step"].isna(), "n"].sum())
    if n_unusable:
        raise DataQualityError(
            f"The vectors of {n_unusable:,} products hold NaN or infinity, or are all zero; "
            "a vector needs a direction.",
            next_step="Check the embedding model's answers, and embed these texts again.",
        )
    stats = {
        int(str(cluster)): _stats(steps["step"].to_numpy(), steps["n"].to_numpy(), round(steps["distance"].sum(), 6))
        for cluster, steps in table.groupby("cluster_id")
    }
    return dict(sorted(stats.items(), key=lambda item: (-item[1].size, item[0])))


def _stats(distances: np.ndarray, n: IntArray, total_distance: float) -> ClusterStats:
    """Return the figures of one cluster from its rising distances and the number of products at each."""
    # In whole steps there is no rounding in a comparison.
    steps, size = np.rint(distances * 10**STEP_DECIMALS).astype(np.int64), int(n.sum())
    q1, median, q3, p90 = np.quantile(steps, (0.25, 0.5, 0.75, 0.9), method="inverted_cdf", weights=n).tolist()
    least_range = round(MIN_RANGE * 10**STEP_DECIMALS)
    # Half a step is rounded up.
    fence = int(q3 + FENCE_RANGES * max(q3 - q1, least_range) + 0.5)
    has_fence = size >= MIN_PRODUCTS
    return ClusterStats(
        size,
        total_distance,
        median / 10**STEP_DECIMALS,
        p90 / 10**STEP_DECIMALS,
        fence / 10**STEP_DECIMALS if has_fence else float("inf"),
        int(n[steps > fence].sum()) if has_fence else 0,
    )


def _step() -> Column:
    return F.round(F.col("distance").cast("double"), STEP_DECIMALS)


def flag_outliers(products: DataFrame, stats: Mapping[int, ClusterStats]) -> DataFrame:
    """Return `products` with `is_outlier`: whether the distance lies beyond its cluster's fence."""
    rows = [(cluster, of_cluster.fence) for cluster, of_cluster in sorted(stats.items())]
    fences = products.sparkSession.createDataFrame(rows, "cluster_id int, fence double")
    flagged = products.join(F.broadcast(fences), "cluster_id", "inner")
    return flagged.withColumn("is_outlier", _step() > F.col("fence")).drop("fence")
