"""The note of a run: two lines with the figures that its manifests hold, and none that they lack."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from shelfkin.serving.run_note import run_note

STAGES: dict[str, dict[str, Any]] = {
    "cluster_products": {"k": 51},
    "embed_products": {"texts_embedded": 12, "cost_usd": 0.0},
    "build_recommendations": {"products": 92331, "users": 2467},
    "evaluate_recommenders": {
        "task": "all",
        "ndcg_at_10": 0.357,
        "best_baseline_all": "own_purchases",
        "best_baseline_ndcg_at_10_all": 0.347,
        "ahead_all": {"own_purchases": [0.0048, 0.0109]},
    },
}


def note(*, published: bool = True, is_latest: bool = True, **stages: dict[str, Any]) -> str:
    made: Any = {stage: SimpleNamespace(content={"metrics": metrics}) for stage, metrics in stages.items()}
    return run_note(made, published=published, is_latest=is_latest)


def test_a_published_run() -> None:
    assert note(**STAGES) == (
        "Published. 51 clusters; NDCG@10 0.3570 against 0.3470 of the best baseline, own_purchases "
        "(+0.0048 to +0.0109 with 95% confidence).\n"
        "12 texts embedded for $0.00; 92,331 products, 2,467 customers with a list"
    )


@pytest.mark.parametrize(
    ("published", "words"), [(True, "Published for its day; readers keep another."), (False, "What-if run:")]
)
def test_a_run_that_readers_do_not_get(published: bool, words: str) -> None:
    assert note(published=published, is_latest=False, **STAGES).startswith(words)


def test_a_shop_without_events() -> None:
    stages = {**STAGES, "evaluate_recommenders": {"skipped_reason": "no events"}}
    stages["build_recommendations"] = {"products": 7, "users": None}
    assert note(**stages) == (
        "Published. 51 clusters; lists not judged.\n12 texts embedded for $0.00; 7 products, 0 customers with a list"
    )
