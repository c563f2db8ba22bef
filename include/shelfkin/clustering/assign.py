"""The nearest centroid of every text, computed on the executors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from shelfkin.clustering.lloyd import two_nearest
from shelfkin.clustering.vectors import FloatArray, vectors_of

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

# Distances are rounded to what a float32 column holds; the order of BLAS sums can't show in them.
DISTANCE_DECIMALS = 6

ASSIGNMENT_SCHEMA = "text_hash string, cluster int, distance float"


def assign_texts(product_vectors: DataFrame, centroids: FloatArray) -> DataFrame:
    """Return the nearest centroid of every distinct text, computed on the executors.

    Parameters
    ----------
    product_vectors
        Columns text_hash and vector (array<float>, unit norm).
    centroids
        Shape (k, d), unit rows; sent to each executor once. k x d x 8 bytes must fit there, several times over.

    Returns
    -------
    DataFrame
        text_hash, cluster (index into `centroids`), distance = 1 - cosine (null where the vector is unusable).
    """
    shared = product_vectors.sparkSession.sparkContext.broadcast(np.ascontiguousarray(centroids, dtype=np.float64))

    def assign_batches(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield assign_batch(batch, shared.value)

    return product_vectors.select("text_hash", "vector").mapInArrow(assign_batches, ASSIGNMENT_SCHEMA)


def assign_batch(batch: pa.RecordBatch, centroids: FloatArray) -> pa.RecordBatch:
    """Assign one Arrow batch of text_hash and vector; see `assign_texts`.

    Products are summed in float64: with float32, the last bit of a cosine depends on how many rows share the batch.
    """
    vectors = vectors_of(batch.column("vector"), centroids.shape[1]).astype(np.float64)
    norms = np.linalg.norm(vectors, axis=1)
    usable = np.isfinite(norms) & (norms > 0)
    unit = np.zeros_like(vectors)
    unit[usable] = vectors[usable] / norms[usable, None]
    labels, cosines, _ = two_nearest(unit, centroids)
    # Rounded centroids have a norm within 1e-6 of one, so a twin of its centroid may come out a hair beyond 1.
    distances = np.round(np.clip(1 - cosines, 0, 2), DISTANCE_DECIMALS).astype(np.float32)
    columns = [batch.column("text_hash"), pa.array(labels.astype(np.int32)), pa.array(distances, mask=~usable)]
    return pa.RecordBatch.from_arrays(columns, names=["text_hash", "cluster", "distance"])
