"""From counted terms to names."""

from __future__ import annotations

import pytest

from shelfkin.clustering.naming import name_clusters, top_terms, weight
from shelfkin.clustering.terms import Term


def term(key: str, share: float, **more: object) -> Term:
    """Return a term on `share` of its cluster and, unless told otherwise, nowhere else; its score is its share."""
    return Term(**{"key": key, "surface": key, "share": share, "score": share, "everywhere": share, **more})


def name(*terms: Term) -> str:
    return name_clusters({1: terms}, [1])[1]


def test_a_part_must_cover_what_the_others_leave_out() -> None:
    snacks, chips = term("snacks", 0.6, together={"chips": 0.3}), term("chips", 0.3, together={"snacks": 0.3})
    assert name(snacks, chips, term("pretzels", 0.3)) == "Snacks & Pretzels"


def test_what_covers_nearly_all_stands_alone() -> None:
    assert name(term("makeup", 0.9), term("lipstick", 0.8)) == "Makeup"


def test_at_most_three_parts() -> None:
    assert name(*(term(word, 0.2) for word in ("apples", "bread", "cheese", "dips"))).count(",") == 1


def test_a_describing_word_takes_its_noun_along() -> None:
    greeting = term("greeting", 0.8, last=0.0, together={"greeting card": 0.7})
    assert name(greeting, term("greeting card", 0.7, surface="greeting cards", score=0.1)) == "Greeting Cards"


def test_a_noun_takes_only_what_it_is_hardly_without() -> None:
    cover = term("cover", 0.8, together={"cushion cover": 0.7, "food cover": 0.1})
    pairs = [term("cushion cover", 0.7, score=0.1), term("food cover", 0.1, score=0.1)]
    assert name(cover, *pairs) == "Cushion Cover"
    assert name(term("cover", 0.8, together={"cushion cover": 0.4}), *pairs) == "Cover"


def test_the_noun_of_a_pair_that_covers_twice_as_much_comes_first() -> None:
    pair = term("christmas seasonal", 0.36, score=0.5)
    assert name(pair, term("seasonal", 0.76, score=0.4)) == "Seasonal"
    assert name(pair, term("seasonal", 0.4, score=0.4)) == "Christmas Seasonal"


def test_participles_and_notes_stand_back() -> None:
    assert weight(term("cooked", 0.9)) == 0
    assert name(term("shelf", 0.5, plain=0.0), term("tuna", 0.2)) == "Tuna"


@pytest.mark.parametrize(
    "maker",
    [
        {"leads": 0.9, "last": 0.1},  # without a brand column: leads titles, describes what follows
        {"brand": 0.9},
    ],
)
def test_a_maker_loses_against_a_noun_unless_it_defines_the_cluster(maker: dict[str, float]) -> None:
    noun = term("washing machine", 0.4)
    assert name(term("bosch", 0.6, **maker), noun) == "Washing Machine"
    assert name(term("bosch", 0.95, **maker), noun) == "Bosch"
    assert name(term("bosch", 0.95, **{**maker, "everywhere": 3.0}), noun) == "Washing Machine"  # in other clusters too


def test_names_differ_and_kept_names_stay() -> None:
    same = [term("napkin", 0.9, surface="napkins"), term("paper", 0.2)]
    names = name_clusters({1: same, 2: same, 3: same, 4: same}, [1, 2, 3, 4], {3: "Napkins"})
    assert names == {3: "Napkins", 1: "Napkins & Paper", 2: "Napkins 2", 4: "Napkins 3"}


def test_a_cluster_without_terms_has_a_name() -> None:
    assert name_clusters({}, [7, 8]) == {7: "Assorted 1", 8: "Assorted 2"}


def test_no_word_comes_twice_and_acronyms_are_capitals() -> None:
    assert top_terms([term("tv", 0.9), term("tv stand", 0.5), term("mirror", 0.4), term("mirrored", 0.3)]) == [
        "tv",
        "mirror",
    ]
    assert name(term("tv", 0.9, surface="tvs")) == "TVs"
