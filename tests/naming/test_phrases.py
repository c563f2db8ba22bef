"""Which words and pairs of words of a product may name a cluster, and how they are used."""

from __future__ import annotations

import pytest

from shelfkin.naming.phrases import Mention
from shelfkin.naming.phrases import mentions as mentions_of_text
from shelfkin.naming.product_texts import ProductText


def mentions(title: str, *category_path: str, spelt: dict[str, str] | None = None) -> list[Mention]:
    return mentions_of_text(ProductText(1, title, category_path), spelt or {})


def keys(title: str) -> set[str]:
    return {mention.key for mention in mentions(title)}


@pytest.mark.parametrize(
    ("title", "found"),
    [
        ("Strawberry YOGURT 125 g", {"strawberry", "yogurt", "strawberry yogurt"}),
        ("Red Kefir X200-B, 4 pack", {"kefir"}),  # colour, code, size
        ("Frzn sft drnk", set()),  # no vowel: the till's
        ("Gift wrap/party", {"gift", "wrap", "party", "gift wrap"}),  # no pair across punctuation
        ("Ice cream", {"ice", "ice cream"}),  # a colour's name may end a pair, and is none alone
        ("Cream mug", {"mug"}),  # nor does it begin one
        ("Pink bag", {"bag"}),  # a container is the thing where a word stands before it
        ("Gift bags", {"gift", "gift bag", "bag"}),
        ("Beans 24 cans", {"bean"}),  # and a measure elsewhere
        ("Bag of nuts", {"nut"}),
        ("Sim free phone", {"phone"}),  # it has no sim
        ("No frost free", set()),
        ("Men's supplies", {"men", "supply", "men supply"}),  # apostrophes join
        ("12345 / 67-89", set()),
    ],
)
def test_noise_is_no_term(title: str, found: set[str]) -> None:
    assert keys(title) == found


@pytest.mark.parametrize(
    ("text", "term", "last"),
    [
        ("Photo frame", "photo", False),
        ("Photo frame", "frame", True),
        ("Mug blue", "mug", True),
        ("Convenient brkfst", "convenient", False),  # a till's word is a word
        ("Yogurt pk", "yogurt", True),  # but for its sizes
        ("Hair care products", "care", True),  # products say nothing
        ("Galaxy s9", "galaxy", False),  # a model's number
        ("Yogurt 125g", "yogurt", True),  # a size
        ("Yogurt 125 g", "yogurt", True),
        ("Nokia 3310 sim free", "nokia", False),
    ],
)
def test_the_last_word_of_a_phrase_is_the_thing(text: str, term: str, last: bool) -> None:
    assert {mention.key: "last" in mention.uses for mention in mentions(text)}[term] is last


def test_a_models_number_is_told_from_a_size() -> None:
    kettle = mentions("Acme kettle KD200 2l, mug 300 ml")
    assert {mention.key for mention in kettle if "model" in mention.uses} == {"kettle", "acme kettle"}
    assert {mention.key for mention in mentions("Nokia 3310 black") if "model" in mention.uses} == {"nokia"}


def test_notes_beginnings_and_categories_are_told_apart() -> None:
    found = {mention.key: mention.uses for mention in mentions("Fruit - shelf stable", "Canned fruit")}
    assert found["fruit"] >= {"plain", "leads", "category"}
    assert not found["shelf stable"] & {"plain", "leads"}
    assert "category" in found["canned"] and "leads" not in found["canned"]


def test_spelt_out_words_are_terms() -> None:
    found = {mention.key for mention in mentions("Sft drnk 2 l", spelt={"sft": "soft", "drnk": "drink"})}
    assert found == {"soft", "drink", "soft drink"}
