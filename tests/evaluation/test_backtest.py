"""From event tables to lists: decay, orders, leakage, shuffled input, unknown products, the backtest."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from shelfkin.evaluation.backtest import evaluate
from shelfkin.evaluation.baselines import GRIDS, Baselines, choices, ours
from shelfkin.evaluation.beyond_accuracy import Background
from shelfkin.evaluation.learning import Rankers, TrainingSet, learn
from shelfkin.evaluation.tuning import Tried, Tuned
from shelfkin.evaluation.windows import TASKS, Window, dated_purchases, truth
from shelfkin.profile import EventType, Recommending, purchase_type
from shelfkin.recommending.als import Als
from shelfkin.recommending.baskets import collect_baskets
from shelfkin.recommending.catalogue import SHELVES, Catalogue, item_numbers, product_rows, unknown_products
from shelfkin.recommending.fitting import Fitted, fit_store
from shelfkin.recommending.interactions import anonymous_baskets, user_histories
from shelfkin.recommending.popularity import item_popularity
from shelfkin.recommending.preparation import Preparation
from shelfkin.recommending.ranker import FittedRanker
from shelfkin.recommending.recommend_users import recommend_users
from shelfkin.recommending.recommender import Recommender
from shelfkin.recommending.relations import training_matrices
from shelfkin.recommending.repurchase import RepurchasePolicy
from shelfkin.recommending.time_decay import DECIMALS, exact, rounded
from shelfkin.recommending.timelines import entries_before, timelines, type_names
from shelfkin.spark import contract_columns

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

pytestmark = pytest.mark.spark

AS_OF = datetime(2026, 3, 1, tzinfo=UTC)
TYPES = {"purchase": EventType(weight=2.0, half_life_days=10), "view": EventType(weight=1.0, half_life_days=5)}
BOUGHT = 0  # of the types by name


def event(user: str | None, product: str, days_ago: float, kind: str = "purchase", order: str | None = None) -> tuple:
    return (user, product, kind, AS_OF - timedelta(days=days_ago), 1.0, order)


def events_table(spark: SparkSession, rows: list[tuple]) -> DataFrame:
    return spark.createDataFrame(rows, contract_columns("events"))


def timelines_of(spark: SparkSession, rows: list[tuple], products: list[str]) -> DataFrame:
    items = item_numbers(spark, np.array(products, dtype=object))
    return timelines(events_table(spark, rows), items, TYPES)


def products_table(spark: SparkSession, n: int, sold_out: tuple[str, ...] = ()) -> DataFrame:
    rows = [
        (
            f"p{i:02d}",
            f"title {i}",
            None,
            None,
            None,
            None,
            None,
            False if f"p{i:02d}" in sold_out else None,
            "t",
            f"h{i:02d}",
            None,
        )
        for i in range(n)
    ]
    return spark.createDataFrame(rows, contract_columns("products"))


def catalogue_of(products: DataFrame) -> Catalogue:
    return Catalogue.of(product_rows(products), None)


def fitted_at(catalogue: Catalogue, past: DataFrame, at: datetime = AS_OF, **more: Any) -> Fitted:
    """Return the store as of a moment, without vectors."""
    backtest = more.pop("backtest", False)
    prepared = Preparation(catalogue, past, **{"event_types": TYPES, "settings": Recommending(), **more})
    return fit_store(prepared, prepared.nearest(catalogue.on_sale, 10), at, backtest=backtest)


def shop(seed: int = 1, n_users: int = 30, n_products: int = 15) -> list[tuple]:
    """Users buy mostly from their own third of the products, over 60 days."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(n_users):
        own = np.arange(n_products)[user % 3 :: 3]
        for n in range(6):
            product = int(rng.choice(own)) if rng.random() < 0.8 else int(rng.integers(n_products))
            rows.append(event(f"u{user:02d}", f"p{product:02d}", float(rng.uniform(0.5, 60)), order=f"o{user}-{n}"))
    rows.append(event(None, "p00", 1.0, order="anonymous"))
    return rows


def lists_of(spark: SparkSession, rows: list[tuple], repurchase: str = "allow", **more: Any) -> list[Any]:
    catalogue = catalogue_of(products_table(spark, 15, **more))
    past, settings = timelines_of(spark, rows, list(catalogue.product_ids)), Recommending()
    fitted = fitted_at(catalogue, past)
    policy = RepurchasePolicy(8, repurchase)  # type: ignore[arg-type]
    recommender = Recommender(fitted.items, settings.blend_for(repurchase), policy)
    with recommend_users(fitted.histories, [recommender]) as lists:
        return lists.orderBy("user_id", "rank").collect()


