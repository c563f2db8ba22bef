"""English word forms and word lists."""

from __future__ import annotations

import tomllib
from importlib import resources

import pytest

from shelfkin.language import english
from shelfkin.language.english import fold, is_short_for


@pytest.mark.parametrize(
    ("word", "folded"),
    [
        ("cookies", "cooky"),
        ("cookie", "cooky"),
        ("boxes", "box"),
        ("dishes", "dish"),
        ("cards", "card"),
        ("glass", "glass"),
        ("bus", "bus"),
    ],
)
def test_simple_plurals_are_folded(word: str, folded: str) -> None:
    assert fold(word) == folded


@pytest.mark.parametrize(
    ("word", "full", "short"),
    [
        ("drnk", "drinks", True),  # no vowel
        ("ckys", "cookies", True),  # plurals are folded
        ("wtr", "water", True),
        ("bn", "bean", False),  # two letters may be anything
        ("wtr", "winter", False),  # another consonant
        ("drnk", "drnkng", False),  # that one is no word either
        ("cleang", "cleaning", True),
        ("sald", "salads", True),
        ("refrgratd", "refrigerated", True),
        ("moth", "mouth", False),  # as many syllables
        ("phone", "phoneeasy", False),  # a beginning
        ("toys", "tissue", False),  # other vowels
        ("salad", "sald", False),
    ],
)
def test_short_words_are_those_with_letters_left_out(word: str, full: str, short: bool) -> None:
    assert is_short_for(word, full) is short


def test_the_lists_hold_words_once_in_lower_case() -> None:
    lists = tomllib.loads(resources.files("shelfkin.language").joinpath("english.toml").read_text("utf-8"))
    for name, words in lists.items():
        assert words == words.lower(), name
        assert len(words.split()) == len(set(words.split())), name
    assert english.word_list("numbers", "letter_sizes") >= {"one", "xl"[1]}
