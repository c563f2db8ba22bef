"""ALS as a baseline: whom it lists what for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import scipy.sparse as sp

from shelfkin.evaluation.als_model import AlsModel
from shelfkin.recommending.als import Als
from shelfkin.recommending.item_model import ItemModel
from shelfkin.recommending.repurchase import RepurchasePolicy

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import DataFrame, SparkSession

pytestmark = pytest.mark.spark

# Products 0 to 2 go together, and 3 to 5; nobody has 6.
N_ITEMS = 7
TASTES = np.array(5 * [[1, 1, 1, 0, 0, 0, 0], [0, 0, 0, 1, 1, 1, 0]], dtype=float)


def store(*, groups: list[int] | None = None, hidden: tuple[int, ...] = ()) -> ItemModel:
    nothing = sp.csr_array((N_ITEMS, N_ITEMS), dtype=np.float32)
    allowed = np.ones(N_ITEMS, dtype=bool)
    allowed[list(hidden)] = False
    return ItemModel(
        product_ids=np.array([f"p{n}" for n in range(N_ITEMS)], dtype=object),
        groups=np.arange(N_ITEMS) if groups is None else np.array(groups),
        allowed=allowed,
        popular=np.zeros(N_ITEMS),
        trending=np.zeros(N_ITEMS),
        rank=np.arange(N_ITEMS),
        co_purchase=nothing,
        content=nothing,
    )


def histories(spark: SparkSession, **bought: list[int]) -> DataFrame:
    rows = [
        (user, 1, items, [1.0] * len(items), [1] * len(items), *([[9.0] * len(items)] * 3))
        for user, items in bought.items()
    ]
    schema = (
        "user_id string, n_orders int, items array<int>, strengths array<double>, n_bought array<int>, "
        "recent array<double>, first_days array<double>, last_days array<double>"
    )
    return spark.createDataFrame(rows, schema)


def fitted(spark: SparkSession, items: ItemModel, bought: dict[str, list[int]]) -> AlsModel:
    als = Als.fit(sp.csr_array(TASTES), n_factors=2, regularisation=0.1, alpha=2.0)
    return AlsModel("als", items, histories(spark, **bought), als)


def listed(found: pd.DataFrame) -> dict[str, list[str]]:
    return found.sort_values("rank").groupby("user_id")["product_id"].agg(list).to_dict()


def test_users_who_are_folded_in_get_the_rest_of_their_taste(spark: SparkSession) -> None:
    als = fitted(spark, store(), {"a": [0], "b": [4], "c": [1, 2], "not asked": [0]})
    users = spark.createDataFrame([("a",), ("b",), ("c",), ("unknown",)], "user_id string")
    lists = listed(als.lists(users, [RepurchasePolicy(2, "exclude")])[0])
    assert {user: set(products) for user, products in lists.items() if user != "c"} == {
        "a": {"p1", "p2"},
        "b": {"p3", "p5"},
    }
    assert lists["c"][0] == "p0"
    (everything,) = als.lists(users, [RepurchasePolicy(7, "allow")])
    assert set(everything["product_id"]) == {f"p{n}" for n in range(6)}  # not p6


def test_hidden_products_and_twins_are_left_out(spark: SparkSession) -> None:
    items = store(groups=[0, 1, 1, 3, 4, 5, 6], hidden=(0,))
    als = fitted(spark, items, {"a": [0]})
    users = spark.createDataFrame([("a",)], "user_id string")
    (lists,) = listed(als.lists(users, [RepurchasePolicy(7, "allow")])[0]).values()
    assert sorted(lists[1:]) == ["p3", "p4", "p5"]
    assert lists[0] in {"p1", "p2"}


def test_a_user_without_products_gets_a_list_too(spark: SparkSession) -> None:
    als = fitted(spark, store(), {"a": []})
    users = spark.createDataFrame([("a",)], "user_id string")
    assert len(als.lists(users, [RepurchasePolicy(3, "exclude")])[0]) == 3


def test_policies_asked_together_get_what_each_gets_alone(spark: SparkSession) -> None:
    als = fitted(spark, store(), {"a": [0], "b": [4, 5], "c": []})
    users = spark.createDataFrame([("a",), ("b",), ("c",)], "user_id string")
    policies = [RepurchasePolicy(2, "exclude"), RepurchasePolicy(3, "allow")]
    together = als.lists(users, policies)
    assert [listed(lists) for lists in together] == [listed(als.lists(users, [policy])[0]) for policy in policies]
    # What one policy bars is still there for the next.
    assert listed(together[0])["b"][0] == "p3"
    assert set(listed(together[1])["b"]) == {"p3", "p4", "p5"}
