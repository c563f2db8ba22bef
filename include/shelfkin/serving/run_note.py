"""A run in two lines: what Airflow shows as the run's note."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shelfkin.artifacts import Manifest

NO_FIGURES: Mapping[str, Any] = {}


def run_note(manifests: Mapping[str, Manifest], *, published: bool, is_latest: bool) -> str:
    """Return what came of a finished run, and what it took.

    Parameters
    ----------
    manifests
        Those of the run's stages, by stage.
    """
    if is_latest:
        outcome = "Published."
    else:
        outcome = "Published for its day; readers keep another." if published else "What-if run: not published."
    clusters, embedded, built = (
        manifests[stage].content["metrics"] if stage in manifests else NO_FIGURES
        for stage in ("cluster_products", "embed_products", "build_recommendations")
    )
    k, texts, cost = clusters.get("k"), embedded.get("texts_embedded"), embedded.get("cost_usd")
    took = []
    if texts is not None:
        took.append(f"{texts:,} texts embedded" + (f" for ${cost:,.2f}" if cost is not None else ""))
    if built.get("products") is not None:
        took.append(f"{built['products']:,} products, {built.get('users') or 0:,} customers with a list")
    parts = [outcome, f"{k} clusters;" if k else "", _quality(manifests)]
    return " ".join(part for part in parts if part) + "\n" + "; ".join(took)


def _quality(manifests: Mapping[str, Manifest]) -> str:
    evaluated = manifests.get("evaluate_recommenders")
    metrics = evaluated.content["metrics"] if evaluated else NO_FIGURES
    ours, task = metrics.get("ndcg_at_10"), metrics.get("task")
    if ours is None:
        return "lists not judged."
    name, best = metrics.get(f"best_baseline_{task}"), metrics.get(f"best_baseline_ndcg_at_10_{task}")
    if name is None or best is None:
        return f"NDCG@10 {ours:.4f}."
    ahead = metrics.get(f"ahead_{task}", {}).get(name)
    interval = f" ({ahead[0]:+.4f} to {ahead[1]:+.4f} with 95% confidence)" if ahead else ""
    return f"NDCG@10 {ours:.4f} against {best:.4f} of the best baseline, {name}{interval}."
