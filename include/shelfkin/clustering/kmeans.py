"""Spherical k-means on weighted unit vectors.

The objective is that of Dhillon & Modha (2001), "Concept decompositions for large sparse text data using
clustering": centroids are unit vectors and each point joins the centroid of the highest cosine. A distinct text weighs
as much as the number of products that carry it, so that the result is that of clustering the products themselves.

A fit has two parts. Starts are made on a sample that one process holds: k-means++ and Lloyd iterations from each, of
which the best goes on. Lloyd iterations over all texts follow; each is one pass over the data (`passes.DataPass`):
over arrays in this process (`passes.Rows`), or over files on the executors (`shards.SparkShards`). The sums of a pass
are exact, so that both give the same centroids.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from shelfkin.clustering.passes import MAX_SPARES, DataPass, Rows, Totals, blocks, n_cores, nearest, weighted_sums
from shelfkin.clustering.swaps import swapped
from shelfkin.clustering.vectors import FloatArray, IntArray
from shelfkin.errors import OptionError

# The choice among several starts is made on so many rows: their objective differs by per cent, which a sample of this
# size tells apart, and five full fits of 200,000 rows would take minutes.
START_ROWS = 8_192
# Enough to tell starts apart, and for the best to settle; iterations over all rows follow.
START_ITERATIONS, START_TOLERANCE = 12, 1e-4
# A swap shows its worth within a few iterations; one that gains less than 0.1% isn't worth the next.
SWAP_ITERATIONS, SWAP_GAIN = 3, 1e-3
# Below so many rows per centroid, a start would tell of the sample rather than of the catalogue.
START_ROWS_PER_CENTROID = 128

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
    def end(self) -> tuple[int, float]:
        """The limits of the iteration over all rows: number of iterations and tolerance."""
        default = COLD_TOLERANCE if self.warm_start is None else WARM_TOLERANCE
        return self.max_iterations, default if self.tolerance is None else self.tolerance


_DEFAULT = Options()


@dataclass(frozen=True)
class Model:
    """Centroids and how well they fit all rows.

    Attributes
    ----------
    centroids
        Shape (k, d), float64, rows of unit norm, rounded to `CENTROID_DECIMALS`; from the heaviest cluster to the
        lightest. k may be lower than asked for when different texts share a vector.
    inertia
        Weighted sum of squared Euclidean distances to the centroid, which on unit vectors is 2 * (1 - cosine).
    mean_cosine
        Weighted mean cosine to the centroid.
    n_iterations
        Lloyd iterations over all rows.
    """

    centroids: FloatArray
    inertia: float
    mean_cosine: float
    n_iterations: int


@dataclass(frozen=True)
class Fit(Model):
    """A `Model` of rows that this process holds.

    Attributes
    ----------
    labels
        Shape (n,), int64: index of each row's centroid.
    """

    labels: IntArray


def fit(vectors: FloatArray, weights: FloatArray, k: int, options: Options = _DEFAULT) -> Fit:
    """Cluster weighted unit vectors that this process holds.

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
    head = slice(0, n_start_rows(k))
    first = start(vectors[head], weights[head], k, options)
    over = Rows(vectors, weights, options.n_threads)
    with threadpool_limits(1):
        model, order = _fitted(over, first, options)
    place = np.zeros(k, dtype=np.int64)
    place[order] = np.arange(len(order))
    return Fit(**vars(model), labels=place[over.labels])


def fit_passes(over: DataPass, first: FloatArray, options: Options = _DEFAULT) -> Model:
    """Return the model of rows that may lie elsewhere, from the centroids of `start`."""
    return _fitted(over, first, options)[0]


def _fitted(over: DataPass, first: FloatArray, options: Options) -> tuple[Model, IntArray]:
    """Iterate over all rows; round to what will be stored, drop empty clusters, order the others by weight.

    Returns the model, and which of the clusters iterated on its centroids are.
    """
    centroids, _, n_iterations = lloyd(over, first, *options.end)
    centroids = np.round(centroids.astype(np.float64), CENTROID_DECIMALS)
    found = over(centroids)
    order = np.argsort(-found.mass, kind="stable")
    order = order[found.mass[order] > 0]
    mean_cosine = 1 - found.misfit / float(found.mass.sum())
    return Model(centroids[order], found.inertia, mean_cosine, n_iterations), order


def n_start_rows(k: int) -> int:
    """Return how many rows the starts of a fit look at."""
    return max(START_ROWS, START_ROWS_PER_CENTROID * k)


