"""Spread and outliers of clusters, on real Spark."""

from __future__ import annotations

from typing import Any

import pytest

from shelfkin.clustering.cluster_stats import ClusterStats, cluster_stats, flag_outliers
from shelfkin.errors import DataQualityError

pytestmark = pytest.mark.spark


def spread_of(spark: Any, distances: list[float], n_partitions: int = 3) -> tuple[ClusterStats, list[str]]:
    rows = [(1, f"P{place:02d}", distance) for place, distance in enumerate(distances)]
    frame = spark.createDataFrame(rows, "cluster_id int, product_id string, distance float").repartition(n_partitions)
    stats = cluster_stats(frame)
    flagged = flag_outliers(frame, stats).where("is_outlier").orderBy("product_id").collect()
    return stats[1], [row["product_id"] for row in flagged]


def test_spread_and_outliers_by_hand(spark: Any) -> None:
    # 0.01 to 0.20: quartiles by nearest rank 0.05 and 0.15, range 0.10, fence 0.15 + 1.5 * 0.10 = 0.30.
    distances = [place / 100 for place in range(1, 21)]
    spread, flagged = spread_of(spark, distances)
    assert spread == ClusterStats(size=20, total_distance=2.1, median=0.10, p90=0.18, fence=0.30, n_outliers=0)
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


def test_the_largest_cluster_comes_first_and_a_product_without_a_distance_stops_the_run(spark: Any) -> None:
    ddl = "cluster_id int, product_id string, distance float"
    rows = [(1, "A", 0.1), (2, "B", 0.2), (2, "C", 0.3), (0, "D", 0.1)]
    stats = cluster_stats(spark.createDataFrame(rows, ddl))
    assert list(stats) == [2, 0, 1]
    assert (stats[2].size, stats[2].total_distance) == (2, 0.5)
    with pytest.raises(DataQualityError, match="vectors of 1 products hold NaN"):
        cluster_stats(spark.createDataFrame([*rows, (2, "E", None)], ddl))
