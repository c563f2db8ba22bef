"""One pass of Lloyd's iteration over rows: sums that don't depend on any order, at the cost of what has changed.

Sums are exact. Vectors and centroids are multiples of 2^-24 (`vectors.on_grid`) of length 1: float64 adds up to 2^29 of
the former (half a billion products) and the products of both without rounding, whatever the order. Rows can be cut and
added up in any way, and a sum can follow the few rows that change their cluster without drifting away.

Work is saved by bounds (Hamerly, 2010, "Making k-means even faster", here on cosines). For every row, a pass keeps the
least that the cosine to its own centroid can be, and the most that any other can be. A centroid that moves by s changes
no cosine by more than s (Cauchy-Schwarz), so bounds give way by that much, and a row is compared with all centroids
only when they meet. The few centroids that move far would loosen the bounds of all rows: these are compared with
directly. Labels are those of an exact comparison with all centroids.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from scipy import sparse

from shelfkin.clustering.vectors import FloatArray, IntArray, on_grid

P = TypeVar("P")
T = TypeVar("T")

# Rows handled at a time: 4,096 x 384 float32 are 6 MB, which stay near one core's cache.
BLOCK_ROWS = 4096

# Share of the centroids, those that moved farthest, that all rows are compared with (docs/decisions/0016); at least the
# two that a swap moves.
FAST_SHARE, FAST_AT_LEAST = 0.05, 2

# Unit rows on the grid are longer than 1 by 2e-6 at most (3,072 dimensions), and bounds are kept in float32.
_ROUNDED_UP, _ROUNDING = 1 + 1e-5, 2.0**-22

# Rows that fit worst, which take the place of clusters that ran empty; more clusters than this rarely do so at once,
# and the next iteration goes on.
MAX_SPARES = 8
# 1 - cosine of a row to itself stays below this; a cluster can't start from what is a centroid already.
SAME_VECTOR = 1e-6


@dataclass
class Totals:
    """What one pass over rows adds up to.

    Attributes
    ----------
    centroids
        Shape (k, d), float64: those that the rows were assigned to.
    sums
        Shape (k, d), float64: weighted vector sum of each cluster.
    mass
        Shape (k,), float64: weight of each cluster.
    """

    centroids: FloatArray
    sums: FloatArray
    mass: FloatArray

    @property
    def misfit(self) -> float:
        """Weighted sum of 1 - cosine."""
        return max(float(self.mass.sum()) - float((self.sums * self.centroids).sum()), 0.0)

    @property
    def inertia(self) -> float:
        """Weighted sum of squared Euclidean distances to the centroid."""
        return 2 * self.misfit

    def __add__(self, other: Totals) -> Totals:
        """Return the totals of both; exact, so that the order of additions doesn't matter."""
        return Totals(self.centroids, self.sums + other.sums, self.mass + other.mass)


class DataPass(Protocol):
    """Rows, wherever they are, that can be passed over."""

    def __call__(self, centroids: FloatArray) -> Totals:
        """Assign all rows to the nearest of centroids (k, d), unit rows, and return the totals."""

    def spares(self, centroids: FloatArray, n: int) -> list[Spare]:
        """Return at most n different rows that fit these centroids worst, worst first."""


@dataclass(frozen=True, order=True)
class Spare:
    """A row that fits its centroid badly: the new start of a cluster that ran empty.

    Attributes
    ----------
    fit
        Weight times (cosine - 1): the lowest fit worst.
    content
        The row's float32 values, which also break ties.
    """

    fit: float
    content: bytes

    @property
    def vector(self) -> FloatArray:
        """Shape (d,)."""
        return np.frombuffer(self.content, dtype=np.float32)


@dataclass
class Known:
    """What the last pass found out about n rows.

    Attributes
    ----------
    centroids
        Shape (k, d), float32: those of that pass.
    labels
        Shape (n,), int32: index of each row's centroid; -1 before the first pass.
    lower
        Shape (n,), float32: the cosine of a row to its centroid is at least this.
    upper
        Shape (n,), float32: its cosine to any other is at most this.
    sums, mass
        See `Totals`.
    """

    centroids: FloatArray
    labels: IntArray
    lower: FloatArray
    upper: FloatArray
    sums: FloatArray
    mass: FloatArray

    @classmethod
    def nothing(cls, n: int, centroids: FloatArray) -> Known:
        """Return what is known of n rows before the first pass."""
        unknown = np.full(n, np.inf, dtype=np.float32)
        labels = np.full(n, -1, dtype=np.int32)
        return cls(centroids, labels, -unknown, unknown, np.zeros(centroids.shape), np.zeros(len(centroids)))


