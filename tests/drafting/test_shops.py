"""Made shops: the draft of a profile, with at most five edited lines, keeps the right rows and leads to lists."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from drafting.made_shops import SHOPS as TEN
from drafting.made_shops import MadeShop
from drafting.odd_shops import ODD_SHOPS
from shelfkin.drafting.draft import draft_profile
from shelfkin.serving.publish import publish_run
from stage_runs import Run

pytestmark = pytest.mark.spark
SHOPS = TEN | ODD_SHOPS


def drafted(shop: MadeShop, folder: Path) -> Path:
    """Return the draft of a shop's profile, with its edits made."""
    path = draft_profile("made", [str(file) for file in shop.files], folder / "stores", force=False)
    text = path.read_text(encoding="utf-8")
    assert len(shop.edits) <= 5
    for old, new in shop.edits.items():
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in\n{text}"
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")
    return path


def holds(row: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Return whether a row has all wanted values."""
    return all(row[column] == value for column, value in wanted.items())


@pytest.mark.parametrize("name", SHOPS)
def test_a_draft_keeps_the_right_rows(spark: SparkSession, tmp_path: Path, name: str) -> None:
    shop = SHOPS[name](tmp_path)
    text = drafted(shop, tmp_path).read_text(encoding="utf-8")
    run = Run(tmp_path / "stores", tmp_path / "artifacts", "made", shop.as_of)
    products = run.stage("clean_catalog")
    assert products.content["counts"]["kept"] == shop.n_products, (products.content["counts"], text)
    rows = run.records("clean_catalog", "products")
    assert sum(holds(row, shop.product) for row in rows) == 1, (rows, text)
    if shop.n_events is None:
        return
    events = run.stage("clean_events")
    assert events.content["counts"]["kept"] == shop.n_events, (events.content["counts"], text)
    rows = run.records("clean_events", "events")
    assert any(holds(row, shop.event) for row in rows), (rows[:5], text)


@pytest.mark.slow
@pytest.mark.parametrize("name", SHOPS)
def test_a_draft_leads_to_published_lists(spark: SparkSession, tmp_path: Path, name: str) -> None:
    shop = SHOPS[name](tmp_path)
    drafted(shop, tmp_path)
    run = Run(tmp_path / "stores", tmp_path / "artifacts", "made", shop.as_of).all_stages()
    manifests = [manifest.uri for manifest in run.manifests.values()]
    result = publish_run(run.paths, manifests, publish=True, override_gate=False, postgres=None)
    assert result.published, result.log_lines
    users = {row["user_id"] for row in run.records("clean_events", "events")} - {None}
    lists = run.records("build_recommendations", "user_recommendations")
    assert {row["user_id"] for row in lists} == users
    known = {row["product_id"] for row in run.records("clean_catalog", "products")}
    assert {row["product_id"] for row in lists} <= known
    assert run.records("build_recommendations", "similar_products")
