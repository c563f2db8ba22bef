"""What a till's abbreviations stand for."""

from __future__ import annotations

from typing import Any

from shelfkin.clustering.spelling import choose


def row(short: str, word: str, n_here: int, n_all: int, n_short: int = 100) -> dict[str, Any]:
    """Return how often `word` stands in cluster 1 and anywhere, beside 100 uses of `short` in cluster 1."""
    return {"cluster_id": 1, "short": short, "n_short": n_short, "word": word, "n_here": n_here, "n_all": n_all}


def test_the_word_of_the_own_cluster_comes_before_a_more_frequent_one() -> None:
    assert choose([row("cntrl", "control", 30, 40), row("cntrl", "central", 0, 900)]) == {1: {"cntrl": "control"}}


def test_elsewhere_only_longer_abbreviations_are_clear() -> None:
    assert choose([row("brkfst", "breakfast", 0, 50)]) == {1: {"brkfst": "breakfast"}}
    assert choose([row("ctn", "cotton", 0, 50)]) == {}
    assert choose([row("cleang", "cleaning", 0, 50)]) == {}  # has vowels: may be a word of its own


def test_slips_of_the_pen_and_abbreviations_are_no_full_forms() -> None:
    assert choose([row("glass", "galass", 2, 2)]) == {}  # 2 beside 100: a slip
    found = choose([row("mnrl", "mneral", 60, 60), row("mnrl", "mineral", 20, 20)])
    assert found == {1: {"mnrl": "mineral"}}  # mneral is more frequent, and short for mineral itself
    assert choose([row("sngl", "single", 50, 500), row("sngl", "singale", 5, 6)]) == {1: {"sngl": "single"}}


def test_singular_and_plural_go_with_the_short_form() -> None:
    rows = [("drinks", 90), ("drink", 10)]
    assert choose([row("drnk", word, n, n) for word, n in rows]) == {1: {"drnk": "drink"}}
    assert choose([row("drnks", word, n, n) for word, n in rows]) == {1: {"drnks": "drinks"}}


def test_measures_are_left_as_they_are() -> None:
    assert choose([row("pkg", "package", 50, 50)]) == {}
