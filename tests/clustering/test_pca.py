"""Two dimensions for the eye."""

from __future__ import annotations

import numpy as np
import pytest

from shelfkin.clustering.pca import principal_coordinates


def test_principal_components_of_a_line() -> None:
    along = np.array([3.0, 4.0, 0.0]) / 5
    points = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])[:, None] * along
    coordinates, explained = principal_coordinates(points, np.ones(5))
    assert explained == pytest.approx([1, 0])
    assert coordinates[:, 0] == pytest.approx([-2, -1, 0, 1, 2])


def test_identical_vectors_project_to_one_point() -> None:
    coordinates, explained = principal_coordinates(np.ones((4, 3)), np.ones(4))
    assert explained.tolist() == [0, 0]
    assert coordinates.tolist() == [[0, 0]] * 4


def test_vectors_of_one_number_lie_on_a_line() -> None:
    coordinates, explained = principal_coordinates(np.array([[-1.0], [1.0], [1.0]]), np.ones(3))
    assert explained.tolist() == [1, 0]
    assert coordinates[:, 1].tolist() == [0, 0, 0]