def test_strengths_fade_by_type_and_orders_count_once(spark: SparkSession) -> None:
    rows = [
        event("u", "a", 10, order="1"),
        event("u", "a", 10, order="1"),  # a second line of the same order
        event("u", "a", 20, order="2"),
        event("u", "b", 5, "view"),
        event(None, "a", 1),
    ]
    found = user_histories(timelines_of(spark, rows, ["a", "b"]), TYPES, AS_OF).collect()
    assert len(found) == 1
    assert found[0]["items"] == [0, 1]
    assert found[0]["strengths"] == pytest.approx([2 * 0.5 + 2 * 0.25, 0.5])
    assert found[0]["n_bought"] == [2, 0]
    # Recent strengths fade four times as fast: half-lives of 2.5 and 1.25 days.
    assert found[0]["recent"] == pytest.approx([2 * 0.5**4 + 2 * 0.5**8, 0.5**4], abs=1e-6)
    assert (found[0]["first_days"], found[0]["last_days"]) == ([20, 5], [10, 5])
    assert found[0]["n_orders"] == 3


def test_orders_stand_as_they_stood_at_a_moment(spark: SparkSession) -> None:
    rows = [
        event("u", "a", 40, order="1"),
        event("u", "a", 30, order="2"),
        event("u", "a", 25, order="2"),  # the order's last line before the moment isn't kept: its first one counts
        event("u", "a", 10, order="2"),
        event("u", "b", 10, order="2"),
        event("u", "a", 20, order="3"),
    ]
    batch = timelines_of(spark, rows, ["a", "b"]).toArrow().to_batches()[0]

    def ages(at: datetime) -> dict[tuple[int, int], float]:
        past = entries_before(batch, at)
        found = past.ages + (AS_OF - at) / timedelta(days=1)
        return dict(zip(zip(past.orders.tolist(), past.items.tolist(), strict=True), found.tolist(), strict=True))

    assert ages(AS_OF - timedelta(days=20)) == {(1, 0): 40, (2, 0): 30}
    assert ages(AS_OF) == {(1, 0): 40, (2, 0): 10, (2, 1): 10, (3, 0): 20}
    # The row is by item, then order; its orders are numbered by id.
    assert batch.column("items").to_pylist() == [[0, 0, 0, 1]]
    assert batch.column("orders").to_pylist() == [[1, 2, 3, 2]]


def test_rows_hold_what_one_customer_did(spark: SparkSession) -> None:
    rows = [
        event("u", "a", 3, "view"),
        event("u", "a", 2, "unheard of"),
        event("u", "gone", 9),
        event("v", "gone", 1),
        event(None, "a", 4, order="o"),
        event(None, "b", 5, order="o"),
        event(None, "gone", 6, order="lost"),
        event(None, "b", 7),
        event(None, "b", 8),
    ]
    found = timelines_of(spark, rows, ["a", "b"]).toPandas().sort_values(["kind", "id"])
    days = [(AS_OF.timestamp() - at / 1e6) / 86_400 for at in found["seen_at"]]
    # What has left the catalogue still tells when its user came; of nobody known it tells nothing.
    assert found["kind"].tolist() == [0, 0, 1, 2, 2]
    assert found["id"].tolist()[:3] == ["u", "v", "o"]
    assert days == [9, 1, 5, 8, 7]
    assert [list(items) for items in found["items"]] == [[0, 0], [], [0, 1], [1], [1]]
    types = [[(*type_names(TYPES), "unknown")[number] for number in row] for row in found["types"]]
    assert types == [["unknown", "view"], [], ["purchase"] * 2, ["purchase"], ["purchase"]]


def test_timelines_of_everything_fit_a_moment_as_those_that_end_there(spark: SparkSession) -> None:
    catalogue = catalogue_of(products_table(spark, 15))
    products = list(catalogue.product_ids)
    whole = timelines_of(spark, shop(), products).persist()
    for days in (0, 14):
        at = AS_OF - timedelta(days=days)
        until = timelines_of(spark, [row for row in shop() if row[3] < at], products)
        one, other = (fitted_at(catalogue, past, at, backtest=True) for past in (whole, until))
        pd.testing.assert_frame_equal(one.popularity, other.popularity)
        assert sorted(map(str, one.histories.collect())) == sorted(map(str, other.histories.collect()))
        assert (one.strengths != other.strengths).nnz == 0
        assert (one.ranking_inputs.relations.next_order != other.ranking_inputs.relations.next_order).nnz == 0
    whole.unpersist()