class Rows:
    """Rows that this process holds, and the pass over them, by threads that each take a block.

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
        By default as many as this process may use.
    known
        What an earlier pass over the same rows found out.
    """

    def __init__(
        self, vectors: FloatArray, weights: FloatArray, n_threads: int | None = None, known: Known | None = None
    ) -> None:
        self.vectors, self.weights = vectors, weights
        self.known = known or Known.nothing(len(vectors), np.empty((0, vectors.shape[1]), dtype=np.float32))
        self._n_threads = n_threads or n_cores()

    def __call__(self, centroids: FloatArray) -> Totals:
        """Return the totals of all rows: a `DataPass`."""
        near = on_grid(centroids)
        if self.known.centroids.shape != near.shape:
            self.known = Known.nothing(len(self.vectors), near)
        known, before = self.known, self.known.labels.copy()
        moved = _Moved.between(known.centroids, near)
        for _ in self._map(lambda rows: self._assign(known, rows, near, moved), blocks(len(self.vectors))):
            pass
        changed = np.flatnonzero(known.labels != before)
        chunks = [changed[rows] for rows in blocks(len(changed))]
        for sums, mass in self._map(lambda rows: self._change(known, rows, before[rows]), chunks):
            known.sums += sums
            known.mass += mass
        known.centroids = near
        return Totals(near.astype(np.float64), known.sums.copy(), known.mass.copy())

    @property
    def labels(self) -> IntArray:
        """Shape (n,), int32: index of each row's centroid after the last pass."""
        return self.known.labels

    def spares(self, centroids: FloatArray, n: int) -> list[Spare]:
        """Return at most n different rows that fit these centroids worst, worst first."""
        self(centroids)
        worst = self._map(lambda rows: self._worst(self.known, rows, n), blocks(len(self.vectors)))
        return worst_of((spare for block in worst for spare in block), n)

    def _map(self, task: Callable[[P], T], pieces: Sequence[P]) -> Iterator[T]:
        if self._n_threads == 1 or len(pieces) < 2:
            yield from map(task, pieces)
            return
        with ThreadPoolExecutor(self._n_threads) as pool:
            yield from pool.map(task, pieces)

    def _assign(self, known: Known, rows: slice, near: FloatArray, moved: _Moved) -> None:
        """Bring labels and bounds of a block up to the centroids `near`."""
        labels, lower, upper = known.labels[rows], known.lower[rows], known.upper[rows]
        vectors = self.vectors[rows]
        lower -= moved.own[labels]
        upper += moved.others[labels]
        if len(moved.fast):
            np.maximum(upper, _best_of_others(vectors, near, labels, moved.fast), out=upper)
        doubtful = np.flatnonzero(lower <= upper)
        if len(doubtful):
            some = vectors if len(doubtful) == len(vectors) else vectors[doubtful]
            labels[doubtful], lower[doubtful], upper[doubtful] = _bounded(some, near)

    def _change(self, known: Known, rows: IntArray, before: IntArray) -> tuple[FloatArray, FloatArray]:
        """Return how rows that change their cluster change sums and mass."""
        k, weights = len(known.mass), self.weights[rows]
        vectors = self.vectors[rows].astype(np.float64)
        sums, mass = weighted_sums(vectors, weights, known.labels[rows], k)
        if before[0] >= 0:  # else this is the first pass, and no row leaves a cluster
            left_sums, left_mass = weighted_sums(vectors, weights, before, k)
            return sums - left_sums, mass - left_mass
        return sums, mass

    def _worst(self, known: Known, rows: slice, n: int) -> list[Spare]:
        vectors, weights = self.vectors[rows], self.weights[rows]
        own = known.centroids[known.labels[rows]].astype(np.float64)
        cosines = np.einsum("nd,nd->n", vectors.astype(np.float64), own)
        fits = weights * (cosines - 1)
        bad = np.flatnonzero(cosines < 1 - SAME_VECTOR)
        if len(bad) > n:
            bad = bad[fits[bad] <= np.partition(fits[bad], n - 1)[n - 1]]
        return worst_of((Spare(float(fits[row]), vectors[row].tobytes()) for row in bad), n)


