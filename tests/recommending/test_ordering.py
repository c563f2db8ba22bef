"""Heads of rankings and sets of item numbers against the plain way."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shelfkin.recommending.ordering import best_first, union

numbers = st.lists(st.integers(0, 12), max_size=12)
# Few values, so that there are ties.
scores = st.lists(st.integers(-3, 3), min_size=1, max_size=30)


@given(scores, st.integers(1, 40), st.randoms(use_true_random=False))
def test_the_head_is_that_of_the_whole_ranking(values: list[int], n: int, random: object) -> None:
    ties = np.array(random.sample(range(len(values)), len(values)))  # type: ignore[attr-defined]
    whole = sorted(range(len(values)), key=lambda place: (-values[place], ties[place]))
    assert best_first(np.array(values, dtype=float), ties, n).tolist() == whole[:n]


@given(st.lists(numbers, min_size=1, max_size=4))
def test_a_union_is_that_of_sets(parts: list[list[int]]) -> None:
    found = union(*(np.array(sorted(part), dtype=np.int64) for part in parts))
    assert found.tolist() == sorted({number for part in parts for number in part})