def test_sums_are_rounded_as_decimals_are() -> None:
    values = np.random.default_rng(3).exponential(size=(400, 3))
    values[:2] = [[0.0, 0.0, 1.5e-6], [2.0**-10, 0.5e-6, 1_000.0000005]]  # and halves
    found = rounded(exact(values).sum(axis=1))
    for row, total in zip(values.tolist(), found.tolist(), strict=True):
        whole = sum(Decimal(repr(value * 1e9)).quantize(Decimal(1), ROUND_HALF_UP) for value in row)
        assert total == float((whole / 10**9).quantize(Decimal("1e-6"), ROUND_HALF_UP))


def test_sums_do_not_depend_on_the_order_of_rows() -> None:
    # In doubles, (1e8 + 0.1) - 1e8 and so on differ by the order; the decimals of a faded weight must not.
    values = np.append(np.random.default_rng(0).random(2_000) * 1e6, [0.1] * 500)
    expected = round(sum(math.floor(value * 1e9 + 0.5) for value in values.tolist()) / 1e9, DECIMALS)
    for seed in range(3):
        shuffled = np.random.default_rng(seed).permutation(values)
        assert rounded(exact(shuffled).sum()) == expected


def test_popularity_counts_orders_buyers_and_who_is_new(spark: SparkSession) -> None:
    rows = [
        event("u", "a", 60, order="1"),
        event("u", "a", 7, order="2"),
        event("v", "a", 14, order="3"),
        event("w", "a", 3, order="4"),
        event(None, "a", 1, order="5"),
        event("x", "b", 2, "view"),
        event("x", "a", 0),  # not before
    ]
    found = item_popularity(timelines_of(spark, rows, ["a", "b"]), BOUGHT, AS_OF, 4.0, 2)
    row = found.loc[0]
    assert (row["total"], row["buyers"], row["repeat_buyers"]) == (5, 3, 1)
    assert (row["new_buyers_week"], row["new_buyers_month"]) == (1, 2)
    assert (row["first_days"], row["last_days"]) == (60, 1)
    assert row["trend"] == pytest.approx(sum(0.5 ** (age / 7) for age in (60, 7, 14, 3, 1)), abs=1e-6)
    assert not found.loc[1].any()


def test_a_bots_orders_count_as_those_of_one_eager_customer(spark: SparkSession) -> None:
    rows = [event(user, "a", 1, order=f"{user}{n}") for user in ("bot", None) for n in range(400)]
    rows += [event("u", "a", 1, order="u1"), event("u", "a", 1, order="u2")]
    found = item_popularity(timelines_of(spark, rows, ["a"]), BOUGHT, AS_OF, 4.0, 1).loc[0]
    # 366 of the bot's; those of nobody known may be of many.
    assert found["total"] == 366 + 400 + 2
    fading = 0.5 ** (1 / 7)
    assert found["trend"] == pytest.approx(min(366, 400 * fading) + 402 * fading, abs=1e-6)


def test_of_a_bots_orders_the_newest_are_baskets(spark: SparkSession) -> None:
    rows = [event("bot", "b" if age > 1_000 else "a", age, order=f"{age}") for age in range(1, 1_004)]
    rows += [event("u", "b", 9, order="u")]
    found = collect_baskets(timelines_of(spark, rows, ["a", "b"]), BOUGHT, AS_OF, 2, 9_999)
    assert found.items.sum(axis=0).tolist() == [1_000, 1]
    assert np.bincount(found.users).tolist() == [1_000, 1]


def test_baskets_stand_by_user_and_time(spark: SparkSession) -> None:
    rows = [
        event("v", "b", 1, order="1"),
        event("u", "a", 2, order="9"),
        event("u", "a", 8, order="3"),
        event("u", "b", 8, order="3"),
        event(None, "c", 1, order="7"),
        event("u", "c", 3, "view"),
        event("u", "c", 0, order="10"),  # not before
    ]
    past = timelines_of(spark, rows, ["a", "b", "c"])
    found = collect_baskets(past, BOUGHT, AS_OF, 3, 4)
    assert found.items.toarray().tolist() == [[1, 1, 0], [1, 0, 0], [0, 1, 0]]
    assert found.users.tolist() == [0, 0, 1]
    assert found.days.tolist() == [8, 2, 1]
    # Above the limit whole users are left out, never half of a user's orders.
    sampled = collect_baskets(past, BOUGHT, AS_OF, 3, 0)
    assert len(sampled.users) == 0


