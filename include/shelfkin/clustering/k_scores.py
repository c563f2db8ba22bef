"""How well one number of clusters does on a sample: tightness, separation, and whether it would come out again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from sklearn.metrics import adjusted_rand_score
from threadpoolctl import threadpool_limits

from shelfkin.clustering.kmeans import Options, fit
from shelfkin.clustering.lloyd import Points
from shelfkin.clustering.vectors import FloatArray, IntArray

if TYPE_CHECKING:
    from pyspark import SparkContext

# Starts of each fit of the sweep: its scores rank values of k, the final fit takes more.
SWEEP_STARTS = 3

# Bootstrap samples; 6 of them give 15 pairs. On 8,000 shop texts the standard error of their mean agreement is about
# 0.015, below the differences between neighbouring regions of k.
N_BOOTSTRAPS = 6


@dataclass(frozen=True)
class KScore:
    """How well one k does on the sample.

    Attributes
    ----------
    k
        Clusters asked for.
    inertia
        Weighted sum of squared Euclidean distances to the centroid over the sample.
    silhouette
        Weighted mean cosine silhouette in [-1, 1]; None where it is undefined (k = 1, or as many clusters as vectors).
    silhouette_se
        Its standard error from the spread of the rows of the sample.
    stability
        Mean agreement of clusterings of bootstrap samples, adjusted Rand index: 1 the same, 0 as chance would have it.
    stability_se
        Its standard error.
    smallest_share, largest_share
        Share of the products in the smallest and in the largest cluster.
    """

    k: int
    inertia: float
    silhouette: float | None
    silhouette_se: float | None
    stability: float | None = None
    stability_se: float | None = None
    smallest_share: float = 0.0
    largest_share: float = 1.0

    def describe(self) -> str:
        """Return the scores as a piece of a log line."""
        if self.silhouette is None:
            return f"inertia {self.inertia:,.1f}, silhouette undefined"
        parts = [f"inertia {self.inertia:,.1f}", f"silhouette {self.silhouette:.3f} ± {self.silhouette_se or 0:.3f}"]
        if self.stability is not None:
            parts.append(f"stability {self.stability:.3f} ± {self.stability_se or 0:.3f}")
        return ", ".join([*parts, f"largest cluster {self.largest_share:.0%}"])


def silhouette_samples(points: Points, labels: IntArray) -> FloatArray:
    """Return the cosine silhouette of each row, exact and without pairwise distances.

    The mean cosine distance of x to a set of unit vectors is 1 - x . (their mean), so that one product with the
    clusters' sums replaces the n x n matrix: O(n k d). A weight counts as that many copies of the row, as in
    Rousseeuw (1987) on the repeated rows; a row alone in its cluster scores 0.

    Parameters
    ----------
    points
        n weighted unit rows.
    labels
        Shape (n,), cluster of each row, from 0; every cluster has a row.

    Returns
    -------
    ndarray
        Shape (n,), float64, in [-1, 1].
    """
    k = int(labels.max()) + 1
    sums, mass = points.cluster_sums(labels, k)
    means = sums / mass[:, None]
    rows = np.arange(len(labels))
    distances = np.maximum(1 - points.vectors.astype(np.float64) @ means.T, 0)
    # The row itself counts in its cluster's mean with distance 0; leaving it out scales the mean up.
    own = distances[rows, labels] * mass[labels] / np.maximum(mass[labels] - 1, 1)
    distances[rows, labels] = np.inf
    other = distances.min(axis=1)
    larger = np.maximum(own, other)
    alone = mass[labels] <= 1
    return np.where(alone | (larger == 0), 0.0, (other - own) / np.where(larger == 0, 1, larger))


def silhouette(vectors: FloatArray, weights: FloatArray, labels: IntArray) -> tuple[float, float]:
    """Return the weighted mean silhouette and its standard error (that of a ratio estimator)."""
    values = silhouette_samples(Points(vectors, weights, n_threads=1), labels)
    total = weights.sum()
    mean = float((weights * values).sum() / total)
    error = float(np.sqrt((weights**2 * (values - mean) ** 2).sum()) / total)
    return mean, error


def stability(vectors: FloatArray, weights: FloatArray, k: int, *, seed: int = 0) -> tuple[float, float]:
    """Return how much clusterings of bootstrap samples agree, and the standard error of that.

    Each sample draws as many rows as there are, with replacement. Two clusterings are compared on the rows that both
    have drawn, by the adjusted Rand index of Hubert & Arabie (1985); see von Luxburg (2010), "Clustering stability: an
    overview". A row counts once there, whatever its weight: exact twins always agree, and would flatter every k alike.

    Parameters
    ----------
    vectors, weights
        Shapes (n, d) and (n,).
    k
        Clusters; fewer than the rows that a sample draws.
    seed
        Seed of the samples and of their starts.

    Returns
    -------
    mean, standard_error
        The error is that of `N_BOOTSTRAPS` independent values: the pairs share samples.
    """
    n = len(vectors)
    labellings = []
    for number in range(N_BOOTSTRAPS):
        draws = np.random.default_rng((seed, k, number)).integers(0, n, n)
        times = np.bincount(draws, minlength=n)
        rows = np.flatnonzero(times)
        labels = np.full(n, -1)
        if k > len(rows):
            return float("nan"), float("nan")
        model = fit(vectors[rows], weights[rows] * times[rows], k, Options(n_starts=1, seed=seed + number, n_threads=1))
        labels[rows] = model.labels
        labellings.append(labels)
    agreements = [
        float(adjusted_rand_score(one[common], other[common]))
        for one, other in combinations(labellings, 2)
        for common in [(one >= 0) & (other >= 0)]
    ]
    return float(np.mean(agreements)), float(np.std(agreements) / np.sqrt(N_BOOTSTRAPS))


def score_k(vectors: FloatArray, weights: FloatArray, k: int, *, seed: int = 0) -> KScore:
    """Fit one k on the sample and score it, on one thread, so that the score doesn't depend on the machine's cores."""
    with threadpool_limits(1):
        model = fit(vectors, weights, k, Options(n_starts=SWEEP_STARTS, seed=seed, n_threads=1))
        k_found = len(model.centroids)
        shares = np.bincount(model.labels, weights=weights) / weights.sum()
        sizes = {"smallest_share": float(shares.min()), "largest_share": float(shares.max())}
        if k_found < 2 or k_found >= len(vectors):
            return KScore(k, round(model.inertia, 4), None, None, **sizes)
        mean, error = silhouette(vectors, weights, model.labels)
        agreement, agreement_error = stability(vectors, weights, k, seed=seed)
        return KScore(
            k,
            round(model.inertia, 4),
            round(mean, 6),
            round(error, 6),
            None if np.isnan(agreement) else round(agreement, 6),
            None if np.isnan(agreement) else round(agreement_error, 6),
            **{name: round(share, 6) for name, share in sizes.items()},
        )


def score_all(
    context: SparkContext, vectors: FloatArray, weights: FloatArray, ks: Sequence[int], *, seed: int = 0
) -> list[KScore]:
    """Score several k as parallel Spark tasks; the sample is sent to each executor once."""
    if not ks:
        return []
    shared = context.broadcast((vectors, weights))
    # The largest k takes longest: first come, first served.
    order = sorted(ks, reverse=True)
    scores = context.parallelize(order, len(order)).map(lambda k: score_k(*shared.value, k, seed=seed)).collect()
    shared.unpersist()
    return sorted(scores, key=lambda score: score.k)
