"""Spherical k-means on weighted unit vectors.

The objective is that of Dhillon & Modha (2001), "Concept decompositions for large sparse text data using
clustering": centroids are unit vectors and each point joins the centroid of the highest cosine. A distinct text weighs
as much as the number of products that carry it, so that the result is that of clustering the products themselves.

A fit has two parts. Starts are made on a sample that one process holds: k-means++ and Lloyd iterations from each, of
which the best goes on. Lloyd iterations over all texts follow; each is one pass over the data, which this module takes
as a function (`DataPass`): over arrays in this process (`pass_in_memory`), or over files on the executors
(`shards.SparkShards`). Both go through the same shards in the same order, so that they give the same centroids.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from threadpoolctl import threadpool_limits

from shelfkin.clustering.swaps import swapped
from shelfkin.clustering.vectors import FloatArray, IntArray
from shelfkin.errors import OptionError

# Rows handled at a time: 8,192 x 384 float32 is 12.6 MB, which stays near the cache of one core. Fixed, so that sums
# are added in the same order whatever the machine.
BLOCK_ROWS = 8192

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

# Candidates for empty clusters that a block brings; more clusters than this rarely run empty at once, and those that
# find no candidate are filled by the next iteration.
SPARES_PER_BLOCK = 8

# 1 - cosine of a row to itself in float32 stays below this; a cluster can't start from what is a centroid already.
SAME_VECTOR = 1e-6

# Yesterday's centroids stay unless a new start is better by this share, so that clusters don't change places for a
# gain that nobody can see.
WARM_MARGIN = 0.01

# The first fit goes to the bottom: where it stops short, every later day slides on, and products change their cluster.
# Days that start from yesterday's centroids then have little to do, and stop soon. Measured on pairs of days that
# differ by 1% of the texts, see docs/decisions/0008-cluster-identity.md.
COLD_TOLERANCE, WARM_TOLERANCE = 1e-6, 3e-4
MAX_ITERATIONS = 100


@dataclass(frozen=True)
class Spare:
    """A row that fits its centroid badly: the new start of a cluster that ran empty.

    Attributes
    ----------
    misfit
        Weight times (1 - cosine).
    place
        Shard, block and row, which break ties.
    vector
        Shape (d,).
    """

    misfit: float
    place: tuple[int, int, int]
    vector: FloatArray


@dataclass
class Totals:
    """What one pass over rows adds up to, given centroids.

    Attributes
    ----------
    sums
        Shape (k, d), float64: weighted vector sum of each cluster.
    mass
        Shape (k,), float64: weight of each cluster.
    misfit
        Weighted sum of 1 - cosine.
    spares
        The rows that fit worst, worst first, at most `SPARES_PER_BLOCK`.
    """

    sums: FloatArray
    mass: FloatArray
    misfit: float
    spares: list[Spare]

    @property
    def inertia(self) -> float:
        """Weighted sum of squared Euclidean distances to the centroid."""
        return 2 * self.misfit

    @classmethod
    def nothing(cls, k: int, dimensions: int) -> Totals:
        """Return the totals of no rows."""
        return cls(np.zeros((k, dimensions)), np.zeros(k), 0.0, [])

    def add(self, other: Totals) -> None:
        """Add the totals of further rows; in float64 and always in the order of shards and blocks."""
        self.sums += other.sums
        self.mass += other.mass
        self.misfit += other.misfit
        self.spares = _worst([*self.spares, *other.spares])


# Centroids of shape (k, d), unit rows, to the totals of all rows.
DataPass = Callable[[FloatArray], Totals]


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
    cosines
        Shape (n,), float64: cosine of each row to its centroid.
    """

    labels: IntArray
    cosines: FloatArray


