"""A shop over its published days: quality, drift, cost and freshness, and what needs a person."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Any

from shelfkin.artifacts import Manifest, Root, RunPaths, published_pointer
from shelfkin.errors import ShelfkinError
from shelfkin.lineage import read_lineage, stale_line
from shelfkin_airflow.deadline import overdue
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
    days, unreadable = [], []
    for as_of in published[:n_days]:
        try:
            days.append(_day(shop.root, shop.store, as_of, _state(shop.run(as_of, ""))))
        except ShelfkinError as error:
            unreadable.append(f"{as_of} can't be read: {error.message}")
    return History(days, len(published), unreadable + (_to_do(shop, days) if days or not unreadable else []))


def _state(paths: RunPaths) -> tuple[str, ...]:
    """Return what changes when the files of a day do: its pointer and its lineage."""
    root = paths.root
    return tuple(root.fs.ukey(uri) for uri in (paths.published_uri(), paths.lineage_uri()) if root.exists(uri))


@lru_cache(maxsize=4096)
def _day(root: Root, store: str, as_of: date, _state: tuple[str, ...]) -> Day:
    """Return one day; read anew only when its files change, because a lineage holds a large shop's every product."""
    pointer = published_pointer(root, RunPaths(root, store, as_of, "").published_uri())
    metrics, tables = pointer["metrics"], pointer["tables"]
    clusters, embedded, built = (
        _metrics(root, pointer, stage) for stage in ("cluster_products", "embed_products", "build_recommendations")
    )
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
        stale=stale_line(read_lineage(root, store, as_of)),
    )


def _metrics(root: Root, pointer: Mapping[str, Any], stage: str) -> Mapping[str, Any]:
    uri = pointer.get("manifests", {}).get(stage)
    return Manifest.read(root, uri).content["metrics"] if uri and root.exists(uri) else {}


def _to_do(shop: Shop, days: list[Day]) -> list[str]:
    newest = days[0] if days else None
    lines = [f"{day.as_of}: {day.stale}" for day in days if day.stale]
    if late := overdue(shop.profile, newest.as_of if newest else None, datetime.now(UTC)):
        by = f" by {shop.profile.publish_by} ({shop.profile.timezone})" if shop.profile.publish_by else ""
        lines.append(f"Late: {late} should have been published{by}.")
    if newest is None:
        return [*lines, "Nothing is published yet: trigger the DAG."]
    if newest.gate == "abstain":
        lines.append(f"{newest.as_of}: too little was known to judge the lists; they were published unjudged.")
    return lines
