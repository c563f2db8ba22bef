"""What makes products variants: names without sizes and colours, model numbers, and middles that all members know."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shelfkin.profile import Recommending
from shelfkin.recommending import variants
from shelfkin.recommending.catalogue import Catalogue, product_rows
from shelfkin.recommending.variant_names import variant_name
from shelfkin.recommending.variants import find_variants, group_texts, grouped, variant_rows
from shelfkin.spark import contract_columns

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


def at(*degrees: float) -> np.ndarray:
    """Unit vectors in the plane: the cosine of two is that of the angle between them."""
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def partition(middle_of: np.ndarray) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(middle_of == middle).tolist()) for middle in middle_of}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Small red babushka notebook", "Large purple babushka notebook"),
        ("RED RETROSPOT MUG", "Mug, blue retrospot"),
        ("Set of 3 cake tins pantry design", "SET OF 6 CAKE TINS PANTRY DESIGN"),
        ("Pack of 72 retrospot cake cases", "Retrospot cake cases x12"),
        ("S/4 cacti candles", "Cacti candles set/6"),
        ("Shampoo 250ml", "Shampoo, 1,000 ml"),
        ("Frozen pizza, 14.5 oz", "Frozen pizza, b d 16 oz"),
        ("Fluid milk, half gal", "Fluid milk, 1 ga"),
        ("Hot cocoa mix, 10/.71 oz", "Hot cocoa mix, 8 oz(6)"),
        ("Apple iPhone 8 64GB space grey", "iphone 8 apple 256 gb gold"),
        ("T-shirt navy 2XL", "T-shirts white, m"),
        ("Eggs - x-large, 1 dz", "Eggs - jumbo, 18 ct"),
        ("Rug 120 x 180", "Rug 80x150"),
        ("Children's chair", "Children’s chairs (tiny)"),
    ],
)
def test_sizes_colours_and_packs_make_no_other_name(one: str, other: str) -> None:
    assert variant_name(one).key == variant_name(other).key != ""


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Orange juice", "Juice"),  # a colour against none
        ("Iphone 7", "Iphone 8"),
        ("Chocolate bar", "Non chocolate bar"),
        ("Sugar free cola", "Sugar cola"),
        ("Juice (over 50% juice)", "Juice (under 50% juice)"),
        ("Short sleeve shirt", "Long sleeve shirt"),
        ("Single cream", "Double cream"),
        ("Shampoo, rose 250 ml", "Shampoo, lavender 250 ml"),  # the end of a title is more than its amount
        ("Premium bread", "Bread"),
        ("Foot cream", "Hand cream"),
    ],
)
def test_what_else_differs_is_another_name(one: str, other: str) -> None:
    assert variant_name(one).key != variant_name(other).key


def test_colours_tell_kinds_apart_where_the_shop_says_so() -> None:
    red, white = "Red onions, 3 lb", "White onions, 5 lb"
    assert variant_name(red).key == variant_name(white).key
    assert variant_name(red, by_colour=False).key != variant_name(white, by_colour=False).key
    assert variant_name(red, by_colour=False).key == variant_name("Red onion, 1 ct", by_colour=False).key


def test_two_brands_are_two_products() -> None:
    assert variant_name("Cereal", "National").key != variant_name("Cereal", "Private").key
    assert variant_name("TV UE55MU6200", "Samsung").codes == ("samsung: ue55mu6200",)


@pytest.mark.parametrize("title", ["", "Red", "Large 2XL", "12 oz", "7 up, 2 l"])
def test_a_title_of_sizes_only_has_no_name(title: str) -> None:
    assert variant_name(title).key == ""


@pytest.mark.parametrize(
    ("title", "codes"),
    [
        ("hotpoint wmxtf842p 8kg 1400rpm freestanding washing machine", ("1400rpm", "wmxtf842p")),
        ("Sharp LC-32CHE6131K TV", ("32che6131k",)),
        ("1950s diner mug, 100th edition", ()),  # a decade and an ordinal
        ("Mp3 player 64gb", ()),  # too short; a size
        ("Liebherr GT 3032", ()),  # a number alone may be anything
    ],
)
def test_model_numbers(title: str, codes: tuple[str, ...]) -> None:
    assert variant_name(title).codes == codes


def test_texts_of_one_name_group_around_a_middle_and_far_ones_among_themselves() -> None:
    # The mean of all points to 55 degrees, and 30 is nearest; 0 to 30 lie within acos(0.85) = 31.8 of it. Of the rest
    # 84 is nearest to the mean, and 150 is alone.
    found = group_texts(["a"] * 6, [()] * 6, at(0, 14, 30, 80, 84, 150), 0.85)
    assert partition(found) == {frozenset({0, 1, 2}), frozenset({3, 4}), frozenset({5})}
    assert found.tolist()[:3] == [2, 2, 2]


def test_no_chain_of_small_steps_joins_what_differs() -> None:
    # Neighbours are 20 degrees apart, the ends 180: every member is within 30 of its group's middle.
    degrees = np.arange(0, 181, 20.0)
    found = group_texts(["a"] * 10, [()] * 10, at(*degrees), float(np.cos(np.radians(30))))
    assert len(set(found.tolist())) > 3
    assert (np.abs(degrees - degrees[found]) <= 30).all()


def test_names_without_a_common_key_or_number_stay_apart_however_near() -> None:
    assert len(partition(group_texts(["a", "b", "", ""], [()] * 4, at(0, 0, 0, 0), 0.5))) == 4


def test_a_model_number_joins_names_unless_each_has_another() -> None:
    codes = [("ab1234",), ("ab1234",), ("ab1234", "xy99999"), ("ab1234", "zz88888"), ()]
    found = group_texts(list("pqrst"), codes, at(0, 10, 20, 30, 5), 0.9)
    # 2 and 3 exclude each other; 0 and 1 are linked to both, so that 0, the first of the most linked, is the middle.
    assert partition(found) == {frozenset({0, 1, 2, 3}), frozenset({4})}
    assert found[0] == 0
    without = group_texts(list("rs"), [codes[2], codes[3]], at(20, 30), 0.9)
    assert len(partition(without)) == 2


def test_a_number_in_many_names_is_a_property_and_a_low_cosine_a_coincidence(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [f"k{i}" for i in range(4)]
    monkeypatch.setattr(variants, "MAX_NAMES_PER_CODE", 3)
    assert len(partition(group_texts(keys, [("lga1155",)] * 4, at(0, 1, 2, 3), 0.9))) == 4
    assert len(partition(group_texts(keys[:3], [("lga1155",)] * 3, at(0, 1, 2), 0.9))) == 1
    assert len(partition(group_texts(keys[:2], [("lga1155",)] * 2, at(0, 70), 0.9))) == 2  # cos 70 = 0.34


def test_a_longer_number_is_the_same_model_for_another_country() -> None:
    found = group_texts(list("abc"), [("ue55mu6200",), ("ue55mu6200kxxu",), ("ue55mu",)], at(0, 1, 2), 0.9)
    assert partition(found) == {frozenset({0, 1}), frozenset({2})}


def test_texts_without_a_vector_are_alone() -> None:
    found = group_texts(["a", "a", "a"], [("ab1234",)] * 3, at(0, 1), 0.9)
    assert partition(found) == {frozenset({0, 1}), frozenset({2})}


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1000), n=st.integers(1, 40))
def test_every_text_is_near_to_the_middle_of_its_group(seed: int, n: int) -> None:
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(n, 5))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    keys = [f"k{key}" for key in random.integers(0, 4, size=n)]
    found = group_texts(keys, [()] * n, vectors, 0.5)
    assert (found[found] == found).all()
    own = np.einsum("nd,nd->n", vectors, vectors[found])
    assert (own >= 0.5 - 1e-4).all()


def make_catalogue() -> Catalogue:
    """Five products of four texts; the last text has no vector."""
    texts = np.array([1, 0, 1, 2, 3])
    hashes = [f"h{text}" for text in texts]
    rows = pd.DataFrame({"product_id": list("abcde"), "text_hash": hashes, "group_text_hash": hashes})
    return Catalogue(rows, texts, vectors=at(0, 10, 90), groups=texts, group_vectors=at(0, 10, 90))


def test_a_grouped_catalogue_has_the_vectors_of_middles() -> None:
    found = group_texts(["x", "x", "y", ""], [()] * 4, make_catalogue().vectors, 0.9)
    catalogue = grouped(make_catalogue(), found)
    assert catalogue.groups.tolist() == [0, 0, 0, 1, 2]
    assert (catalogue.n_groups, catalogue.n_texts) == (3, 4)
    np.testing.assert_array_equal(catalogue.group_vectors, make_catalogue().vectors[[found[0], 2]])
    middle = f"h{found[0]}"
    assert catalogue.rows["group_text_hash"].tolist() == [middle, middle, middle, "h2", "h3"]


def test_the_table_names_a_group_by_its_lowest_product_and_leaves_out_mere_twins() -> None:
    found = group_texts(["x", "x", "y", ""], [()] * 4, make_catalogue().vectors, 0.9)
    pd.testing.assert_frame_equal(
        variant_rows(grouped(make_catalogue(), found)),
        pd.DataFrame({"product_id": list("abc"), "variant_group": ["a"] * 3}),
    )
    assert variant_rows(grouped(make_catalogue(), np.arange(4))).empty


# ---- of a catalogue, in Spark ----------------------------------------------------------------------------------------

TITLES = {
    # A text is a title here; products p0 and p1 are twins.
    "p0": "Red enamel mug",
    "p1": "Red enamel mug",
    "p2": "Large blue enamel mug",
    "p3": "Blue enamel bowl",
    "p4": "Enamel bowl set of 3, white",
    "p5": "Oak chair",
    "p6": "Walnut desk",
}
HASHES = {title: f"h{number}" for number, title in enumerate(dict.fromkeys(TITLES.values()))}
DIRECTIONS = {"h0": 0.0, "h1": 10.0, "h2": 40.0, "h3": 45.0, "h4": 80.0, "h5": 120.0}


def shop_tables(spark: SparkSession, seed: int) -> tuple[DataFrame, ds.Dataset]:
    products = [
        (product, title, None, "Acme" if product != "p6" else None, None, None, None, None, title, HASHES[title], None)
        for product, title in TITLES.items()
    ]
    angles = np.radians(list(DIRECTIONS.values()))
    vectors = [
        (name, 1, [float(np.cos(angle)), float(np.sin(angle))]) for name, angle in zip(DIRECTIONS, angles, strict=True)
    ]
    random = np.random.default_rng(seed)
    random.shuffle(products)
    random.shuffle(vectors)
    return (
        spark.createDataFrame(products, contract_columns("products")).repartition(1 + seed),
        ds.dataset(pa.table({"text_hash": [row[0] for row in vectors], "vector": [row[2] for row in vectors]})),
    )


@pytest.mark.spark
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_variants_of_a_catalogue_in_any_order(spark: SparkSession, seed: int) -> None:
    products, table = shop_tables(spark, seed)
    catalogue = Catalogue.of(product_rows(products), table)
    found = grouped(catalogue, find_variants(products, catalogue, Recommending()))
    # As it was written, it is read again.
    again = Catalogue.of(found.rows, table)
    np.testing.assert_array_equal(again.groups, found.groups)
    np.testing.assert_array_equal(again.group_vectors, found.group_vectors)
    rows = variant_rows(found)
    assert list(rows.itertuples(index=False, name=None)) == [
        ("p0", "p0"),
        ("p1", "p0"),
        ("p2", "p0"),
        ("p3", "p3"),
        ("p4", "p3"),
    ]


@pytest.mark.spark
def test_settings_decide_what_a_variant_is(spark: SparkSession) -> None:
    products, table = shop_tables(spark, 0)
    catalogue = Catalogue.of(product_rows(products), table)
    for other in (
        Recommending(variants=False),
        Recommending(variants_by_colour=False),
        Recommending(variants_min_cosine=1.0),
    ):
        assert variant_rows(grouped(catalogue, find_variants(products, catalogue, other))).empty
