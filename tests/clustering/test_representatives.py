"""Products that stand for a cluster, on real Spark."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from shelfkin.clustering.representatives import marginal_relevance, representatives

pytestmark = pytest.mark.spark

PRODUCTS_DDL = "cluster_id int, product_id string, title string, text_hash string, distance float"


def test_representatives_are_the_medoid_and_then_what_differs(spark: Any) -> None:
    # In the plane, the centroid at 0 degrees: B is nearest, C its near twin on the same side, D as far on the other.
    angles = {"B": 5.0, "C": 8.0, "D": -20.0}
    rows = [(1, name, f"Title {name}", name, float(1 - np.cos(np.radians(angle)))) for name, angle in angles.items()]
    rows += [(1, "A", "TITLE B 2", "B", rows[0][4])]  # the same title but for a number: the lower id stands for both
    vectors = [(name, [float(np.cos(np.radians(a))), float(np.sin(np.radians(a)))]) for name, a in angles.items()]
    frame = spark.createDataFrame(vectors, "text_hash string, vector array<float>")
    found = []
    for n_partitions in (1, 3):
        products = spark.createDataFrame(rows[:: 1 if n_partitions == 1 else -1], PRODUCTS_DDL).repartition(
            n_partitions
        )
        found.append(representatives(products, frame).collect())
    assert found[0] == found[1]
    assert found[0][0]["representative_product_ids"] == ["A", "D", "C"]
    assert found[0][0]["representative_titles"] == ["TITLE B 2", "Title D", "Title C"]


def test_candidates_are_the_central_half_thinned_evenly(spark: Any) -> None:
    # 400 titles on one circle: the nearer 200 are thinned to 64, of which the first is the nearest.
    words = [f"{chr(97 + n // 26)}{chr(97 + n % 26)}" for n in range(400)]
    rows = [(1, f"P{n:03d}", word, word, n / 1000) for n, word in enumerate(words)]
    vectors = [(word, [float(np.cos(n)), float(np.sin(n))]) for n, word in enumerate(words)]
    frame = spark.createDataFrame(vectors, "text_hash string, vector array<float>")
    [row] = representatives(spark.createDataFrame(rows, PRODUCTS_DDL), frame).collect()
    chosen = [int(product[1:]) for product in row["representative_product_ids"]]
    assert chosen[0] == 0
    assert max(chosen) < 200 and len(set(chosen)) == 5
    assert all(place * 64 % 200 < 64 for place in chosen)


def test_marginal_relevance_by_hand() -> None:
    # Row 1 is nearly row 0; row 2 is at a right angle. 0.6 * 0.8 - 0.4 * 0.99 < 0.6 * 0.6 - 0.4 * 0.
    vectors = np.array([[1, 0], [0.99, np.sqrt(1 - 0.99**2)], [0, 1]])
    assert marginal_relevance(vectors, np.array([0.9, 0.8, 0.6]), 2) == [0, 2]
    assert marginal_relevance(vectors, np.array([0.9, 0.8, 0.6]), 9) == [0, 2, 1]
