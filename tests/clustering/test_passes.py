"""A pass is exact: no order of rows, no cut and no shortcut shows in labels or sums."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shelfkin.clustering import passes
from shelfkin.clustering.passes import Rows
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
    monkeypatch.setattr(passes, "BLOCK_ROWS", 64)
    vectors, weights = drawn(n, 8, seed=n + k)
    random = np.random.default_rng(0)
    rows = Rows(vectors, weights, 2)
    centroids = unit_vectors(random.normal(size=(k, 8)))
    # Far at first, then less and less, as in a fit; and one that jumps while the others rest.
    for number, step in enumerate((0, 0.5, 0.1, 0.01, 1e-4, 0, 1e-7, 0.02)):
        moved = centroids + step * random.normal(size=(k, 8))
        moved[number % k] = random.normal(size=8) if step == 0.02 else moved[number % k]
        centroids = unit_vectors(moved)
        found = rows(centroids)
        labels, sums = by_hand(vectors, weights, centroids)
        np.testing.assert_array_equal(rows.labels, labels)
        np.testing.assert_array_equal((found.sums / GRID).astype(object), sums)
        np.testing.assert_array_equal(found.mass, np.bincount(labels, weights, minlength=k))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.integers(1, 199), max_size=4, unique=True))
def test_no_order_or_cut_of_the_rows_changes_a_bit(seed: int, cuts: list[int]) -> None:
    vectors, weights = drawn(200, 16, seed)
    order = np.random.default_rng(seed).permutation(200)
    whole = Rows(vectors, weights, 1)
    parts = [Rows(vectors[some], weights[some], 1) for some in np.split(order, sorted(cuts))]
    centroids = vectors[:6].astype(np.float64)
    for _ in range(4):
        expected = whole(centroids)
        found = parts[0](centroids)
        for part in parts[1:]:
            found = found + part(centroids)
        np.testing.assert_array_equal(found.sums, expected.sums)
        assert found.misfit == expected.misfit
        centroids = unit_vectors(expected.sums + 1e-9)


@pytest.mark.parametrize("first", [0, 1])
def test_a_row_between_two_centroids_goes_to_the_first(first: int) -> None:
    # The row's cosines to a vector and to its mirror image are one sum, added up from either end: float32 rounds them
    # differently.
    random = np.random.default_rng(1)
    half = unit_vectors(random.normal(size=(1, 384)))[0]
    mirrored = half[::-1].copy()
    row = unit_vectors((half + mirrored)[None])
    centroids = np.stack([half, mirrored])[[first, 1 - first]]
    rows = Rows(row, np.ones(1), 1)
    assert rows(centroids).mass.tolist() == [1, 0]
    assert rows(centroids).mass.tolist() == [1, 0]


def test_rows_that_nothing_concerns_are_not_compared_again(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = unit_vectors(np.repeat(np.eye(4), 50, axis=0) + 0.05 * np.random.default_rng(0).normal(size=(200, 4)))
    rows = Rows(vectors, np.ones(200), 1)
    rows(np.eye(4))
    compared: list[int] = []
    full = passes.two_nearest
    monkeypatch.setattr(passes, "two_nearest", lambda some, near: compared.append(len(some)) or full(some, near))
    rows(unit_vectors(np.eye(4) + 0.01))
    assert compared == []
    # The last centroid takes the place of the first: the rows of both are in doubt, the others aren't.
    rows(unit_vectors(np.eye(4)[[3, 1, 2, 0]]))
    assert compared == [100]


def test_spares_are_the_heaviest_misfits_whatever_the_order() -> None:
    vectors = unit_vectors(np.array([[1, 0], [1, 1], [0, 1], [0, 1], [3, 4]], dtype=np.float32))
    weights = np.array([9.0, 1.0, 1.0, 1.0, 9.0])
    # Weight times (1 - cosine) to (1, 0): 0, 0.29, 1, 1 (its twin, which counts once), 3.6.
    for order in ([0, 1, 2, 3, 4], [4, 3, 2, 1, 0]):
        found = Rows(vectors[order], weights[order], 1).spares(np.array([[1.0, 0.0]]), 2)
        assert [spare.fit for spare in found] == pytest.approx([-3.6, -1])
        np.testing.assert_allclose([spare.vector for spare in found], [[0.6, 0.8], [0, 1]], atol=1e-6)


def test_what_is_known_of_other_clusters_is_set_aside() -> None:
    vectors, weights = drawn(100, 8, seed=0)
    rows = Rows(vectors, weights, 1)
    rows(vectors[:9])
    np.testing.assert_array_equal(rows(vectors[:4]).sums, Rows(vectors, weights, 1)(vectors[:4]).sums)


@given(st.floats(-1, 1))
def test_the_grid_is_reached_by_the_nearest_way_and_has_no_negative_zero(value: float) -> None:
    found = float(on_grid(np.array([value]))[0])
    assert found == round(value / GRID) * GRID
    assert np.copysign(1, found) == 1 or found < 0
