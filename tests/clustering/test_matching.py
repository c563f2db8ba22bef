"""Pairs of old and new clusters, on hand-made centroids and counts. Rows are old clusters, columns new ones."""

from __future__ import annotations

import numpy as np
import pytest

from shelfkin.clustering.matching import match, overlaps


def test_overlap_is_what_both_share_of_what_either_holds() -> None:
    common = np.array([[6, 2, 0], [0, 4, 0], [0, 0, 0]])
    # First pair: 6 in both, 8 in the old one, 6 in the new one. The third has no common products at all.
    assert overlaps(common) == pytest.approx(np.array([[6 / 8, 2 / 12, 0], [0, 4 / 6, 0], [0, 0, 0]]))


def test_members_outvote_centroids_that_changed_places() -> None:
    cosines = np.array([[0.99, 0.93], [0.93, 0.99]])
    assert match(cosines, None) == {0: 0, 1: 1}
    assert match(cosines, np.array([[1, 9], [9, 1]])) == {0: 1, 1: 0}


def test_members_alone_are_enough_when_the_centroid_moved_far() -> None:
    cosines = np.array([[0.4, 0.1], [0.1, 0.99]])
    assert match(cosines, None) == {1: 1}
    assert match(cosines, np.array([[5, 0], [0, 5]])) == {0: 0, 1: 1}


def test_centroids_decide_where_members_name_nobody() -> None:
    # The old cluster fell apart in three, of which none has half of it.
    common = np.array([[4, 4, 3]])
    assert match(np.array([[0.7, 0.92, 0.8]]), common) == {1: 0}
    assert match(np.array([[0.7, 0.89, 0.8]]), common) == {}


def test_a_close_centroid_without_members_is_a_stranger() -> None:
    # The second new cluster stands where the old one stood, but its common products came from elsewhere.
    cosines = np.array([[0.5, 0.97], [0.3, 0.6]])
    common = np.array([[40, 0], [60, 30]])
    assert match(cosines, common) == {}
    assert match(cosines, np.array([[40, 5], [60, 30]])) == {}  # 5 of 70
    assert match(cosines, np.array([[40, 9], [60, 30]])) == {1: 0}  # 9 of 79


def test_a_close_centroid_all_of_whose_products_are_new_is_the_same_cluster() -> None:
    assert match(np.array([[0.97]]), np.array([[0]])) == {0: 0}
    assert match(np.array([[0.89]]), np.array([[0]])) == {}


def test_the_better_half_keeps_the_id_and_a_tie_goes_by_centroid() -> None:
    assert match(np.array([[0.9, 0.95]]), np.array([[6, 4]])) == {0: 0}
    assert match(np.array([[0.9, 0.95]]), np.array([[5, 5]])) == {1: 0}


def test_a_sure_pair_is_not_given_up_for_two_middling_ones() -> None:
    # Sums: 0.9 + nothing for the sure pair; 0.53 + 0.55 for the two others.
    cosines = np.array([[0.99, 0.91], [0.92, 0.1]])
    common = np.array([[80, 14], [16, 0]])
    assert match(cosines, common) == {0: 0}


def test_the_sum_is_maximised_not_each_row() -> None:
    # Row by row the first would take column 0, and leave the second with nothing.
    assert match(np.array([[0.95, 0.94], [0.93, 0.2]]), None) == {1: 0, 0: 1}


def test_products_alone_are_compared_where_vectors_can_not_be() -> None:
    assert match(None, np.array([[9, 1], [0, 5]])) == {0: 0, 1: 1}
    assert match(None, None) == {}
