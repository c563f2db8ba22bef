"""Scores of one k against scikit-learn's, the rule on hand-made sweeps, and planted truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import silhouette_samples

from shelfkin.clustering import choose_k, k_rule, k_scores, structure
from shelfkin.clustering.k_rule import Limits
from shelfkin.clustering.k_scores import KScore
from shelfkin.clustering.lloyd import Points
from shelfkin.clustering.vectors import FloatArray, unit_vectors
from shelfkin.errors import OptionError

WIDE = Limits(2, 100)


class OneProcess:
    """What `score_all` needs of a Spark context, in this process."""

    value: Any

    def broadcast(self, value: Any) -> OneProcess:
        shared = OneProcess()
        shared.value = value
        return shared

    def unpersist(self) -> None:
        pass

    def parallelize(self, tasks: Sequence[int], _n: int) -> OneProcess:
        self.value = tasks
        return self

    def map(self, work: Any) -> OneProcess:
        self.value = [work(task) for task in self.value]
        return self

    def collect(self) -> Any:
        return self.value


def sweep(
    silhouettes: dict[int, float], error: float = 0.01, stable: dict[int, float] | None = None, **sizes: Any
) -> list[KScore]:
    """Return scores whose inertia falls as 1 / k; stability 0.5 ± 0.01 unless said otherwise."""
    stable = stable or {}
    return [KScore(k, 100 / k, value, error, stable.get(k, 0.5), 0.01, **sizes) for k, value in silhouettes.items()]


def blobs(n_centres: int, seed: int, dimensions: int = 48, spread: float = 0.4) -> FloatArray:
    """Return unit vectors around random directions, 20 to 60 around each."""
    random = np.random.default_rng(seed)
    centres = unit_vectors(random.normal(size=(n_centres, dimensions)).astype(np.float32))
    groups = np.repeat(np.arange(n_centres), random.integers(20, 60, n_centres))
    noise = spread * random.normal(size=(len(groups), dimensions)) / np.sqrt(dimensions)
    return unit_vectors(random.permutation(centres[groups] + noise).astype(np.float32))


def automatic(vectors: FloatArray, limits: Limits, **more: Any) -> k_rule.KChoice:
    context: Any = OneProcess()
    return choose_k.choose_k(context, vectors, np.ones(len(vectors)), limits, **more)


def test_scores_are_those_of_repeated_rows() -> None:
    random = np.random.default_rng(0)
    vectors = unit_vectors(random.normal(size=(30, 5)).astype(np.float32))
    weights = random.integers(1, 5, size=30).astype(float)
    labels = np.arange(30) % 4
    rows = np.repeat(np.arange(30), weights.astype(int))
    repeated, of_rows = vectors[rows], labels[rows]
    expected = silhouette_samples(repeated, of_rows, metric="cosine")
    found = k_scores.silhouette_samples(Points(vectors, weights), labels)
    assert np.allclose(found[rows], expected, atol=1e-5)
    assert k_scores.silhouette(vectors, weights, labels)[0] == pytest.approx(expected.mean(), abs=1e-5)


def test_a_row_alone_in_its_cluster_scores_zero() -> None:
    vectors = unit_vectors(np.array([[1, 0], [1, 0.1], [0, 1]], dtype=np.float32))
    assert k_scores.silhouette_samples(Points(vectors, np.ones(3)), np.array([0, 0, 1]))[2] == 0


def test_the_right_k_comes_out_again_and_a_wrong_one_does_not() -> None:
    vectors = blobs(6, seed=1, spread=0.2)
    right, _ = k_scores.stability(vectors, np.ones(len(vectors)), 6)
    wrong, _ = k_scores.stability(vectors, np.ones(len(vectors)), 11)
    assert right > 0.99 > 0.9 > wrong


def test_a_peak_gives_the_smallest_k_within_one_standard_error() -> None:
    choice = k_rule.apply_rule(sweep({5: 0.20, 6: 0.295, 8: 0.30, 10: 0.28, 20: 0.15}), WIDE)
    assert (choice.k, choice.rule, choice.candidates) == (6, "peak", (6, 8))
    assert "within one standard error of the best, 0.300 ± 0.010 at k=8" in choice.reason


def test_stability_decides_among_k_of_equal_silhouette() -> None:
    choice = k_rule.apply_rule(sweep({5: 0.20, 6: 0.295, 8: 0.30, 20: 0.15}, stable={6: 0.6, 8: 0.7}), WIDE)
    assert (choice.k, choice.rule) == (8, "peak")
    assert choice.runners_up[0].startswith("k=6: ")


def test_a_climbing_silhouette_gives_the_most_stable_k_near_the_elbow() -> None:
    # Inertia 100/k on [5, 50]: the gap below the chord is largest at sqrt(5 * 50) = 15.8, and 12 and 22 are near it.
    values = {5: 0.10, 8: 0.12, 12: 0.15, 16: 0.17, 22: 0.18, 30: 0.2, 50: 0.3}
    assert k_rule.apply_rule(sweep(values, stable={16: 0.52}), WIDE).k == 16
    choice = k_rule.apply_rule(sweep(values, stable={22: 0.6, 30: 0.9}), WIDE)
    assert (choice.k, choice.rule, choice.candidates) == (22, "elbow", (12, 16, 22))
    assert "no peak between k=5 and k=50" in choice.reason and "0.60 ± 0.01" in choice.reason


def test_sizes_that_the_shop_can_not_use_are_set_aside() -> None:
    limits = Limits(2, 100, n_products=1_000, min_cluster_size=20, max_cluster_share=0.4)
    scores = sweep({4: 0.2, 6: 0.25, 12: 0.1}, smallest_share=0.03, largest_share=0.3)
    scores += sweep({8: 0.3}, smallest_share=0.019, largest_share=0.3)
    scores += sweep({10: 0.4}, smallest_share=0.03, largest_share=0.41)
    scores.sort(key=lambda score: score.k)
    assert k_rule.apply_rule(scores, limits).k == 6
    none_fits = k_rule.apply_rule(sweep({4: 0.2, 6: 0.3, 12: 0.1}, smallest_share=0.001, largest_share=0.3), limits)
    assert none_fits.k == 6 and "No k keeps the limits (smallest cluster of 20 products" in none_fits.reason


@pytest.mark.parametrize(
    ("before", "expected", "rule"),
    [
        (5, 5, "kept"),  # 0.28 against 0.30, errors of 0.01: within two standard errors of the difference
        (4, 8, "peak"),  # 0.20 is clearly worse
        (8, 8, "peak"),
    ],
)
def test_yesterdays_k_stays_unless_another_is_clearly_better(before: int, expected: int, rule: str) -> None:
    scores = sweep({4: 0.20, 5: 0.28, 8: 0.30, 20: 0.15}, stable={8: 0.9})
    choice = k_rule.apply_rule(scores, WIDE, yesterday=before)
    assert (choice.k, choice.rule) == (expected, rule)
    if rule == "kept":
        assert "k=5 of the day before stays: today's k=8 isn't clearly better" in choice.reason


def test_near_the_elbow_only_stability_moves_yesterdays_k() -> None:
    values = {5: 0.10, 8: 0.12, 12: 0.15, 16: 0.17, 22: 0.18, 30: 0.2, 50: 0.3}
    assert k_rule.apply_rule(sweep(values, stable={16: 0.52}), WIDE, yesterday=22).k == 22
    assert k_rule.apply_rule(sweep(values, stable={16: 0.60}), WIDE, yesterday=22).k == 16
    assert k_rule.apply_rule(sweep(values, stable={16: 0.52}), WIDE, yesterday=50).k == 16  # far from the elbow


@pytest.mark.parametrize("n_centres", [3, 9, 24])
def test_planted_groups_are_counted(n_centres: int) -> None:
    choice = automatic(blobs(n_centres, seed=n_centres), Limits(2, 40))
    assert (choice.k, choice.rule) == (n_centres, "peak")
    assert "times that of one cloud without groups" in choice.reason


@pytest.mark.slow
def test_planted_groups_are_counted_in_18_of_20_cases() -> None:
    truth = [3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 18, 20, 24, 28, 32, 38, 45, 52, 60]
    found = [automatic(blobs(k, seed=k), Limits(2, 80)).k for k in truth]
    assert sum(abs(k - right) <= 1 for k, right in zip(found, truth, strict=True)) >= 18, found


@pytest.mark.parametrize("dimensions", [8, 64])
def test_one_cloud_has_no_groups_to_count(dimensions: int) -> None:
    cloud = unit_vectors(np.random.default_rng(5).normal(size=(1_200, dimensions)).astype(np.float32))
    choice = automatic(cloud, Limits(4, 20))
    assert (choice.k, choice.rule) == (4, "no_structure")
    assert "no groups to count" in choice.reason
    assert automatic(cloud, Limits(4, 20), yesterday=7).k == 7


def test_a_cloud_has_the_mean_and_covariance_of_the_sample() -> None:
    random = np.random.default_rng(2)
    # Far from the origin, so that scaling to unit vectors changes the shape little.
    vectors = (np.array([10.0, 0, 0]) + random.normal(size=(4_000, 3)) * [0.1, 2.0, 0.5]).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cloud = structure.draw_cloud(vectors, np.ones(4_000), np.random.default_rng(0))
    np.testing.assert_allclose(cloud.mean(axis=0), vectors.mean(axis=0), atol=0.01)
    np.testing.assert_allclose(np.cov(cloud.T), np.cov(vectors.T), atol=0.003)


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
