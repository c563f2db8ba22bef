"""Nearest rows: exact in float64 whatever the tiles, ties to the lower number; pruned search finds what it promises."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shelfkin.recommending import nearest, pruned
from shelfkin.recommending.nearest import COSINE_DECIMALS, Nearest, exact_nearest


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def themes(n: int, n_themes: int, d: int = 16, seed: int = 0, spread: float = 0.35) -> np.ndarray:
    """Unit vectors around themes, as texts of a shop."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(n_themes, d))
    return unit(centres[random.integers(0, n_themes, size=n)] + spread * random.normal(size=(n, d)))


def by_sorting(vectors: np.ndarray, asking: np.ndarray, eligible: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The definition: all rounded float64 cosines, sorted by fall, then number."""
    cosines = np.round(vectors[asking].astype(np.float64) @ vectors.T.astype(np.float64), COSINE_DECIMALS)
    cosines[:, ~eligible] = -np.inf
    cosines[np.arange(len(asking)), asking] = -np.inf
    order = np.argsort(-cosines, axis=1, kind="stable")[:, :n]
    found = np.take_along_axis(cosines, order, axis=1)
    none = ~np.isfinite(found)
    return np.where(none, -1, order), np.where(none, 0, found).astype(np.float32)


def test_nearest_by_hand() -> None:
    vectors = np.array([[1, 0], [0.8, 0.6], [0.6, 0.8], [0, 1]], dtype=np.float32)
    near, cosines = exact_nearest(vectors, np.array([0, 1]), np.array([True, True, True, False]), 3)
    assert near.tolist() == [[1, 2, -1], [2, 0, -1]]
    np.testing.assert_allclose(cosines, [[0.8, 0.6, 0], [0.96, 0.8, 0]], atol=1e-5)


def test_equal_cosines_at_the_last_place_go_to_the_lower_number() -> None:
    vectors = np.array([[1, 0], [0.6, 0.8], [0.6, 0.8], [0.6, 0.8]], dtype=np.float32)
    near, _ = exact_nearest(vectors, np.array([0]), np.ones(4, dtype=bool), 2)
    assert near.tolist() == [[1, 2]]


def test_cosines_are_those_of_float64_whatever_the_processor_makes_of_float32() -> None:
    # Of 600 x 40 float32 cosines, about one in a hundred rounds to another fifth decimal than the exact one.
    vectors = unit(np.random.default_rng(0).normal(size=(600, 64)))
    found = exact_nearest(vectors, np.arange(600), np.ones(600, dtype=bool), 40)
    for got, expected in zip(found, by_sorting(vectors, np.arange(600), np.ones(600, dtype=bool), 40), strict=True):
        np.testing.assert_array_equal(got, expected)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000),
    n_rows=st.integers(1, 120),
    n=st.integers(1, 9),
    share=st.sampled_from([0.0, 0.3, 1.0]),
    cuts=st.lists(st.integers(0, 120), max_size=6),
)
def test_tiles_change_nothing(seed: int, n_rows: int, n: int, share: float, cuts: list[int]) -> None:
    """Few directions, so that there are ties everywhere, also of a row with itself."""
    random = np.random.default_rng(seed)
    vectors = unit(random.integers(-1, 2, size=(n_rows, 3)) + np.array([0.5, 0, 0]))
    eligible = random.random(n_rows) < share
    asking = np.flatnonzero(random.random(n_rows) < 0.5)
    found = Nearest(len(asking), n)
    numbers = random.permutation(np.flatnonzero(eligible))
    for tile in np.split(numbers, sorted(min(cut, len(numbers)) for cut in cuts)):
        found.add(vectors[asking] @ vectors[tile].T, tile)
    near, cosines = found.answers(vectors, asking)
    expected_near, expected = by_sorting(vectors, asking, eligible, n)
    width = expected_near.shape[1]  # fewer rows than places
    np.testing.assert_array_equal(near[:, :width], expected_near)
    np.testing.assert_array_equal(cosines[:, :width], expected)
    assert (near[:, width:] == -1).all()


def test_dropping_candidates_now_and_then_loses_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest, "TILE_ROWS", 40)
    monkeypatch.setattr(nearest, "_HELD_PER_PLACE", 1)
    # Each tile is nearer than the one before, so that candidates pile up.
    angles = np.linspace(1.5, 0.01, 1_000)
    vectors = unit(np.stack([np.cos(angles), np.sin(angles)], axis=1))
    asking, everything = np.array([999, 0, 500]), np.ones(1_000, dtype=bool)
    near, _ = exact_nearest(vectors, asking, everything, 30)
    np.testing.assert_array_equal(near, by_sorting(vectors, asking, everything, 30)[0])


# ---- pruned search ---------------------------------------------------------------------------------------------------


def in_lists(vectors: np.ndarray, eligible: np.ndarray, asking: np.ndarray) -> pruned.Lists:
    centres = pruned.centroids(vectors)
    return pruned.Lists.of(pruned.nearest_lists(vectors, centres), len(centres), eligible, asking)


def searched(
    lists: pruned.Lists, n_probes: int, vectors: np.ndarray, n: int
) -> dict[int, tuple[list[int], list[float]]]:
    by_list = vectors[lists.members]
    found = {}
    for group in range(lists.n_groups):
        near, cosines = pruned.search_group(lists, group, n_probes, vectors, by_list, n)
        found |= dict(zip(lists.group(group).tolist(), zip(near.tolist(), cosines.tolist(), strict=True), strict=True))
    return found


def test_a_search_in_all_lists_is_the_exact_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruned, "MAX_PROBES", 1_000)
    monkeypatch.setattr(pruned, "TILE_ROWS", 50)
    monkeypatch.setattr(pruned, "GROUP_ROWS", 7)
    vectors = themes(700, 12)
    eligible = np.random.default_rng(1).random(700) < 0.8
    lists = in_lists(vectors, eligible, np.arange(700))
    assert len(lists.sizes) == int(4 * 700**0.5)
    found = searched(lists, 1_000, vectors, 20)
    near, cosines = exact_nearest(vectors, np.arange(700), eligible, 20)
    assert found == {text: (near[text].tolist(), cosines[text].tolist()) for text in range(700)}


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), n=st.integers(1, 400), share=st.floats(0, 1))
def test_every_text_asks_once_and_lies_in_one_list(seed: int, n: int, share: float) -> None:
    random = np.random.default_rng(seed)
    vectors = themes(n, 3, seed=seed)
    vectors[: n // 2] = vectors[0]  # many texts of one vector
    eligible, asking = random.random(n) < share, np.flatnonzero(random.random(n) < 0.7)
    lists = in_lists(vectors, eligible, asking)
    assert sorted(lists.members.tolist()) == np.flatnonzero(eligible).tolist()
    groups = [lists.group(number) for number in range(lists.n_groups)]
    assert sorted(text for group in groups for text in group.tolist()) == asking.tolist()
    for number, group in enumerate(groups):
        assert len(group) <= pruned.GROUP_ROWS
        assert len(set(lists.nearest[group, 0].tolist())) == 1
        first = lists.first_probe(number)
        for n_probes in (1, 2, 5):
            assert lists.probed(number, n_probes).tolist() == np.flatnonzero(first <= n_probes).tolist()


def test_calibration_promises_what_the_search_keeps() -> None:
    vectors = themes(3_000, 40, seed=4)
    eligible = np.ones(3_000, dtype=bool)
    lists = in_lists(vectors, eligible, np.arange(3_000))
    sample = pruned.spread(3_000, 600)
    truth, _ = exact_nearest(vectors, sample, eligible, 25)
    chosen = pruned.calibrate(lists, sample, truth, 0.97)
    assert chosen is not None
    assert chosen.scanned_share < 0.5
    found = searched(lists, chosen.n_probes, vectors, 25)
    shares = [len(set(found[text][0]) & set(truth[row])) / 25 for row, text in enumerate(sample.tolist())]
    assert np.mean(shares[1::2]) == pytest.approx(chosen.recall, abs=1e-12)
    assert np.mean(shares[::2]) >= 0.97
    compared = [lists.sizes[lists.probed(group, chosen.n_probes)].sum() for group in range(lists.n_groups)]
    by_text = np.repeat(compared, np.diff(lists.group_bounds))
    asked = np.isin(lists.asking, sample)
    assert by_text[asked].mean() / 3_000 == pytest.approx(chosen.scanned_share)
    # The next lower number is too low: calibration takes the least that does.
    if chosen.n_probes > 1:
        fewer = searched(lists, chosen.n_probes - 1, vectors, 25)
        low = np.array([len(set(fewer[text][0]) & set(truth[row])) / 25 for row, text in enumerate(sample.tolist())])
        assert low[::2].mean() - 2 * low[::2].std() / np.sqrt(300) < 0.97


def test_vectors_without_lists_worth_the_name_are_left_to_the_exact_search() -> None:
    vectors = unit(np.random.default_rng(0).normal(size=(2_000, 96)))  # one cloud: neighbours lie anywhere
    lists = in_lists(vectors, np.ones(2_000, dtype=bool), np.arange(2_000))
    sample = pruned.spread(2_000, 300)
    truth, _ = exact_nearest(vectors, sample, np.ones(2_000, dtype=bool), 20)
    assert pruned.calibrate(lists, sample, truth, 0.98) is None


def test_calibration_counts_only_neighbours_that_exist() -> None:
    vectors = themes(800, 20, seed=2)
    eligible = np.zeros(800, dtype=bool)
    eligible[:3] = True  # three texts may answer, so each finds two or three, and 17 places stay empty
    lists = in_lists(vectors, eligible, np.arange(800))
    sample = pruned.spread(800, 400)
    truth, _ = exact_nearest(vectors, sample, eligible, 20)
    assert (truth[:, 3:] == -1).all()
    chosen = pruned.calibrate(lists, sample, truth, 0.02)
    assert chosen is not None
    found = searched(lists, chosen.n_probes, vectors, 20)
    shares = [
        len(set(found[text][0]) & set(truth[row]) - {-1}) / (truth[row] >= 0).sum()
        for row, text in enumerate(sample.tolist())
    ]
    assert np.mean(shares[1::2]) == pytest.approx(chosen.recall, abs=1e-12)