def start(vectors: FloatArray, weights: FloatArray, k: int, options: Options = _DEFAULT) -> FloatArray:
    """Return the best of several starts on a sample: k-means++ and at most `START_ITERATIONS` from each.

    Parameters
    ----------
    vectors, weights
        Shapes (n, d) and (n,): the sample.
    k
        Clusters wanted; at most n.

    Raises
    ------
    OptionError
        k exceeds the number of rows, or there is nothing to start from.
    """
    if k > len(vectors):
        raise OptionError(f"k={k} exceeds {len(vectors):,} distinct vectors; lower --k.", next_step="Lower --k.")
    over = Rows(vectors, weights, options.n_threads)
    best: FloatArray | None = None
    limit = np.inf
    with threadpool_limits(1):
        warm = options.warm_start
        if warm is not None and warm.shape == (k, vectors.shape[1]):
            best, found, _ = lloyd(over, warm, START_ITERATIONS, START_TOLERANCE)
            limit = (1 - WARM_MARGIN) * found.inertia
        for number in range(options.n_starts):
            drawn = plus_plus(vectors, weights, k, np.random.default_rng(options.seed + number))
            centroids, found, _ = lloyd(over, drawn, START_ITERATIONS, START_TOLERANCE)
            centroids, inertia = _with_swaps(over, centroids, found.inertia)
            if inertia < limit:
                best, limit = centroids, inertia
    if best is None:
        raise OptionError(f"n_starts={options.n_starts} leaves nothing to fit; use at least 1.")
    return best


def _with_swaps(over: Rows, centroids: FloatArray, inertia: float) -> tuple[FloatArray, float]:
    """Swap centroids, at most once for each, as long as that lowers inertia."""
    for _ in range(len(centroids) if len(centroids) > 1 else 0):
        changed = swapped(over.vectors, over.weights, centroids)
        if changed is None:
            break
        changed, found, _ = lloyd(over, changed, SWAP_ITERATIONS, START_TOLERANCE)
        if found.inertia >= (1 - SWAP_GAIN) * inertia:
            break
        centroids, inertia = changed, found.inertia
    return centroids, inertia


def lloyd(
    over: DataPass, centroids: FloatArray, max_iterations: int, tolerance: float
) -> tuple[FloatArray, Totals, int]:
    """Iterate assignment and update (Lloyd, 1982) until inertia stands still.

    Parameters
    ----------
    over
        One pass over the rows.
    centroids
        Shape (k, d), unit rows.
    max_iterations
        Upper limit of updates.
    tolerance
        The iteration ends when an update lowers inertia by less than this share of itself.

    Returns
    -------
    centroids, totals, n_iterations
        The totals are those of these centroids.
    """
    found = over(centroids)
    for iteration in range(1, max_iterations + 1):
        empty = np.flatnonzero(found.mass == 0)[:MAX_SPARES]
        spares = over.spares(centroids, len(empty)) if len(empty) else []
        centroids = updated(found, [spare.vector for spare in spares])
        before, found = found, over(centroids)
        if before.inertia - found.inertia <= tolerance * before.inertia and not spares:
            return centroids, found, iteration
    return centroids, found, max_iterations


def updated(found: Totals, spares: Sequence[FloatArray] = ()) -> FloatArray:
    """Return the next centroids, shape (k, d): the directions of the sums.

    Empty clusters start anew from `spares`, in that order. Those that find none, and those whose rows add up to
    nothing, stay where they are.
    """
    sums = found.sums.copy()
    for cluster, spare in zip(np.flatnonzero(found.mass == 0), spares, strict=False):
        sums[cluster] = spare
    norms = np.linalg.norm(sums, axis=1, keepdims=True)
    return np.divide(sums, norms, out=found.centroids.copy(), where=norms > 0)


def assign_all(vectors: FloatArray, centroids: FloatArray, n_threads: int | None = None) -> tuple[IntArray, FloatArray]:
    """Return what `passes.nearest` does, for any number of rows: labels int64 and cosines float64, shape (n,)."""
    labels = np.empty(len(vectors), dtype=np.int64)
    cosines = np.empty(len(vectors))
    near = centroids.astype(vectors.dtype)

    def one(rows: slice) -> None:
        labels[rows], cosines[rows] = nearest(vectors[rows], near)

    with ThreadPoolExecutor(n_threads or n_cores()) as pool:
        list(pool.map(one, blocks(len(vectors))))
    return labels, cosines


def cluster_sums(vectors: FloatArray, weights: FloatArray, labels: IntArray, k: int) -> FloatArray:
    """Return the weighted vector sum of each cluster: shape (k, d), float64, added up block by block."""
    sums = np.zeros((k, vectors.shape[1]))
    for rows in blocks(len(vectors)):
        sums += weighted_sums(vectors[rows].astype(np.float64), weights[rows], labels[rows], k)[0]
    return sums


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
