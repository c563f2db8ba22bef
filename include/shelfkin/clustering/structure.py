"""Is there anything to find? A clustering of the catalogue beside one of a single cloud of the same shape.

k-means divides anything, and a silhouette of 0.1 may be a lot in 384 dimensions or nothing at all in 8. SigClust (Liu,
Hayes, Nobel & Marron, 2008, "Statistical significance of clustering for high-dimension, low-sample size data") compares
with one Gaussian of the data's covariance; so does this, by the silhouette.
"""

from __future__ import annotations

import numpy as np
from threadpoolctl import threadpool_limits

from shelfkin.clustering.k_scores import SWEEP_STARTS, silhouette
from shelfkin.clustering.kmeans import Options, fit
from shelfkin.clustering.vectors import FloatArray, unit_vectors

N_CLOUDS = 3


def silhouette_of_clouds(vectors: FloatArray, weights: FloatArray, k: int, *, seed: int = 0) -> float:
    """Return the mean silhouette of k clusters in each of `N_CLOUDS` clouds of the sample's mean and covariance.

    Parameters
    ----------
    vectors, weights
        Shapes (n, d) and (n,): the sample that was scored.
    """
    silhouettes = []
    with threadpool_limits(1):
        for number in range(N_CLOUDS):
            cloud = draw_cloud(vectors, weights, np.random.default_rng((seed, number)))
            labels = fit(cloud, weights, k, Options(n_starts=SWEEP_STARTS, seed=seed, n_threads=1)).labels
            silhouettes.append(silhouette(cloud, weights, labels)[0])
    return float(np.mean(silhouettes))


def draw_cloud(vectors: FloatArray, weights: FloatArray, random: np.random.Generator) -> FloatArray:
    """Return as many unit vectors, drawn from one Gaussian of the weighted mean and covariance of `vectors`."""
    values = vectors.astype(np.float64)
    mean = np.average(values, axis=0, weights=weights)
    covariance = np.cov(values.T, ddof=0, aweights=weights)
    cloud = random.multivariate_normal(mean, covariance, len(values), check_valid="ignore", method="eigh")
    return unit_vectors(cloud.astype(np.float32))