def test_a_ranker_learns_from_earlier_windows_only_and_orders_the_lists(spark: SparkSession) -> None:
    rows = shop(n_users=260, n_products=30)
    catalogue = catalogue_of(products_table(spark, 30))
    items = item_numbers(spark, catalogue.product_ids)
    settings, judged = Recommending(), Window.before(AS_OF, 14)

    def learned(table: DataFrame) -> tuple[Fitted, Rankers]:
        past = timelines(table, items, TYPES).persist()

        def fit(window: Window) -> Fitted:
            return fitted_at(catalogue, past, window.cut, backtest=True)

        def tune(window: Window, _: Fitted) -> Tuned:
            tuned_on.append(window)
            return chosen

        training_set = TrainingSet(dated_purchases(table, judged.windows_before(2)[-1].cut), items, 0, 1)
        fitted, rankers, tuned = learn(training_set, judged, 2, fit, tune)
        assert tuned is chosen
        return fitted, rankers

    chosen = Tuned((Tried("all", "popularity", "{}", 0.5, True),))
    tuned_on: list[Window] = []
    table = events_table(spark, rows)
    fitted, rankers = learned(table)
    assert [window.end for window in tuned_on] == [judged.cut]
    of_judged, of_now = rankers.backtest["all"], rankers.production["all"]
    assert of_judged is not None
    assert of_now is not None
    assert of_judged.text != of_now.text
    assert rankers.learned_as_of == AS_OF.date()
    # What happens within the judged window must not reach the ranker that is judged on it.
    late = [event(f"u{n:02d}", "p29", 3, order=f"late{n}") for n in range(200)]
    _, again = learned(events_table(spark, [*rows, *late]))
    assert again.backtest["all"] is not None
    assert again.backtest["all"].text == of_judged.text
    policy, known = RepurchasePolicy(8, "allow"), FittedRanker(of_judged, fitted.ranking_inputs)
    recommender = Recommender(fitted.items, settings.blend, policy, learned=known)
    with recommend_users(fitted.histories, [recommender]) as lists:
        found = lists.orderBy("user_id", "rank").collect()
    by_user = pd.DataFrame([row.asDict() for row in found]).groupby("user_id")
    assert (by_user["rank"].agg(list).map(len) == 8).all()
    assert by_user["score"].agg(lambda scores: (scores.diff().dropna() <= 0).all()).all()
    shares = [sum(reason["share"] for reason in row["reasons"]) for row in found if row["reasons"]]
    assert shares == pytest.approx([1.0] * len(shares), abs=1e-6)


def test_buying_is_the_purchase_type_or_the_heaviest() -> None:
    assert purchase_type(TYPES) == "purchase"
    assert purchase_type({"view": EventType(weight=1), "deal": EventType(weight=3)}) == "deal"


def test_unknown_products_are_counted_and_their_users_still_get_lists(spark: SparkSession) -> None:
    rows = [*shop(), event("stranger", "gone", 3), event("stranger", "gone", 4), event("stranger", "lost", 4)]
    items = item_numbers(spark, np.array([f"p{i:02d}" for i in range(15)], dtype=object))
    table = events_table(spark, rows)
    assert unknown_products(table, items) == {"events_of_unknown_products": 3, "unknown_products": 2}
    known = user_histories(timelines(table, items, TYPES), TYPES, AS_OF)
    assert known.filter("user_id = 'stranger'").first()["items"] == []  # type: ignore[index]
    strangers = [row for row in lists_of(spark, rows) if row["user_id"] == "stranger"]
    assert [row["strategy"] for row in strangers] == ["popular"] * 8
    assert all(row["reasons"] == [] for row in strangers)


def test_lists_do_not_depend_on_the_order_of_events(spark: SparkSession) -> None:
    rows = shop()
    shuffled = [rows[i] for i in np.random.default_rng(9).permutation(len(rows))]
    assert lists_of(spark, rows) == lists_of(spark, shuffled)


