"""Ranking metrics against figures worked out by hand, after the referee's definitions."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from shelfkin.evaluation.backtest import hits_of
from shelfkin.evaluation.metrics import mean_metrics

LISTS = pd.DataFrame(
    [("u1", 1, "a"), ("u1", 2, "b"), ("u1", 3, "c"), ("u2", 1, "a"), ("u2", 2, "d"), ("u2", 3, "e"), ("u9", 1, "a")],
    columns=["user_id", "rank", "product_id"],
)
# u1 wants b and z, u2 wants a, d, e and f, u3 has no list at all, u9 wants nothing.
WANTED = pd.DataFrame(
    [("u1", "b"), ("u1", "z"), ("u2", "a"), ("u2", "d"), ("u2", "e"), ("u2", "f"), ("u3", "a")],
    columns=["user_id", "product_id"],
)

PRODUCTS = pd.Index(list("abcdefz"))


@pytest.mark.parametrize("seed", range(3))
def test_metrics_by_hand(seed: int) -> None:
    lists, wanted = LISTS.sample(frac=1, random_state=seed), WANTED.sample(frac=1, random_state=seed)
    hits, items, n_wanted = hits_of(lists, wanted, 3, PRODUCTS)
    found = {(name, k): value for name, k, value in mean_metrics(hits, items, n_wanted, [2, 3])}
    second = 1 / math.log2(3)
    assert found["recall", 2] == pytest.approx((1 / 2 + 2 / 4 + 0) / 3)
    assert found["ndcg", 2] == pytest.approx((second / (1 + second) + 1 + 0) / 3)
    # At 3 the ideal list of u1 still has two products, that of u2 three.
    assert found["ndcg", 3] == pytest.approx((second / (1 + second) + 1 + 0) / 3)
    assert found["hit", 2] == pytest.approx(2 / 3)
    assert found["mrr", 3] == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert found["coverage", 2] == 3  # a, b, d
    assert found["coverage", 3] == 5


def test_ranks_beyond_the_width_do_not_count() -> None:
    hits, _, _ = hits_of(LISTS, WANTED, 1, PRODUCTS)
    assert hits.tolist() == [[False], [True], [False]]
