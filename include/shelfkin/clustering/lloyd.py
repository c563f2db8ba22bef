"""Lloyd's iteration on weighted unit vectors, with sums that no order of rows can change.

Vectors and centroids are multiples of 2^-24 (`vectors.on_grid`) of length 1: float64 adds up 2^29 of the former (half
a billion products), and the products of both, without rounding. Labels come from float32 cosines; where the best two
lie within float32's error of each other, the exact cosines decide. So labels and sums depend on neither the processor
nor the number of threads, and sums can follow the few rows that change their cluster without drifting away.

Bounds save comparisons (Hamerly, 2010, "Making k-means even faster", here on cosines). A centroid that moves by s
changes no cosine by more than s (Cauchy-Schwarz): a row keeps its label while the least that the cosine to its own
centroid can be exceeds the most that any other can be.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from scipy import sparse

from shelfkin.clustering.vectors import FloatArray, IntArray, on_grid

T = TypeVar("T")

# Rows handled at a time: 4,096 x 384 float32 are 6 MB, which stay near one core's cache.
BLOCK_ROWS = 4096

# Unit rows on the grid are longer than 1 by 2e-6 at most (3,072 dimensions), and bounds are kept in float32.
_ROUNDED_UP, _ROUNDING = 1 + 1e-5, 2.0**-22

# More clusters than this rarely run empty at once; the next iteration goes on.
MAX_RESEEDED = 8
# 1 - cosine of a row to itself stays below this; a cluster can't start from what is a centroid already.
SAME_VECTOR = 1e-6


@dataclass(frozen=True, eq=False)
class Assignment:
    """Rows and the clusters that they were assigned to.

    Attributes
    ----------
    centroids
        Shape (k, d), float64: those that the rows were assigned to.
    labels
        Shape (n,), int64: index of each row's centroid.
    sums
        Shape (k, d), float64: weighted vector sum of each cluster.
    mass
        Shape (k,), float64: weight of each cluster.
    lower, upper
        Shape (n,), float32: the cosine of a row to its centroid is at least `lower`, and to any other at most `upper`.
    """

    centroids: FloatArray
    labels: IntArray
    sums: FloatArray
    mass: FloatArray
    lower: FloatArray
    upper: FloatArray

    @property
    def misfit(self) -> float:
        """Weighted sum of 1 - cosine."""
        return max(float(self.mass.sum()) - float((self.sums * self.centroids).sum()), 0.0)

    @property
    def inertia(self) -> float:
        """Weighted sum of squared Euclidean distances to the centroid, which on unit vectors is 2 * (1 - cosine)."""
        return 2 * self.misfit


class Points:
    """Weighted rows, and threads that each take a block of them.

    BLAS is to run single-threaded (`threadpool_limits(1)`): threads over blocks keep all cores busy in the parts that
    aren't BLAS as well.

    Parameters
    ----------
    vectors
        Shape (n, d), float32, unit rows on the grid (`vectors.unit_vectors`). Off the grid, sums depend on the order of
        rows in their last digits.
    weights
        Shape (n,), positive whole numbers: products per text.
    n_threads
        By default as many as this process may use. Doesn't change the result.
    """

    def __init__(self, vectors: FloatArray, weights: FloatArray, n_threads: int | None = None) -> None:
        self.vectors, self.weights = vectors, weights
        self._n_threads = n_threads or n_cores()

    def assign(self, centroids: FloatArray, before: Assignment | None = None) -> Assignment:
        """Assign all rows to the nearest of centroids (k, d); the assignment before saves work, and changes nothing."""
        near = on_grid(centroids)
        labels: IntArray
        rows: IntArray
        if before is None:
            rows = np.arange(len(self.vectors))
            labels, lower, upper = np.empty(len(rows), dtype=np.int64), *np.empty((2, len(rows)), dtype=np.float32)
        else:
            labels, (lower, upper) = before.labels.copy(), _moved_bounds(before, near)
            rows = np.flatnonzero(lower <= upper)

        def compare(block: slice) -> None:
            some = rows[block]
            labels[some], lower[some], upper[some] = nearest_exactly(self.vectors[some], near)

        list(self._map(compare, _blocks(len(rows))))
        if before is None:
            sums, mass = self.cluster_sums(labels, len(near))
        else:
            changed = np.flatnonzero(labels != before.labels)
            came = self.cluster_sums(labels[changed], len(near), changed)
            left = self.cluster_sums(before.labels[changed], len(near), changed)
            sums, mass = before.sums + came[0] - left[0], before.mass + came[1] - left[1]
        return Assignment(near.astype(np.float64), labels, sums, mass, lower, upper)

    def cluster_sums(self, labels: IntArray, k: int, rows: IntArray | None = None) -> tuple[FloatArray, FloatArray]:
        """Return the weighted vector sum (k, d) and the weight (k,) of each cluster, float64, of all or some rows."""
        sums, mass = np.zeros((k, self.vectors.shape[1])), np.zeros(k)

        def one(block: slice) -> tuple[FloatArray, FloatArray]:
            places = block if rows is None else rows[block]
            weights, size = self.weights[places], len(labels[block])
            # One entry a column, so that it needs no sorting.
            membership = sparse.csc_matrix((weights, labels[block], np.arange(size + 1)), (k, size))
            mass_of_block = np.bincount(labels[block], weights=weights, minlength=k).astype(np.float64)
            return membership @ self.vectors[places].astype(np.float64), mass_of_block

        for some_sums, some_mass in self._map(one, _blocks(len(labels))):
            sums += some_sums
            mass += some_mass
        return sums, mass

    def worst_fitting(self, assigned: Assignment, n: int) -> list[FloatArray]:
        """Return at most n different rows whose weight times (1 - cosine) is largest, worst first."""

        def one(block: slice) -> FloatArray:
            own = assigned.centroids[assigned.labels[block]]
            return np.einsum("nd,nd->n", self.vectors[block].astype(np.float64), own)

        cosines = np.concatenate([*self._map(one, _blocks(len(self.vectors)))])
        fits = self.weights * (cosines - 1)
        bad = np.flatnonzero(cosines < 1 - SAME_VECTOR)
        if len(bad) > n:
            bad = bad[fits[bad] <= np.partition(fits[bad], n - 1)[n - 1]]
        # By their content where they fit alike, so that the order of rows doesn't show.
        worst = sorted({(float(fits[row]), self.vectors[row].tobytes()) for row in bad})[:n]
        return [np.frombuffer(content, dtype=np.float32) for _, content in worst]

    def _map(self, task: Callable[[slice], T], blocks: Sequence[slice]) -> Iterator[T]:
        if self._n_threads == 1 or len(blocks) < 2:
            yield from map(task, blocks)
            return
        with ThreadPoolExecutor(self._n_threads) as pool:
            yield from pool.map(task, blocks)


def lloyd(
    points: Points, centroids: FloatArray, max_iterations: int, tolerance: float
) -> tuple[FloatArray, Assignment, int]:
    """Iterate assignment and update (Lloyd, 1982) until inertia stands still.

    Parameters
    ----------
    points
        The rows.
    centroids
        Shape (k, d), unit rows.
    max_iterations
        Upper limit of updates.
    tolerance
        The iteration ends when an update lowers inertia by less than this share of itself.

    Returns
    -------
    centroids, assignment, n_iterations
        The assignment is to these centroids.
    """
    assigned = points.assign(centroids)
    for iteration in range(1, max_iterations + 1):
        n_empty = min(int((assigned.mass == 0).sum()), MAX_RESEEDED)
        reseeds = points.worst_fitting(assigned, n_empty) if n_empty else []
        centroids = updated_centroids(assigned, reseeds)
        before, assigned = assigned, points.assign(centroids, assigned)
        if before.inertia - assigned.inertia <= tolerance * before.inertia and not reseeds:
            return centroids, assigned, iteration
    return centroids, assigned, max_iterations


def updated_centroids(assigned: Assignment, reseeds: Sequence[FloatArray] = ()) -> FloatArray:
    """Return the next centroids, shape (k, d): the directions of the sums.

    Empty clusters start anew from `reseeds`, in that order. Those that find none, and those whose rows add up to
    nothing, stay where they are.
    """
    sums = assigned.sums.copy()
    for cluster, row in zip(np.flatnonzero(assigned.mass == 0), reseeds, strict=False):
        sums[cluster] = row
    norms = np.linalg.norm(sums, axis=1, keepdims=True)
    return np.divide(sums, norms, out=assigned.centroids.copy(), where=norms > 0)


def _moved_bounds(before: Assignment, centroids: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the bounds of an assignment after its centroids have moved to these."""
    shift = np.linalg.norm(centroids - before.centroids, axis=1)
    shift = np.where(shift > 0, shift * _ROUNDED_UP + _ROUNDING, 0).astype(np.float32)
    farthest = int(shift.argmax())
    of_others = np.full(len(shift), shift[farthest])
    of_others[farthest] = np.delete(shift, farthest).max(initial=0)
    return before.lower - shift[before.labels], before.upper + of_others[before.labels]


