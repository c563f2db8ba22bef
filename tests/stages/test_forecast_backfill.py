"""What the forecast of a backfill says, beside what the days then do."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from shelfkin.artifacts import forecast_uri
from small_shop import STORE, products, write_csv, write_shop
from stage_runs import Run

pytestmark = pytest.mark.spark

DAYS = ["2024-05-01", "2024-05-02", "2024-05-03"]


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    catalog = {
        "kind": "dated_snapshots",
        "source": {"path": "data/products-{snapshot_date}-r{revision}.csv"},
        "fields": {"product_id": "sku", "title": "name", "category_path": "aisle", "price": "price"},
    }
    stores = write_shop(tmp_path, schedule="0 3 * * *", start_date="2024-05-01", catalog=catalog)
    deliver(stores, 1, products())
    return stores


def deliver(stores: Path, revision: int, rows: list[dict[str, str]], since: str = DAYS[0]) -> None:
    """Write the catalogue that each day from `since` on reads: that of the day before."""
    for day in DAYS:
        if day >= since:
            write_csv(stores / "data" / f"products-{the_day_before(day)}-r{revision}.csv", rows)


def the_day_before(day: str) -> date:
    return date.fromisoformat(day) - timedelta(days=1)


def embedded(run: Run) -> int:
    run.stage("clean_catalog")
    return int(run.stage("embed_products").content["metrics"]["texts_embedded"])


def publish(run: Run) -> None:
    """Point a day to a run of which the first two stages are there."""
    manifests = {stage: manifest.uri for stage, manifest in run.manifests.items()}
    run.paths.root.put_json(run.paths.published_uri(), {"run_id": run.run_id, "manifests": manifests})


def forecast(shop: Path, artifacts: Path, first: str = DAYS[0], last: str = DAYS[-1]) -> dict[str, Any]:
    run = Run(shop, artifacts, STORE, last, run_id="forecast")
    run.stage("forecast_backfill", "--from-day", first)
    return run.paths.root.read_json(forecast_uri(run.paths.root, STORE))


def told(content: dict[str, Any], *keys: str) -> list[tuple[Any, ...]]:
    return [tuple(day[key] for key in keys) for day in content["days"]]


def test_a_forecast_is_what_then_happens(spark: SparkSession, shop: Path, tmp_path: Path) -> None:
    artifacts = tmp_path / "artifacts"
    for day in DAYS:
        run = Run(shop, artifacts, STORE, day, run_id="first")
        embedded(run)
        publish(run)
    nothing = forecast(shop, artifacts, first=DAYS[-1])
    assert (nothing["changed"], nothing["texts"]) == (0, 0)
    assert told(nothing, "as_of", "change", "texts", "stale") == [(DAYS[-1], None, 0, False)]

    # From the second day on 20 products have another name, ten of the texts twice; one is new, one gone, one cheaper.
    rows = [{**row, "name": f"{row['name']} {'fine' if n < 20 else ''}"} for n, row in enumerate(products())]
    rows[-1] |= {"price": "1.00"}
    rows[-2] |= {"sku": "S999", "name": "paper kite"}
    deliver(shop, 2, rows, since=DAYS[1])
    # And the third day knows one more.
    more = [*rows, {**rows[0], "sku": "S998", "name": "steel whistle"}]
    write_csv(shop / "data" / f"products-{the_day_before(DAYS[2])}-r2.csv", more)

    content = forecast(shop, artifacts)
    assert told(content, "as_of", "change", "added", "removed", "changed", "texts_changed") == [
        (DAYS[0], None, 0, 0, 0, 0),
        (DAYS[1], "catalogue", 1, 1, 21, 20),
        (DAYS[2], "catalogue", 2, 1, 21, 20),
    ]
    assert content["days"][1]["catalogue"]["revision"] == 2
    again = [embedded(Run(shop, artifacts, STORE, day, run_id="again")) for day in DAYS[1:]]
    assert [day["texts"] for day in content["days"]] == [0, *again] == [0, 11, 1]
    assert content["texts"] == 12 and content["changed"] == 2


def test_days_after_a_changed_one_change_with_it(spark: SparkSession, shop: Path, tmp_path: Path) -> None:
    artifacts = tmp_path / "artifacts"
    for day in DAYS[1:]:
        run = Run(shop, artifacts, STORE, day, run_id="first")
        embedded(run)
        publish(run)
    lineage = run.paths.lineage_uri()
    run.paths.root.put_json(lineage, {"as_of": DAYS[2], "stale": {"because_of": DAYS[1], "since": "2024-05-04"}})
    # The first day was never run, and the second will have it for a predecessor.
    assert told(forecast(shop, artifacts), "change", "stale") == [
        ("first run", False),
        ("clusters", False),
        ("clusters", True),
    ]
    shorter = forecast(shop, artifacts, last=DAYS[1])
    assert shorter["stale_after"] == [DAYS[2]]
    assert date.fromisoformat(shorter["as_of"]) == date(2024, 5, 2)


def test_a_day_whose_run_would_fail_says_why(spark: SparkSession, shop: Path, tmp_path: Path) -> None:
    (shop / "data" / f"products-{the_day_before(DAYS[0])}-r1.csv").unlink()
    first, *others = forecast(shop, tmp_path / "artifacts")["days"]
    assert "is dated before 2024-05-01" in first["error"] and first["change"] is None
    assert [(day["change"], day["texts"]) for day in others] == [("first run", 72), ("first run", 0)]
