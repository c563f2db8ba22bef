"""Item-item models, blend, policies, reasons and lists, against figures worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from shelfkin.errors import OptionError
from shelfkin.profile import BlendWeights
from shelfkin.recommending import co_purchase
from shelfkin.recommending.item_model import ItemModel, content_relations
from shelfkin.recommending.ordering import first_of_groups
from shelfkin.recommending.popularity import popular_products, popularity_rank, trending_scores
from shelfkin.recommending.reasons import contributions, shares
from shelfkin.recommending.recommender import Recommender
from shelfkin.recommending.repurchase import RepurchasePolicy
from shelfkin.recommending.user_block import MAX_HISTORY, UserBlock, tastes


def test_ease_on_two_items_by_hand() -> None:
    # X = [[1, 1], [1, 0]]: X'X + 1 I = [[3, 1], [1, 2]], its inverse [[2, -1], [-1, 3]] / 5.
    weights = co_purchase.ease(sp.csr_array([[1.0, 1.0], [1.0, 0.0]]), l2=1.0)
    # B_ij = -P_ij / P_jj: 1/3 in column 1, 1/2 in column 0.
    np.testing.assert_allclose(weights, [[0.0, 1 / 3], [1 / 2, 0.0]], atol=1e-12)


def test_item_knn_by_hand() -> None:
    # Columns: a = (1, 1), b = (1, 0), c = (0, 1). a.b = 1, |a| |b| = sqrt 2, plus shrinkage 1.
    found = co_purchase.item_knn(sp.csr_array([[1.0, 1.0, 0.0], [1.0, 0.0, 1.0]]), shrinkage=1.0, n_neighbours=2)
    near = round(1 / (np.sqrt(2) + 1), 6)
    np.testing.assert_allclose(found.toarray(), [[0, near, near], [near, 0, 0], [near, 0, 0]], atol=1e-6)


def test_item_knn_keeps_the_lower_item_of_equal_neighbours() -> None:
    found = co_purchase.item_knn(sp.csr_array([[1.0, 1.0, 0.0], [1.0, 0.0, 1.0]]), shrinkage=0.0, n_neighbours=1)
    assert found.toarray()[0].tolist()[1:] == [pytest.approx(1 / np.sqrt(2), abs=1e-6), 0.0]


@pytest.mark.parametrize(("limit", "method"), [(3, "ease"), (2, "item_knn")])
def test_the_size_of_the_active_catalogue_chooses_the_method(limit: int, method: str) -> None:
    # Item 3 has one buyer only: it isn't active, and no weight touches it.
    strengths = sp.csr_array(np.array([[1.0, 1, 1, 1], [1, 1, 1, 0]]))
    assert co_purchase.method_for(strengths, limit) == method
    options = {"l2": 1.0, "shrinkage": 1.0, "n_neighbours": 3}
    dense = co_purchase.fit(strengths, ease_max_items=limit, **options).toarray()
    other = co_purchase.fit(strengths, ease_max_items=5 - limit, **options).toarray()
    assert (dense != other).any()
    assert not dense[3].any()
    assert not dense[:, 3].any()
    assert dense[0, 1] > 0


def test_no_shared_customers_is_no_model() -> None:
    nobody = sp.csr_array((0, 3))
    assert co_purchase.method_for(nobody, 9) == "none"
    assert co_purchase.fit(nobody, ease_max_items=9, l2=1, shrinkage=1, n_neighbours=2).nnz == 0


def test_trending_is_more_than_the_usual_level() -> None:
    # Usual demand 120 means 7 in the short count. Item 0 sells 15: log(16 / 8); item 1 its usual; item 2 less.
    scores = trending_scores(np.array([15.0, 7.0, 1.0]), np.array([120.0, 120.0, 120.0]))
    np.testing.assert_allclose(scores, [1.0, 0.0, 0.0])


def test_popularity_breaks_ties_by_all_orders_then_item() -> None:
    assert popularity_rank(np.array([1.0, 5.0, 5.0, 9.0]), np.array([2.0, 1.0, 1.0, 1.0])).tolist() == [0, 2, 3, 1]


def test_popular_products_by_scope_without_excluded_or_dead_ones() -> None:
    rows = popular_products(
        scores=np.array([3.0, 5.0, 4.0, 0.0]),
        rank=np.arange(4),
        allowed=np.array([True, True, False, True]),
        product_ids=np.array(list("abcd"), dtype=object),
        clusters=np.array([7, 7, 7, -1]),
        length=5,
    )
    assert list(rows[["scope", "rank", "product_id"]].itertuples(index=False, name=None)) == [
        ("all", 1, "b"),
        ("all", 2, "a"),
        ("cluster:7", 1, "b"),
        ("cluster:7", 2, "a"),
    ]


@pytest.mark.parametrize("bad", [{"list_length": 0, "repurchase": "allow"}, {"list_length": 1, "repurchase": "maybe"}])
def test_policy_refuses(bad: dict[str, object]) -> None:
    with pytest.raises(OptionError):
        RepurchasePolicy(**bad)  # type: ignore[arg-type]


def test_twins_collapse_but_past_purchases_stay() -> None:
    kept = first_of_groups(np.array([4, 4, 5, 4]), np.array([False, False, False, True]))
    assert kept.tolist() == [True, False, True, True]


def test_shares_of_contributions_by_hand() -> None:
    # Item 2 is chosen; past items 0 and 1 with tastes 1 and 0.5 point to it with 0.2 and 0.4; item 3 speaks against it.
    relations = sp.csr_array(np.array([[0, 0, 0.2, 0], [0, 0, 0.4, 0], [0, 0, 0, 0], [0, 0, -1, 0]]))
    past = np.array([0, 1, 3])
    terms = contributions(relations, past, np.array([1.0, 0.5, 1.0]), np.array([2]), np.array([0.6]))
    np.testing.assert_allclose(terms.ravel(), [0.3, 0.3, 0.0])
    items, amounts = shares(terms[:, 0], past)
    assert items.tolist() == [0, 1]
    np.testing.assert_allclose(amounts, [0.5, 0.5])


def test_content_relations_use_the_popular_product_of_a_text() -> None:
    # Items 1 and 2 are twins (text 1); 2 is more popular, item 3 (text 2) isn't on sale.
    relations = content_relations(
        groups=np.array([0, 1, 1, 2]),
        allowed=np.array([True, True, True, False]),
        rank=np.array([3, 2, 1, 0]),
        neighbours=np.array([[1, 2], [0, 2], [1, -1]]),
        cosines=np.array([[0.9, 0.8], [0.9, 0.5], [0.5, 0.0]]),
        n=2,
    )
    expected = [[0, 0, 0.9, 0], [0.9, 0, 0, 0], [0.9, 0, 0, 0], [0, 0, 0.5, 0]]
    np.testing.assert_allclose(relations.toarray(), expected, atol=1e-6)


def make_model(n: int = 12, *, groups: np.ndarray | None = None, allowed: np.ndarray | None = None) -> ItemModel:
    rng = np.random.default_rng(5)
    relations = rng.random((n, n)) * (rng.random((n, n)) < 0.4)
    np.fill_diagonal(relations, 0)
    return ItemModel(
        product_ids=np.array([f"p{i:02d}" for i in range(n)], dtype=object),
        groups=np.arange(n) if groups is None else groups,
        allowed=np.ones(n, dtype=bool) if allowed is None else allowed,
        popular=np.linspace(1, 0, n),
        trending=np.zeros(n),
        rank=np.arange(n),
        co_purchase=sp.csr_array(relations.astype(np.float32)),
        content=sp.csr_array((n, n), dtype=np.float32),
    )


def make_block(*histories: dict[int, tuple[float, int]]) -> UserBlock:
    """Item to (strength, orders that bought it); everything was first bought 30 days ago and last 3 days ago."""
    rows = [sorted(history.items()) for history in histories]
    flat = [entry for row in rows for entry in row]
    strengths = np.array([strength for _, (strength, _) in flat], dtype=np.float64)
    return UserBlock(
        indptr=np.cumsum([0, *(len(row) for row in rows)]),
        n_orders=np.array([max((n for _, (_, n) in row), default=0) for row in rows]),
        items=np.array([item for item, _ in flat], dtype=np.int64),
        strengths=strengths,
        n_bought=np.array([n for _, (_, n) in flat], dtype=np.int64),
        recent=strengths / 2,
        first_days=np.full(len(flat), 30.0),
        last_days=np.full(len(flat), 3.0),
    )


def test_own_purchases_rank_by_strength() -> None:
    recommender = Recommender(
        make_model(),
        BlendWeights(own=1, co_purchase=0, content=0, popular=0.01, trending=0),
        RepurchasePolicy(4, "allow"),
    )
    (entries,) = recommender.recommend(make_block({9: (3.0, 3), 5: (1.0, 1)}))
    assert [entry.item for entry in entries] == [9, 5, 0, 1]
    assert [entry.strategy for entry in entries] == ["repurchase", "repurchase", "popular", "popular"]
    assert entries[0].score == pytest.approx(1 + 0.01 * (1 - 9 / 11), abs=1e-6)
    assert entries[0].reasons == ((9, 1.0),)
    assert entries[2].reasons == ()


def test_looked_at_but_never_bought_may_come_back_under_exclude() -> None:
    weights = BlendWeights(own=1, co_purchase=0, content=0, popular=0.01, trending=0)
    (entries,) = Recommender(make_model(), weights, RepurchasePolicy(3, "exclude")).recommend(
        make_block({9: (3.0, 1), 5: (1.0, 0)})
    )
    assert [entry.item for entry in entries] == [5, 0, 1]


histories = st.lists(
    st.dictionaries(st.integers(0, 11), st.tuples(st.floats(0.001, 9), st.integers(0, 3)), max_size=8), max_size=4
)


@settings(max_examples=60, deadline=None)
@given(histories, st.sampled_from(["allow", "exclude"]), st.integers(1, 12), st.sets(st.integers(0, 11), max_size=4))
def test_lists_keep_their_promises(
    found: list[dict[int, tuple[float, int]]], repurchase: str, length: int, sold_out: set[int]
) -> None:
    allowed = np.array([item not in sold_out for item in range(12)])
    block = make_block(*found)
    policy = RepurchasePolicy(length, repurchase)  # type: ignore[arg-type]
    lists = list(Recommender(make_model(allowed=allowed), BlendWeights(), policy).recommend(block))
    assert len(lists) == len(found)
    for history, entries in zip(found, lists, strict=True):
        shown = [entry.item for entry in entries]
        excluded_items = {item for item, (_, n) in history.items() if n > 0} if repurchase == "exclude" else set()
        assert len(shown) == len(set(shown)) == min(length, len(set(range(12)) - sold_out - excluded_items))
        assert not set(shown) & (sold_out | excluded_items)
        scores = [entry.score for entry in entries]
        assert scores == sorted(scores, reverse=True)
        for entry in entries:
            assert {item for item, _ in entry.reasons} <= set(history)
            assert (entry.strategy == "popular") == (entry.reasons == ())
            if entry.reasons:
                assert sum(share for _, share in entry.reasons) == pytest.approx(1, abs=1e-6)


def test_long_histories_leave_other_users_alone() -> None:
    n = MAX_HISTORY + 40
    long = {item: (1.0 + item / n, 1) for item in range(n)}
    short = {n - 1: (0.5, 1), 3: (2.0, 1)}
    block = make_block(long, short)
    kept = tastes(block, block.strengths, n)
    assert kept[[0]].nnz == MAX_HISTORY
    assert block.items[block.of(1)].tolist() == [3, n - 1]
    model, policy = make_model(n), RepurchasePolicy(10, "allow")
    together = list(Recommender(model, BlendWeights(), policy).recommend(block))[1]
    alone = next(Recommender(model, BlendWeights(), policy).recommend(make_block(short)))
    assert together == alone


def test_new_twins_collapse_in_a_list() -> None:
    groups = np.array([0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    weights = BlendWeights(own=1, co_purchase=0, content=0, popular=0.5, trending=0)
    (entries,) = Recommender(make_model(groups=groups), weights, RepurchasePolicy(4, "allow")).recommend(
        make_block({2: (2.0, 1), 3: (1.0, 1)})
    )
    # 2 and 3 are twins that the user has both had; of the new twins 0 and 1 only the more popular one stays.
    assert [entry.item for entry in entries] == [2, 3, 0, 4]