def fit(
    vectors: FloatArray,
    weights: FloatArray,
    k: int,
    *,
    n_starts: int = 3,
    seed: int = 0,
    warm_start: FloatArray | None = None,
    max_iterations: int = MAX_ITERATIONS,
    tolerance: float | None = None,
    shard_ends: Sequence[int] | None = None,
    n_threads: int | None = None,
) -> Fit:
    """Cluster weighted unit vectors that this process holds.

    Rows sorted by text hash make the sample of the starts a uniform one, and the result independent of the order in
    which a store delivers its products.

    Parameters
    ----------
    vectors
        Shape (n, d), float32, unit rows, sorted by text hash.
    weights
        Shape (n,), positive: products per text.
    k
        Clusters wanted; at least 1, at most n.
    n_starts, seed, warm_start
        See `start`.
    max_iterations, tolerance
        See `lloyd`; the tolerance is by default that of a first fit, or of a warm one.
    shard_ends
        Where each shard ends, ascending, the last at n (`shards.shard_ends`); one shard by default. It fixes the order
        in which sums are added.
    n_threads
        By default as many as this process may use. Doesn't change the result.

    Raises
    ------
    OptionError
        k exceeds the number of rows, or there is nothing to start from.
    """
    head = slice(0, n_start_rows(k))
    if tolerance is None:
        tolerance = COLD_TOLERANCE if warm_start is None else WARM_TOLERANCE
    first = start(
        vectors[head],
        weights[head],
        k,
        n_starts=n_starts,
        seed=seed,
        warm_start=warm_start,
        n_threads=n_threads,
    )
    over_all = pass_in_memory(vectors, weights, shard_ends or [len(vectors)], n_threads)
    with threadpool_limits(1):
        centroids, n_iterations = iterate(over_all, first, max_iterations, tolerance)
        labels, cosines = assign_all(vectors, centroids, n_threads)
    misfit = float((weights * np.maximum(1 - cosines, 0)).sum())
    return Fit(centroids, 2 * misfit, 1 - misfit / float(weights.sum()), n_iterations, labels, cosines)


def n_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def n_start_rows(k: int) -> int:
    """Return how many rows the starts of a fit look at."""
    return max(START_ROWS, START_ROWS_PER_CENTROID * k)


def start(
    vectors: FloatArray,
    weights: FloatArray,
    k: int,
    *,
    n_starts: int = 3,
    seed: int = 0,
    warm_start: FloatArray | None = None,
    tolerance: float = START_TOLERANCE,
    n_threads: int | None = None,
) -> FloatArray:
    """Return the best of several starts on a sample: k-means++ and at most `START_ITERATIONS` from each.

    Parameters
    ----------
    vectors, weights
        Shapes (n, d) and (n,): the sample.
    k
        Clusters wanted; at most n.
    n_starts
        Random starts.
    seed
        Seed of the first start; start i uses seed + i.
    warm_start
        Shape (k, d): centroids of the day before. They are one more start, kept unless a random start is better by
        more than `WARM_MARGIN`. Those of another k are left aside.

    Raises
    ------
    OptionError
        k exceeds the number of rows, or there is nothing to start from.
    """
    if k > len(vectors):
        raise OptionError(f"k={k} exceeds {len(vectors):,} distinct vectors; lower --k.", next_step="Lower --k.")
    over_sample = pass_in_memory(vectors, weights, [len(vectors)], n_threads)
    best: FloatArray | None = None
    limit = np.inf
    with threadpool_limits(1):
        if warm_start is not None and warm_start.shape == (k, vectors.shape[1]):
            best, found, _ = lloyd(over_sample, warm_start, START_ITERATIONS, tolerance)
            limit = (1 - WARM_MARGIN) * found.inertia
        for number in range(n_starts):
            drawn = plus_plus(vectors, weights, k, np.random.default_rng(seed + number))
            centroids, found, _ = lloyd(over_sample, drawn, START_ITERATIONS, tolerance)
            centroids, inertia = _with_swaps(vectors, weights, over_sample, centroids, found.inertia, tolerance)
            if inertia < limit:
                best, limit = centroids, inertia
    if best is None:
        raise OptionError(f"n_starts={n_starts} leaves nothing to fit; use at least 1.")
    return best


