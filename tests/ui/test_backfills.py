"""The page Backfill: what a forecast said and what has been done since, and the backfill that it asks Airflow for."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from shelfkin.artifacts import FORMAT_VERSION, Root, forecast_uri
from shelfkin.profile import StoreProfile
from shelfkin_airflow.ui.backfills import _forecast, backfill_request
from shelfkin_airflow.ui.shop import Shop

pytestmark = pytest.mark.airflow

DAY = {"as_of": "2024-06-01", "run_id": "old", "change": "catalogue", "texts": 7}


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    profile = StoreProfile.model_construct(store="shop", schedule="0 3 * * *", timezone="Europe/Berlin")
    return Shop("product_recommendations__shop", profile, Root.at(str(tmp_path)))


def told(shop: Shop, published_at: str, **changes: Any) -> dict[str, Any] | None:
    content = {"format_version": FORMAT_VERSION, "made_at": "2024-06-03T12:00:00+00:00", "days": [DAY]} | changes
    shop.root.put_json(forecast_uri(shop.root, "shop"), content)
    paths = shop.run(date(2024, 6, 1), "new")
    manifests = {"embed_products": paths.manifest_uri("embed_products")}
    pointer = {"format_version": FORMAT_VERSION, "run_id": "new", "published_at": published_at, "manifests": manifests}
    shop.root.put_json(paths.published_uri(), pointer)
    embedded = {"format_version": FORMAT_VERSION, "stage": "embed_products", "metrics": {"texts_embedded": 7}}
    shop.root.put_json(paths.manifest_uri("embed_products"), embedded)
    return _forecast(shop)


def test_a_day_that_was_run_after_the_forecast_says_what_it_embedded(shop: Shop) -> None:
    assert _forecast(shop) is None
    before = told(shop, "2024-06-03T11:59:00+00:00")
    assert before and before["days"][0]["done"] is None and before["n_done"] == 0
    after = told(shop, "2024-06-03T12:10:00+00:00")
    assert after and after["days"][0]["done"] == 7 and after["n_done"] == 1
    # One that newer code wrote isn't guessed at.
    assert told(shop, "2024-06-03T12:10:00+00:00", format_version=99) is None


def test_a_backfill_runs_the_days_anew_one_at_a_time(shop: Shop) -> None:
    asked = backfill_request(shop, date(2024, 6, 1), date(2024, 6, 2))
    # The run as of a day has the data interval that ends on it, at three o'clock in Berlin.
    assert asked.from_date == datetime(2024, 5, 31, 1, tzinfo=UTC)
    assert asked.to_date == datetime(2024, 6, 1, 1, tzinfo=UTC)
    assert (asked.max_active_runs, asked.run_backwards, asked.reprocess_behavior) == (1, False, "completed")
