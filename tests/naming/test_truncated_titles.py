"""How a field of fixed width is told from titles that are just long."""

from __future__ import annotations

from shelfkin.naming.product_texts import ProductText
from shelfkin.naming.truncated_titles import field_width, without_fragments


def test_a_field_that_cuts_is_full_more_often_than_nearly_full() -> None:
    assert field_width({28: 30, 29: 30, 30: 60}) == 30
    assert field_width({28: 30, 29: 31, 30: 60}) is None
    assert field_width({33: 220, 34: 192, 35: 160}) is None  # the longest titles are the rarest


def test_short_fields_and_single_titles_prove_nothing() -> None:
    assert field_width({18: 5, 19: 90}) is None
    assert field_width({20: 500, 64: 5}) is None  # 5 of 505 are less than one in a hundred
    assert field_width({}) is None


def test_the_last_word_of_titles_that_were_cut_is_dropped_and_what_was_joined_stays() -> None:
    short = [ProductText(1, f"Sparkling water {'x' * n}") for n in range(3, 9)]
    cut = [ProductText(1, f"Sparkling spring mineral wat, {n} oz") for n in range(9)]
    assert len("Sparkling spring mineral wat") == 28
    mended = without_fragments([*short, *cut])
    assert mended[: len(short)] == short
    assert mended[-1].title == "Sparkling spring mineral , 8 oz"
    # As many with 27 characters: just long titles.
    long = [ProductText(1, f"Sparkling spring mineral wa, {n} oz") for n in range(9)]
    assert without_fragments([*cut, *long]) == [*cut, *long]
