"""Yesterday's centroids as a start for today's fit, also when the number of clusters has changed."""

from __future__ import annotations

import numpy as np

from shelfkin.clustering.lloyd import two_nearest
from shelfkin.clustering.starts import plus_plus
from shelfkin.clustering.vectors import FloatArray

# Further centroids are drawn from so many rows at most: rows sorted by text hash are a uniform sample.
DRAW_ROWS = 16_384


def adapted(
    centroids: FloatArray,
    sizes: FloatArray,
    k: int,
    vectors: FloatArray,
    weights: FloatArray,
    rng: np.random.Generator,
) -> FloatArray:
    """Return k centroids that keep as much of yesterday's as they can.

    With equal k they are yesterday's. A larger k adds rows that fit yesterday's centroids worst; a smaller k joins the
    closest clusters. Clusters that this doesn't concern start where they were, and keep their products.

    Parameters
    ----------
    centroids
        Shape (k', d), unit rows: yesterday's.
    sizes
        Shape (k',): products of each.
    k
        Clusters wanted.
    vectors, weights
        Shapes (n, d) and (n,): today's texts, unit rows sorted by text hash, n >= k; needed for a larger k only.
    rng
        Draws the further rows.

    Returns
    -------
    ndarray
        Shape (k, d), unit rows.
    """
    if k > len(centroids):
        misfits = _misfits(centroids, vectors[:DRAW_ROWS], weights[:DRAW_ROWS], k - len(centroids), rng)
        return np.vstack([centroids, misfits])
    return merged(centroids, sizes, k) if k < len(centroids) else centroids


def _misfits(
    centroids: FloatArray, vectors: FloatArray, weights: FloatArray, n: int, rng: np.random.Generator
) -> FloatArray:
    """Return n rows by k-means++, each row weighing as much as the objective would lose with it."""
    _, cosines, _ = two_nearest(vectors, centroids.astype(vectors.dtype))
    distances = np.maximum(1 - cosines.astype(np.float64), 0)
    if not distances.any():  # all rows are centroids already: any row is as good a start as another
        distances = np.ones(len(vectors))
    return plus_plus(vectors, weights * distances, n, rng)


def merged(centroids: FloatArray, sizes: FloatArray, k: int) -> FloatArray:
    """Return k centroids, the closest pair having been joined again and again.

    Joining a and b costs what the objective of spherical k-means loses: |a| + |b| - |a + b| with a and b the vector
    sums of the clusters. This is Ward's criterion (1963) for cosines; sums are taken as size times centroid, as if all
    clusters were equally tight. A pair goes on in the place of its first.

    Parameters
    ----------
    centroids
        Shape (k', d), unit rows, k' >= k.
    sizes
        Shape (k',), not negative.
    k
        At least 1.
    """
    # A cluster without products still has a direction.
    sums = np.maximum(np.asarray(sizes, dtype=np.float64), 1e-9)[:, None] * centroids
    alive = list(range(len(sums)))
    costs = np.full((len(sums), len(sums)), np.inf)
    for place in alive[:-1]:
        costs[place, place + 1 :] = _costs(sums[place], sums[place + 1 :])
    while len(alive) > k:
        first, second = divmod(int(costs.argmin()), len(sums))
        sums[first] += sums[second]
        alive.remove(second)
        costs[second, :] = costs[:, second] = np.inf
        others = np.asarray([place for place in alive if place != first], dtype=np.int64)
        joined = _costs(sums[first], sums[others])
        costs[np.minimum(first, others), np.maximum(first, others)] = joined
    kept = sums[alive]
    norms = np.linalg.norm(kept, axis=1, keepdims=True)
    # Two opposite clusters of one size add up to nothing; the first goes on alone.
    return np.where(norms > 1e-12, kept / np.where(norms > 1e-12, norms, 1), centroids[alive])


def _costs(one: FloatArray, others: FloatArray) -> FloatArray:
    separate = np.linalg.norm(one) + np.linalg.norm(others, axis=1)
    # Rounded, so that the last bit of a sum can't choose between equal pairs.
    return np.round(separate - np.linalg.norm(one + others, axis=1), 9)
