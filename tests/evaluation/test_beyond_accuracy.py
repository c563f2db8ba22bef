"""Novelty, diversity and popularity lift against figures worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from shelfkin.evaluation.backtest import _by_warmth
from shelfkin.evaluation.beyond_accuracy import Background, diversity, novelty, popularity_lift

# Of 7 customers 7 had bought a, 3 b, 1 c, none d. a and b lie at 90 degrees, c is a's twin, d has no vector.
BACKGROUND = Background(
    product_ids=pd.Index(list("abcd")),
    buyers=np.array([7, 3, 1, 0]),
    n_users=7,
    vectors=np.array([[1, 0], [0, 1], [1, 0]], dtype=np.float32),
    groups=np.array([0, 1, 2, 3]),
    n_orders=pd.Series({"u1": 1, "u2": 5}),
)


def test_novelty_is_mean_self_information() -> None:
    # (7+1)/8 = 1: 0 bits; (3+1)/8: 1 bit; (1+1)/8: 2 bits; (0+1)/8: 3 bits.
    assert novelty(np.array([[0, 1], [2, 3]]), BACKGROUND) == pytest.approx((0 + 1 + 2 + 3) / 4)
    assert novelty(np.array([[1, -1]]), BACKGROUND) == pytest.approx(1)
    assert novelty(np.array([[-1, -1]]), BACKGROUND) == 0


def test_diversity_is_the_mean_distance_of_pairs() -> None:
    # Pairs of a, b, c: 1, 0 and 1.
    assert diversity(np.array([[0, 1, 2]]), BACKGROUND) == pytest.approx(2 / 3)
    # d has no vector: only the pair a, b counts. A list with one vector has no pair.
    assert diversity(np.array([[0, 1, 3], [0, 3, -1]]), BACKGROUND) == pytest.approx(1)
    assert diversity(np.array([[0, 1, -1], [0, 2, -1]]), BACKGROUND) == pytest.approx(1 / 2)
    assert diversity(np.array([[3, -1]]), BACKGROUND) == 0
    bare = replace(BACKGROUND, vectors=np.empty((0, 0), dtype=np.float32))
    assert diversity(np.array([[0, 1, 2]]), bare) == 0


def test_popularity_lift_compares_with_what_was_bought() -> None:
    # Lists hold products of 5 and 7 earlier customers on average, 6 in all; users bought what 3 had bought.
    lift = popularity_lift(np.array([[0, 1], [0, -1]]), np.array([3.0, 3.0]), BACKGROUND)
    assert lift == pytest.approx(6 / 3 - 1)
    # A user without a list counts on neither side.
    assert popularity_lift(np.array([[0, 1], [-1, -1]]), np.array([5.0, 1.0]), BACKGROUND) == pytest.approx(0)


def test_cold_and_warm_users_are_counted_apart() -> None:
    hits = np.array([[True], [False], [False]])
    wanted = pd.DataFrame([("u1", "a"), ("u2", "b"), ("u3", "a")], columns=["user_id", "product_id"])
    rows = {(name, k): rest for name, k, *rest in _by_warmth(hits, np.ones(3, int), wanted, [1], BACKGROUND)}
    # u1 has one order and u3 none that is known; u2 has five.
    assert rows["recall_cold", 1] == [pytest.approx(1 / 2), 2]
    assert rows["recall_warm", 1] == [0, 1]
    assert rows["ndcg_cold", 1] == [pytest.approx(1 / 2), 2]
    assert math.isclose(rows["ndcg_warm", 1][0], 0)