def _with_swaps(
    vectors: FloatArray,
    weights: FloatArray,
    over_sample: DataPass,
    centroids: FloatArray,
    inertia: float,
    tolerance: float,
) -> tuple[FloatArray, float]:
    """Swap centroids, at most once for each, as long as that lowers inertia."""
    for _ in range(len(centroids) if len(centroids) > 1 else 0):
        changed = swapped(vectors, weights, centroids)
        if changed is None:
            break
        changed, found, _ = lloyd(over_sample, changed, SWAP_ITERATIONS, tolerance)
        if found.inertia >= (1 - SWAP_GAIN) * inertia:
            break
        centroids, inertia = changed, found.inertia
    return centroids, inertia


def iterate(
    over_all: DataPass, first: FloatArray, max_iterations: int = MAX_ITERATIONS, tolerance: float = COLD_TOLERANCE
) -> tuple[FloatArray, int]:
    """Iterate over all rows; order clusters by weight, drop empty ones, round to what will be stored.

    Parameters
    ----------
    over_all
        One pass over all rows.
    first
        Shape (k, d), unit rows.
    max_iterations, tolerance
        See `lloyd`.

    Returns
    -------
    centroids, n_iterations
        See `Model`.
    """
    centroids, found, n_iterations = lloyd(over_all, first, max_iterations, tolerance)
    order = np.argsort(-found.mass, kind="stable")
    order = order[found.mass[order] > 0]
    return np.round(centroids[order].astype(np.float64), CENTROID_DECIMALS), n_iterations


def fit_passes(
    over_all: DataPass, first: FloatArray, max_iterations: int = MAX_ITERATIONS, tolerance: float = COLD_TOLERANCE
) -> Model:
    """Return the model of rows that this process doesn't hold; parameters as for `iterate`."""
    centroids, n_iterations = iterate(over_all, first, max_iterations, tolerance)
    found = over_all(centroids)
    return Model(centroids, found.inertia, 1 - found.misfit / float(found.mass.sum()), n_iterations)


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
        moved, n_filled = updated(found)
        before, found = found, over(moved)
        centroids = moved
        if before.inertia - found.inertia <= tolerance * before.inertia and not n_filled:
            return centroids, found, iteration
    return centroids, found, max_iterations


def updated(found: Totals) -> tuple[FloatArray, int]:
    """Return the next centroids, and how many empty clusters start anew from the rows that fit worst."""
    sums = found.sums.copy()
    empty = np.flatnonzero(found.mass == 0)[: len(found.spares)]
    for cluster, spare in zip(empty, found.spares, strict=False):
        sums[cluster] = spare.vector
    return _unit(sums), len(empty)


def pass_in_memory(
    vectors: FloatArray, weights: FloatArray, shard_ends: Sequence[int], n_threads: int | None = None
) -> DataPass:
    """Return the pass over rows that this process holds, by threads that each take a block.

    BLAS is to run single-threaded (`threadpool_limits(1)`): threads over blocks keep all cores busy in the parts that
    aren't BLAS as well, and the product of a block comes out the same on any number of cores.
    """
    n_threads = n_threads or n_cores()
    shards = list(zip([0, *shard_ends[:-1]], shard_ends, strict=True))

    def over(centroids: FloatArray) -> Totals:
        near = centroids.astype(vectors.dtype)
        tasks = [(shard, number, rows) for shard, span in enumerate(shards) for number, rows in _blocks(*span)]

        def one(task: tuple[int, int, slice]) -> Totals:
            shard, number, rows = task
            return block_totals(vectors[rows], weights[rows], near, (shard, number))

        if n_threads == 1 or len(tasks) == 1:
            return _add_up(tasks, map(one, tasks), centroids.shape)
        with ThreadPoolExecutor(n_threads) as pool:
            return _add_up(tasks, pool.map(one, tasks), centroids.shape)

    return over


def shard_totals(vectors: FloatArray, weights: FloatArray, centroids: FloatArray, shard: int) -> Totals:
    """Return the totals of one shard, block by block: what `pass_in_memory` adds up for it."""
    near = centroids.astype(vectors.dtype)
    found = Totals.nothing(*centroids.shape)
    for number, rows in _blocks(0, len(vectors)):
        found.add(block_totals(vectors[rows], weights[rows], near, (shard, number)))
    return found


