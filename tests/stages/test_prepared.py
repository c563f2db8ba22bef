"""Evaluation and building of a store of twelve products: what the first prepares, the second reads."""

from __future__ import annotations

import argparse
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from shelfkin.artifacts import Manifest, Root, RunPaths
from shelfkin.profile import StoreProfile
from shelfkin.settings import Settings
from shelfkin.spark import contract_columns
from shelfkin.stage import Stage
from shelfkin.stages import build_recommendations, evaluate_recommenders
from small_shop import profile

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.spark

AS_OF = datetime(2026, 3, 1, tzinfo=UTC)
PRODUCTS = [f"p{n:02d}" for n in range(12)]


def tables(n_users: int) -> dict[str, dict[str, list[tuple]]]:
    """Products p00 and p01 are one in two sizes; users buy of their own half every few days."""
    products, vectors = [], []
    for n, product in enumerate(PRODUCTS):
        title = f"mug {'small' if n else 'large'}" if n < 2 else f"thing {chr(97 + n)}"
        products.append((product, title, None, None, ["a", "bc"[n % 2]], 1.0 + n, None, None, title, f"h{n:02d}", None))
        angle = n / 12 if n > 1 else n / 100
        vectors.append((f"h{n:02d}", 1, [float(np.cos(angle)), float(np.sin(angle))]))
    events = [
        (f"u{user}", PRODUCTS[(2 * line + user) % 12], "purchase", AS_OF - timedelta(days=days), 1.0, f"o{user}-{days}")
        for user in range(n_users)
        for days in (2, 9, 25, 33, 47)
        for line in range(user % 4 + days % 2 + 1)
    ]
    return {
        "clean_catalog": {"products": products},
        "clean_events": {"events": events},
        "embed_products": {"product_vectors": vectors},
        "cluster_products": {"product_clusters": [(product, 7, 0.0) for product in PRODUCTS]},
    }


def finished(spark: SparkSession, folder: Path, n_users: int) -> dict[str, Stage]:
    """Run both stages on tables that are written by hand."""
    paths = RunPaths(Root.at(str(folder)), "corner_shop", date(2026, 3, 1), "run")
    given = {"list_length": None, "repurchase": None, "repurchase_after_days": None, "ranker_windows": 1}
    inputs: dict[str, Manifest] = {}

    def open_stage(name: str) -> Stage:
        return Stage(
            name=name,
            paths=paths,
            profile=StoreProfile.model_validate(profile()),
            settings=Settings.from_env({"ARTIFACT_ROOT": str(folder)}),
            attempt="1",
            options=argparse.Namespace(**given),
            inputs=dict(inputs),
        )

    def close(stage: Stage) -> None:
        paths.root.put_json(paths.manifest_uri(stage.name), stage.manifest())
        inputs[stage.name] = Manifest.read(paths.root, paths.manifest_uri(stage.name))

    stages = {}
    for name, by_table in tables(n_users).items():
        stage = open_stage(name)
        for table, rows in by_table.items():
            stage.write(table, spark.createDataFrame(rows, contract_columns(table)), n_files=1)
        close(stage)
    for app in (evaluate_recommenders, build_recommendations):
        stages[app.APP.name] = stage = open_stage(app.APP.name)
        app.run(stage)
        close(stage)
    return stages


def rows_of(spark: SparkSession, stage: Stage, table: str) -> list[tuple]:
    return sorted(tuple(row) for row in spark.read.parquet(stage.table_uri(table)).collect())


def test_building_reads_what_evaluation_prepared(spark: SparkSession, tmp_path: Path) -> None:
    stages = finished(spark, tmp_path, 20)
    evaluated, built = stages.values()
    assert "skipped_reason" not in evaluated.metrics
    assert rows_of(spark, evaluated, "product_variants") == [("p00", "p00"), ("p01", "p00")]
    assert len(rows_of(spark, evaluated, "prepared_products")) == len(PRODUCTS)
    assert evaluated.tables["timelines"]["rows"] == 20
    # A list never holds the asking product's own variant.
    similar = {(product, other) for product, _, other, *_ in rows_of(spark, built, "similar_products")}
    assert ("p02", "p03") in similar
    assert ("p00", "p01") not in similar
    assert {row[0] for row in rows_of(spark, built, "user_recommendations")} == {f"u{n}" for n in range(20)}
    assert {row[0] for row in rows_of(spark, built, "popular_products")} == {"all", "cluster:7"}
    assert built.metrics["unknown_products"] == 0


def test_a_store_without_events_is_prepared_all_the_same(spark: SparkSession, tmp_path: Path) -> None:
    evaluated, built = finished(spark, tmp_path, 0).values()
    assert "no events" in evaluated.metrics["skipped_reason"]
    assert "no events" in built.metrics["skipped_reason"]
    assert built.tables["similar_products"]["rows"] > 0
    assert built.tables["user_recommendations"]["rows"] == 0
