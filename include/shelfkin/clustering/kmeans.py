"""Spherical k-means on weighted unit vectors.

The objective is that of Dhillon & Modha (2001), "Concept decompositions for large sparse text data using
clustering": centroids are unit vectors and each point joins the centroid of the highest cosine. A distinct text weighs
as much as the number of products that carry it, so that the result is that of clustering the products themselves.

A large catalogue is fitted on a sample (`n_fit_rows`), as FAISS does it; all texts are assigned afterwards (`assign`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from shelfkin.clustering.lloyd import Points, lloyd
from shelfkin.clustering.starts import START_ITERATIONS, START_TOLERANCE, random_start
from shelfkin.clustering.vectors import FloatArray, IntArray
from shelfkin.errors import OptionError

# The choice among several starts is made on so many rows: their objective differs by per cent, which a sample of this
# size tells apart, and five full fits of 200,000 rows would take minutes.
START_ROWS = 8_192
# Below so many rows per centroid, a start would tell of the sample rather than of the catalogue.
START_ROWS_PER_CENTROID = 128

# More rows per centroid than this move a centroid by less than its own spread; FAISS's k-means takes as many.
FIT_ROWS_PER_CENTROID = 256
# Vectors on the driver take at most so much, whatever their length.
MAX_FIT_BYTES = 512 * 2**20

# Centroids are rounded before they are used, so that those in the lineage file are exactly those of the assignment.
CENTROID_DECIMALS = 6

# Yesterday's centroids stay unless a new start is better by this share, so that clusters don't change places for a
# gain that nobody can see.
WARM_MARGIN = 0.01

# The first fit goes to the bottom: where it stops short, every later day slides on, and products change their cluster.
# Days that start from yesterday's centroids then have little to do, and stop soon. Measured on pairs of days that
# differ by 1% of the texts, see docs/decisions/0008-cluster-identity.md.
COLD_TOLERANCE, WARM_TOLERANCE = 1e-6, 3e-4
MAX_ITERATIONS = 100


@dataclass(frozen=True, eq=False)
class Options:
    """How to start a fit, and when to end it.

    Attributes
    ----------
    n_starts
        Random starts.
    seed
        Seed of the first start; start i uses seed + i.
    warm_start
        Shape (k, d): centroids of the day before. They are one more start, kept unless a random start is better by
        more than `WARM_MARGIN`. Those of another k are left aside.
    max_iterations
        Upper limit of iterations over all rows.
    tolerance
        The iteration ends when an update lowers inertia by less than this share of itself; by default
        `COLD_TOLERANCE`, or `WARM_TOLERANCE` with a warm start.
    n_threads
        Threads of this process, by default as many as it may use. Doesn't change the result.
    """

    n_starts: int = 3
    seed: int = 0
    warm_start: FloatArray | None = None
    max_iterations: int = MAX_ITERATIONS
    tolerance: float | None = None
    n_threads: int | None = None

    @property
    def stop_below(self) -> float:
        """The tolerance that holds."""
        default = COLD_TOLERANCE if self.warm_start is None else WARM_TOLERANCE
        return default if self.tolerance is None else self.tolerance


_DEFAULT = Options()


@dataclass(frozen=True, eq=False)
class Model:
    """Centroids and how well they fit the rows that they were fitted on.

    Attributes
    ----------
    centroids
        Shape (k, d), float64, rows of unit norm, rounded to `CENTROID_DECIMALS`; from the heaviest cluster to the
        lightest. k may be lower than asked for when different texts share a vector.
    labels
        Shape (n,), int64: index of each row's centroid.
    inertia
        Weighted sum of squared Euclidean distances to the centroid, which on unit vectors is 2 * (1 - cosine).
    mean_cosine
        Weighted mean cosine to the centroid.
    n_iterations
        Lloyd iterations over all rows.
    """

    centroids: FloatArray
    labels: IntArray
    inertia: float
    mean_cosine: float
    n_iterations: int


def n_fit_rows(fit_sample: int, k: int, dimensions: int) -> int:
    """Return how many texts a fit looks at: `fit_sample`, more for a large k, fewer for vectors that take more room."""
    return min(max(fit_sample, FIT_ROWS_PER_CENTROID * k), MAX_FIT_BYTES // (4 * max(1, dimensions)))


def fit(vectors: FloatArray, weights: FloatArray, k: int, options: Options = _DEFAULT) -> Model:
    """Cluster weighted unit vectors.

    Rows sorted by text hash make the sample of the starts a uniform one, and the result independent of the order in
    which a store delivers its products.

    Parameters
    ----------
    vectors
        Shape (n, d), float32, as `vectors.unit_vectors` gives them, sorted by text hash.
    weights
        Shape (n,), positive whole numbers: products per text.
    k
        Clusters wanted; at least 1, at most n.

    Raises
    ------
    OptionError
        k exceeds the number of rows, or there is nothing to start from.
    """
    if k > len(vectors):
        raise OptionError(f"k={k} exceeds {len(vectors):,} distinct vectors; lower --k.", next_step="Lower --k.")
    points = Points(vectors, weights, options.n_threads)
    with threadpool_limits(1):
        centroids, assigned, n_iterations = lloyd(
            points, _best_start(vectors, weights, k, options), options.max_iterations, options.stop_below
        )
        centroids = np.round(centroids.astype(np.float64), CENTROID_DECIMALS)
        assigned = points.assign(centroids, assigned)
    order = np.argsort(-assigned.mass, kind="stable")
    order = order[assigned.mass[order] > 0]
    place = np.zeros(k, dtype=np.int64)
    place[order] = np.arange(len(order))
    mean_cosine = 1 - assigned.misfit / float(assigned.mass.sum())
    return Model(centroids[order], place[assigned.labels], assigned.inertia, mean_cosine, n_iterations)


def _best_start(vectors: FloatArray, weights: FloatArray, k: int, options: Options) -> FloatArray:
    """Return the best of several starts on the first rows: shape (k, d)."""
    head = slice(0, max(START_ROWS, START_ROWS_PER_CENTROID * k))
    points = Points(vectors[head], weights[head], options.n_threads)
    best: FloatArray | None = None
    limit = np.inf
    warm = options.warm_start
    if warm is not None and warm.shape == (k, vectors.shape[1]):
        best, assigned, _ = lloyd(points, warm, START_ITERATIONS, START_TOLERANCE)
        limit = (1 - WARM_MARGIN) * assigned.inertia
    for number in range(options.n_starts):
        centroids, inertia = random_start(points, k, np.random.default_rng(options.seed + number))
        if inertia < limit:
            best, limit = centroids, inertia
    if best is None:
        raise OptionError(f"n_starts={options.n_starts} leaves nothing to fit; use at least 1.")
    return best
