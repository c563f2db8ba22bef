"""Assignment is exact: no order of rows and no number of threads shows in labels or sums."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shelfkin.clustering import lloyd
from shelfkin.clustering.lloyd import Assignment, Points
from shelfkin.clustering.vectors import GRID, on_grid, unit_vectors


def drawn(n: int, dimensions: int, seed: int, n_groups: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Return unit vectors in loose groups, and weights."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(n_groups, dimensions))
    points = centres[random.integers(0, n_groups, size=n)] + 0.7 * random.normal(size=(n, dimensions))
    return unit_vectors(points.astype(np.float32)), random.integers(1, 1000, size=n).astype(float)


def by_hand(vectors: np.ndarray, weights: np.ndarray, centroids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return labels and sums in whole numbers, which know no rounding; equal cosines go to the lower index."""
    rows, near = [np.rint(some.astype(np.float64) / GRID).astype(object) for some in (vectors, on_grid(centroids))]
    labels = (rows @ near.T).argmax(axis=1)
    sums = np.zeros(near.shape, dtype=object)
    for row, label in enumerate(labels):
        sums[label] += int(weights[row]) * rows[row]
    return labels.astype(int), sums


@pytest.mark.parametrize("n", [7, 300])
@pytest.mark.parametrize("k", [1, 2, 6, 40])
def test_labels_and_sums_are_those_of_whole_numbers(monkeypatch: pytest.MonkeyPatch, n: int, k: int) -> None:
    monkeypatch.setattr(lloyd, "BLOCK_ROWS", 64)
    vectors, weights = drawn(n, 8, seed=n + k)
    random = np.random.default_rng(0)
    points = Points(vectors, weights, 2)
    centroids = unit_vectors(random.normal(size=(k, 8)))
    assigned: Assignment | None = None
    # Far at first, then less and less, as in a fit; and one that jumps while the others rest.
    for number, step in enumerate((0, 0.5, 0.1, 0.01, 1e-4, 0, 1e-7, 0.02)):
        moved = centroids + step * random.normal(size=(k, 8))
        moved[number % k] = random.normal(size=8) if step == 0.02 else moved[number % k]
        centroids = unit_vectors(moved)
        assigned = points.assign(centroids, assigned)
        labels, sums = by_hand(vectors, weights, centroids)
        np.testing.assert_array_equal(assigned.labels, labels)
        np.testing.assert_array_equal((assigned.sums / GRID).astype(object), sums)
        np.testing.assert_array_equal(assigned.mass, np.bincount(labels, weights, minlength=k))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_no_order_of_the_rows_changes_a_bit(seed: int) -> None:
    vectors, weights = drawn(200, 16, seed)
    order = np.random.default_rng(seed).permutation(200)
    one, other = Points(vectors, weights, 1), Points(vectors[order], weights[order], 2)
    centroids, first, second = vectors[:6].astype(np.float64), None, None
    for _ in range(4):
        first, second = one.assign(centroids, first), other.assign(centroids, second)
        np.testing.assert_array_equal(first.sums, second.sums)
        assert first.misfit == second.misfit
        centroids = unit_vectors(first.sums + 1e-9)


@pytest.mark.parametrize("first", [0, 1])
def test_a_row_between_two_centroids_goes_to_the_first(first: int) -> None:
    # The row's cosines to a vector and to its mirror image are one sum, added up from either end: float32 rounds them
    # differently.
    random = np.random.default_rng(1)
    half = unit_vectors(random.normal(size=(1, 384)))[0]
    mirrored = half[::-1].copy()
    row = unit_vectors((half + mirrored)[None])
    centroids = np.stack([half, mirrored])[[first, 1 - first]]
    assert Points(row, np.ones(1)).assign(centroids).mass.tolist() == [1, 0]


def test_empty_clusters_start_anew_from_the_heaviest_misfits_whatever_the_order() -> None:
    vectors = unit_vectors(np.array([[1, 0], [1, 1], [0, 1], [0, 1], [3, 4]], dtype=np.float32))
    weights = np.array([9.0, 1.0, 1.0, 1.0, 9.0])
    # Weight times (1 - cosine) to (1, 0): 0, 0.29, 1, 1 (its twin, which counts once), 3.6.
    for order in ([0, 1, 2, 3, 4], [4, 3, 2, 1, 0]):
        points = Points(vectors[order], weights[order])
        worst = points.worst_fitting(points.assign(np.array([[1.0, 0.0]])), 2)
        np.testing.assert_allclose(worst, [[0.6, 0.8], [0, 1]], atol=1e-6)
    twice = np.array([[1.0, 0.0], [1.0, 0.0]])
    _, assigned, _ = lloyd.lloyd(Points(vectors, weights), twice, 5, 1e-6)
    assert (assigned.mass > 0).all()


def test_a_cluster_that_is_its_rows_gives_no_row_away() -> None:
    points = Points(np.eye(2, dtype=np.float32), np.ones(2))
    assert points.worst_fitting(points.assign(np.eye(2)), 3) == []


@given(st.floats(-1, 1))
def test_the_grid_is_reached_by_the_nearest_way_and_has_no_negative_zero(value: float) -> None:
    found = float(on_grid(np.array([value]))[0])
    assert found == round(value / GRID) * GRID
    assert np.copysign(1, found) == 1 or found < 0
