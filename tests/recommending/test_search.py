"""The search and the variants in Spark tasks: what one process finds, however the work is cut."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import scipy.sparse as sp

from shelfkin.artifacts import Root
from shelfkin.mapped import Scratch
from shelfkin.profile import Recommending
from shelfkin.recommending import pruned, search
from shelfkin.recommending.candidates import text_representatives
from shelfkin.recommending.model import read_catalogue
from shelfkin.recommending.nearest import exact_nearest
from shelfkin.recommending.search import catalogue_neighbours, nearest_texts
from shelfkin.recommending.similar import SimilarModel, similar_products, similar_rows
from shelfkin.recommending.variants import find_variants
from shelfkin.spark import contract_columns

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

pytestmark = pytest.mark.spark

N = 1_100


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    random = np.random.default_rng(2)
    rows = random.normal(size=(25, 12))[random.integers(0, 25, size=N)] + 0.3 * random.normal(size=(N, 12))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Scratch]:
    with Scratch(Root.at(str(tmp_path)), f"{tmp_path}/search") as folder:
        yield folder
    assert not (tmp_path / "search").exists()


@pytest.mark.parametrize("tasks_per_core", [1, 3])
def test_the_exact_search_in_tasks_is_that_of_one_process(
    spark: SparkSession, vectors: np.ndarray, scratch: Scratch, monkeypatch: pytest.MonkeyPatch, tasks_per_core: int
) -> None:
    monkeypatch.setattr(search, "_TASKS_PER_CORE", tasks_per_core)
    eligible = np.arange(N) % 5 != 0
    found = nearest_texts(spark, vectors, eligible, 7, scratch)
    near, cosines = exact_nearest(vectors, np.arange(N), eligible, 7)
    assert found.figures == {"search": "exact"}
    np.testing.assert_array_equal(found.neighbours, near)
    np.testing.assert_array_equal(found.cosines, cosines)


def test_the_pruned_search_keeps_its_recall_and_does_not_depend_on_tasks(
    spark: SparkSession, vectors: np.ndarray, scratch: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    eligible = np.arange(N) % 5 != 0
    found = nearest_texts(spark, vectors, eligible, 7, scratch, exact_up_to=N - 1, recall=0.97)
    assert found.figures["search"] == "pruned"
    assert 0 < found.figures["search_scanned_share"] < 0.5
    near, cosines = exact_nearest(vectors, np.arange(N), eligible, 7)
    shares = [np.isin(mine, true).mean() for mine, true in zip(found.neighbours, near, strict=True)]
    assert np.mean(shares) == pytest.approx(found.figures["search_recall"], abs=0.01)
    assert np.mean(shares) >= 0.97
    assert eligible[found.neighbours].all()
    # Where all seven are found, their cosines are the exact ones, digit by digit.
    whole = np.array(shares) == 1
    np.testing.assert_array_equal(found.cosines[whole], cosines[whole])

    monkeypatch.setattr(search, "_TASKS_PER_CORE", 1)
    monkeypatch.setattr(search, "_BLOCKS_PER_TASK", 1)
    again = nearest_texts(spark, vectors, eligible, 7, scratch, exact_up_to=0, recall=0.97)
    np.testing.assert_array_equal(again.neighbours, found.neighbours)
    np.testing.assert_array_equal(again.cosines, found.cosines)
    assert again.figures == found.figures

    lists = pruned.Lists.of(
        pruned.nearest_lists(vectors, pruned.centroids(vectors)),
        found.figures["search_lists"],
        eligible,
        np.arange(N),
    )
    group = lists.n_groups // 2
    mine, _ = pruned.search_group(lists, group, found.figures["search_probes"], vectors, vectors[lists.members], 7)
    np.testing.assert_array_equal(found.neighbours[lists.group(group)], mine)


def test_vectors_that_no_list_tells_apart_are_searched_exactly_after_all(spark: SparkSession, scratch: Scratch) -> None:
    cloud = np.random.default_rng(0).normal(size=(900, 64))
    cloud = (cloud / np.linalg.norm(cloud, axis=1, keepdims=True)).astype(np.float32)
    found = nearest_texts(spark, cloud, np.ones(900, dtype=bool), 5, scratch, exact_up_to=10)
    assert found.figures == {"search": "exact"}
    np.testing.assert_array_equal(
        found.neighbours, exact_nearest(cloud, np.arange(900), np.ones(900, dtype=bool), 5)[0]
    )


def test_no_text_and_no_answer(spark: SparkSession, vectors: np.ndarray, scratch: Scratch) -> None:
    none = nearest_texts(spark, vectors[:0], np.empty(0, dtype=bool), 4, scratch)
    assert none.neighbours.shape == none.cosines.shape == (0, 4)
    for exact_up_to in (0, N):
        found = nearest_texts(spark, vectors, np.zeros(N, dtype=bool), 4, scratch, exact_up_to=exact_up_to)
        assert (found.neighbours == -1).all()
        assert not found.cosines.any()


# ---- variants --------------------------------------------------------------------------------------------------------

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


def shop_tables(spark: SparkSession, seed: int) -> tuple[DataFrame, DataFrame]:
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
        spark.createDataFrame(vectors, contract_columns("product_vectors")).repartition(2 + seed),
    )


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_variants_of_a_catalogue_in_any_order(spark: SparkSession, seed: int) -> None:
    products, table = shop_tables(spark, seed)
    catalogue = read_catalogue(products, table)
    rows = find_variants(products, catalogue, Recommending()).table(catalogue)
    assert list(rows.itertuples(index=False, name=None)) == [
        ("p0", "p0"),
        ("p1", "p0"),
        ("p2", "p0"),
        ("p3", "p3"),
        ("p4", "p3"),
    ]


def test_settings_decide_what_a_variant_is(spark: SparkSession) -> None:
    products, table = shop_tables(spark, 0)
    catalogue = read_catalogue(products, table)
    for settings in (
        Recommending(variants=False),
        Recommending(variants_by_colour=False),
        Recommending(variants_min_cosine=1.0),
    ):
        assert find_variants(products, catalogue, settings).table(catalogue).empty


def test_similar_products_show_one_of_a_group_and_none_of_ones_own(spark: SparkSession, scratch: Scratch) -> None:
    products, table = shop_tables(spark, 0)
    catalogue = read_catalogue(products, table)
    collapsed = find_variants(products, catalogue, Recommending()).collapsed(catalogue)
    assert collapsed.n_texts == 4
    near, figures = catalogue_neighbours(
        spark, collapsed, np.ones(7, dtype=bool), 3, scratch, Recommending(search_exact_up_to=100)
    )
    assert figures == {"search": "exact"}
    model = SimilarModel(
        product_ids=catalogue.product_ids,
        texts=catalogue.texts,
        groups=collapsed.texts,
        allowed=np.ones(7, dtype=bool),
        rank=np.array([3, 2, 1, 5, 4, 0, 6]),
        neighbours=near.neighbours,
        # Who has the chair buys the white bowls: less popular is no matter then.
        co_purchase=sp.csr_array((np.array([0.5], np.float32), (np.array([5]), np.array([3]))), shape=(7, 7)),
        content_share=0.7,
    )
    with similar_products(spark, model, scratch.put("texts", catalogue.vectors), 3) as found:
        rows = found.orderBy("product_id", "rank").collect()
    lists: dict[str, list[str]] = {}
    for row in rows:
        lists.setdefault(row["product_id"], []).append(row["similar_product_id"])
    assert lists["p0"] == lists["p1"] == lists["p2"] == ["p4", "p5", "p6"]
    assert lists["p3"] == ["p2", "p5", "p6"]
    assert lists["p4"] == ["p5", "p2", "p6"]  # both 35 degrees away; the chair is more popular
    assert lists["p5"] == ["p3", "p6", "p2"]
    chair = next(row for row in rows if row["product_id"] == "p5")
    assert chair["content_score"] == pytest.approx(np.cos(np.radians(40)), abs=1e-5)
    assert chair["co_purchase_score"] == pytest.approx(0.5)
    assert chair["score"] == pytest.approx(0.7 * np.cos(np.radians(40)) + 0.3, abs=1e-5)
    default = text_representatives(model.groups, model.allowed, model.rank, 4)
    item, _, similar, *_ = similar_rows(model, catalogue.vectors, default, 0, 7, 3)
    assert [row["similar_product_id"] for row in rows] == catalogue.product_ids[similar].tolist()
    assert [row["product_id"] for row in rows] == catalogue.product_ids[item].tolist()
