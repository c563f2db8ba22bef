"""Faces of clusters: products that stand for them, how tight they are, and which products hardly belong.

Distances are cosine distances to the centroid. All figures are exact and don't depend on partitioning: percentiles are
taken from the counts of distances rounded to `STEP_DECIMALS`, of which a cluster has a few thousand however many
products it holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F  # noqa: N812 - the name every PySpark reader knows

from shelfkin.clustering.vectors import FloatArray, unit_vectors, vectors_of

N_REPRESENTATIVES = 5

# Vectors that one task holds for one cluster: 64 x 1,536 float32 are 400 kB.
N_CANDIDATES = 64

# Being central counts a little more than being unlike those already chosen.
CENTRAL_WEIGHT = 0.6

STEP_DECIMALS = 4

# Tukey's fence is 1.5 interquartile ranges beyond the third quartile. Where a cluster is nearly all twins its range is
# next to nothing, and any other product would lie beyond; 0.02 is what a reworded title costs (bundled model).
FENCE_RANGES = 1.5
MIN_RANGE = 0.02
# Quartiles of fewer products say little.
MIN_PRODUCTS = 20

_FACES_SCHEMA = "cluster_id int, representative_product_ids array<string>, representative_titles array<string>"


@dataclass(frozen=True)
class Spread:
    """How far a cluster's products are from its centroid.

    Attributes
    ----------
    median, p90
        Cosine distance that half, and nine in ten, of the products don't exceed.
    fence
        Products beyond it are outliers; infinite in a cluster of fewer than `MIN_PRODUCTS`.
    n_outliers
        Number of products beyond the fence.
    """

    median: float
    p90: float
    fence: float
    n_outliers: int


def spreads(products: DataFrame) -> dict[int, Spread]:
    """Return the spread of each cluster.

    The p-th percentile is the lowest distance that at least p per cent of the products don't exceed (nearest rank).
    The fence is that of Tukey (1977), "Exploratory Data Analysis": third quartile + 1.5 interquartile ranges, where
    the range is at least `MIN_RANGE`.

    Parameters
    ----------
    products
        Columns cluster_id and distance, one row per product.
    """
    counts = products.groupBy("cluster_id", _step().alias("step")).agg(F.count("*").alias("n"))
    so_far = Window.partitionBy("cluster_id").orderBy("step").rowsBetween(Window.unboundedPreceding, 0)
    cumulated = counts.withColumn("reached", F.sum("n").over(so_far)).withColumn(
        "size", F.sum("n").over(Window.partitionBy("cluster_id"))
    )
    # In whole products: 4 * reached >= size has no rounding of 0.25 * size in it.
    quantiles = cumulated.groupBy("cluster_id", "size").agg(
        *(
            F.min(F.when(F.col("reached") * parts >= F.col("size") * part, F.col("step"))).alias(name)
            for name, part, parts in (("q1", 1, 4), ("median", 1, 2), ("q3", 3, 4), ("p90", 9, 10))
        )
    )
    span = F.greatest(F.col("q3") - F.col("q1"), F.lit(MIN_RANGE))
    fences = quantiles.withColumn(
        "fence",
        F.when(F.col("size") >= MIN_PRODUCTS, F.round(F.col("q3") + FENCE_RANGES * span, STEP_DECIMALS)).otherwise(
            F.lit(float("inf"))
        ),
    )
    beyond = F.sum(F.when(F.col("step") > F.col("fence"), F.col("n")).otherwise(0))
    rows = (
        counts.join(F.broadcast(fences), "cluster_id", "inner")
        .groupBy("cluster_id", "median", "p90", "fence")
        .agg(beyond.alias("n_outliers"))
        .collect()
    )
    return {row["cluster_id"]: Spread(row["median"], row["p90"], row["fence"], row["n_outliers"]) for row in rows}


def _step() -> F.Column:
    return F.round(F.col("distance").cast("double"), STEP_DECIMALS)


def flag_outliers(products: DataFrame, found: Mapping[int, Spread]) -> DataFrame:
    """Return `products` with `is_outlier`: whether the distance lies beyond its cluster's fence."""
    rows = [(cluster, spread.fence) for cluster, spread in sorted(found.items())]
    fences = products.sparkSession.createDataFrame(rows, "cluster_id int, fence double")
    flagged = products.join(F.broadcast(fences), "cluster_id", "inner")
    return flagged.withColumn("is_outlier", _step() > F.col("fence")).drop("fence")


