"""The ranker's features by hand, its candidates, and that it learns what is there to learn."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from shelfkin.errors import ArtifactError
from shelfkin.evaluation.bootstrap import paired_interval
from shelfkin.evaluation.learning import TrainingSet, learn
from shelfkin.evaluation.tuning import Tuned
from shelfkin.evaluation.windows import Window
from shelfkin.profile import BlendWeights
from shelfkin.recommending import training_rows
from shelfkin.recommending.als import Als
from shelfkin.recommending.baskets import Baskets, decayed_baskets, next_order
from shelfkin.recommending.catalogue import shelf_numbers
from shelfkin.recommending.features import FEATURES, BlockSignals
from shelfkin.recommending.item_model import ItemModel
from shelfkin.recommending.ranker import FittedRanker, Ranker, TrainingRows, train
from shelfkin.recommending.ranking_inputs import ITEM_FEATURES, RankingInputs, item_features, top_item_orders
from shelfkin.recommending.recommender import Recommender, candidate_items, candidate_rows
from shelfkin.recommending.relations import Relations
from shelfkin.recommending.repurchase import RepurchasePolicy
from shelfkin.recommending.sampling import MIN_USERS
from shelfkin.recommending.training_rows import user_examples
from shelfkin.recommending.user_block import UserBlock

N_ITEMS = 6


def popularity(**columns: list[float]) -> pd.DataFrame:
    names = ("recent", "trend", "month", "usual", "total", "buyers", "repeat_buyers", "new_buyers_week")
    names += ("new_buyers_month", "first_days", "last_days")
    return pd.DataFrame({name: columns.get(name, [0.0] * N_ITEMS) for name in names}, dtype=np.float64)


def relation(*entries: tuple[int, int, float]) -> sp.csr_array:
    rows, columns, values = zip(*entries, strict=True) if entries else ((), (), ())
    return sp.csr_array((np.array(values, dtype=np.float32), (rows, columns)), shape=(N_ITEMS, N_ITEMS))


def factors(*rows: list[float]) -> Als:
    """Return ALS with a plain left side: a product that is had with strength s adds 1 + s to 2 in its direction."""
    return Als(np.array(rows, dtype=np.float32), np.eye(2), 1.0, 1.0)


def shop(recent: list[float] | None = None) -> tuple[ItemModel, RankingInputs]:
    """Items 0 and 1 are cluster 0, 2 and 3 cluster 1, 4 has no cluster, 5 neither price nor shelf."""
    clusters = np.array([0, 0, 1, 1, -1, 1])
    prices = np.log([1.0, 2.0, 4.0, 8.0, 16.0, np.nan])
    rank = np.arange(N_ITEMS)
    features = item_features(popularity(recent=recent or [6.0, 5.0, 4.0, 3.0, 2.0, 1.0]), clusters, prices)
    model = ItemModel(
        product_ids=np.array([f"p{i}" for i in range(N_ITEMS)], dtype=object),
        groups=np.arange(N_ITEMS),
        allowed=np.ones(N_ITEMS, dtype=bool),
        popular=np.zeros(N_ITEMS),
        trending=np.zeros(N_ITEMS),
        rank=rank,
        co_purchase=relation((0, 2, 0.5), (1, 2, 0.25), (0, 3, 0.1)),
        content=relation((0, 4, 0.9), (1, 4, 0.8), (1, 5, 0.7)),
    )
    ranking_inputs = RankingInputs(
        relations=Relations(
            co_purchase=model.co_purchase,
            co_purchase_recent=relation((0, 3, 0.4)),
            item_knn=relation(),
            same_order=relation((1, 3, 0.6)),
            next_order=relation((1, 5, 0.2)),
            als=factors([1, 0], [0, 1], [0.5, 0], [0, 0], [0.2, 0.2], [0, 0]),
            als_recent=factors([1, 0], [0, 1], [0, 0], [0, 0], [0, 0], [1, 1]),
        ),
        clusters=clusters,
        shelves=np.array([[0, 0, 0], [0, 1, 1], [0, 0, 2], [1, 2, 3], [1, 2, 3], [-1, -1, -1]]),
        features=features,
        log_prices=prices,
        top_items=top_item_orders(features, rank),
    )
    return model, ranking_inputs


def one_user() -> UserBlock:
    """Item 0: three orders, 40 to 20 days ago. Item 1: one order, 5 days ago, the last one. Four orders in all."""
    return UserBlock(
        indptr=np.array([0, 2]),
        n_orders=np.array([4]),
        items=np.array([0, 1]),
        strengths=np.array([2.0, 0.5]),
        n_bought=np.array([3, 1]),
        recent=np.array([0.4, 0.3]),
        first_days=np.array([40.0, 5.0]),
        last_days=np.array([20.0, 5.0]),
    )


def named(row: np.ndarray) -> dict[str, float]:
    return dict(zip(FEATURES, row.tolist(), strict=True))


def test_features_of_a_user_and_a_product_by_hand() -> None:
    model, ranking_inputs = shop()
    signals = BlockSignals(model, ranking_inputs, one_user())
    rows = signals.features(0, np.arange(N_ITEMS), np.ones(N_ITEMS, dtype=bool))
    assert rows.shape == (N_ITEMS, len(FEATURES))
    assert rows.dtype == np.float32
    had, last, related, other = named(rows[0]), named(rows[1]), named(rows[2]), named(rows[3])
    assert (had["own_orders"], had["own_frequency"], had["own_last_days"], had["own_first_days"]) == (3, 0.75, 20, 40)
    assert (had["own_gap_days"], had["own_due"], had["own_in_last_order"]) == (10, 2, 0)
    assert [had[f"{name}_of_best"] for name in ("own_strength", "own_recent", "own_orders")] == [1, 1, 1]
    assert (last["own_strength_of_best"], last["own_orders_of_best"]) == (0.25, pytest.approx(1 / 3, abs=1e-6))
    assert last["own_recent_of_best"] == pytest.approx(0.75)
    assert last["own_in_last_order"] == 1
    assert np.isnan(last["own_gap_days"])
    assert np.isnan(related["own_last_days"])
    assert (related["own_orders"], related["own_strength"], related["own_strength_of_best"]) == (0, 0, 0)
    # Taste clips strengths at 1: 1 * 0.5 + 0.5 * 0.25; the best product of the relation is this one.
    assert related["co_purchase"] == pytest.approx(0.625)
    assert related["co_purchase_of_best"] == 1
    assert other["co_purchase_of_best"] == pytest.approx(0.1 / 0.625, abs=1e-6)
    assert other["co_purchase_recent"] == pytest.approx(0.4 * 0.4)
    # The last order holds item 1 alone.
    assert (other["same_order"], other["same_order_last"]) == (pytest.approx(0.3), pytest.approx(0.6))
    assert named(rows[5])["next_order_last"] == pytest.approx(0.2)
    assert named(rows[4])["content"] == pytest.approx(0.9 + 0.5 * 0.8)
    assert named(rows[4])["content_nearest"] == pytest.approx(0.9)
    assert named(rows[4])["content_nearest_last"] == pytest.approx(0.8)
    # The user stands at (3 / 4, 1.5 / 2.5), by strengths 2 and 0.5; lately at (1.4 / 2.4, 1.3 / 2.3), by 0.4 and 0.3.
    assert [named(row)["als"] for row in rows] == pytest.approx([0.75, 0.6, 0.375, 0, 0.27, 0])
    assert named(rows[4])["als_of_best"] == pytest.approx(0.36)
    lately = 1.4 / 2.4 + 1.3 / 2.3
    assert named(rows[5])["als_recent"] == pytest.approx(lately, abs=1e-6)
    assert had["als_recent_of_best"] == pytest.approx(1.4 / 2.4 / lately, abs=1e-6)
    # All that the user has lies in cluster 0; item 4 has no cluster.
    assert [named(row)["cluster_share"] for row in rows] == [1, 1, 0, 0, 0, 0]
    assert [named(row)["department_share"] for row in rows] == [1, 1, 1, 0, 0, 0]
    # Items 0 and 2 are one category of two brands: 2 of 2.5, and lately 0.4 of 0.7.
    assert [named(row)["category_share"] for row in rows] == pytest.approx([0.8, 0.2, 0.8, 0, 0, 0])
    assert related["category_share_recent"] == pytest.approx(4 / 7, abs=1e-6)
    assert (had["category_brand_share"], related["category_brand_share"]) == (pytest.approx(0.8), 0)
    assert [named(row)["category_products"] for row in rows] == [1, 1, 1, 0, 0, 0]
    # The user's mean log price is log(2) / 2.
    assert related["price_distance"] == pytest.approx(np.log(4) - np.log(2) / 2, abs=1e-6)
    assert np.isnan(named(rows[5])["price_distance"])
    assert (had["user_orders"], had["user_products"], had["user_lines_per_order"]) == (4, 2, 1)
    assert (had["user_repeat_share"], had["user_last_days"], had["user_first_days"]) == (0.5, 5, 40)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_users_examples_hold_all_that_was_bought_and_a_share_of_the_rest(
    share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_rows, "KEPT_SHARES", {"exclude": share})
    model, ranking_inputs = shop()
    signals = BlockSignals(model, ranking_inputs, one_user())
    policy = RepurchasePolicy(2, "exclude")
    whole = signals.features(0, *candidate_items(signals, policy, 0))
    assert len(whole) == 4  # all but what the user has
    n_drawn = 0
    for user in map(str, range(200)):
        # 0 is no candidate: the user has it, and such lists don't bring it back.
        features, bought = user_examples(signals, policy, 0, user, [0, 3])
        assert bought.sum() == 1
        np.testing.assert_array_equal(features[bought], whole[[1]])
        assert {row.tobytes() for row in features} <= {row.tobytes() for row in whole}
        np.testing.assert_array_equal(user_examples(signals, policy, 0, user, [0, 3])[0], features)
        n_drawn += int((~bought).sum())
    # Three others for each of 200 users; the standard deviation is 12 at a half.
    assert abs(n_drawn - share * 600) <= (0 if share in (0, 1) else 50)


def test_features_of_a_product_by_hand() -> None:
    table = popularity(trend=[3, 0, 0, 0, 0, 0], usual=[0, 120, 0, 0, 0, 0], buyers=[5] * 6, repeat_buyers=[2] * 6)
    found = item_features(table, np.array([0, 0, 1, 1, -1, 1]), np.zeros(N_ITEMS))
    column = {name: found[:, i] for i, name in enumerate(ITEM_FEATURES)}
    assert column["item_trend"][:3] == pytest.approx([np.log(4), np.log(1 / 8), 0])
    assert column["item_repeat_rate"][0] == pytest.approx(2 / 8)
    assert column["cluster_trend"].tolist() == pytest.approx([3 / 120, 3 / 120, 0, 0, 0, 0])


def test_what_has_no_cluster_counts_for_none() -> None:
    table = popularity(trend=[1, 0, 0, 0, 50, 0], usual=[10, 10, 0, 0, 50, 0])
    found = item_features(table, np.array([0, 0, 1, 1, -1, 1]), np.zeros(N_ITEMS))
    trend = found[:, list(ITEM_FEATURES).index("cluster_trend")]
    assert trend.tolist() == pytest.approx([1 / 20, 1 / 20, 0, 0, 0, 0])


def test_without_windows_nothing_is_learned_and_only_the_judged_model_is_fitted() -> None:
    fitted: list[Window] = []
    judged = Window(datetime(2026, 2, 1, tzinfo=UTC), 14)
    training_set = TrainingSet(None, None, 0, 1)  # type: ignore[arg-type]
    _, rankers, tuned = learn(training_set, judged, 0, fitted.append, None)  # type: ignore[arg-type, func-returns-value]
    assert tuned == Tuned()
    assert fitted == [judged]
    assert not any(rankers.backtest.values())
    assert not any(rankers.production.values())


def test_features_do_not_depend_on_who_else_is_in_the_block() -> None:
    model, ranking_inputs = shop()
    alone = one_user()
    twice = UserBlock(
        indptr=np.array([0, 0, 2]),
        n_orders=np.array([0, 4]),
        **{
            name: getattr(alone, name)
            for name in ("items", "strengths", "n_bought", "recent", "first_days", "last_days")
        },
    )
    everything = np.arange(N_ITEMS), np.ones(N_ITEMS, dtype=bool)
    np.testing.assert_array_equal(
        BlockSignals(model, ranking_inputs, alone).features(0, *everything),
        BlockSignals(model, ranking_inputs, twice).features(1, *everything),
    )
    unknown = BlockSignals(model, ranking_inputs, twice).features(0, *everything)
    assert not unknown[:, FEATURES.index("own_orders")].any()


def test_candidates_come_from_every_source_and_never_from_what_is_barred() -> None:
    model, ranking_inputs = shop()
    signals = BlockSignals(model, ranking_inputs, one_user())
    eligible = np.ones(N_ITEMS, dtype=bool)
    # Two of each relation, one leader of each kind: 0 leads by recent orders.
    assert signals.candidates(0, eligible, 2).tolist() == [0, 1, 2, 3, 4, 5]
    eligible[[0, 3]] = False
    assert signals.candidates(0, eligible, 2).tolist() == [1, 2, 4, 5]
    items, features = candidate_rows(signals, RepurchasePolicy(1, "exclude"), 0)
    assert items.tolist() == [2, 3, 4, 5]
    assert len(features) == 4


def test_a_product_may_be_a_candidate_by_its_factors_alone() -> None:
    model, ranking_inputs = shop()
    eligible = np.ones(N_ITEMS, dtype=bool)
    nothing = N_ITEMS * [[0.0, 0.0]]
    for factor, expected in ((0.0, [0, 2, 3, 4, 5]), (1.0, [0, 1, 2, 3, 4, 5])):
        of_one = factors([0.0, 0.0], [factor, 0.0], *nothing[2:])
        for kinds in (
            {"als": of_one, "als_recent": factors(*nothing)},
            {"als": factors(*nothing), "als_recent": of_one},
        ):
            signals = BlockSignals(
                model, replace(ranking_inputs, relations=replace(ranking_inputs.relations, **kinds)), one_user()
            )
            assert signals.candidates(0, eligible, 1).tolist() == expected


def test_candidates_by_factors_are_looked_for_among_what_is_popular_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shelfkin.recommending.features.FACTOR_HEAD", 3)
    model, ranking_inputs = shop()
    signals = BlockSignals(model, ranking_inputs, one_user())
    assert signals.by_factors("als", 0).items.tolist() == [0, 1, 2]
    # The score itself is there for every product.
    eligible = np.array([False, False, True, True, True, True])
    row = named(signals.features(0, np.array([4]), eligible)[0])
    assert (row["als"], row["als_of_best"]) == (pytest.approx(0.27), pytest.approx(0.27 / 0.375))


def test_what_stands_nowhere_shares_with_nothing() -> None:
    model, ranking_inputs = shop()
    nowhere = replace(ranking_inputs, shelves=np.full((N_ITEMS, 3), -1), clusters=np.full(N_ITEMS, -1))
    rows = BlockSignals(model, nowhere, one_user()).features(0, np.arange(N_ITEMS), np.ones(N_ITEMS, dtype=bool))
    for row in rows:
        found = named(row)
        assert not any(found[name] for name in FEATURES if name.startswith(("category_", "department_", "cluster_s")))


def test_shelves_are_numbered_by_department_category_and_brand() -> None:
    paths = pd.Series([["b", "x"], ["b", "y"], ["a"], None, [], ["b", "x"]], dtype=object)
    brands = pd.Series(["own", "own", "", "own", "own", "other"])
    found = shelf_numbers(paths, brands)
    assert found.tolist() == [[1, 1, 2], [1, 2, 3], [0, 0, 0], [-1, -1, -1], [-1, -1, -1], [1, 1, 1]]


def test_next_order_counts_what_the_next_order_adds() -> None:
    # User 0: {0, 1}, then {1, 2}; user 1: {3} alone. Only 2 is new in the next order.
    items = sp.csr_array(np.array([[1.0, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]]))
    baskets = Baskets(items, users=np.array([0, 0, 1]), days=np.array([120.0, 0.0, 0.0]))
    found = next_order(baskets, half_life_days=120.0, n_neighbours=3).toarray()
    # w = 1 (the second order is new), orders of two products each; faded counts are 0.5, 1.5, 1 and 1.
    pair = 1 / 2
    expected = np.zeros((4, 4))
    expected[0, 2] = pair / np.sqrt(5.5 * 6)
    expected[1, 2] = pair / np.sqrt(6.5 * 6)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(decayed_baskets(baskets, 120.0).toarray()[0], [0.5, 0.5, 0, 0])


def test_no_second_order_is_no_sequence() -> None:
    baskets = Baskets(sp.csr_array(np.ones((2, 3))), users=np.array([0, 1]), days=np.zeros(2))
    assert next_order(baskets, 30.0, 5).nnz == 0
    assert next_order(Baskets(sp.csr_array((0, 3)), np.empty(0, np.int64), np.empty(0)), 30.0, 5).nnz == 0


def training_set(n_users: int = 300, n_rows: int = 20, seed: int = 0) -> TrainingRows:
    """Users buy the one candidate whose `co_purchase` is largest."""
    rng = np.random.default_rng(seed)
    features = rng.random((n_users * n_rows, len(FEATURES))).astype(np.float32)
    signal = features[:, FEATURES.index("co_purchase")].reshape(n_users, n_rows)
    bought = (signal == signal.max(axis=1, keepdims=True)).ravel()
    return TrainingRows(features, bought, np.full(n_users, n_rows))


def test_the_ranker_finds_the_signal_and_is_the_same_for_any_number_of_threads() -> None:
    ranker = train(training_set(), seed=3, n_threads=1)
    assert ranker is not None
    again = train(training_set(), seed=3, n_threads=2)
    assert again is not None
    fresh = training_set(seed=9)
    scores = ranker.scores(fresh.features)
    np.testing.assert_array_equal(scores, again.scores(fresh.features))
    best = scores.reshape(300, 20).argmax(axis=1)
    assert (fresh.bought.reshape(300, 20)[np.arange(300), best]).mean() > 0.6  # chance is 0.05
    assert next(iter(ranker.importance())) == "co_purchase"


def test_too_few_users_teach_nothing() -> None:
    rows = training_set(MIN_USERS - 1)
    assert train(rows, seed=0, n_threads=1) is None
    silent = TrainingRows(rows.features, np.zeros_like(rows.bought), rows.group_sizes)
    assert train(TrainingRows.together([rows, silent]), seed=0, n_threads=1) is None


def test_a_ranker_of_another_version_is_refused() -> None:
    import lightgbm as lgb

    data = lgb.Dataset(np.random.default_rng(0).random((50, 2)), np.arange(50) % 2)
    text = lgb.train({"verbosity": -1}, data, 1).model_to_string()
    with pytest.raises(ArtifactError, match="Run evaluate_recommenders again"):
        Ranker(text).scores(np.zeros((1, 2)))


@pytest.mark.parametrize("length", [2, 4])
def test_lists_follow_the_ranker_and_have_full_length(length: int) -> None:
    ranker = train(training_set(), seed=3, n_threads=1)
    assert ranker is not None
    model, ranking_inputs = shop()
    policy = RepurchasePolicy(length, "exclude")
    signals = BlockSignals(model, ranking_inputs, one_user())
    items, features = candidate_rows(signals, policy, 0)
    expected = items[np.lexsort((items, -ranker.scores(features)))][:length]
    recommender = Recommender(model, BlendWeights(), policy, learned=FittedRanker(ranker, ranking_inputs))
    (entries,) = recommender.recommend(one_user())
    assert [entry.item for entry in entries] == expected.tolist()
    for entry in entries:
        assert sum(share for _, share in entry.reasons) == pytest.approx(1) if entry.reasons else True
        assert {item for item, _ in entry.reasons} <= {0, 1}


def test_paired_interval_of_a_constant_difference_is_that_difference() -> None:
    assert paired_interval([np.full(50, 0.02), np.full(10, 0.04)]) == pytest.approx((0.03, 0.03))


def test_paired_interval_covers_the_mean_at_its_level() -> None:
    rng = np.random.default_rng(5)
    covered = 0
    for trial in range(100):
        low, high = paired_interval([rng.normal(0.1, 1.0, 200)], n_draws=300, seed=trial)
        covered += low <= 0.1 <= high
    # Binomial(100, 0.95): below 88 or at 100 less than once in a hundred suites.
    assert 88 <= covered <= 99