@dataclass(frozen=True)
class _Moved:
    """How far centroids have moved.

    Attributes
    ----------
    fast
        Indices of the centroids that moved farthest.
    own
        Shape (k,), float32: at most so far has each moved.
    others
        Shape (k,), float32: at most so far has any other moved that isn't fast.
    """

    fast: IntArray
    own: FloatArray
    others: FloatArray

    @classmethod
    def between(cls, before: FloatArray, now: FloatArray) -> _Moved:
        shift = np.linalg.norm(now.astype(np.float64) - before, axis=1)
        shift = np.where(shift > 0, shift * _ROUNDED_UP + _ROUNDING, 0).astype(np.float32)
        order = np.argsort(-shift, kind="stable")
        n_fast = min(max(int(FAST_SHARE * len(shift)), FAST_AT_LEAST), np.count_nonzero(shift))
        rest = order[n_fast:]
        others = np.full(len(shift), shift[rest[0]] if len(rest) else 0, dtype=np.float32)
        if len(rest):
            others[rest[0]] = shift[rest[1]] if len(rest) > 1 else 0
        return cls(order[:n_fast], shift, others)


def _best_of_others(vectors: FloatArray, near: FloatArray, labels: IntArray, fast: IntArray) -> FloatArray:
    """Return the most that the cosine to a centroid of `fast` can be, a row's own left out."""
    place = np.full(len(near), -1)
    place[fast] = np.arange(len(fast))
    cosines = vectors @ near[fast].T
    own = place[labels]
    of_fast = np.flatnonzero(own >= 0)
    cosines[of_fast, own[of_fast]] = -np.inf
    return cosines.max(axis=1) + _error(vectors)


def _bounded(vectors: FloatArray, centroids: FloatArray) -> tuple[IntArray, FloatArray, FloatArray]:
    """Return labels of an exact comparison with all centroids, and the bounds of `Known`."""
    labels, best, second = two_nearest(vectors, centroids)
    error = _error(vectors)
    close = np.flatnonzero(best - second <= 2 * error)
    if len(close):
        exact = vectors[close].astype(np.float64) @ centroids.T.astype(np.float64)
        labels[close] = exact.argmax(axis=1)
        second[close] = best[close]
    return labels, best - error, second + error


def _error(vectors: FloatArray) -> np.float32:
    """Return the most that rounding can change a float32 cosine, in any order of additions (Higham, 2002, (3.5))."""
    return np.float32(1.1 * vectors.shape[1] * 2.0**-24)


def two_nearest(vectors: FloatArray, centroids: FloatArray) -> tuple[IntArray, FloatArray, FloatArray]:
    """Return each row's nearest centroid, its cosine and that of the next nearest (-inf where there is none)."""
    labels, best, cosines = _nearest(vectors, centroids)
    cosines[np.arange(len(vectors)), labels] = -np.inf
    return labels, best, cosines.max(axis=1)


def nearest(vectors: FloatArray, centroids: FloatArray) -> tuple[IntArray, FloatArray]:
    """Return the index of the centroid of the highest cosine and that cosine, for each row.

    Both inputs must have rows of unit norm. Equal cosines go to the lower index.
    """
    labels, best, _ = _nearest(vectors, centroids)
    return labels, best


def _nearest(vectors: FloatArray, centroids: FloatArray) -> tuple[IntArray, FloatArray, FloatArray]:
    cosines = vectors @ centroids.T
    labels = cosines.argmax(axis=1)
    return labels, cosines[np.arange(len(vectors)), labels], cosines


def weighted_sums(vectors: FloatArray, weights: FloatArray, labels: IntArray, k: int) -> tuple[FloatArray, FloatArray]:
    """Return the weighted vector sum (k, d) and the weight (k,) of each cluster, in the precision of `vectors`."""
    # One entry a column, so that it needs no sorting.
    membership = sparse.csc_matrix((weights, labels, np.arange(len(labels) + 1)), (k, len(labels)))
    return membership @ vectors, np.bincount(labels, weights=weights, minlength=k).astype(np.float64)


def worst_of(spares: Iterable[Spare], n: int) -> list[Spare]:
    """Return the n worst of different rows."""
    return sorted(set(spares))[:n]


def n_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def blocks(n: int) -> list[slice]:
    """Return slices of at most `BLOCK_ROWS` that make up n rows."""
    return [slice(first, min(first + BLOCK_ROWS, n)) for first in range(0, n, BLOCK_ROWS)]
