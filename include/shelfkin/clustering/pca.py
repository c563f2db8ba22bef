"""Two dimensions for the eye: principal components of the distinct texts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shelfkin.clustering.vectors import FloatArray


@dataclass(frozen=True)
class PrincipalAxes:
    """Two principal components.

    Attributes
    ----------
    mean
        Shape (d,), float64.
    components
        Shape (2, d), float64, orthonormal rows.
    explained
        Shape (2,): share of the total variance along each.
    """

    mean: FloatArray
    components: FloatArray
    explained: FloatArray

    def transform(self, vectors: FloatArray) -> FloatArray:
        """Return coordinates of shape (n, 2), rounded to what a float32 column holds."""
        return np.round((vectors.astype(np.float64) - self.mean) @ self.components.T, 6)


def fit_pca(vectors: FloatArray, weights: FloatArray) -> PrincipalAxes:
    """Return the first two principal components of weighted vectors.

    Computed from the d x d covariance, so that time and memory don't depend on the rows beyond one pass. The sign of
    a component is arbitrary; the entry of the largest magnitude is made positive, so that two days look alike.

    Parameters
    ----------
    vectors
        Shape (n, d), d >= 1.
    weights
        Shape (n,), positive.
    """
    values = vectors.astype(np.float64)
    mean = np.average(values, axis=0, weights=weights)
    centred = values - mean
    covariance = (centred * weights[:, None]).T @ centred / weights.sum()
    variances, directions = np.linalg.eigh(covariance)
    components = np.zeros((2, values.shape[1]))
    first_two = directions[:, ::-1][:, :2].T
    components[: len(first_two)] = first_two
    largest = np.abs(components).argmax(axis=1)
    signs = np.where(components[np.arange(2), largest] < 0, -1.0, 1.0)
    total = float(np.clip(variances, 0, None).sum())
    explained = np.zeros(2)
    if total > 1e-12:
        explained[: len(first_two)] = np.clip(variances[::-1][:2], 0, None) / total
    return PrincipalAxes(mean, components * signs[:, None], explained)