def test_later_events_change_nothing(spark: SparkSession) -> None:
    planted = [event("u00", "p14", -days, order=f"x{n}-{days}") for n in range(20) for days in (0.0, 0.1, 3.0)]
    assert lists_of(spark, shop()) == lists_of(spark, [*shop(), *planted])


@pytest.mark.parametrize("repurchase", ["allow", "exclude"])
def test_every_user_gets_a_full_list_of_what_is_on_sale(spark: SparkSession, repurchase: str) -> None:
    rows = shop()
    found = pd.DataFrame([row.asDict() for row in lists_of(spark, rows, repurchase, sold_out=("p01", "p02"))])
    bought = {(user, product) for user, product, *_ in rows}
    assert (found.groupby("user_id")["product_id"].nunique() == 8).all()
    assert found["user_id"].nunique() == 30
    assert not set(found["product_id"]) & {"p01", "p02"}
    if repurchase == "exclude":
        assert not bought & set(zip(found["user_id"], found["product_id"], strict=True))
    for reasons in found["reasons"]:
        assert not reasons or sum(reason["share"] for reason in reasons) == pytest.approx(1, abs=1e-6)


def test_no_anonymous_order_speaks_louder_than_one_of_twenty_products(spark: SparkSession) -> None:
    products = [f"p{i:02d}" for i in range(40)]
    rows = [event(None, product, 1e-9, order="wholesale") for product in products]
    rows += [event(None, product, 1e-9, order="retail") for product in products[:20]]
    found = anonymous_baskets(timelines_of(spark, rows, products), TYPES, AS_OF).collect()
    strengths = {row["order_id"]: row["strengths"] for row in found}
    # A purchase of today weighs 2; 40 products share what 20 would have.
    assert strengths == {"wholesale": [1.0] * 40, "retail": [2.0] * 20}


def test_training_matrix_samples_users_above_its_limit(spark: SparkSession) -> None:
    past = timelines_of(spark, shop(), [f"p{i:02d}" for i in range(15)])
    histories, baskets = user_histories(past, TYPES, AS_OF), anonymous_baskets(past, TYPES, AS_OF)
    whole, lately = training_matrices(histories, baskets, 15)
    part, _ = training_matrices(histories, baskets, 15, max_pairs=60)
    assert whole.shape == lately.shape == (30, 15)
    assert 0 < part.shape[0] < 30
    # What fades faster is less, of the same products.
    assert (lately.indices == whole.indices).all()
    assert (lately.data < whole.data).all()


def fit(spark: SparkSession, rows: list[tuple]) -> Fitted:
    catalogue = catalogue_of(products_table(spark, 15))
    past = timelines_of(spark, rows, list(catalogue.product_ids))
    return fitted_at(catalogue, past)


def test_anonymous_orders_tell_what_belongs_together_and_are_nobodys_history(spark: SparkSession) -> None:
    rows = [event("u", "p05", 1, order="known")]
    rows += [event(None, product, n + 1, order=f"o{n}") for n in range(2) for product in ("p00", "p01")]
    rows += [event(None, "p02", 1, order="alone"), event(None, "p03", 1), event(None, "p04", 1)]
    fitted = fit(spark, rows)
    assert fitted.ranking_inputs.relations.item_knn[0, 1] > 0
    assert fitted.items.co_purchase[0, 1] > 0
    assert (
        fitted.ranking_inputs.relations.item_knn.nnz == 2
    )  # p00 with p01 and back: events without an order are no basket
    assert [row["user_id"] for row in fitted.histories.collect()] == ["u"]


def test_anonymous_events_without_an_order_count_each_and_a_users_once_a_day(spark: SparkSession) -> None:
    anonymous = [event(None, "p00", days_ago) for days_ago in (0.1, 0.2, 0.2, 0.3)]  # two lines of one moment
    fitted = fit(spark, [*anonymous, *(event("u", "p01", days_ago) for days_ago in (0.1, 0.2, 0.3))])
    assert fitted.popularity["total"].tolist()[:3] == [3.0, 1.0, 0.0]


def test_views_are_no_sales(spark: SparkSession) -> None:
    views = [event(f"u{n}", "p01", 1, "view") for n in range(5)]
    fitted = fit(spark, [event("u0", "p00", 1), *views])
    assert fitted.popularity["total"].tolist()[:2] == [1.0, 0.0]
    assert fitted.items.popular[:2].tolist() == [1.0, 0.0]
    assert fitted.items.trending[1] == 0
    assert fitted.items.rank[0] == 0


