"""Drill: a catalogue is corrected, the forecast says what a backfill would do, and the backfill does just that."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pytest

from airflow_api import Api
from installation import Installation, temporary_folder
from shelfkin.artifacts import Manifest, Root, RunPaths, forecast_uri
from shelfkin.lineage import lineage_record, read_lineage
from small_shop import STORE, dated_catalogues, products, write_csv, write_shop

pytestmark = [pytest.mark.slow, pytest.mark.spark, pytest.mark.airflow]

PAGES = "/dags/product_recommendations"
DAYS = [date(2024, 5, day) for day in range(1, 6)]
N_RENAMED = 137


@pytest.fixture(scope="module")
def shop() -> Iterator[Installation]:
    """Five days, each with a catalogue of the day before."""
    with temporary_folder() as folder:
        stores = write_shop(
            folder,
            schedule="0 3 * * *",
            start_date="2024-05-01",
            catalog=dated_catalogues(),
            default_as_of=None,
            max_staleness_days=60,
        )
        for number in range(5):
            deliver(stores, number, 1, products())
        yield Installation(folder, stores)


def deliver(stores: Path, number: int, revision: int, rows: list[dict[str, str]]) -> None:
    """Write the catalogue that one of the days reads."""
    day = date.fromordinal(DAYS[number].toordinal() - 1)
    write_csv(stores / "data" / f"products-{day}-r{revision}.csv", rows)


@pytest.fixture(scope="module")
def api(shop: Installation) -> Iterator[Api]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started = shop.airflow("up", "--port", str(port))
    assert started.returncode == 0, started.stdout + started.stderr
    assert "Runs by schedule: Corner shop, '0 3 * * *' UTC" in started.stdout
    try:
        yield Api(f"http://127.0.0.1:{port}", started.stdout.split("password")[1].split()[0])
    finally:
        shop.airflow("down")


class Published:
    """What stands published, read as readers do."""

    def __init__(self, installation: Installation) -> None:
        self.root = Root.at(installation.environment["ARTIFACT_ROOT"])

    def paths(self, day: date) -> RunPaths:
        return RunPaths(self.root, STORE, day, "")

    def bytes_of(self, day: date) -> bytes:
        return self.root.read_bytes(self.paths(day).published_uri())

    def pointer(self, day: date) -> dict[str, Any]:
        return self.root.read_json(self.paths(day).published_uri())

    def latest(self) -> str:
        return str(self.root.read_json(self.paths(DAYS[0]).latest_uri())["as_of"])

    def stale(self) -> tuple[date, ...]:
        return tuple(day for day in DAYS if (read_lineage(self.root, STORE, day) or {}).get("stale"))

    def embedded(self, day: date) -> int:
        manifest = Manifest.read(self.root, self.pointer(day)["manifests"]["embed_products"])
        return int(manifest.content["metrics"]["texts_embedded"])

    def clusters(self, day: date) -> dict[str, int]:
        table = ds.dataset(self.pointer(day)["tables"]["product_clusters"]["path"], format="parquet").to_table()
        return {row["product_id"]: row["cluster_id"] for row in table.to_pylist()}

    def forecast(self) -> dict[str, Any]:
        return self.root.read_json(forecast_uri(self.root, STORE))


def ask(api: Api, first: date, last: date) -> None:
    """Press the button Forecast, and wait until it is there."""
    api.press(f"{PAGES}/forecast", {"first": first.isoformat(), "last": last.isoformat()})
    newest = api.call("GET", "/api/v2/dags/backfill_forecast/dagRuns?order_by=-id&limit=1")["dag_runs"][0]
    assert api.wait_for(newest["dag_run_id"], "backfill_forecast") == "success"


def backfill(api: Api, first: date, last: date, **kwargs: Any) -> None:
    api.press(f"{PAGES}/backfill", {"first": first.isoformat(), "last": last.isoformat()})
    api.wait_for_backfill(**kwargs)


def test_a_forecast_equals_what_then_happens(api: Api, shop: Installation, capsys: pytest.CaptureFixture[str]) -> None:
    there = Published(shop)
    backfill(api, DAYS[0], DAYS[-1])
    assert there.latest() == DAYS[-1].isoformat() and there.stale() == ()
    texts_before = {day: there.embedded(day) for day in DAYS}
    pointers, clusters = ({day: look(day) for day in DAYS} for look in (there.bytes_of, there.clusters))

    renamed = [{**row, "name": f"Finest {row['name']}"} for row in products()[:N_RENAMED]] + products()[N_RENAMED:]
    for number in range(1, 5):
        deliver(shop.stores, number, 2, renamed)
    ask(api, DAYS[0], DAYS[-1])
    told = there.forecast()
    n_texts = len({row["name"] for row in renamed}) - len({row["name"] for row in products()[N_RENAMED:]})
    assert [day["change"] for day in told["days"]] == [None, *["catalogue"] * 4]
    assert [day["texts_changed"] for day in told["days"]] == [0, *[N_RENAMED] * 4]
    # All on the first day that knows them: no text is embedded twice.
    assert [day["texts"] for day in told["days"]] == [0, n_texts, 0, 0, 0]
    assert "4 of 5 days would change" in api.page(f"{PAGES}/backfill")

    seen_latest, seen_stale = set(), set()

    def look() -> None:
        seen_latest.add(there.latest())
        seen_stale.add(there.stale())

    # The forecast says that the first day stays: it is left out.
    ask(api, DAYS[1], DAYS[-1])
    backfill(api, DAYS[1], DAYS[-1], look=look)

    after = {day: there.embedded(day) for day in DAYS}
    moved = {day: sum(there.clusters(day)[sku] != cluster for sku, cluster in clusters[day].items()) for day in DAYS}
    with capsys.disabled():
        print("\n  day         change     texts: forecast  embedded  before  rewritten  products moved")
        for day, line in zip(DAYS, told["days"], strict=True):
            rewritten = "yes" if there.bytes_of(day) != pointers[day] else "no"
            embedded = after[day] if rewritten == "yes" else 0
            print(
                f"  {day}  {line['change'] or 'none':9}  {line['texts']:15}  {embedded:8}  {texts_before[day]:6}  "
                f"{rewritten:9}  {moved[day]:14}"
            )
        print(f"  latest named {sorted(seen_latest)}; stale meanwhile: {max(map(len, seen_stale))} days, now: 0")
    assert [after[day] for day in DAYS[1:]] == [day["texts"] for day in told["days"]][1:]
    assert there.bytes_of(DAYS[0]) == pointers[DAYS[0]]
    assert all(there.bytes_of(day) != pointers[day] for day in DAYS[1:])
    # No older day ever took its place.
    assert seen_latest == {DAYS[-1].isoformat()} == {there.latest()}
    # The days after the one that was being rewritten were marked, and are not any more.
    assert (DAYS[2], DAYS[3], DAYS[4]) in seen_stale and there.stale() == ()
    for before, day in pairwise(DAYS):
        lineage, predecessor = (read_lineage(there.root, STORE, each) for each in (day, before))
        assert lineage is not None and predecessor is not None
        assert lineage["predecessor"] == lineage_record(predecessor)
    # Ids go on: of the products that kept their name, and of most of the others.
    assert max(moved.values()) < 0.2 * len(products())
    page = api.page(f"{PAGES}/backfill")
    assert "4 of these days have been run since" in page and "Backfill these days" not in page
