"""Two dimensions for the eye: principal components of the distinct texts."""

from __future__ import annotations

import numpy as np

from shelfkin.clustering.vectors import FloatArray


def principal_coordinates(vectors: FloatArray, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return weighted vectors in their first two principal components.

    Computed from the d x d covariance, so that time and memory don't depend on the rows beyond one pass. The sign of
    a component is arbitrary; the entry of the largest magnitude is made positive, so that two days look alike.

    Parameters
    ----------
    vectors
        Shape (n, d).
    weights
        Shape (n,), positive.

    Returns
    -------
    coordinates, explained
        Shape (n, 2), rounded to what a float32 column holds, and (2,): the share of the variance along each axis.
    """
    centred = vectors - np.average(vectors.astype(np.float64), axis=0, weights=weights)
    centred = np.pad(centred, ((0, 0), (0, max(0, 2 - centred.shape[1]))))  # vectors of one number lie on a line
    covariance = (centred * weights[:, None]).T @ centred / weights.sum()
    variances, directions = np.linalg.eigh(covariance)
    variances, components = np.clip(variances[::-1], 0, None), directions[:, :-3:-1]
    largest = np.abs(components).argmax(axis=0)
    components = components * np.where(components[largest, [0, 1]] < 0, -1.0, 1.0)
    total = variances.sum()
    explained = variances[:2] / total if total > 1e-12 else np.zeros(2)
    return np.round(centred @ components, 6), explained
