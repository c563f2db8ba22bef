"""Products that stand for a cluster: the medoid, and what differs from it."""

from __future__ import annotations

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

_SCHEMA = "cluster_id int, representative_product_ids array<string>, representative_titles array<string>"


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
    # The half beyond the median represents no cluster, unless there are too few titles otherwise.
    n_central = F.greatest(F.ceil(F.col("n_titles") / 2), F.least(F.col("n_titles"), F.lit(N_REPRESENTATIVES)))
    n_kept = F.least(n_central, F.lit(N_CANDIDATES))
    # Place p is kept where p * n_kept / n_central passes a whole number: every place, or evenly thinned ones.
    passes = (F.col("place") * n_kept) % n_central < n_kept
    candidates = placed.where((F.col("place") < n_central) & passes).drop("place", "n_titles")
    with_vectors = candidates.join(vectors.select("text_hash", "vector"), "text_hash", "inner")
    return with_vectors.groupBy("cluster_id").applyInArrow(_representatives_of_cluster, _SCHEMA)


def _representatives_of_cluster(candidates: pa.Table) -> pa.Table:
    """Return one cluster's representatives, from its candidates."""
    ordered = candidates.sort_by([("distance", "ascending"), ("product_id", "ascending")])
    unit = unit_vectors(vectors_of(ordered.column("vector")))
    relevance = 1 - np.asarray(ordered.column("distance"), dtype=np.float64)
    chosen = ordered.take(marginal_relevance(unit, relevance, N_REPRESENTATIVES))
    return pa.table(
        {
            "cluster_id": chosen.column("cluster_id").slice(0, 1).cast(pa.int32()),
            "representative_product_ids": [chosen.column("product_id").to_pylist()],
            "representative_titles": [chosen.column("title").to_pylist()],
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
        likeness = cosines[chosen].max(axis=0)
        scores = np.round(CENTRAL_WEIGHT * relevance - (1 - CENTRAL_WEIGHT) * likeness, 6)
        scores[chosen] = -np.inf
        chosen.append(int(scores.argmax()))
    return chosen
