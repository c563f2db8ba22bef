"""Yesterday's centroids for another number of clusters."""

from __future__ import annotations

import numpy as np
import pytest

from shelfkin.clustering import kmeans, warm_start

NOBODY = (np.empty((0, 3), dtype=np.float32), np.empty(0))


def unit(rows: list[list[float]]) -> np.ndarray:
    values = np.asarray(rows, dtype=np.float64)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def random() -> np.random.Generator:
    return np.random.default_rng(0)


def test_the_same_k_starts_where_yesterday_ended() -> None:
    centroids = unit([[1, 0, 0], [1, 1, 1]])
    assert warm_start.adapted(centroids, np.array([5, 3]), 2, *NOBODY, random()) is centroids


def test_a_smaller_k_joins_the_closest_pair_by_weight_and_leaves_the_others() -> None:
    centroids = unit([[1, 0, 0], [0, 1, 0], [1, 0.2, 0]])
    found = warm_start.adapted(centroids, np.array([30, 20, 10]), 2, *NOBODY, random())
    assert found[0] == pytest.approx(unit([list(30 * centroids[0] + 10 * centroids[2])])[0])
    assert found[1] == pytest.approx(centroids[1])


def test_small_clusters_are_joined_before_large_ones() -> None:
    # Both pairs are 20 degrees apart; what counts is how many products lose by it.
    angles = np.deg2rad([0, 20, 90, 110])
    centroids = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    found = warm_start.merged(centroids, np.array([500, 400, 4, 5]), 3)
    assert found[:2] == pytest.approx(centroids[:2])


def test_joining_goes_on_with_what_was_joined() -> None:
    angles = np.deg2rad([0, 10, 22, 90])
    centroids = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    found = warm_start.merged(centroids, np.ones(4), 2)
    assert found[0] == pytest.approx(unit([list(centroids[:3].sum(axis=0))])[0])
    assert found[1] == pytest.approx(centroids[3])


@pytest.mark.parametrize("sizes", [[7, 7], [0, 0], [3, 0]])
def test_opposite_and_empty_clusters_still_give_a_direction(sizes: list[int]) -> None:
    found = warm_start.merged(unit([[1, 0], [-1, 0]]), np.array(sizes), 1)
    assert np.linalg.norm(found, axis=1) == pytest.approx([1])


def test_a_larger_k_adds_what_fits_worst() -> None:
    centroids = unit([[1, 0, 0], [0, 1, 0]])
    near = unit([[1, 0.01, 0], [0.01, 1, 0], [1, 0, 0.01], [0, 1, 0.01]])
    far = unit([[0, 0.1, 1]])
    vectors = np.vstack([np.repeat(near, 20, axis=0), far]).astype(np.float32)
    found = warm_start.adapted(centroids, np.array([40, 40]), 3, vectors, np.ones(len(vectors)), random())
    assert (found[:2] == centroids).all()
    assert found[2] == pytest.approx(far[0])


def test_rows_that_are_all_centroids_still_give_k_starts() -> None:
    vectors = unit([[1, 0], [0, 1]]).astype(np.float32)
    found = warm_start.adapted(vectors.astype(np.float64), np.ones(2), 3, vectors, np.ones(2), random())
    assert found.shape == (3, 2)
    assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(3))


@pytest.mark.parametrize("k", [9, 11, 12, 13, 16])
def test_another_k_leaves_most_products_with_their_centroid(k: int) -> None:
    draw = np.random.default_rng(4)
    centres = unit(draw.normal(size=(12, 16)).tolist())
    points = centres[np.arange(1200) % 12] + 0.12 * draw.normal(size=(1200, 16))
    vectors = (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)
    weights = np.ones(len(vectors))
    before = kmeans.fit(vectors, weights, 12)
    sizes = np.bincount(before.labels)
    start = warm_start.adapted(before.centroids, sizes, k, vectors, weights, random())
    again = warm_start.adapted(before.centroids, sizes, k, vectors, weights, random())
    assert start.shape == (k, 16)
    assert (start == again).all()
    after = kmeans.fit(vectors, weights, k, kmeans.Options(n_starts=0, warm_start=start))
    counts = np.zeros((12, len(after.centroids)))
    np.add.at(counts, (before.labels, after.labels), 1)
    # Of each old cluster that isn't concerned, the products stay together.
    whole = (counts.max(axis=1) / counts.sum(axis=1)) > 0.95
    assert whole.sum() >= 12 - abs(k - 12)
