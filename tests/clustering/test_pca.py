"""Two dimensions for the eye."""

from __future__ import annotations

import numpy as np
import pytest

from shelfkin.clustering.pca import fit_pca


def test_principal_components_of_a_line() -> None:
    along = np.array([3.0, 4.0, 0.0]) / 5
    points = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])[:, None] * along
    axes = fit_pca(points, np.ones(5))
    assert axes.explained == pytest.approx([1, 0])
    assert axes.transform(points)[:, 0] == pytest.approx([-2, -1, 0, 1, 2])


def test_identical_vectors_project_to_one_point() -> None:
    axes = fit_pca(np.ones((4, 3)), np.ones(4))
    assert axes.explained.tolist() == [0, 0]
    assert axes.transform(np.ones((4, 3))).tolist() == [[0, 0]] * 4
