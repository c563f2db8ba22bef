"""Spherical k-means on hand-made and planted vectors."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from shelfkin.clustering import assign, kmeans
from shelfkin.clustering.vectors import n_distinct, unit_vectors
from shelfkin.errors import DataQualityError, OptionError


def planted(n_groups: int, per_group: int, seed: int = 0, spread: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    """Return unit vectors around well separated directions, and the group of each."""
    random = np.random.default_rng(seed)
    centres = np.linalg.qr(random.normal(size=(32, n_groups)))[0].T
    groups = np.repeat(np.arange(n_groups), per_group)
    points = centres[groups] + spread * random.normal(size=(len(groups), 32))
    return unit_vectors(points.astype(np.float32)), groups


def same_partition(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two labellings agree up to the numbers they use."""
    pairs = set(zip(first.tolist(), second.tolist(), strict=True))
    return len(pairs) == len(set(first.tolist())) == len(set(second.tolist()))


def test_finds_planted_groups_and_orders_them_by_weight() -> None:
    vectors, groups = planted(6, 40)
    weights = np.where(groups == 3, 9.0, 1.0)
    found = kmeans.fit(vectors, weights, 6)
    assert same_partition(found.labels, groups)
    assert (found.labels[groups == 3] == 0).all()
    assert np.allclose(np.linalg.norm(found.centroids, axis=1), 1, atol=1e-5)


def test_inertia_is_the_weighted_squared_distance() -> None:
    vectors, _ = planted(3, 20)
    weights = np.arange(1.0, 61.0)
    found = kmeans.fit(vectors, weights, 3)
    squared = ((vectors - found.centroids[found.labels]) ** 2).sum(axis=1)
    assert found.inertia == pytest.approx(float((weights * squared).sum()), rel=1e-4)


def test_a_weight_counts_like_repeated_rows() -> None:
    vectors, _ = planted(4, 25, spread=0.3)
    weights = np.tile([1.0, 2.0, 5.0, 1.0], 25)
    start = vectors[:4]
    weighted = kmeans.fit(vectors, weights, 4, kmeans.Options(n_starts=0, warm_start=start))
    rows = np.repeat(np.arange(100), weights.astype(int))
    repeated = kmeans.fit(vectors[rows], np.ones(len(rows)), 4, kmeans.Options(n_starts=0, warm_start=start))
    assert weighted.inertia == repeated.inertia
    np.testing.assert_array_equal(weighted.centroids, repeated.centroids)


def test_a_refined_start_never_ends_worse_than_it_began(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kmeans, "START_ROWS", 50)
    vectors, groups = planted(5, 60)
    order = np.random.default_rng(1).permutation(len(vectors))
    found = kmeans.fit(vectors[order], np.ones(300), 5)
    assert same_partition(found.labels, groups[order])


def test_warm_start_keeps_its_place_without_a_gain() -> None:
    vectors, _ = planted(5, 30, spread=0.1)
    first = kmeans.fit(vectors, np.ones(150), 5, kmeans.Options(seed=0))
    again = kmeans.fit(vectors, np.ones(150), 5, kmeans.Options(seed=99, warm_start=first.centroids))
    assert np.abs(first.centroids - again.centroids).max() < 1e-4


def test_texts_that_share_a_vector_leave_fewer_clusters() -> None:
    vectors = np.repeat(np.eye(3, dtype=np.float32), 4, axis=0)
    found = kmeans.fit(vectors, np.ones(12), 7)
    assert len(found.centroids) == 3
    assert found.inertia == pytest.approx(0, abs=1e-6)
    assert n_distinct(vectors) == 3


def test_more_clusters_than_vectors_is_refused() -> None:
    with pytest.raises(OptionError, match="k=5 exceeds 4 distinct vectors; lower --k"):
        kmeans.fit(np.eye(4, dtype=np.float32), np.ones(4), 5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0])
def test_a_vector_without_direction_is_refused(bad: float) -> None:
    vectors = np.ones((3, 2), dtype=np.float32)
    vectors[1] = bad
    with pytest.raises(DataQualityError, match="1 of 3 product vectors"):
        unit_vectors(vectors)


def batch(vectors: list[list[float]]) -> pa.RecordBatch:
    hashes = [f"{place:064x}" for place in range(len(vectors))]
    return pa.RecordBatch.from_arrays(
        [pa.array(hashes), pa.array(vectors, pa.list_(pa.float32()))], ["text_hash", "vector"]
    )


def test_assignment_gives_one_minus_cosine_and_null_for_the_unusable() -> None:
    centroids = np.array([[1.0, 0.0], [0.0, 1.0]])
    found = assign.assign_batch(batch([[0.6, 0.8], [2.0, 0.0], [float("nan"), 1.0]]), centroids).to_pydict()
    assert found["cluster"][:2] == [1, 0]
    assert found["distance"] == [pytest.approx(0.2, abs=1e-6), 0.0, None]


def test_vectors_of_different_length_are_refused() -> None:
    with pytest.raises(DataQualityError, match="1 numbers beside vectors of 2"):
        assign.assign_batch(batch([[1.0, 0.0], [1.0]]), np.eye(2))
