"""Swaps lead out of local optima that Lloyd's iterations can't leave."""

from __future__ import annotations

import numpy as np

from shelfkin.clustering.lloyd import Points, lloyd
from shelfkin.clustering.starts import swap_centroids
from shelfkin.clustering.vectors import unit_vectors


def three_groups() -> np.ndarray:
    random = np.random.default_rng(0)
    centres = np.repeat(np.eye(3), 50, axis=0)
    return unit_vectors((centres + 0.05 * random.normal(size=(150, 3))).astype(np.float32))


def test_two_centroids_in_one_group_and_two_groups_under_one_are_put_right() -> None:
    vectors, weights = three_groups(), np.ones(150)
    # The local optimum: two centroids share the first group, one lies between the others.
    stuck = unit_vectors(np.array([[1, 0.05, 0], [1, -0.05, 0], [0, 1, 1]], dtype=np.float32))
    points = Points(vectors, weights, 1)
    stuck, totals, _ = lloyd(points, stuck, 20, 1e-6)
    changed = swap_centroids(vectors, weights, stuck)
    assert changed is not None
    _, after, _ = lloyd(points, changed, 20, 1e-6)
    assert after.inertia < 0.1 * totals.inertia
    assert sorted(after.mass) == [50, 50, 50]


def test_where_every_group_has_its_centroid_nothing_is_swap_centroids() -> None:
    vectors = three_groups()
    assert swap_centroids(vectors, np.ones(150), np.eye(3, dtype=np.float32)) is None


def test_twins_and_empty_clusters_are_no_reason_to_swap() -> None:
    twins = np.repeat(np.eye(3, dtype=np.float32), 4, axis=0)
    assert swap_centroids(twins, np.ones(12), np.eye(3, dtype=np.float32)[[0, 1, 2, 2]]) is None
