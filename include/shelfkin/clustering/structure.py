"""Is there anything to find? A clustering of the catalogue beside one of a single cloud of the same shape.

k-means divides anything, and a silhouette of 0.1 may be a lot in 384 dimensions or nothing at all in 8. SigClust (Liu,
Hayes, Nobel & Marron, 2008, "Statistical significance of clustering for high-dimension, low-sample size data") compares
with one Gaussian of the data's covariance; so does this, by the silhouette.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from shelfkin.clustering.k_scores import SWEEP_STARTS, KScore, silhouette
from shelfkin.clustering.kmeans import Options, fit
from shelfkin.clustering.vectors import FloatArray, unit_vectors

N_CLOUDS = 3

# A Gaussian cut to unit vectors is no Gaussian any more: in trials over 2 to 384 dimensions its silhouette was 0.75 to
# 1.1 times that of its clouds, while the catalogues seen had 1.9 to 6 times theirs.
CLEARLY_MORE = 1.25
_DEVIATIONS = 3.0


@dataclass(frozen=True)
class Structure:
    """The silhouette of one k beside that of structureless clouds.

    Attributes
    ----------
    score
        Of the catalogue's sample.
    of_clouds
        Mean silhouette of the clouds.
    """

    score: KScore
    of_clouds: float

    @property
    def is_there(self) -> bool:
        """Whether the catalogue's groups are clearly more than the cuts of one cloud."""
        value, error = self.score.silhouette or 0.0, self.score.silhouette_se or 0.0
        return value > max(CLEARLY_MORE * self.of_clouds, self.of_clouds + _DEVIATIONS * error)


def compare(vectors: FloatArray, weights: FloatArray, score: KScore, *, seed: int = 0) -> Structure:
    """Cluster clouds of the sample's mean and covariance with the k of `score`.

    Parameters
    ----------
    vectors, weights
        Shapes (n, d) and (n,): the sample that was scored.
    """
    with threadpool_limits(1):
        silhouettes = []
        for number in range(N_CLOUDS):
            cloud = draw_cloud(vectors, weights, np.random.default_rng((seed, number)))
            options = Options(n_starts=SWEEP_STARTS, seed=seed, n_threads=1)
            labels = fit(cloud, weights, score.k, options).labels
            silhouettes.append(silhouette(cloud, weights, labels)[0])
    return Structure(score, float(np.mean(silhouettes)))


def draw_cloud(vectors: FloatArray, weights: FloatArray, random: np.random.Generator) -> FloatArray:
    """Return as many unit vectors, drawn from one Gaussian of the weighted mean and covariance of `vectors`."""
    values = vectors.astype(np.float64)
    mean = np.average(values, axis=0, weights=weights)
    centred = (values - mean) * np.sqrt(weights / weights.sum())[:, None]
    variances, directions = np.linalg.eigh(centred.T @ centred)
    noise = random.normal(size=values.shape) * np.sqrt(np.clip(variances, 0, None))
    return unit_vectors((mean + noise @ directions.T).astype(np.float32))
