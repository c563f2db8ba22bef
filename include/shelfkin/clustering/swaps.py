"""Swaps: Lloyd's iterations can't move a centroid out of one group into another; this step can.

A local optimum of k-means typically has two centroids in one group and two groups under one centroid. Taking the first
away costs little, splitting the second gains much (Fränti, 2018, "Efficiency of random swap clustering"; here both ends
of the swap are chosen by their cost instead of by chance, so that a few trials do).
"""

from __future__ import annotations

import numpy as np

from shelfkin.clustering.passes import two_nearest
from shelfkin.clustering.vectors import FloatArray

# Clusters that are tried for a split: those of the largest total misfit.
_TRIED = 4
_SPLIT_ITERATIONS = 6
# A swap must gain this much more than it costs: the estimate of the cost leaves out that others fill the gap.
_WORTH = 1.0


def swapped(vectors: FloatArray, weights: FloatArray, centroids: FloatArray) -> FloatArray | None:
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
    found: tuple[float, int, int, FloatArray] | None = None
    for split in np.argsort(-misfit, kind="stable")[:_TRIED]:
        if misfit[split] <= 0:  # twins only, or nobody: there is nothing to split
            break
        halves, left = _halved(vectors[labels == split], weights[labels == split])
        others = removal.copy()
        others[split] = np.inf
        taken = int(others.argmin())
        gain = float(misfit[split]) - left - _WORTH * float(others[taken])
        if gain > 0 and (found is None or gain > found[0]):
            found = (gain, int(split), taken, halves)
    if found is None:
        return None
    _, split, taken, halves = found
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
    for _ in range(_SPLIT_ITERATIONS):
        cosines = vectors @ halves.T
        second = cosines[:, 1] > cosines[:, 0]
        left = float((weights * (1 - cosines.max(axis=1))).sum())
        if second.all() or not second.any():
            break
        sums = np.stack([weights[~second] @ vectors[~second], weights[second] @ vectors[second]])
        halves = (sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)).astype(vectors.dtype)
    return halves, left
