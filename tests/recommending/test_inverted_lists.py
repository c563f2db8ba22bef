"""Texts in lists: each lies in one, and what calibration promises is what reading that many lists finds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shelfkin.recommending import inverted_lists
from shelfkin.recommending.blocks import block_threads
from shelfkin.recommending.inverted_lists import InvertedLists, nearest_lists, spread

N = 2_000


def themes(n: int, n_themes: int, d: int = 16, seed: int = 0) -> np.ndarray:
    """Unit vectors around themes, as texts of a shop."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(n_themes, d))
    rows = centres[random.integers(0, n_themes, size=n)] + 0.35 * random.normal(size=(n, d))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def fitted(vectors: np.ndarray, answering: np.ndarray) -> InvertedLists:
    with block_threads(1) as by_block:
        return InvertedLists.fit(vectors, answering, by_block)


def true_nearest(vectors: np.ndarray, n: int) -> np.ndarray:
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -np.inf)
    return np.argsort(-cosines, axis=1, kind="stable")[:, :n]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), n=st.integers(1, 400), share=st.floats(0, 1))
def test_every_text_asks_once_and_lies_in_one_list(seed: int, n: int, share: float) -> None:
    vectors = themes(n, 3, seed=seed)
    vectors[: n // 2] = vectors[0]  # many texts of one vector
    answering = np.flatnonzero(np.random.default_rng(seed).random(n) < share)
    lists = fitted(vectors, answering)
    assert sorted(lists.order.tolist()) == list(range(n))
    assert sorted(lists.members.tolist()) == answering.tolist()
    for number in range(lists.n_lists):
        assert (lists.list_of[lists.members[lists.bounds[number] : lists.bounds[number + 1]]] == number).all()
    # Texts of one list stand together.
    own = lists.list_of[lists.order]
    assert len(np.flatnonzero(np.diff(own))) == len(np.unique(own)) - 1


def test_all_lists_hold_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inverted_lists, "_TILE_ROWS", 7)
    vectors = themes(700, 12)
    lists = fitted(vectors, np.arange(700))
    assert lists.n_lists == int(4 * 700**0.5)
    found = lists.candidates(np.arange(700), lists.n_lists, 21)
    assert all(text in row for text, row in enumerate(found.tolist()))
    truth = true_nearest(vectors, 20)
    assert all(set(row) <= set(near) for row, near in zip(truth.tolist(), found.tolist(), strict=True))


def test_calibration_promises_what_reading_so_many_lists_finds() -> None:
    vectors = themes(N, 40, seed=4)
    lists, sample, truth = fitted(vectors, np.arange(N)), spread(N, 600), true_nearest(vectors, 25)
    chosen = lists.calibrate(sample, truth[sample], 0.97)
    assert chosen.enough

    def shares(n_probes: int) -> np.ndarray:
        found = lists.candidates(sample, n_probes, 26)
        return np.array([np.isin(truth[text], near).mean() for text, near in zip(sample, found, strict=True)])

    found = shares(chosen.n_probes)
    assert found[1::2].mean() == pytest.approx(chosen.recall, abs=1e-12)
    assert found[::2].mean() >= 0.97
    # The next lower number is too low: calibration takes the least that does.
    fewer = shares(chosen.n_probes - 1)[::2]
    assert fewer.mean() - 2 * fewer.std() / np.sqrt(300) < 0.97
    sizes = np.diff(lists.bounds)
    compared = sizes[nearest_lists(vectors[sample], lists.centroids, chosen.n_probes)].sum(axis=1)
    assert compared.mean() / N == pytest.approx(chosen.scanned_share)


def test_calibration_counts_only_neighbours_that_exist() -> None:
    vectors = themes(N, 20, seed=2)
    lists, sample = fitted(vectors, np.arange(3)), spread(N, 400)
    truth = np.full((400, 20), -1)
    truth[:, :3] = [0, 1, 2]
    truth[:2] = -1
    chosen = lists.calibrate(sample, truth, 0.02)
    found = lists.candidates(sample, chosen.n_probes, 3)[2:]
    assert chosen.recall == pytest.approx((found[1::2] >= 0).mean())


def test_where_no_number_of_lists_is_enough_the_largest_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = themes(N, 40)
    lists, sample, truth = fitted(vectors, np.arange(N)), spread(N, 300), true_nearest(vectors, 25)
    monkeypatch.setattr(inverted_lists, "MAX_PROBES", 30)
    random_truth = np.random.default_rng(0).permuted(truth, axis=None)
    none = lists.calibrate(sample, random_truth[sample], 0.98)
    assert not none.enough
    assert none.n_probes == 30
    assert none.recall < 0.98
    # Lists that hold most of the texts save nothing, whatever they find.
    monkeypatch.setattr(inverted_lists, "MAX_SCANNED_SHARE", 0.001)
    assert not lists.calibrate(sample, truth[sample], 0.97).enough
