"""A finished run without Spark: tables and manifests as the stages leave them, every row stamped with the run."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from shelfkin import tables
from shelfkin.artifacts import FORMAT_VERSION, Root, RunPaths, sha256_hex

STRINGS = pa.list_(pa.string())
REASONS = pa.list_(pa.struct([("product_id", pa.string()), ("share", pa.float32())]))
# The stage that writes each table, and the types that Spark gives its columns.
SCHEMAS: dict[str, tuple[str, pa.Schema]] = {
    tables.PRODUCTS: (
        "clean_catalog",
        pa.schema(
            {
                "product_id": pa.string(),
                "title": pa.string(),
                "brand": pa.string(),
                "category_path": STRINGS,
                "price": pa.float64(),
                "currency": pa.string(),
                "in_stock": pa.bool_(),
                "text_hash": pa.string(),
            }
        ),
    ),
    tables.EVENTS: (
        "clean_events",
        pa.schema(
            {
                "user_id": pa.string(),
                "product_id": pa.string(),
                "event_type": pa.string(),
                "occurred_at": pa.timestamp("us", "UTC"),
                "quantity": pa.float64(),
            }
        ),
    ),
    tables.PRODUCT_CLUSTERS: (
        "cluster_products",
        pa.schema({"product_id": pa.string(), "cluster_id": pa.int32(), "distance": pa.float32()}),
    ),
    tables.CLUSTERS: (
        "cluster_products",
        pa.schema(
            {
                "cluster_id": pa.int32(),
                "name": pa.string(),
                "size": pa.int64(),
                "top_terms": STRINGS,
                "representative_product_ids": STRINGS,
                "status": pa.string(),
            }
        ),
    ),
    tables.CLUSTER_PROJECTION: (
        "cluster_products",
        pa.schema({"text_hash": pa.string(), "cluster_id": pa.int32(), "x": pa.float32(), "y": pa.float32()}),
    ),
    tables.RECOMMENDER_METRICS: (
        "evaluate_recommenders",
        pa.schema(
            {
                "model": pa.string(),
                "task": pa.string(),
                "cut": pa.date32(),
                "horizon_days": pa.int32(),
                "metric": pa.string(),
                "k": pa.int32(),
                "value": pa.float64(),
                "users": pa.int64(),
            }
        ),
    ),
    tables.SIMILAR_PRODUCTS: (
        "build_recommendations",
        pa.schema(
            {
                "product_id": pa.string(),
                "rank": pa.int32(),
                "similar_product_id": pa.string(),
                "score": pa.float32(),
                "content_score": pa.float32(),
                "co_purchase_score": pa.float32(),
            }
        ),
    ),
    tables.PRODUCT_VARIANTS: (
        "evaluate_recommenders",
        pa.schema({"product_id": pa.string(), "variant_group": pa.string()}),
    ),
    tables.USER_RECOMMENDATIONS: (
        "build_recommendations",
        pa.schema(
            {
                "user_id": pa.string(),
                "rank": pa.int32(),
                "product_id": pa.string(),
                "score": pa.float32(),
                "strategy": pa.string(),
                "reasons": REASONS,
            }
        ),
    ),
    tables.POPULAR_PRODUCTS: (
        "build_recommendations",
        pa.schema({"scope": pa.string(), "rank": pa.int32(), "product_id": pa.string(), "score": pa.float32()}),
    ),
}

Rows = dict[str, list[dict[str, Any]]]


def stamped_rows(stamp: int, n_products: int = 40, n_similar: int = 5) -> Rows:
    """Return a small shop's tables; `stamp` is every score, price, size and share, and part of every title and name."""
    ids = [f"p{number:06d}" for number in range(n_products)]
    share = stamp / 1000
    return {
        tables.PRODUCTS: [
            {"product_id": p, "title": f"title {stamp}", "category_path": ["a", "b"], "price": float(stamp)}
            for p in ids
        ],
        tables.EVENTS: [],
        tables.PRODUCT_CLUSTERS: [{"product_id": p, "cluster_id": 1, "distance": float(stamp)} for p in ids],
        tables.CLUSTERS: [
            {"cluster_id": 1, "name": f"name {stamp}", "size": stamp, "top_terms": ["x"], "status": "kept"}
        ],
        tables.CLUSTER_PROJECTION: [],
        tables.RECOMMENDER_METRICS: [
            {
                "model": "ours",
                "task": "all",
                "cut": date(2024, 1, 1),
                "horizon_days": 14,
                "metric": "ndcg",
                "k": 10,
                "value": float(stamp),
                "users": 7,
            }
        ],
        tables.SIMILAR_PRODUCTS: [
            {
                "product_id": p,
                "rank": rank,
                "similar_product_id": ids[(number + rank) % n_products],
                "score": float(stamp),
                "content_score": float(stamp),
            }
            for number, p in enumerate(ids)
            for rank in range(1, n_similar + 1)
        ],
        tables.PRODUCT_VARIANTS: [{"product_id": p, "variant_group": ids[0]} for p in ids[:2]],
        tables.USER_RECOMMENDATIONS: [
            {
                "user_id": f"u{number}",
                "rank": 1,
                "product_id": ids[number],
                "score": float(stamp),
                "strategy": "content",
                "reasons": [{"product_id": ids[0], "share": share}],
            }
            for number in range(5)
        ],
        tables.POPULAR_PRODUCTS: [{"scope": "all", "rank": 1, "product_id": ids[0], "score": float(stamp)}],
    }


def write_run(
    artifacts: Path,
    rows: Rows,
    *,
    as_of: str = "2024-06-01",
    run_id: str = "r1",
    metrics: dict[str, Any] | None = None,
) -> tuple[RunPaths, list[str]]:
    """Write tables and manifests of a run of store ``shop``; return its paths and the manifests' URIs.

    `metrics` are those of evaluate_recommenders.
    """
    paths = RunPaths(Root.at(str(artifacts)), "shop", date.fromisoformat(as_of), run_id)
    described: dict[str, dict[str, Any]] = {}
    # Another attempt writes elsewhere, and its manifests say so.
    attempt = sha256_hex(repr(rows).encode())[:8]
    for table, (stage, schema) in SCHEMAS.items():
        folder = Path(paths.attempt_uri(stage, attempt)) / table
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows[table], schema=schema), folder / "part-0.parquet")
        entry = {"path": paths.root.relative(str(folder)), "rows": len(rows[table])}
        described.setdefault(stage, {})[table] = entry
    for stage, written in described.items():
        paths.root.put_json(
            paths.manifest_uri(stage),
            {
                "format_version": FORMAT_VERSION,
                "stage": stage,
                "store": "shop",
                "run_id": run_id,
                "as_of": as_of,
                "tables": written,
                "plots": {},
                "counts": {},
                "metrics": (metrics or {}) if stage == "evaluate_recommenders" else {},
            },
        )
    return paths, [paths.manifest_uri(stage) for stage in described]
