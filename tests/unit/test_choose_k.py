"""The silhouette against scikit-learn's, and the rule on hand-made sweeps."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import silhouette_samples

from shelfkin.clustering import choose_k
from shelfkin.clustering.choose_k import KScore
from shelfkin.clustering.vectors import unit_vectors
from shelfkin.errors import OptionError


def sweep(silhouettes: dict[int, float], error: float = 0.01) -> list[KScore]:
    """Return scores whose inertia falls as 1 / k."""
    return [KScore(k, 100 / k, value, error) for k, value in silhouettes.items()]


def test_silhouette_is_that_of_repeated_rows() -> None:
    random = np.random.default_rng(0)
    vectors = unit_vectors(random.normal(size=(30, 5)).astype(np.float32))
    weights = random.integers(1, 5, size=30).astype(float)
    labels = np.arange(30) % 4
    rows = np.repeat(np.arange(30), weights.astype(int))
    expected = silhouette_samples(vectors[rows], labels[rows], metric="cosine")
    found = choose_k.silhouette_samples(vectors, weights, labels)
    assert np.allclose(found[rows], expected, atol=1e-5)
    assert choose_k.silhouette(vectors, weights, labels)[0] == pytest.approx(expected.mean(), abs=1e-5)


def test_a_row_alone_in_its_cluster_scores_zero() -> None:
    vectors = unit_vectors(np.array([[1, 0], [1, 0.1], [0, 1]], dtype=np.float32))
    assert choose_k.silhouette_samples(vectors, np.ones(3), np.array([0, 0, 1]))[2] == 0


def test_a_peak_gives_the_smallest_k_within_one_standard_error() -> None:
    choice = choose_k.choose(sweep({5: 0.20, 6: 0.295, 8: 0.30, 10: 0.28, 20: 0.15}))
    assert (choice.k, choice.rule) == (6, "peak")
    assert "within one standard error of the best, 0.300 ± 0.010 at k=8" in choice.reason


def test_a_climbing_silhouette_gives_the_elbow() -> None:
    # Inertia 100/k on [5, 50]: the gap below the chord is largest at sqrt(5 * 50) = 15.8.
    choice = choose_k.choose(sweep({5: 0.10, 8: 0.12, 12: 0.15, 16: 0.17, 25: 0.2, 50: 0.3}))
    assert (choice.k, choice.rule) == (16, "elbow")
    assert "no peak between k=5 and k=50" in choice.reason


def test_unclear_groups_are_said_to_be_unclear() -> None:
    assert "not clear-cut" in choose_k.choose(sweep({5: 0.01, 8: 0.012, 12: 0.015}, 0.002)).reason


def test_grid_is_geometric_and_holds_both_ends() -> None:
    assert choose_k.k_grid(5, 60) == [5, 6, 8, 9, 11, 14, 17, 21, 26, 32, 40, 49, 60]
    assert choose_k.k_grid(5, 5) == [5]
    assert choose_k.k_grid(5, 4) == []


def test_refinement_stays_between_the_neighbours() -> None:
    assert choose_k.refined_around(8, [6, 8, 10]) == [7, 9]
    assert choose_k.refined_around(5, [5, 6, 8]) == []
    assert choose_k.refined_around(30, [24, 30]) == [25, 27, 29]


def test_a_given_k_beyond_the_vectors_is_refused() -> None:
    with pytest.raises(OptionError, match=r"k=80 exceeds 61 distinct vectors; lower --k"):
        choose_k.check_given_k(80, 61)