def representatives(products: DataFrame, vectors: DataFrame) -> DataFrame:
    """Return products that stand for each cluster: central, and different from each other.

    The first is the cluster's medoid: the sum of cosine distances from a unit vector to all products is least for the
    one nearest to their mean's direction, which the centroid is. The others maximise marginal relevance (Carbonell &
    Goldstein, 1998, "The use of MMR"): `CENTRAL_WEIGHT` times the cosine to the centroid, less (1 - `CENTRAL_WEIGHT`)
    times the highest cosine to one already chosen. Candidates are the nearer half of the different titles, thinned
    evenly to `N_CANDIDATES`; titles that differ in numbers only are one.

    Parameters
    ----------
    products
        Columns cluster_id, product_id, title, text_hash, distance.
    vectors
        Columns text_hash and vector.

    Returns
    -------
    DataFrame
        cluster_id, representative_product_ids and representative_titles (arrays, at most `N_REPRESENTATIVES` long).
        Equal scores go to the nearer, then to the lower product_id.
    """
    letters = F.trim(F.regexp_replace(F.lower("title"), r"[^\p{L}]+", " "))
    nearest = products.groupBy("cluster_id", letters.alias("letters")).agg(
        F.min(F.struct("distance", "product_id", "title", "text_hash")).alias("nearest")
    )
    in_cluster = Window.partitionBy("cluster_id")
    placed = nearest.select(
        "cluster_id",
        "nearest.*",
        (F.row_number().over(in_cluster.orderBy("nearest")) - 1).alias("place"),
        F.count("*").over(in_cluster).alias("n_titles"),
    )
    # The half beyond the median isn't a cluster's face, unless there are too few titles otherwise.
    n_central = F.greatest(F.ceil(F.col("n_titles") / 2), F.least(F.col("n_titles"), F.lit(N_REPRESENTATIVES)))
    n_kept = F.least(n_central, F.lit(N_CANDIDATES))
    # Place p is kept where p * n_kept / n_central passes a whole number: every place, or evenly thinned ones.
    passes = (F.col("place") * n_kept) % n_central < n_kept
    candidates = placed.where((F.col("place") < n_central) & passes).drop("place", "n_titles")
    with_vectors = candidates.join(vectors.select("text_hash", "vector"), "text_hash", "inner")
    return with_vectors.groupBy("cluster_id").applyInArrow(_choose, _FACES_SCHEMA)


def _choose(candidates: pa.Table) -> pa.Table:
    """Return one cluster's representatives, from its candidates."""
    ordered = candidates.sort_by([("distance", "ascending"), ("product_id", "ascending")])
    unit = unit_vectors(vectors_of(ordered.column("vector")))
    chosen = marginal_relevance(unit, 1 - np.asarray(ordered.column("distance"), dtype=np.float64), N_REPRESENTATIVES)
    return pa.table(
        {
            "cluster_id": ordered.column("cluster_id").slice(0, 1).cast(pa.int32()),
            "representative_product_ids": [[ordered.column("product_id")[place].as_py() for place in chosen]],
            "representative_titles": [[ordered.column("title")[place].as_py() for place in chosen]],
        }
    )


def marginal_relevance(vectors: FloatArray, relevance: FloatArray, n_wanted: int) -> list[int]:
    """Return rows by maximal marginal relevance; see `representatives`.

    Parameters
    ----------
    vectors
        Shape (n, d), unit rows.
    relevance
        Shape (n,): cosine of each row to the centroid. The first row must be the most relevant one.
    n_wanted
        At most so many rows; equal scores go to the lower row.
    """
    # Rounded: the last bits of a matrix product depend on how many rows share it.
    cosines = np.round(vectors.astype(np.float64) @ vectors.astype(np.float64).T, 6)
    chosen = [0]
    while len(chosen) < min(n_wanted, len(vectors)):
        likeness = reduce(np.maximum, (cosines[place] for place in chosen))
        scores = np.round(CENTRAL_WEIGHT * relevance - (1 - CENTRAL_WEIGHT) * likeness, 6)
        scores[chosen] = -np.inf
        chosen.append(int(scores.argmax()))
    return chosen
