"""A shop over its published days: quality, drift, cost and freshness, and what needs a person."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from shelfkin.artifacts import Manifest
from shelfkin.lineage import read_lineage, stale_line
from shelfkin_airflow.ui.shop import Shop

N_DAYS = 60


@dataclass(frozen=True)
class Day:
    """One published day."""

    as_of: date
    run_id: str
    published_at: str
    products: int
    customers: int | None
    k: int | None
    ndcg: float | None
    best_baseline: str | None
    best_baseline_ndcg: float | None
    gate: str | None
    moved: float | None
    cost_usd: float | None
    stale: str


@dataclass(frozen=True)
class History:
    """The published days, newest first, and one line for each thing that a person should look at."""

    days: list[Day]
    n_days: int
    to_do: list[str]


def shop_history(shop: Shop, n_days: int = N_DAYS) -> History:
    """Return the newest published days of a shop."""
    published = shop.days()
    days = [_day(shop, as_of, pointer) for as_of in published[:n_days] if (pointer := shop.pointer(as_of))]
    return History(days, len(published), _to_do(shop, days))


def _day(shop: Shop, as_of: date, pointer: Mapping[str, Any]) -> Day:
    metrics, tables = pointer["metrics"], pointer["tables"]
    clusters, embedded = (_metrics(shop, pointer, stage) for stage in ("cluster_products", "embed_products"))
    built = _metrics(shop, pointer, "build_recommendations")
    task = metrics.get("task")
    return Day(
        as_of=as_of,
        run_id=pointer["run_id"],
        published_at=str(pointer["published_at"]),
        products=tables["products"]["rows"],
        customers=built.get("users"),
        k=clusters.get("k"),
        ndcg=metrics.get("ndcg_at_10"),
        best_baseline=metrics.get(f"best_baseline_{task}"),
        best_baseline_ndcg=metrics.get(f"best_baseline_ndcg_at_10_{task}"),
        gate=metrics.get("gate"),
        moved=clusters.get("share_moved"),
        cost_usd=embedded.get("cost_usd"),
        stale=stale_line(read_lineage(shop.root, shop.store, as_of)),
    )


def _metrics(shop: Shop, pointer: Mapping[str, Any], stage: str) -> Mapping[str, Any]:
    uri = pointer.get("manifests", {}).get(stage)
    return Manifest.read(shop.root, uri).content["metrics"] if uri and shop.root.exists(uri) else {}


def _to_do(shop: Shop, days: list[Day]) -> list[str]:
    if not days:
        return ["Nothing is published yet: trigger the DAG."]
    lines = [f"{day.as_of}: {day.stale}" for day in days if day.stale]
    newest = days[0]
    age = (datetime.now(UTC).date() - newest.as_of).days
    if shop.profile.schedule and age > 1:
        lines.append(f"The newest published day is {newest.as_of}, {age} days ago, although runs are scheduled.")
    if newest.gate == "abstain":
        lines.append(f"{newest.as_of}: too little was known to judge the lists; they were published unjudged.")
    return lines