def nearest_exactly(vectors: FloatArray, centroids: FloatArray) -> tuple[IntArray, FloatArray, FloatArray]:
    """Return each row's nearest centroid, as exact products tell, and the bounds of `Assignment`.

    Equal cosines go to the lower index.

    Both inputs are float32, unit rows on the grid.
    """
    labels, best, second = two_nearest(vectors, centroids)
    # What rounding can change a float32 cosine, in any order of additions (Higham, 2002, (3.5)).
    error = np.float32(1.1 * vectors.shape[1] * 2.0**-24)
    close = np.flatnonzero(best - second <= 2 * error)
    if len(close):
        labels[close] = (vectors[close].astype(np.float64) @ centroids.T.astype(np.float64)).argmax(axis=1)
        second[close] = best[close]
    return labels, best - error, second + error


def two_nearest(vectors: FloatArray, centroids: FloatArray) -> tuple[IntArray, FloatArray, FloatArray]:
    """Return each row's nearest centroid, its cosine and that of the next nearest (-inf where there is none).

    Equal cosines go to the lower index.
    """
    cosines = vectors @ centroids.T
    labels, rows = cosines.argmax(axis=1), np.arange(len(vectors))
    best = cosines[rows, labels]
    cosines[rows, labels] = -np.inf
    return labels, best, cosines.max(axis=1)


def n_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _blocks(n: int) -> list[slice]:
    """Return slices of at most `BLOCK_ROWS` that make up n rows."""
    return [slice(first, min(first + BLOCK_ROWS, n)) for first in range(0, n, BLOCK_ROWS)]
