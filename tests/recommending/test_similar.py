"""Similar products: one of each group, chosen by co-purchase, with the cosines of the products' own texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from shelfkin.recommending import similar
from shelfkin.recommending.item_model import group_representatives
from shelfkin.recommending.nearest import nearest_texts
from shelfkin.recommending.similar import SimilarModel, pair_cosines, similar_products, similar_rows

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def relations(n: int, *pairs: tuple[int, int, float]) -> sp.csr_array:
    rows, columns, values = zip(*pairs, strict=True) if pairs else ((), (), ())
    return sp.csr_array((np.array(values, np.float32), (np.array(rows, int), np.array(columns, int))), shape=(n, n))


def test_one_of_each_group_is_chosen_by_co_purchase_then_popularity() -> None:
    # Products 0 and 1 are twins (text 0). Groups: 0 = {0, 1}, 1 = {2, 3, 4} of texts 1 and 2, 2 = {5} of text 3.
    vectors = np.array([[1, 0], [0.6, 0.8], [0.8, 0.6], [0.28, 0.96]], dtype=np.float32)
    model = SimilarModel(
        product_ids=np.array(list("abcdef"), dtype=object),
        texts=np.array([0, 0, 1, 1, 2, 3]),
        groups=np.array([0, 0, 1, 1, 1, 2]),
        allowed=np.array([True, True, True, True, True, True]),
        rank=np.array([0, 1, 2, 3, 4, 5]),
        neighbours=np.array([[1, 2], [0, 2], [1, 0]]),
        co_purchase=relations(6, (0, 3, 0.1), (0, 4, 0.4), (0, 1, 0.9)),
        content_share=0.5,
    )
    default = group_representatives(model.groups, model.allowed, model.rank, 3)
    item, rank, similar, score, content, together = similar_rows(model, vectors, default, 0, 6, 2)
    rows = {
        (int(i), int(r)): (int(s), round(float(v), 6), float(c), round(float(b), 6))
        for i, r, s, v, c, b in zip(item, rank, similar, score, content, together, strict=True)
    }
    # Of group 1 the product that customers of 0 buy, with the cosine of its own text (0.8, not 0.6); no twin of 0.
    assert rows[0, 1] == (4, 0.5 * 0.8 + 0.5, 0.8, 0.4)
    assert rows[0, 2] == (5, 0.14, 0.28, 0.0)
    # The twin of 0 was bought with nothing: the most popular of group 1.
    assert rows[1, 1] == (2, 0.3, 0.6, 0.0)
    assert rows[4, 1][0] == 0
    assert len(rows) == 12


def test_what_is_not_on_sale_is_not_shown_but_asks() -> None:
    vectors = np.eye(3, dtype=np.float32)
    model = SimilarModel(
        product_ids=np.array(list("abc"), dtype=object),
        texts=np.arange(3),
        groups=np.arange(3),
        allowed=np.array([True, True, False]),
        rank=np.arange(3),
        neighbours=np.array([[1, 2], [0, 2], [0, -1]]),
        co_purchase=relations(3, (0, 2, 0.9)),
        content_share=0.5,
    )
    default = group_representatives(model.groups, model.allowed, model.rank, 3)
    item, _, similar, *_ = similar_rows(model, vectors, default, 0, 3, 5)
    assert list(zip(item.tolist(), similar.tolist(), strict=True)) == [(0, 1), (1, 0), (2, 0)]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1000), block=st.integers(1, 30), length=st.integers(1, 6))
def test_lists_are_full_sorted_and_never_repeat_a_group(seed: int, block: int, length: int) -> None:
    random = np.random.default_rng(seed)
    n, n_texts, n_groups = 30, 20, 9
    group_of = np.concatenate([np.arange(n_groups), random.integers(0, n_groups, size=n_texts - n_groups)])
    texts = np.concatenate([np.arange(n_texts), random.integers(0, n_texts, size=n - n_texts)])
    vectors = random.normal(size=(n_texts, 4))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    bought = sp.random_array((n, n), density=0.2, rng=random, dtype=np.float32).tocsr()
    neighbours = np.array([random.permutation([g for g in range(n_groups) if g != own]) for own in range(n_groups)])
    model = SimilarModel(
        product_ids=np.array([f"p{i:02d}" for i in range(n)], dtype=object),
        texts=texts,
        groups=group_of[texts],
        allowed=np.ones(n, dtype=bool),
        rank=random.permutation(n),
        neighbours=neighbours,
        co_purchase=bought,
        content_share=0.7,
    )
    default = group_representatives(model.groups, model.allowed, model.rank, n_groups)
    whole = similar_rows(model, vectors, default, 0, n, length)
    parts = [
        similar_rows(model, vectors, default, start, min(start + block, n), length) for start in range(0, n, block)
    ]
    for column, found in enumerate(whole):
        np.testing.assert_array_equal(found, np.concatenate([part[column] for part in parts]))
    item, rank, similar, score, content, together = whole
    for product in range(n):
        rows = item == product
        assert rank[rows].tolist() == list(range(1, min(length, n_groups - 1) + 1))
        shown = model.groups[similar[rows]].tolist()
        assert len(set(shown)) == len(shown)
        assert model.groups[product] not in shown
        assert (np.diff(score[rows]) <= 0).all()
    np.testing.assert_allclose(content, np.einsum("nd,nd->n", vectors[texts[item]], vectors[texts[similar]]), atol=1e-5)
    np.testing.assert_allclose(together, bought.toarray()[item, similar], atol=1e-6)


def test_cosines_of_pairs() -> None:
    vectors = np.array([[1, 0], [0.6, 0.8], [0, 1]], dtype=np.float32)
    ones, others = np.array([2, 0, 0, 2, 1]), np.array([1, 1, 2, 1, 1])
    np.testing.assert_array_equal(pair_cosines(vectors, ones, others), [0.8, 0.6, 0.0, 0.8, 1.0])
    assert pair_cosines(vectors, ones[:0], others[:0]).shape == (0,)


@pytest.mark.spark
def test_the_table_in_tasks_is_what_one_process_finds(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    # Three bowls of one group (texts 0 to 2), two mugs of another, a chair and a desk, all in one plane.
    angles = np.radians([0.0, 10.0, 40.0, 45.0, 80.0, 120.0])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    groups = np.array([0, 0, 0, 1, 1, 2, 3])
    near = nearest_texts(vectors[[1, 3, 4, 5]], np.ones(4, dtype=bool), 3, exact_up_to=4, recall=0.98)
    model = SimilarModel(
        product_ids=np.array([f"p{i}" for i in range(7)], dtype=object),
        texts=np.array([0, 0, 1, 2, 3, 4, 5]),
        groups=groups,
        allowed=np.ones(7, dtype=bool),
        rank=np.array([3, 2, 1, 5, 4, 0, 6]),
        neighbours=near.neighbours,
        # Who has the chair buys p3: that it is less popular is no matter then.
        co_purchase=relations(7, (5, 3, 0.5)),
        content_share=0.7,
    )
    monkeypatch.setattr(similar, "_PRODUCTS_PER_BLOCK", 3)
    with similar_products(spark, model, vectors, 3) as table:
        rows = table.orderBy("product_id", "rank").collect()
    default = group_representatives(groups, model.allowed, model.rank, 4)
    item, rank, other, score, content, together = similar_rows(model, vectors, default, 0, 7, 3)
    assert [tuple(row) for row in rows] == list(
        zip(
            model.product_ids[item].tolist(),
            rank.tolist(),
            model.product_ids[other].tolist(),
            *(values.astype(np.float32).tolist() for values in (score, content, together)),
            strict=True,
        )
    )
    lists = {
        asking: [row["similar_product_id"] for row in rows if row["product_id"] == asking] for asking in ["p0", "p3"]
    }
    assert lists == {"p0": ["p4", "p5", "p6"], "p3": ["p2", "p5", "p6"]}
    chair = next(row for row in rows if row["product_id"] == "p5")
    assert chair["similar_product_id"] == "p3"
    assert chair["content_score"] == pytest.approx(np.cos(np.radians(40)), abs=1e-5)
    assert chair["score"] == pytest.approx(0.7 * np.cos(np.radians(40)) + 0.3, abs=1e-5)
