"""What a till's abbreviations stand for."""

from __future__ import annotations

from shelfkin.naming.abbreviations import best_full_form, full_forms
from shelfkin.naming.product_texts import ProductText


def spelt(here: dict[str, int], elsewhere: dict[str, int] | None = None) -> dict[str, str]:
    """Return the full forms in a cluster whose texts are these words, so many products each, beside another cluster."""
    texts = [ProductText(1, word, n_products=n) for word, n in here.items()]
    texts += [ProductText(2, word, n_products=n) for word, n in (elsewhere or {}).items()]
    return full_forms(texts)[1]


def test_the_word_of_the_own_cluster_comes_before_a_more_frequent_one() -> None:
    assert spelt({"cntrl": 100, "control": 30}, {"central": 900}) == {"cntrl": "control"}


def test_elsewhere_only_longer_abbreviations_are_clear() -> None:
    assert spelt({"brkfst": 100}, {"breakfast": 50}) == {"brkfst": "breakfast"}
    assert spelt({"ctn": 100}, {"cotton": 50}) == {}
    assert spelt({"cleang": 100}, {"cleaning": 50}) == {}  # has vowels: may be a word of its own


def test_slips_of_the_pen_and_abbreviations_are_no_full_forms() -> None:
    assert spelt({"glass": 100, "galass": 2}) == {}  # 2 beside 100: a slip
    # "mneral" is more frequent, and short for mineral itself.
    assert spelt({"mnrl": 100, "mneral": 60, "mineral": 20})["mnrl"] == "mineral"
    assert best_full_form("sngl", {"single": 500, "singale": 6}) == "single"


def test_singular_and_plural_go_with_the_short_form() -> None:
    words = {"drinks": 90, "drink": 10}
    assert best_full_form("drnk", words) == "drink"
    assert best_full_form("drnks", words) == "drinks"


def test_measures_are_left_as_they_are() -> None:
    assert spelt({"pkg": 50, "package": 50}) == {}


def test_a_rare_abbreviation_is_left_as_it_is() -> None:
    assert spelt({"drnk": 1, "drinks": 99}) == {}
