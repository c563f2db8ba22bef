"""Nearest texts: exact in float64 however the work is cut, ties to the lower number; lists find what they promise."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shelfkin.recommending import blocks, nearest
from shelfkin.recommending.nearest import COSINE_DECIMALS, TextNeighbours, exact_cosines


def nearest_texts(
    vectors: np.ndarray,
    eligible: np.ndarray,
    n: int,
    exact_up_to: int = 50_000,
    recall: float = 0.98,
    n_threads: int | None = None,
) -> TextNeighbours:
    return nearest.nearest_texts(vectors, eligible, n, exact_up_to=exact_up_to, recall=recall, n_threads=n_threads)


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def themes(n: int, n_themes: int, d: int = 16, seed: int = 0, spread: float = 0.35) -> np.ndarray:
    """Unit vectors around themes, as texts of a shop."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(n_themes, d))
    return unit(centres[random.integers(0, n_themes, size=n)] + spread * random.normal(size=(n, d)))


def by_sorting(vectors: np.ndarray, eligible: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The definition: all rounded float64 cosines, sorted by fall, then number; -1 and 0 where there are too few."""
    cosines = np.round(vectors.astype(np.float64) @ vectors.T.astype(np.float64), COSINE_DECIMALS)
    cosines[:, ~eligible] = -np.inf
    np.fill_diagonal(cosines, -np.inf)
    order = np.argsort(-cosines, axis=1, kind="stable")[:, :n]
    found = np.take_along_axis(cosines, order, axis=1)
    none, missing = ~np.isfinite(found), ((0, 0), (0, n - order.shape[1]))
    return (
        np.pad(np.where(none, -1, order), missing, constant_values=-1),
        np.pad(np.where(none, 0, found).astype(np.float32), missing),
    )


def assert_exact(vectors: np.ndarray, eligible: np.ndarray, n: int) -> None:
    found = nearest_texts(vectors, eligible, n)
    assert found.metrics == {"search": "exact"}
    for got, expected in zip((found.neighbours, found.cosines), by_sorting(vectors, eligible, n), strict=True):
        np.testing.assert_array_equal(got, expected)


def everything(vectors: np.ndarray) -> np.ndarray:
    return np.ones(len(vectors), dtype=bool)


# ---- exact -----------------------------------------------------------------------------------------------------------


def test_nearest_by_hand() -> None:
    vectors = np.array([[1, 0], [0.8, 0.6], [0.6, 0.8], [0, 1]], dtype=np.float32)
    found = nearest_texts(vectors, np.array([True, True, True, False]), 3)
    assert found.neighbours[:2].tolist() == [[1, 2, -1], [2, 0, -1]]
    np.testing.assert_allclose(found.cosines[:2], [[0.8, 0.6, 0], [0.96, 0.8, 0]], atol=1e-5)


def test_cosines_are_those_of_float64_whatever_the_processor_makes_of_float32() -> None:
    # Of 600 x 40 float32 cosines, about one in a hundred rounds to another fifth decimal than the exact one.
    vectors = unit(np.random.default_rng(0).normal(size=(600, 64)))
    assert_exact(vectors, everything(vectors), 40)


def test_equal_cosines_at_the_last_place_go_to_the_lower_number_however_many_there_are() -> None:
    # 300 texts tie for two places: far more than candidates are asked for at first.
    vectors = np.array([[1, 0], *[[0.6, 0.8]] * 300], dtype=np.float32)
    found = nearest_texts(vectors, everything(vectors), 2)
    assert found.neighbours[[0, 1, 300]].tolist() == [[1, 2], [2, 3], [1, 2]]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000),
    n_rows=st.integers(1, 120),
    n=st.integers(1, 9),
    share=st.sampled_from([0.0, 0.3, 1.0]),
    block_rows=st.integers(1, 130),
)
def test_the_exact_search_is_its_definition(seed: int, n_rows: int, n: int, share: float, block_rows: int) -> None:
    """Few directions, so that there are ties everywhere, also of a text with itself."""
    random = np.random.default_rng(seed)
    vectors = unit(random.integers(-1, 2, size=(n_rows, 3)) + np.array([0.5, 0, 0]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK_ROWS", block_rows)
        assert_exact(vectors, random.random(n_rows) < share, n)


def test_texts_without_a_vector_neither_find_nor_are_found() -> None:
    vectors = themes(40, 3)
    found = nearest_texts(vectors, np.ones(45, dtype=bool), 5)
    assert found.neighbours.shape == found.cosines.shape == (45, 5)
    assert (found.neighbours[40:] == -1).all()
    assert found.neighbours[:40].max() < 40
    none = nearest_texts(np.empty((0, 0), dtype=np.float32), np.ones(3, dtype=bool), 5)
    assert (none.neighbours == -1).all()
    assert not none.cosines.any()


# ---- in lists --------------------------------------------------------------------------------------------------------


def test_a_search_in_lists_keeps_its_recall_with_exact_cosines() -> None:
    vectors, eligible = themes(3_000, 40, seed=4), np.random.default_rng(1).random(3_000) < 0.8
    found = nearest_texts(vectors, eligible, 25, exact_up_to=2_999, recall=0.97)
    assert found.metrics["search"] == "lists"
    assert 0 < found.metrics["search_scanned_share"] < 0.25
    near, cosines = by_sorting(vectors, eligible, 25)
    shares = np.array([np.isin(got, true).mean() for got, true in zip(found.neighbours, near, strict=True)])
    assert shares.mean() >= 0.97
    assert shares.mean() == pytest.approx(found.metrics["search_recall"], abs=0.01)
    assert eligible[found.neighbours].all()
    # Where all are found, they and their cosines are those of the exact search, digit by digit.
    whole = shares == 1
    np.testing.assert_array_equal(found.neighbours[whole], near[whole])
    np.testing.assert_array_equal(found.cosines[whole], cosines[whole])


@pytest.mark.parametrize("exact_up_to", [0, 3_000])
def test_threads_and_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch, exact_up_to: int) -> None:
    vectors = themes(3_000, 40)
    one, three = (nearest_texts(vectors, everything(vectors), 9, exact_up_to=exact_up_to, n_threads=n) for n in (1, 3))
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 170)
    small = nearest_texts(vectors, everything(vectors), 9, exact_up_to=exact_up_to, n_threads=2)
    for other in (three, small):
        assert other.metrics == one.metrics
        np.testing.assert_array_equal(other.neighbours, one.neighbours)
        np.testing.assert_array_equal(other.cosines, one.cosines)


def test_vectors_without_groups_are_all_compared_and_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    vectors = unit(np.random.default_rng(0).normal(size=(1_500, 96)))  # one cloud: neighbours lie anywhere
    with caplog.at_level(logging.WARNING, "shelfkin"):
        found = nearest_texts(vectors, everything(vectors), 20, exact_up_to=10)
    assert found.metrics["search"] == "exact"
    assert found.metrics["search_recall"] < 0.98 or found.metrics["search_scanned_share"] > 0.25
    assert "the vectors hardly form groups" in caplog.text
    assert "all 1,500 texts are compared with each other" in caplog.text
    np.testing.assert_array_equal(found.neighbours, by_sorting(vectors, everything(vectors), 20)[0])


def test_few_texts_may_answer_in_lists() -> None:
    vectors, eligible = themes(800, 20, seed=2), np.zeros(800, dtype=bool)
    eligible[:3] = True  # each finds two or three, and the other places stay empty
    found = nearest_texts(vectors, eligible, 20, exact_up_to=0, recall=0.02)
    assert (found.neighbours[:, 3:] == -1).all()
    assert not (found.neighbours == np.arange(800)[:, None]).any()
    none = nearest_texts(vectors, np.zeros(800, dtype=bool), 4, exact_up_to=0)
    assert (none.neighbours == -1).all()


def test_exact_cosines_of_one_and_of_many() -> None:
    vectors = np.array([[1, 0], [0.8, 0.6], [0.6, 0.8]], dtype=np.float32)
    np.testing.assert_array_equal(exact_cosines(vectors, np.array([2, 1]), vectors[0]), [0.6, 0.8])
    several = exact_cosines(vectors, np.array([[2, 1], [0, 2]]), vectors[[0, 1]])
    np.testing.assert_array_equal(several, [[0.6, 0.8], [0.8, 0.96]])


def test_one_text_finds_nothing() -> None:
    assert nearest_texts(np.array([[1.0, 0.0]], dtype=np.float32), np.array([True]), 2).neighbours.tolist() == [
        [-1, -1]
    ]
