"""Terms of clusters, counted by hand."""

from __future__ import annotations

import math

import pytest

from shelfkin.naming.abbreviations import full_forms
from shelfkin.naming.ctfidf import Term, cluster_terms
from shelfkin.naming.product_texts import ProductText

TEXTS = [
    ProductText(1, "Strawberry yogurt 125 g", ("Dairy",)),
    ProductText(1, "YOGURTS blueberry, 4 pack", ("Dairy",)),
    ProductText(1, "Plain kefir 1L", ("Dairy",)),
    ProductText(1, "Red Kefir X200-B", ("Dairy",)),
    ProductText(2, "Acme cheddar cheese", ("Dairy",), "Acme"),
    ProductText(2, "Gouda cheeses", ("Dairy",), "Other"),
    ProductText(3, "12345 / 67-89"),
    ProductText(4, "Household cleang"),
    ProductText(4, "Cleaning cloth"),
]


def terms_of(texts: list[ProductText]) -> dict[int, dict[str, Term]]:
    return {
        cluster: {term.key: term for term in terms}
        for cluster, terms in cluster_terms(texts, full_forms(texts)).items()
    }


def test_terms_are_counted_by_share_of_products() -> None:
    terms = terms_of(TEXTS)
    first, second = terms[1], terms[2]
    assert (first["yogurt"].share, first["kefir"].share, first["dairy"].share) == (0.5, 0.5, 1)
    assert first["yogurt"].surface == "yogurts"  # the plural is in use
    assert first["yogurt"].together == {
        "strawberry": 0.25,
        "strawberry yogurt": 0.25,
        "dairy": 0.5,
        "yogurt blueberry": 0.25,
        "blueberry": 0.25,
    }
    # Yogurt ends its phrase in one of two titles; dairy is always the category.
    assert (first["yogurt"].last, first["dairy"].category, first["yogurt"].leads) == (0.5, 1, 0.5)
    # share * log(1 + 1 / sum of shares): cheese is on all of cluster 2 and nowhere else, dairy on all of 1 and 2.
    assert second["cheese"].score == pytest.approx(math.log(2), abs=1e-9)
    assert second["dairy"].score == pytest.approx(math.log(1.5), abs=1e-9)
    assert (second["acme"].brand, second["cheese"].brand) == (1, 0)
    assert terms[3] == {}
    # The cluster's own texts spell its squeezed words out.
    assert {term.surface for term in terms[4].values()} >= {"household cleaning", "cleaning"}


def test_a_text_counts_as_often_as_products_carry_it() -> None:
    once = [ProductText(1, "Tea mug"), *[ProductText(1, "Milk jug")] * 3]
    assert terms_of(once) == terms_of([ProductText(1, "Tea mug"), ProductText(1, "Milk jug", n_products=3)])


def test_abbreviations_are_spelt_out_from_the_catalogue() -> None:
    texts = [
        ProductText(1, "Sft drnk btl", ("Soft drinks",)),
        ProductText(1, "Drnkng wtr"),
        ProductText(2, "Frzn ctn"),
        ProductText(3, "Frozen drinking water cotton"),
    ]
    terms = terms_of(texts)
    # "Sft drnk" and "Soft drinks" are one term; "drnkng" is long enough to be looked up elsewhere, "wtr" isn't.
    assert (terms[1]["soft drink"].share, terms[1]["soft drink"].surface) == (0.5, "soft drinks")
    assert "drinking" in terms[1] and "water" not in terms[1]
    assert set(terms[2]) == {"frozen"}
