"""Drift figures from counts of products."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

from shelfkin.clustering import drift
from shelfkin.clustering.members import Members

LABELS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4)), min_size=1, max_size=80)


def table(pairs: list[tuple[int, int]]) -> np.ndarray:
    counts = np.zeros((6, 5), dtype=np.int64)
    np.add.at(counts, tuple(np.asarray(pairs).T), 1)
    return counts


@settings(max_examples=300, deadline=None)
@given(LABELS)
def test_the_adjusted_rand_index_is_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    before, after = np.asarray(pairs).T
    assert drift.adjusted_rand_index(table(pairs)) == pytest.approx(adjusted_rand_score(before, after), abs=1e-9)


def test_one_cluster_and_all_apart_agree_with_themselves() -> None:
    assert drift.adjusted_rand_index(np.array([[9]])) == 1
    assert drift.adjusted_rand_index(np.eye(7, dtype=np.int64)) == 1
    assert drift.adjusted_rand_index(np.array([[1]])) == 1


def test_a_hundred_million_products_do_not_overflow() -> None:
    # The same proportions give the same index, up to what the correction for chance loses in small numbers.
    small = np.array([[400, 20], [10, 570]])
    assert drift.adjusted_rand_index(small * 100_000) == pytest.approx(drift.adjusted_rand_index(small), abs=2e-3)
    assert drift.adjusted_rand_index(np.diag([40_000_000, 60_000_000])) == 1


MEMBERS = Members(common=np.array([[8, 1, 3], [0, 6, 0], [2, 0, 0]]), gone=np.array([1, 0, 4]), new=np.array([5, 0, 2]))


def test_flows_are_counted_by_hand() -> None:
    # Old clusters 10, 11, 12; 10 and 11 go on, 12 is gone, 77 is born from 10.
    found = drift.measure(MEMBERS, (10, 11, 12), (10, 11, 77), "2011-10-31")
    assert found.flows.to_dict("index") == {
        10: {"n_stayed": 8, "n_came": 2, "n_left": 4, "n_new": 5, "n_gone": 1},
        11: {"n_stayed": 6, "n_came": 1, "n_left": 0, "n_new": 0, "n_gone": 0},
        12: {"n_stayed": 0, "n_came": 0, "n_left": 2, "n_new": 0, "n_gone": 4},
        77: {"n_stayed": 0, "n_came": 3, "n_left": 0, "n_new": 2, "n_gone": 0},
    }
    assert drift.metrics(found) == {
        "drift_ari": pytest.approx(drift.adjusted_rand_index(MEMBERS.common), abs=1e-6),
        "share_moved": 0.3,
        "products_common": 20,
        "products_new": 7,
        "products_gone": 5,
    }
    assert found.sentence().startswith("70% of the 20 products known since 2011-10-31 kept their cluster")
    assert found.sentence().endswith("7 are new and 5 are gone")


def test_order_of_clusters_does_not_matter() -> None:
    turned = Members(MEMBERS.common[:, [2, 0, 1]], MEMBERS.gone, MEMBERS.new[[2, 0, 1]])
    straight = drift.measure(MEMBERS, (10, 11, 12), (10, 11, 77), "x")
    other = drift.measure(turned, (10, 11, 12), (77, 10, 11), "x")
    assert drift.metrics(other) == drift.metrics(straight)
    assert other.flows.equals(straight.flows)


def test_without_common_products_there_is_no_drift_to_speak_of() -> None:
    found = drift.measure(Members(np.array([[0]]), np.array([3]), np.array([4])), (10,), (10,), "2011-10-31")
    assert (found.ari, found.share_moved) == (None, None)
    assert found.sentence() == "no product is in the catalogue since 2011-10-31; 4 are new and 3 are gone"
    assert set(drift.metrics(None).values()) == {None}


@pytest.mark.parametrize(
    ("n_moved", "text"), [(0, "100%"), (1, "99.9%"), (30_000, "97%"), (999_999, "0.1%"), (1_000_000, "0%")]
)
def test_only_all_is_called_100_per_cent(n_moved: int, text: str) -> None:
    found = drift.measure(
        Members(np.array([[1_000_000 - n_moved, n_moved]]), np.array([0]), np.array([0, 0])), (1,), (1, 2), "x"
    )
    assert found.kept == text