def test_baselines_without_relations_store_none(spark: SparkSession) -> None:
    fitted = fit(spark, shop())
    (blend,) = ours(fitted, Recommending().blend_for("allow"), None)
    assert blend.items.co_purchase.nnz > 0
    baselines = Baselines(fitted)
    popularity, knn, other = (
        baselines.model(*one).items  # type: ignore[attr-defined]
        for one in (
            ("popularity", {"counted": "total"}),
            ("item_knn", next(choices(GRIDS["item_knn"]))),
            ("item_knn", {"shrinkage": 0.0}),
        )
    )
    assert popularity.co_purchase.nnz == knn.content.nnz == 0
    # The model's own item-kNN is no other than the baseline's with the same shrinkage; less of it is larger scores.
    assert (knn.co_purchase != fitted.ranking_inputs.relations.item_knn).nnz == 0
    assert other.co_purchase.sum() > knn.co_purchase.sum()


def test_factors_are_fitted_on_strengths_and_on_what_fades_fast(spark: SparkSession) -> None:
    fitted = fit(spark, shop())
    relations = fitted.ranking_inputs.relations
    np.testing.assert_array_equal(relations.als.factors, Als.fit(fitted.strengths).factors)
    histories = fitted.histories.orderBy("user_id").toPandas()
    rows = np.repeat(np.arange(len(histories)), histories["items"].map(len))
    items, recent = (np.concatenate(histories[name].tolist()) for name in ("items", "recent"))
    lately = sp.csr_array((recent, (rows, items)), shape=(len(histories), fitted.items.n_items))
    np.testing.assert_array_equal(relations.als_recent.factors, Als.fit(lately).factors)
    # The baseline with the same parameters is the same model.
    als = Baselines(fitted).model("als", next(choices(GRIDS["als"])))
    assert als.als is relations.als  # type: ignore[attr-defined]


def test_products_stand_on_the_shelves_of_their_category_path(spark: SparkSession) -> None:
    paths = {"a": ["food", "tea"], "b": None, "c": ["food", "rice"], "d": ["food", "tea"]}
    rows = [
        (product, product, None, brand, path, None, None, None, "t", f"h{product}", None)
        for (product, path), brand in zip(paths.items(), ("own", "own", None, "other"), strict=True)
    ]
    catalogue = catalogue_of(spark.createDataFrame(rows, contract_columns("products")))
    assert catalogue.rows[list(SHELVES)].to_numpy().tolist() == [[0, 1, 2], [-1, -1, -1], [0, 0, 0], [0, 1, 1]]


def test_truth_follows_the_protocol(spark: SparkSession) -> None:
    rows = [
        event("u", "a", 40),
        event("v", "b", 40),
        event("u", "a", 5),  # a repeat
        event("u", "b", 5),  # new to u, sold before the cut
        event("u", "c", 5),  # never sold before the cut
        event("w", "a", 5),  # a user without a past
        event("v", "a", 0),  # at as_of: past the horizon
    ]
    window = Window.before(AS_OF, 30)
    dated = dated_purchases(events_table(spark, rows), window.cut)
    found = {(r["user_id"], r["product_id"], r["is_new"]) for r in truth(dated, window).collect()}
    assert found == {("u", "a", False), ("u", "b", True)}


def test_truth_of_every_window_comes_from_one_table(spark: SparkSession) -> None:
    rng = np.random.default_rng(5)
    users = [None if n == 7 else f"u{n}" for n in rng.integers(0, 8, 400)]
    bought = list(zip(users, rng.integers(0, 12, 400).tolist(), rng.integers(1, 120, 400).tolist(), strict=True))
    rows = [event(user, f"p{product}", age, order=str(n)) for n, (user, product, age) in enumerate(bought)]
    windows = [Window(AS_OF - timedelta(days=days), 14) for days in (14, 50, 84, 110)]
    dated = dated_purchases(events_table(spark, rows), windows[-1].cut).persist()
    for window in windows:
        since, until = (AS_OF - window.cut).days, (AS_OF - window.end).days
        past = [(user, product) for user, product, age in bought if age > since]
        known, sold = {user for user, _ in past}, {product for _, product in past}
        expected = {
            (user, f"p{product}", (user, product) not in past)
            for user, product, age in bought
            if until < age <= since and user is not None and user in known and product in sold
        }
        found = [tuple(row) for row in truth(dated, window).collect()]
        assert len(found) == len(expected)
        assert set(found) == expected
    dated.unpersist()


