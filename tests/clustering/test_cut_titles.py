"""How a field of fixed width is told from titles that are just long."""

from __future__ import annotations

from shelfkin.clustering.cut_titles import field_width


def test_a_field_that_cuts_is_full_more_often_than_nearly_full() -> None:
    assert field_width({28: 30, 29: 30, 30: 60}) == 30
    assert field_width({28: 30, 29: 31, 30: 60}) is None
    assert field_width({33: 220, 34: 192, 35: 160}) is None  # the longest titles are the rarest


def test_short_fields_and_single_titles_prove_nothing() -> None:
    assert field_width({18: 5, 19: 90}) is None
    assert field_width({20: 500, 64: 5}) is None  # 5 of 505 are less than one in a hundred
    assert field_width({}) is None
