"""Spherical k-means on weighted unit vectors: fit on the driver, assign on the executors.

The objective is that of Dhillon & Modha (2001), "Concept decompositions for large sparse text data using
clustering": centroids are unit vectors and each point joins the centroid of the highest cosine. A distinct text weighs
as much as the number of products that carry it, so that the result is that of clustering the products themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import sparse

from shelfkin.errors import DataQualityError, OptionError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

FloatArray = NDArray[np.floating]
IntArray = NDArray[np.integer]

# Rows handled at a time: 8,192 x 384 float32 is 12.6 MB, which stays near the cache of one core. Fixed, so that sums
# are added in the same order whatever the machine.
BLOCK_ROWS = 8192

# The choice among several starts is made on so many rows: their objective differs by per cent, which a sample of this
# size tells apart, and five full fits of 200,000 rows would take minutes.
START_ROWS = 16_384

# Centroids are rounded before they are used, so that those in the lineage file are exactly those of the assignment.
CENTROID_DECIMALS = 6

# Distances are rounded to what a float32 column holds; the order of BLAS sums can't show in them.
DISTANCE_DECIMALS = 6

ASSIGNMENT_SCHEMA = "text_hash string, cluster int, distance float"


@dataclass(frozen=True)
class Fit:
    """Result of `fit`.

    Attributes
    ----------
    centroids
        Shape (k, d), float64, rows of unit norm, rounded to `CENTROID_DECIMALS`; from the heaviest cluster to the
        lightest. k may be lower than asked for when different texts share a vector.
    labels
        Shape (n,), int64: index of each row's centroid.
    cosines
        Shape (n,), float64: cosine of each row to its centroid.
    inertia
        Weighted sum of squared Euclidean distances to the centroid, which on unit vectors is 2 * (1 - cosine).
    n_iterations
        Lloyd iterations of the final run.
    """

    centroids: FloatArray
    labels: IntArray
    cosines: FloatArray
    inertia: float
    n_iterations: int


def check_vectors(vectors: FloatArray) -> FloatArray:
    """Return `vectors` scaled to unit norm.

    Parameters
    ----------
    vectors
        Shape (n, d).

    Raises
    ------
    DataQualityError
        A vector holds NaN or infinity, or is all zero: it has no direction and belongs to no cluster.
    """
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
    bad = ~np.isfinite(norms) | (norms == 0)
    if bad.any():
        raise _unusable(int(bad.sum()), len(vectors))
    return (vectors / norms[:, None]).astype(np.float32)


def _unusable(n_bad: int, n_all: int) -> DataQualityError:
    return DataQualityError(
        f"{n_bad:,} of {n_all:,} product vectors hold NaN or infinity, or are all zero; a vector needs a direction.",
        next_step="Check the embedding model's answers, and embed these texts again.",
    )


def n_distinct(vectors: FloatArray) -> int:
    """Return the number of different rows: two texts that differ in case only may share a vector."""
    return len(
        np.unique(np.ascontiguousarray(vectors).view(np.dtype((np.void, vectors.dtype.itemsize * vectors.shape[1]))))
    )


def nearest(vectors: FloatArray, centroids: FloatArray) -> tuple[IntArray, FloatArray]:
    """Return the index of the centroid of the highest cosine and that cosine, for each row.

    Both inputs must have rows of unit norm. Equal cosines go to the lower index.
    """
    cosines = vectors @ centroids.T
    labels = cosines.argmax(axis=1)
    return labels, cosines[np.arange(len(vectors)), labels]


def cluster_sums(vectors: FloatArray, weights: FloatArray, labels: IntArray, k: int) -> FloatArray:
    """Return the weighted vector sum of each cluster: shape (k, d), float64, added up block by block."""
    sums = np.zeros((k, vectors.shape[1]))
    for start in range(0, len(vectors), BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        rows = np.arange(len(labels[block]))
        membership = sparse.csr_matrix((weights[block], (labels[block], rows)), shape=(k, len(rows)))
        sums += membership @ vectors[block].astype(np.float64)
    return sums


def fit(
    vectors: FloatArray,
    weights: FloatArray,
    k: int,
    *,
    n_starts: int = 5,
    seed: int = 0,
    warm_start: FloatArray | None = None,
    max_iterations: int = 50,
    tolerance: float = 1e-4,
) -> Fit:
    """Cluster weighted unit vectors.

    Every start is a k-means++ draw followed by Lloyd iterations on the first
    `START_ROWS` rows; the best of them by inertia goes on with all rows. Rows sorted by text hash make that prefix a
    uniform sample, and make the result independent of the order in which a store delivers its products.

    Parameters
    ----------
    vectors
        Shape (n, d), unit rows, sorted by text hash.
    weights
        Shape (n,), positive: products per text.
    k
        Clusters wanted; at least 1, at most n.
    n_starts
        Random starts.
    seed
        Seed of the first start; start i uses seed + i.
    warm_start
        Shape (k', d): centroids of the day before. With k' = k they are one more start, kept unless a random start
        is better by more than one per cent, so that clusters don't change places without a gain.
    max_iterations
        Upper limit of Lloyd iterations of each run.
    tolerance
        A run stops when inertia falls by less than this share of itself.

    Raises
    ------
    OptionError
        k exceeds the number of rows.
    """
    if k > len(vectors):
        raise OptionError(f"k={k} exceeds {len(vectors):,} distinct vectors; lower --k.", next_step="Lower --k.")
    head = vectors[:START_ROWS] if len(vectors[:START_ROWS]) >= k else vectors
    head_weights = weights[: len(head)]
    best: Fit | None = None
    if warm_start is not None and warm_start.shape == (k, vectors.shape[1]):
        best = _lloyd(head, head_weights, warm_start, max_iterations, tolerance)
    margin = 0.99 if best is not None else 1.0
    warm_inertia = best.inertia if best is not None else np.inf
    for start in range(n_starts):
        drawn = plus_plus(head, head_weights, k, np.random.default_rng(seed + start))
        candidate = _lloyd(head, head_weights, drawn, max_iterations, tolerance)
        if candidate.inertia < margin * warm_inertia and (best is None or candidate.inertia < best.inertia):
            best = candidate
    if best is None:
        raise OptionError(f"n_starts={n_starts} leaves nothing to fit; use at least 1.")
    if len(head) < len(vectors):
        best = _lloyd(vectors, weights, best.centroids, max_iterations, tolerance)
    return _finish(vectors, weights, best)


def plus_plus(vectors: FloatArray, weights: FloatArray, k: int, random: np.random.Generator) -> FloatArray:
    """Return k rows as first centroids: greedy k-means++ in cosine distance.

    Each next row is drawn with a chance in proportion to its weight times its distance to the nearest row drawn so
    far; of 2 + ln k such draws, the one that lowers the objective most is taken (Arthur & Vassilvitskii, 2007,
    section 5). scikit-learn's version converts float32 rows to float64 for every draw, which takes ten times longer
    than all the Lloyd iterations that follow.

    Parameters
    ----------
    vectors
        Shape (n, d), unit rows, n >= k.
    weights
        Shape (n,), positive.
    """
    n_candidates = 2 + int(np.log(k))
    first = int(np.searchsorted(np.cumsum(weights), random.random() * weights.sum(), side="right"))
    chosen = [min(first, len(vectors) - 1)]
    distances = np.maximum(1 - vectors @ vectors[chosen[0]], 0).astype(np.float64)
    while len(chosen) < k:
        mass = np.cumsum(weights * distances)
        drawn = np.searchsorted(mass, random.random(n_candidates) * mass[-1], side="right")
        candidates = np.minimum(drawn, len(vectors) - 1)
        to_each = np.minimum(distances, np.maximum(1 - vectors[candidates] @ vectors.T, 0))
        best = int((to_each @ weights).argmin())
        chosen.append(int(candidates[best]))
        distances = to_each[best]
    return vectors[chosen]


def _unit(vectors: FloatArray) -> FloatArray:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)


def _assign_all(vectors: FloatArray, centroids: FloatArray) -> tuple[IntArray, FloatArray]:
    labels = np.empty(len(vectors), dtype=np.int64)
    cosines = np.empty(len(vectors))
    centroids = centroids.astype(vectors.dtype)
    for start in range(0, len(vectors), BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        labels[block], cosines[block] = nearest(vectors[block], centroids)
    return labels, cosines


def _inertia(weights: FloatArray, cosines: FloatArray) -> float:
    return float(2 * (weights * (1 - np.minimum(cosines, 1.0))).sum())


def _lloyd(
    vectors: FloatArray, weights: FloatArray, centroids: FloatArray, max_iterations: int, tolerance: float
) -> Fit:
    """Iterate assignment and update until inertia stands still."""
    k = len(centroids)
    labels, cosines = _assign_all(vectors, centroids)
    inertia = _inertia(weights, cosines)
    n_iterations = 0
    while n_iterations < max_iterations:
        n_iterations += 1
        sums = cluster_sums(vectors, weights, labels, k)
        empty = np.flatnonzero(np.bincount(labels, minlength=k) == 0)
        # An empty cluster starts again from the rows that fit worst, heaviest misfit first (row order breaks ties).
        misfits = np.argsort(-weights * (1 - cosines), kind="stable")[: len(empty)]
        sums[empty] = vectors[misfits]
        centroids = _unit(sums)
        labels, cosines = _assign_all(vectors, centroids)
        before, inertia = inertia, _inertia(weights, cosines)
        if before - inertia <= tolerance * before and not len(empty):
            break
    return Fit(centroids, labels, cosines, inertia, n_iterations)


def _finish(vectors: FloatArray, weights: FloatArray, found: Fit) -> Fit:
    """Order clusters by weight, drop empty ones, round centroids and assign once more with what will be stored."""
    mass = np.bincount(found.labels, weights=weights, minlength=len(found.centroids))
    order = np.argsort(-mass, kind="stable")
    order = order[mass[order] > 0]
    centroids = np.round(found.centroids[order].astype(np.float64), CENTROID_DECIMALS)
    labels, cosines = _assign_all(vectors, centroids)
    return Fit(centroids, labels, cosines, _inertia(weights, cosines), found.n_iterations)


def assign(product_vectors: DataFrame, centroids: FloatArray) -> DataFrame:
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
    """Assign one Arrow batch of text_hash and vector; see `assign`.

    Products are summed in float64: with float32, the last bit of a cosine depends on how many rows share the batch.
    """
    vectors = vectors_of(batch.column("vector"), centroids.shape[1]).astype(np.float64)
    norms = np.linalg.norm(vectors, axis=1)
    usable = np.isfinite(norms) & (norms > 0)
    unit = np.zeros_like(vectors)
    unit[usable] = vectors[usable] / norms[usable, None]
    labels, cosines = nearest(unit, centroids)
    # Rounded centroids have a norm within 1e-6 of one, so a twin of its centroid may come out a hair beyond 1.
    distances = np.round(np.clip(1 - cosines, 0, 2), DISTANCE_DECIMALS).astype(np.float32)
    return pa.RecordBatch.from_arrays(
        [
            batch.column("text_hash"),
            pa.array(labels.astype(np.int32)),
            pa.array(distances, mask=~usable),
        ],
        names=["text_hash", "cluster", "distance"],
    )


def vectors_of(column: pa.Array | pa.ChunkedArray, dimensions: int | None = None) -> FloatArray:
    """Return a list<float> column as an array of shape (n, d), float32.

    Raises
    ------
    DataQualityError
        A vector is null, or lengths differ.
    """
    chunk = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    n_rows = len(chunk)
    flat = np.asarray(chunk.flatten())
    width = dimensions or (len(flat) // n_rows if n_rows else 0)
    lengths = np.asarray(chunk.value_lengths().fill_null(0)) if n_rows else np.empty(0, dtype=np.int64)
    if n_rows and not (lengths == width).all():
        odd = int(lengths[lengths != width][0])
        raise DataQualityError(
            f"product_vectors holds a vector of {odd} numbers beside vectors of {width}; all must have one length.",
            next_step="Embed all texts with one model and one --dimensions.",
        )
    return flat.reshape(n_rows, width).astype(np.float32)


def sample(product_vectors: DataFrame, n_rows: int) -> tuple[NDArray[np.str_], FloatArray, FloatArray]:
    """Return a deterministic uniform sample of the distinct texts, sorted by text hash, on the driver.

    A text is in the sample when its SHA-256 is low enough, which no partitioning, row order or other text changes:
    tomorrow's sample of nearly the same catalogue is nearly the same sample.

    Parameters
    ----------
    product_vectors
        Columns text_hash (64 hex digits), n_products and vector.
    n_rows
        At most so many rows; the driver holds n_rows x d x 4 bytes, twice while they arrive.

    Returns
    -------
    hashes, vectors, weights
        Shapes (n,), (n, d) float32 of unit norm, (n,) float64.
    """
    n_all = product_vectors.count()
    chosen = product_vectors.select("text_hash", "n_products", "vector")
    if n_all > n_rows:
        bound = f"{int(n_rows / n_all * 16**8):08x}"
        chosen = chosen.where(chosen.text_hash < bound)
    table = chosen.toArrow()
    hashes = np.asarray(table.column("text_hash").to_pylist(), dtype=np.str_)
    order = np.argsort(hashes, kind="stable")[:n_rows]
    vectors = vectors_of(table.column("vector"))[order]
    weights = np.asarray(table.column("n_products"), dtype=np.float64)[order]
    return hashes[order], check_vectors(vectors), weights