def test_the_backtest_ranks_models_and_ignores_later_products(spark: SparkSession) -> None:
    window = Window.before(AS_OF, 14)
    late = [event(f"u{n:02d}", "p14x", 3, order=f"late{n}") for n in range(30)]
    table = events_table(spark, [*shop(), *late])
    catalogue = catalogue_of(products_table(spark, 15))
    items = item_numbers(spark, catalogue.product_ids)
    past = timelines(table, items, TYPES)
    fitted = fitted_at(catalogue, past, window.cut, backtest=True)
    wanted = truth(dated_purchases(table, window.cut), window)
    settings = Recommending()
    orders = fitted.histories.select("user_id", "n_orders").toPandas().set_index("user_id")["n_orders"]
    background = Background(
        pd.Index(catalogue.product_ids),
        fitted.popularity["buyers"].to_numpy(),
        len(orders),
        catalogue.group_vectors,
        catalogue.groups,
        orders,
    )
    baselines = Baselines(fitted)
    peers = [baselines.model(name, next(choices(GRIDS[name]))) for name in baselines.names]
    judged = evaluate(
        {task: [*ours(fitted, settings.blend_for(policy), None), *peers] for task, policy in TASKS.items()},
        wanted,
        window,
        10,
        background,
    )
    metrics = judged.metrics
    # The store is small enough for EASE^R; without vectors there is no content to go by.
    assert set(metrics["model"]) == {"shelfkin", "popularity", "own_purchases", "item_knn", "ease", "als"}
    assert set(metrics["k"]) == {5, 10}
    # Recall over all users is that of cold and warm ones, weighed by their number.
    of_ease = metrics[(metrics["model"] == "ease") & (metrics["task"] == "all") & (metrics["k"] == 10)]
    parts = of_ease[of_ease["metric"].isin(["recall_cold", "recall_warm"])]
    assert parts["users"].sum() == len(judged.ndcg["all", "ease"])
    (recall,) = of_ease.loc[of_ease["metric"] == "recall", "value"]
    assert np.average(parts["value"], weights=parts["users"]) == pytest.approx(recall)
    of_all = metrics[(metrics["task"] == "all") & (metrics["metric"] == "ndcg") & (metrics["k"] == 10)]
    ndcg = of_all.set_index("model")["value"]
    assert ndcg["als"] > ndcg["popularity"]
    own, popular = ndcg["own_purchases"], ndcg["popularity"]
    assert own > popular  # users here come back to their own third
    assert judged.ndcg["all", "own_purchases"].mean() == pytest.approx(own)
    comparison = judged.comparisons("own_purchases", "all")["popularity"]
    assert comparison.mean == pytest.approx(popular)
    assert comparison.low <= own - popular <= comparison.high
    # Fitting on a table that ends at the cut gives the same model.
    ended = timelines(table.filter(table["occurred_at"] < window.cut), items, TYPES)
    before = fitted_at(catalogue, ended, window.cut, backtest=True)
    assert (before.items.co_purchase != fitted.items.co_purchase).nnz == 0
    np.testing.assert_array_equal(before.items.popular, fitted.items.popular)
    np.testing.assert_array_equal(before.ranking_inputs.features, fitted.ranking_inputs.features)
    for name in ("co_purchase_recent", "item_knn", "same_order", "next_order"):
        assert (
            getattr(before.ranking_inputs.relations, name) != getattr(fitted.ranking_inputs.relations, name)
        ).nnz == 0
    for name in ("als", "als_recent"):
        np.testing.assert_array_equal(
            getattr(before.ranking_inputs.relations, name).factors,
            getattr(fitted.ranking_inputs.relations, name).factors,
        )
    np.testing.assert_array_equal(before.items.allowed, fitted.items.allowed)


def test_a_store_without_events_gets_a_model_without_signals(spark: SparkSession) -> None:
    catalogue = catalogue_of(products_table(spark, 3))
    past = timelines(events_table(spark, []), item_numbers(spark, catalogue.product_ids), {})
    fitted = fitted_at(catalogue, past, event_types={})
    assert fitted.method == "none"
    assert fitted.histories.count() == 0
    assert fitted.items.allowed.all()
    assert not fitted.items.popular.any()
