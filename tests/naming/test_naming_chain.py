"""From products to names and the share of products that carry them."""

from __future__ import annotations

from typing import Any

import pytest

from shelfkin.naming import product_texts
from shelfkin.naming.name_share import name_shares
from shelfkin.naming.naming_chain import run_chain
from shelfkin.naming.product_texts import ProductText, collect_product_texts

PRODUCTS_DDL = "cluster_id int, product_id string, title string, category_path array<string>, brand string"


def test_the_share_of_products_that_carry_the_name() -> None:
    texts = [
        ProductText(1, "Dry food for cats", ("Pets",)),
        ProductText(1, "Dogs' bowl"),
        ProductText(1, "Cat toy", ("Pets",), n_products=2),
        ProductText(2, "12345"),
    ]
    # Both words of "cat food", in any order, or "dog".
    assert name_shares(texts, {1: "Dog & Cat Foods", 2: "Assorted 1"}, {}) == {1: 0.5, 2: 0}
    assert name_shares(texts, {1: "Pets", 2: "The"}, {}) == {1: 0.75, 2: 0}


@pytest.mark.spark
def test_names_do_not_depend_on_partitions(spark: Any) -> None:
    rows = [
        (cluster, f"{cluster}-{number}", f"{word} {noun} {number}", None, None)
        for cluster, noun in enumerate(("mug", "bowl", "mugs"))
        for number, word in enumerate(("tea", "milk", "soup", "tea", "fruit"))
    ]
    rows += [(3, word, f"{word} drnk", None, None) for word in ("soft", "cold")]
    rows += [(3, f"{word}-2", f"{word} drinks", None, None) for word in ("hot", "cold")]
    found = []
    for n_partitions in (1, 7):
        frame = spark.createDataFrame(rows[:: 1 if n_partitions == 1 else -1], PRODUCTS_DDL).repartition(n_partitions)
        found.append(run_chain(collect_product_texts(frame, 4), [0, 1, 2, 3]))
    assert found[0] == found[1]
    assert len(set(found[0].names.values())) == 4
    # "soft drnk" carries the name too.
    assert (found[0].names[3], found[0].shares()[3]) == ("Drinks", 1)
    assert found[0].shares({**found[0].names, 3: "Hot Drinks"})[3] == 0.25


@pytest.mark.spark
def test_a_large_cluster_is_sampled_by_product_and_a_small_one_is_not(
    spark: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(product_texts, "MAX_PRODUCTS_PER_CLUSTER", 100)
    rows = [(1, f"P{n}", "Mug" if n % 4 else "Jug", None, None) for n in range(2_000)]
    rows += [(2, f"Q{n}", "Bowl", ["Kitchen"], "Acme") for n in range(20)]
    turns = [
        collect_product_texts(spark.createDataFrame(some, PRODUCTS_DDL).repartition(n), 2)
        for some, n in ((rows, 1), (rows[::-1], 3))
    ]
    assert turns[0] == turns[1]
    jug, mug, bowl = turns[0]
    assert bowl == ProductText(2, "Bowl", ("Kitchen",), "Acme", 20)
    assert jug.n_products + mug.n_products == 100 and 60 < mug.n_products < 90
    # All clusters share a bound.
    monkeypatch.setattr(product_texts, "MAX_PRODUCTS", 60)
    assert sum(text.n_products for text in collect_product_texts(spark.createDataFrame(rows, PRODUCTS_DDL), 2)) == 50
