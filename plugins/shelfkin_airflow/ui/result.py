"""A run as one page: k and why, clusters, quality beside every baseline, the gate's word, cost, is it served."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shelfkin.artifacts import Manifest, RunPaths
from shelfkin.lineage import read_lineage, stale_line
from shelfkin_airflow.ui.shop import TASKS, Shop

# The two tasks that lists are judged in, in the words of the page.
JUDGED = {"all": "everything that customers bought", "new": "products that were new to the customer"}


@dataclass(frozen=True)
class Judged:
    """One recommender's figures in one task; `ahead` is the 95% interval of our NDCG@10 less its own."""

    model: str
    ndcg: float
    recall: float | None
    users: int
    ahead: Sequence[float] | None


@dataclass(frozen=True)
class Result:
    """What a page about a run shows.

    Attributes
    ----------
    stages
        Task and state: done, failed or waiting.
    published
        ``latest`` (it serves), ``day`` (it is its day's, readers have a newer one), ``replaced``, or None.
    quality
        By task, best first.
    """

    paths: RunPaths
    stages: list[tuple[str, str]]
    metrics: Mapping[str, Mapping[str, Any]]
    published: str | None
    stale: str
    quality: Mapping[str, list[Judged]]
    pointer: Mapping[str, Any] | None
    plots: list[tuple[str, str]]


def run_result(shop: Shop, paths: RunPaths) -> Result:
    """Return what a run found, as far as it has come."""
    manifests = shop.manifests(paths)
    pointer, state = _published(shop, paths)
    return Result(
        paths=paths,
        stages=[(task, _state(shop, paths, manifests, task)) for task in TASKS],
        metrics={stage: manifest.content["metrics"] for stage, manifest in manifests.items()},
        published=state,
        stale=stale_line(read_lineage(shop.root, shop.store, paths.as_of)),
        quality=_quality(shop, manifests),
        pointer=pointer,
        plots=[(stage, plot) for stage, manifest in manifests.items() for plot in sorted(manifest.content["plots"])],
    )


def _state(shop: Shop, paths: RunPaths, manifests: Mapping[str, Manifest], task: str) -> str:
    if shop.error(paths, task) is not None:
        return "failed"
    return "done" if task in manifests else "waiting"


def _published(shop: Shop, paths: RunPaths) -> tuple[Mapping[str, Any] | None, str | None]:
    of_day = shop.pointer(paths.as_of)
    if of_day is None:
        return None, None
    if of_day["run_id"] != paths.run_id:
        return None, "replaced"
    latest = shop.pointer()
    serves = latest is not None and latest["run_id"] == paths.run_id
    return of_day, "latest" if serves else "day"


def _quality(shop: Shop, manifests: Mapping[str, Manifest]) -> dict[str, list[Judged]]:
    manifest = manifests.get("evaluate_recommenders")
    if manifest is None or manifest.content["metrics"].get("skipped_reason"):
        return {}
    # A few hundred rows in one file; a run that wasn't published has no index yet.
    rows = manifest.dataset("recommender_metrics").to_table().to_pylist()
    newest = max((row["cut"] for row in rows), default=None)
    at_10 = [row for row in rows if row["cut"] == newest and row["k"] == 10]
    value = {(row["task"], row["model"], row["metric"]): row["value"] for row in at_10}
    metrics = manifest.content["metrics"]
    quality: dict[str, list[Judged]] = {}
    for row in at_10:
        if row["metric"] == "ndcg":
            task, model = row["task"], row["model"]
            ahead = metrics.get(f"ahead_{task}", {}).get(model)
            one = Judged(model, row["value"], value.get((task, model, "recall")), row["users"], ahead)
            quality.setdefault(task, []).append(one)
    return {task: sorted(judged, key=lambda one: -one.ndcg) for task, judged in sorted(quality.items())}
