"""Where a k-means fit starts: greedy k-means++, and swaps of centroids that Lloyd's iterations can't make.

A local optimum of k-means typically has two centroids in one group and two groups under one centroid. Taking the first
away costs little, splitting the second gains much (Fränti, 2018, "Efficiency of random swap clustering"; here both ends
of the swap are chosen by their cost instead of by chance, so that a few trials do).
"""

from __future__ import annotations

import numpy as np

from shelfkin.clustering.lloyd import Points, lloyd, two_nearest
from shelfkin.clustering.vectors import FloatArray

# Enough to tell starts apart, and for the best to settle; iterations over all rows follow.
START_ITERATIONS, START_TOLERANCE = 12, 1e-4
# A swap shows its worth within a few iterations; one that gains less than 0.1% isn't worth the next.
SWAP_ITERATIONS, SWAP_GAIN = 3, 1e-3
# Clusters that are tried for a split: those of the largest total misfit.
CLUSTERS_TRIED = 4
SPLIT_ITERATIONS = 6


def random_start(points: Points, k: int, random: np.random.Generator) -> tuple[FloatArray, float]:
    """Return k centroids, shape (k, d), and their inertia: k-means++, some iterations, and swaps while they pay."""
    drawn = plus_plus(points.vectors, points.weights, k, random)
    centroids, assigned, _ = lloyd(points, drawn, START_ITERATIONS, START_TOLERANCE)
    inertia = assigned.inertia
    for _ in range(k if k > 1 else 0):
        changed = swap_centroids(points.vectors, points.weights, centroids)
        if changed is None:
            break
        changed, assigned, _ = lloyd(points, changed, SWAP_ITERATIONS, START_TOLERANCE)
        if assigned.inertia >= (1 - SWAP_GAIN) * inertia:
            break
        centroids, inertia = changed, assigned.inertia
    return centroids, inertia


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


def swap_centroids(vectors: FloatArray, weights: FloatArray, centroids: FloatArray) -> FloatArray | None:
    """Return centroids with one taken away where it is missed least and one more where it helps most, or None.

    Parameters
    ----------
    vectors, weights
        Shapes (n, d), unit rows, and (n,).
    centroids
        Shape (k, d), unit rows, k >= 2; after Lloyd iterations.

    Returns
    -------
    ndarray or None
        Shape (k, d), to be iterated on; None where no swap is worth it.
    """
    labels, best, second = two_nearest(vectors, centroids.astype(vectors.dtype))
    best, second = best.astype(np.float64), second.astype(np.float64)
    k = len(centroids)
    removal = np.bincount(labels, weights=weights * (best - second), minlength=k)
    misfit = np.bincount(labels, weights=weights * (1 - best), minlength=k)
    swap: tuple[float, int, int, FloatArray] | None = None
    for split in np.argsort(-misfit, kind="stable")[:CLUSTERS_TRIED]:
        if misfit[split] <= 0:  # twins only, or nobody: there is nothing to split
            break
        halves, left = _halved(vectors[labels == split], weights[labels == split])
        others = removal.copy()
        others[split] = np.inf
        taken = int(others.argmin())
        gain = float(misfit[split]) - left - float(others[taken])
        if gain > 0 and (swap is None or gain > swap[0]):
            swap = (gain, int(split), taken, halves)
    if swap is None:
        return None
    _, split, taken, halves = swap
    result = centroids.astype(vectors.dtype).copy()
    result[split], result[taken] = halves
    return result


def _halved(vectors: FloatArray, weights: FloatArray) -> tuple[FloatArray, float]:
    """Return two centroids of a group and the misfit that is left: 2-means from two rows far apart."""
    mean = np.average(vectors, axis=0, weights=weights)
    # The row farthest from the mean, and the row farthest from that one.
    one = vectors[int((vectors @ mean).argmin())]
    other = vectors[int((vectors @ one).argmin())]
    halves = np.stack([one, other])
    left = np.inf
    for _ in range(SPLIT_ITERATIONS):
        cosines = vectors @ halves.T
        second = cosines[:, 1] > cosines[:, 0]
        left = float((weights * (1 - cosines.max(axis=1))).sum())
        if second.all() or not second.any():
            break
        sums = np.stack([weights[~second] @ vectors[~second], weights[second] @ vectors[second]])
        halves = (sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)).astype(vectors.dtype)
    return halves, left
