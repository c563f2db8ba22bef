"""From counted terms to names."""

from __future__ import annotations

import pytest

from shelfkin.naming.cluster_names import NameChoice, best_combination, name_clusters, top_terms
from shelfkin.naming.ctfidf import Term
from shelfkin.naming.name_candidates import is_maker, name_candidates


def term(key: str, share: float, **more: object) -> Term:
    """Return a term on `share` of its cluster and, unless told otherwise, nowhere else; its score is its share."""
    given = {"key": key, "surface": key, "share": share, "score": share, "everywhere": share}
    return Term(**{**given, **more})


def name(*terms: Term) -> str:
    return name_clusters({1: terms}, [1])[1]


def choose(terms: list[Term]) -> NameChoice:
    return best_combination(name_candidates(terms))


def test_a_part_must_cover_what_the_others_leave_out() -> None:
    snacks, chips = term("snacks", 0.6, together={"chips": 0.3}), term("chips", 0.3, together={"snacks": 0.3})
    choice = choose([snacks, chips, term("pretzels", 0.3)])
    assert choice.sign == "Snacks & Pretzels"
    # 0.9 of the products carry one of them, and none elsewhere: 2 * 0.9 / (2 * 0.9 + 0.1).
    assert choice.fit == pytest.approx(1.8 / 1.9)


def test_what_stands_elsewhere_too_counts_against_a_part() -> None:
    # 2 * 0.6 / (2 * 0.6 + 0.4 + 0.4 * 2.4) = 0.47 is less than 2 * 0.5 / (2 * 0.5 + 0.5) = 0.67, and so are both.
    everywhere, here = term("grocery", 0.6, everywhere=3.0), term("yogurt", 0.5)
    assert choose([everywhere, here]).fit == pytest.approx(2 / 3)
    assert name(everywhere, here) == "Yogurt"
    assert name(term("grocery", 0.6, everywhere=0.7), here) == "Grocery & Yogurt"


def test_what_covers_nearly_all_stands_alone() -> None:
    assert name(term("makeup", 0.9), term("lipstick", 0.8, together={"makeup": 0.8})) == "Makeup"
    assert name(term("wine", 0.97), term("glass", 0.02)) == "Wine"


def test_parts_side_by_side_are_of_a_size() -> None:
    frozen = term("frozen meat", 0.6)
    assert name(frozen, term("pickles", 0.08)) == "Frozen Meat"
    assert name(frozen, term("pickles", 0.12)) == "Frozen Meat & Pickles"


def test_the_part_that_covers_most_comes_first_and_there_are_three_at_most() -> None:
    shares = {"apples": 0.2, "bread": 0.3, "cheese": 0.1, "dips": 0.25}
    assert name(*(term(word, share) for word, share in shares.items())) == "Bread, Dips & Apples"
    long = {"stationery articles": 0.3, "children's costumes": 0.25, "seasonal decorations": 0.2}
    assert name(*(term(word, share) for word, share in long.items())).count("&") == 1  # three would fill 60 characters


def test_a_describing_word_yields_to_the_thing() -> None:
    greeting = term("greeting", 0.8, last=0.0, together={"greeting card": 0.7})
    assert name(greeting, term("greeting card", 0.7, surface="greeting cards", score=0.1)) == "Greeting Cards"
    # A word that never ends a phrase counts half, 0.5 * 0.5 < 0.3; and what both stand on counts once.
    hand, soap = term("hand", 0.5, last=0.0, together={"soap": 0.3}), term("soap", 0.3, together={"hand": 0.3})
    assert choose([hand]).fit == pytest.approx(0.5 / (0.5 + 0.75))
    assert choose([soap]).fit == pytest.approx(0.6 / (0.6 + 0.7))


def test_a_noun_takes_only_what_it_is_hardly_without() -> None:
    cover = term("cover", 0.8, together={"cushion cover": 0.7, "food cover": 0.1})
    pairs = [term("cushion cover", 0.7, score=0.1), term("food cover", 0.1, score=0.1)]
    assert name(cover, *pairs) == "Cushion Cover"
    assert name(term("cover", 0.8, together={"cushion cover": 0.4, "food cover": 0.1}), *pairs[1:]) == "Cover"


def test_two_kinds_of_a_thing_name_it_once() -> None:
    assert name(term("dog food", 0.4), term("cat food", 0.3)) == "Dog & Cat Food"
    assert name(term("dog food", 0.4), term("food", 0.7, together={"dog food": 0.4})) == "Food"


def test_notes_stand_back() -> None:
    assert name(term("shelf", 0.5, plain=0.0), term("tuna", 0.2)) == "Tuna"


def test_words_of_the_category_path_were_chosen_to_be_read() -> None:
    carb, drinks = (
        term("carb", 0.9, together={"soft drinks": 0.85}),
        term("soft drinks", 0.85, category=1.0, together={"carb": 0.85}),
    )
    assert name(carb, term("soft drinks", 0.85, together={"carb": 0.85})) == "Carb"
    assert name(carb, drinks) == "Soft Drinks"


@pytest.mark.parametrize(
    "maker",
    [
        {"leads": 0.9, "last": 0.1, "model": 0.2},  # without a brand column
        {"brand": 0.9},
    ],
)
def test_a_maker_names_a_cluster_only_where_nothing_else_does(maker: dict[str, float]) -> None:
    beside = {"together": {"washing machine": 0.4}}
    noun = term("washing machine", 0.5)
    assert name(term("bosch", 0.6, **maker, **beside), noun) == "Washing Machine"
    assert name(term("bosch", 0.95, **maker, together={"washing machine": 0.5}), noun) == "Washing Machine"
    assert name(term("bosch", 0.95, **{"brand": 0.9})) == "Bosch"


def test_who_leads_titles_and_numbers_models_is_a_maker() -> None:
    leading = {"leads": 1.0, "last": 0.1}
    assert is_maker(term("acme", 0.3, model=0.2, **leading))  # Acme X200
    assert not is_maker(term("doormat", 0.3, **leading))
    assert not is_maker(term("drinks", 0.3, model=0.2, category=0.5, **leading))


def test_the_cluster_that_a_name_fits_best_has_it() -> None:
    large = [term("drinks", 0.7, everywhere=1.6), term("water", 0.1)]
    small = [term("drinks", 0.9, everywhere=1.6)]
    assert name_clusters({1: large, 2: small}, [1, 2]) == {1: "Drinks & Water", 2: "Drinks"}


def test_names_differ_and_kept_names_stay() -> None:
    same = [term("napkin", 0.9, surface="napkins"), term("paper", 0.1)]
    names = name_clusters({1: same, 2: same, 3: same, 4: same}, [1, 2, 3, 4], {3: "Napkins"})
    assert names == {1: "Napkins & Paper", 2: "Napkins 2", 3: "Napkins", 4: "Napkins 3"}


def test_a_cluster_without_terms_has_a_name() -> None:
    assert name_clusters({}, [7, 8]) == {7: "Assorted 1", 8: "Assorted 2"}


def test_no_word_comes_twice_and_acronyms_are_capitals() -> None:
    assert top_terms([term("tv", 0.9), term("tv stand", 0.5), term("mirror", 0.4), term("mirrored", 0.3)]) == [
        "tv",
        "mirror",
    ]
    assert name(term("tv", 0.9, surface="tvs")) == "TVs"
