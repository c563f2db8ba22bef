"""Terms, representatives, spread and outliers of clusters, on real Spark."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from shelfkin.clustering import faces
from shelfkin.clustering.name_share import name_shares
from shelfkin.clustering.naming import name_clusters
from shelfkin.clustering.terms import collect_terms

pytestmark = pytest.mark.spark

TEXTS_DDL = "cluster_id int, title string, category_path array<string>, brand string"
TITLES = [
    (1, "Strawberry yogurt 125 g", ["Dairy"], None),
    (1, "YOGURTS blueberry, 4 pack", ["Dairy"], None),
    (1, "Plain kefir 1L", ["Dairy"], None),
    (1, "Red Kefir X200-B", ["Dairy"], None),
    (2, "Acme cheddar cheese", ["Dairy"], "Acme"),
    (2, "Gouda cheeses", ["Dairy"], "Other"),
    (3, "12345 / 67-89", None, None),
    (4, "Household cleang", None, None),
    (4, "Cleaning cloth", None, None),
]


def test_terms_are_counted_by_share_of_products(spark: Any) -> None:
    terms = collect_terms(spark.createDataFrame(TITLES, TEXTS_DDL)).best
    first = {term.key: term for term in terms[1]}
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
    second = {term.key: term for term in terms[2]}
    assert second["cheese"].score == pytest.approx(np.log(2), abs=1e-9)
    assert second["dairy"].score == pytest.approx(np.log(1.5), abs=1e-9)
    assert (second["acme"].brand, second["cheese"].brand) == (1, 0)
    assert 3 not in terms
    # The cluster's own texts spell its squeezed words out.
    assert {term.surface for term in terms[4]} >= {"household cleaning", "cleaning"}


def test_abbreviations_are_spelt_out_from_the_catalogue(spark: Any) -> None:
    rows = [
        (1, "Sft drnk btl", ["Soft drinks"], None),
        (1, "Drnkng wtr", None, None),
        (2, "Frzn ctn", None, None),
        (3, "Frozen drinking water cotton", None, None),
    ]
    terms = collect_terms(spark.createDataFrame(rows, TEXTS_DDL)).best
    first = {term.key: term for term in terms[1]}
    # "Sft drnk" and "Soft drinks" are one term; "drnkng" is long enough to be looked up elsewhere, "wtr" isn't.
    assert (first["soft drink"].share, first["soft drink"].surface) == (0.5, "soft drinks")
    assert "drinking" in first and "water" not in first
    assert {term.key for term in terms[2]} == {"frozen"}


def test_fragments_of_cut_titles_are_no_terms(spark: Any) -> None:
    whole = [(1, f"Sparkling water {'x' * n}", None, None) for n in range(3, 9)]
    cut = [(1, f"Sparkling spring mineral wat, {n} oz", None, None) for n in range(9)]
    assert len("Sparkling spring mineral wat") == 28
    terms = {term.key for term in collect_terms(spark.createDataFrame(whole + cut, TEXTS_DDL)).best[1]}
    assert "mineral" in terms and "mineral wat" not in terms
    # As many with 27 characters: just long titles.
    long = [(1, f"Sparkling spring mineral wa, {n} oz", None, None) for n in range(9)]
    assert "mineral wat" in {term.key for term in collect_terms(spark.createDataFrame(cut + long, TEXTS_DDL)).best[1]}


def test_names_do_not_depend_on_partitions(spark: Any) -> None:
    rows = [
        (cluster, f"{word} {noun} {number}", None, None)
        for cluster, noun in enumerate(("mug", "bowl", "mugs"))
        for number, word in enumerate(("tea", "milk", "soup", "tea", "fruit"))
    ]
    rows += [(3, f"{word} drnk", None, None) for word in ("soft", "cold")]
    rows += [(3, f"{word} drinks", None, None) for word in ("hot", "cold")]
    found = []
    for n_partitions in (1, 7):
        frame = spark.createDataFrame(rows[:: 1 if n_partitions == 1 else -1], TEXTS_DDL).repartition(n_partitions)
        terms = collect_terms(frame)
        names = name_clusters(terms.best, [0, 1, 2, 3])
        found.append((terms, names, name_shares(frame, names, terms.spelt)))
    assert found[0] == found[1]
    assert len(set(found[0][1].values())) == 4
    assert (found[0][1][3], found[0][2][3]) == ("Drinks", 1)  # "soft drnk" carries the name too


def test_the_share_of_products_that_carry_the_name(spark: Any) -> None:
    rows = [
        (1, "Dry food for cats", ["Pets"], None),
        (1, "Dogs' bowl", None, None),
        (1, "Cat toy", ["Pets"], None),
        (1, "Cat toy", ["Pets"], None),
        (2, "12345", None, None),
    ]
    products = spark.createDataFrame(rows, TEXTS_DDL)
    # Both words of "cat food", in any order, or "dog".
    assert name_shares(products, {1: "Dog & Cat Foods", 2: "Assorted 1"}, {}) == {1: 0.5, 2: 0}
    assert name_shares(products, {1: "Pets", 2: "The"}, {}) == {1: 0.75, 2: 0}


FACES_DDL = "cluster_id int, product_id string, title string, text_hash string, distance float"


def test_representatives_are_the_medoid_and_then_what_differs(spark: Any) -> None:
    # In the plane, the centroid at 0 degrees: B is nearest, C its near twin on the same side, D as far on the other.
    angles = {"B": 5.0, "C": 8.0, "D": -20.0}
    rows = [(1, name, f"Title {name}", name, float(1 - np.cos(np.radians(angle)))) for name, angle in angles.items()]
    rows += [(1, "A", "TITLE B 2", "B", rows[0][4])]  # the same title but for a number: the lower id stands for both
    vectors = [(name, [float(np.cos(np.radians(a))), float(np.sin(np.radians(a)))]) for name, a in angles.items()]
    frame = spark.createDataFrame(vectors, "text_hash string, vector array<float>")
    found = []
    for n_partitions in (1, 3):
        products = spark.createDataFrame(rows[:: 1 if n_partitions == 1 else -1], FACES_DDL).repartition(n_partitions)
        found.append(faces.representatives(products, frame).collect())
    assert found[0] == found[1]
    assert found[0][0]["representative_product_ids"] == ["A", "D", "C"]
    assert found[0][0]["representative_titles"] == ["TITLE B 2", "Title D", "Title C"]


def test_candidates_are_the_central_half_thinned_evenly(spark: Any) -> None:
    # 400 titles on one circle: the nearer 200 are thinned to 64, of which the first is the nearest.
    words = [f"{chr(97 + n // 26)}{chr(97 + n % 26)}" for n in range(400)]
    rows = [(1, f"P{n:03d}", word, word, n / 1000) for n, word in enumerate(words)]
    vectors = [(word, [float(np.cos(n)), float(np.sin(n))]) for n, word in enumerate(words)]
    frame = spark.createDataFrame(vectors, "text_hash string, vector array<float>")
    [row] = faces.representatives(spark.createDataFrame(rows, FACES_DDL), frame).collect()
    chosen = [int(product[1:]) for product in row["representative_product_ids"]]
    assert chosen[0] == 0
    assert max(chosen) < 200 and len(set(chosen)) == 5
    assert all(place * 64 % 200 < 64 for place in chosen)


def test_marginal_relevance_by_hand() -> None:
    # Row 1 is nearly row 0; row 2 is at a right angle. 0.6 * 0.8 - 0.4 * 0.99 < 0.6 * 0.6 - 0.4 * 0.
    vectors = np.array([[1, 0], [0.99, np.sqrt(1 - 0.99**2)], [0, 1]])
    assert faces.marginal_relevance(vectors, np.array([0.9, 0.8, 0.6]), 2) == [0, 2]
    assert faces.marginal_relevance(vectors, np.array([0.9, 0.8, 0.6]), 9) == [0, 2, 1]


def spread_of(spark: Any, distances: list[float], n_partitions: int = 3) -> tuple[faces.Spread, list[str]]:
    rows = [(1, f"P{place:02d}", distance) for place, distance in enumerate(distances)]
    frame = spark.createDataFrame(rows, "cluster_id int, product_id string, distance float").repartition(n_partitions)
    found = faces.spreads(frame)
    flagged = faces.flag_outliers(frame, found).where("is_outlier").orderBy("product_id").collect()
    return found[1], [row["product_id"] for row in flagged]


def test_spread_and_outliers_by_hand(spark: Any) -> None:
    # 0.01 to 0.20: quartiles by nearest rank 0.05 and 0.15, range 0.10, fence 0.15 + 1.5 * 0.10 = 0.30.
    distances = [place / 100 for place in range(1, 21)]
    spread, flagged = spread_of(spark, distances)
    assert spread == faces.Spread(median=0.10, p90=0.18, fence=0.30, n_outliers=0)
    assert flagged == []
    # With 0.31 for 0.20 the quartiles stay; 0.30 itself would not be beyond.
    spread, flagged = spread_of(spark, [*distances[:18], 0.30, 0.31])
    assert (spread.fence, spread.n_outliers, flagged) == (0.30, 1, ["P19"])
    assert spread_of(spark, [*distances[:18], 0.30, 0.31], 1) == (spread, flagged)


def test_twins_do_not_make_their_neighbours_outliers(spark: Any) -> None:
    # Range 0: the fence stands 1.5 * 0.02 beyond all the same.
    spread, flagged = spread_of(spark, [0.1] * 30 + [0.12, 0.14])
    assert (spread.median, spread.fence, flagged) == (0.1, 0.13, ["P31"])


def test_a_tiny_cluster_has_no_outliers(spark: Any) -> None:
    spread, flagged = spread_of(spark, [0.01] * 18 + [0.9])
    assert (spread.fence, spread.n_outliers, flagged) == (float("inf"), 0, [])