def _blocks(begin: int, end: int) -> Iterator[tuple[int, slice]]:
    return enumerate(slice(first, min(first + BLOCK_ROWS, end)) for first in range(begin, end, BLOCK_ROWS))


def _add_up(tasks: Sequence[tuple[int, int, slice]], totals: Iterable[Totals], shape: tuple[int, ...]) -> Totals:
    """Add blocks up within their shard, then shards: the order in which executors' results arrive at the driver."""
    found, shard_found, current = Totals.nothing(*shape), Totals.nothing(*shape), 0
    for (shard, _, _), block in zip(tasks, totals, strict=True):
        if shard != current:
            found.add(shard_found)
            shard_found, current = Totals.nothing(*shape), shard
        shard_found.add(block)
    found.add(shard_found)
    return found


def block_totals(vectors: FloatArray, weights: FloatArray, centroids: FloatArray, place: tuple[int, int]) -> Totals:
    """Return the totals of one block of rows; the one place where the arithmetic of a pass is done.

    Parameters
    ----------
    vectors, weights
        Shapes (n, d) and (n,), n at most `BLOCK_ROWS`.
    centroids
        Shape (k, d), of the vectors' dtype.
    place
        Number of the shard and of the block.
    """
    k, rows = len(centroids), np.arange(len(vectors))
    labels, cosines = nearest(vectors, centroids)
    # One entry a column, so that it needs no sorting. Float32 sums of one block err by 1e-6 of a sum at most; in
    # float64 they are added up.
    membership = sparse.csc_matrix((weights.astype(vectors.dtype), labels, np.arange(len(rows) + 1)), (k, len(rows)))
    misfits = weights * np.maximum(1 - cosines.astype(np.float64), 0)
    worst = np.argpartition(misfits, -SPARES_PER_BLOCK)[-SPARES_PER_BLOCK:] if len(rows) > SPARES_PER_BLOCK else rows
    return Totals(
        (membership @ vectors).astype(np.float64),
        np.bincount(labels, weights=weights, minlength=k).astype(np.float64),
        float(misfits.sum()),
        [
            Spare(float(misfits[row]), (*place, int(row)), vectors[row].copy())
            for row in worst
            if misfits[row] > SAME_VECTOR * weights[row]
        ],
    )


def _worst(spares: list[Spare]) -> list[Spare]:
    return sorted(spares, key=lambda spare: (-spare.misfit, spare.place))[:SPARES_PER_BLOCK]


def nearest(vectors: FloatArray, centroids: FloatArray) -> tuple[IntArray, FloatArray]:
    """Return the index of the centroid of the highest cosine and that cosine, for each row.

    Both inputs must have rows of unit norm. Equal cosines go to the lower index.
    """
    cosines = vectors @ centroids.T
    labels = cosines.argmax(axis=1)
    return labels, cosines[np.arange(len(vectors)), labels]


def assign_all(vectors: FloatArray, centroids: FloatArray, n_threads: int | None = None) -> tuple[IntArray, FloatArray]:
    """Return what `nearest` does, for any number of rows: labels int64 and cosines float64, shape (n,)."""
    labels = np.empty(len(vectors), dtype=np.int64)
    cosines = np.empty(len(vectors))
    near = centroids.astype(vectors.dtype)

    def one(rows: slice) -> None:
        labels[rows], cosines[rows] = nearest(vectors[rows], near)

    with ThreadPoolExecutor(n_threads or n_cores()) as pool:
        list(pool.map(one, (rows for _, rows in _blocks(0, len(vectors)))))
    return labels, cosines


def cluster_sums(vectors: FloatArray, weights: FloatArray, labels: IntArray, k: int) -> FloatArray:
    """Return the weighted vector sum of each cluster: shape (k, d), float64, added up block by block."""
    sums = np.zeros((k, vectors.shape[1]))
    for _, rows in _blocks(0, len(vectors)):
        places = np.arange(len(labels[rows]))
        membership = sparse.csr_matrix((weights[rows], (labels[rows], places)), shape=(k, len(places)))
        sums += membership @ vectors[rows].astype(np.float64)
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


def _unit(vectors: FloatArray) -> FloatArray:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)
