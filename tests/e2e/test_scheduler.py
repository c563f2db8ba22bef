"""Drill: a real scheduler, triggered through its REST API and by a backfill."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil
import pyarrow.dataset as ds
import pytest

from airflow_api import DEADLINE_S, Api
from inbox import Inbox, open_inbox
from installation import Installation, temporary_folder
from shelfkin.artifacts import Root, RunPaths
from small_shop import dated_catalogues, events, products, write_csv, write_shop
from stage_runs import Run

pytestmark = [pytest.mark.slow, pytest.mark.spark, pytest.mark.airflow]

STORE = "corner_shop"
DAG_ID = "product_recommendations"


@pytest.fixture(scope="module")
def scheduled() -> Iterator[Installation]:
    """The shop with a daily schedule, a dated catalogue, and a trap: what comes later than the days under test."""
    with temporary_folder() as folder:
        yield scheduled_shop(folder)


def scheduled_shop(folder: Path) -> Installation:
    stores = write_shop(
        folder,
        schedule="0 3 * * *",
        start_date="2024-05-01",
        catalog=dated_catalogues(),
        default_as_of=None,
        max_staleness_days=60,
    )
    write_csv(stores / "data" / "products-2024-04-01-r1.csv", products())
    changed = [{**row, "name": f"PLANTED {row['name']}"} for row in products()]
    write_csv(stores / "data" / "products-2024-05-04-r1.csv", changed)
    planted = [
        {"customer": f"C{n % 60:03d}", "sku": "S144", "at": "2024-05-04 00:00:00", "n": "9", "order": f"P{n}"}
        for n in range(300)
    ]
    write_csv(stores / "data" / "events.csv", events() + planted)
    return Installation(folder, stores)


@pytest.fixture(scope="module")
def inbox() -> Iterator[tuple[type[Inbox], str]]:
    with open_inbox() as ours:
        yield ours


@pytest.fixture(scope="module")
def api(scheduled: Installation, inbox: tuple[type[Inbox], str]) -> Iterator[Api]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    before = {process.pid for process in psutil.process_iter()}
    started = scheduled.airflow("up", "--port", str(port), SHELFKIN_NOTIFY_WEBHOOK=inbox[1])
    assert started.returncode == 0, started.stdout + started.stderr
    password = started.stdout.split("password")[1].split()[0]
    try:
        yield Api(f"http://127.0.0.1:{port}", password)
    finally:
        stopped = scheduled.airflow("down")
        assert "Airflow is down." in stopped.stdout
        assert left_over(before, str(scheduled.folder)) == []


def left_over(before: set[int], folder: str) -> list[str]:
    """Command lines of processes that `up` started and `down` left."""
    found = []
    for process in psutil.process_iter():
        if process.pid in before or process.pid == os.getpid():
            continue
        try:
            words = " ".join(process.cmdline())
            environment = process.environ()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        if folder in words or environment.get("AIRFLOW_HOME", "").startswith(folder):
            found.append(words)
    return found


def published(installation: Installation, day: str) -> dict[str, Any]:
    root = Root.at(installation.environment["ARTIFACT_ROOT"])
    return root.read_json(RunPaths(root, STORE, date.fromisoformat(day), "").published_uri())


def rows(uri: str) -> list[tuple[Any, ...]]:
    return sorted((tuple(row.values()) for row in ds.dataset(uri, format="parquet").to_table().to_pylist()), key=repr)


def trigger(api: Api, **conf: Any) -> str:
    run = api.call("POST", f"/api/v2/dags/{DAG_ID}/dagRuns", {"logical_date": None, "conf": conf})
    return str(run["dag_run_id"])


def test_rest_trigger_with_params(api: Api, scheduled: Installation) -> None:
    run_id = trigger(api, as_of="2024-05-01", k=6, publish=False)
    assert api.wait_for(run_id) == "success"
    # Every stage tells its manifest and the figures that a person wants.
    base = f"/api/v2/dags/{DAG_ID}/dagRuns/{run_id}/taskInstances"
    wanted = {
        "clean_events": "rows_events",
        "embed_products": "texts_embedded",
        "select_k": "k",
        "cluster_products": "rows_clusters",
        "build_recommendations": "rows_user_recommendations",
        "publish_recommendations": "published",
    }
    for task, key in wanted.items():
        entries = api.call("GET", f"{base}/{task}/xcomEntries?limit=100")["xcom_entries"]
        keys = {entry["key"] for entry in entries}
        assert {"manifest", "manifest_sha256", key} <= keys, (task, keys)
    chosen = api.call("GET", f"{base}/select_k/xcomEntries/k")["value"]
    assert int(chosen) == 6
    note = api.call("GET", f"/api/v2/dags/{DAG_ID}/dagRuns/{run_id}")["note"]
    assert note.startswith("What-if run: not published. 6 clusters; ") and note.count("\n") == 1
    # publish=False: a what-if run moves no pointer and sends no Asset event.
    assert not Path(
        RunPaths(Root.at(scheduled.environment["ARTIFACT_ROOT"]), STORE, date(2024, 5, 1), "").latest_uri()
    ).exists()
    assert api.call("GET", "/api/v2/assets/events")["total_entries"] == 0


def test_a_failure_is_told_and_the_webhook_stands_in_no_log(
    api: Api, scheduled: Installation, inbox: tuple[type[Inbox], str]
) -> None:
    run_id = trigger(api, as_of="2024-03-01")
    assert api.wait_for(run_id) == "failed"
    deadline = time.monotonic() + 60  # it is told after the task's state is
    while "clean_catalog" not in (told := {one["task"]: one for one in inbox[0].got}) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert told["clean_catalog"]["event"] == "failed" and told["clean_catalog"]["kind"] == "source"
    assert told["clean_catalog"]["as_of"] == "2024-03-01" and told["clean_catalog"]["run_id"] == run_id
    assert told["clean_catalog"]["link"].startswith(f"{api.url}/dags/{DAG_ID}/runs/")
    logs = [path for path in Path(scheduled.environment["AIRFLOW_HOME"]).rglob("*.log") if path.is_file()]
    assert logs and not [path for path in logs if "5ECRET" in path.read_text(errors="replace")]


@pytest.mark.parametrize("conf", [{"repurchase": "sometimes"}, {"k": 1}, {"as_of": "tomorrow"}])
def test_invalid_params_are_refused_by_the_api(api: Api, conf: dict[str, Any]) -> None:
    with pytest.raises(httpx.HTTPStatusError) as caught:
        trigger(api, **conf)
    assert caught.value.response.status_code in (400, 422)


def test_backfill_equals_direct_runs_and_holds_nothing_from_later(
    api: Api, scheduled: Installation, tmp_path: Path, spark: Any
) -> None:
    days = ["2024-05-01", "2024-05-02", "2024-05-03"]
    body = {
        "dag_id": DAG_ID,
        # The run as of a day has the data interval that ends on it.
        "from_date": f"{date.fromisoformat(days[0]) - timedelta(days=1)}T03:00:00Z",
        "to_date": f"{date.fromisoformat(days[-1]) - timedelta(days=1)}T03:00:00Z",
        "max_active_runs": 3,
        "run_backwards": False,
        "reprocess_behavior": "none",
        "dag_run_conf": {},
    }
    backfill = api.call("POST", "/api/v2/backfills", body)
    deadline = time.monotonic() + DEADLINE_S
    while api.call("GET", f"/api/v2/backfills/{backfill['id']}")["completed_at"] is None:
        assert time.monotonic() < deadline, "the backfill did not end"
        time.sleep(5)

    # The same days, run directly, one after the other: what a run on those days would have written.
    direct: dict[str, Run] = {}
    for day in days:
        direct[day] = Run(scheduled.stores, tmp_path / "artifacts", STORE, day, run_id=f"direct-{day}").all_stages()
    for day in days:
        pointer = published(scheduled, day)
        for table, entry in pointer["tables"].items():
            stage = next(name for name, found in direct[day].manifests.items() if table in found.content["tables"])
            expected = rows(direct[day].manifests[stage].table_uri(table))
            assert rows(entry["path"]) == expected, f"{table} as of {day}"
        titles = ds.dataset(pointer["tables"]["products"]["path"], format="parquet").to_table(columns=["title"])
        assert not any("planted" in str(title).lower() for title in titles.column("title").to_pylist())
    # Identity passed from day to day: the second and third day know the clusters of the day before.
    for day in days[1:]:
        statuses = {row[0] for row in direct[day].rows("cluster_products", "clusters", "status")}
        assert "kept" in statuses
    assert api.call("GET", "/api/v2/assets/events")["total_entries"] == 3


def test_up_twice_says_that_it_runs_already(api: Api, scheduled: Installation) -> None:
    again = scheduled.airflow("up")
    assert again.returncode == 0 and "runs already" in again.stdout


def test_nothing_listens_beyond_loopback(api: Api) -> None:
    port = int(api.url.rsplit(":", 1)[1])
    listening = {
        connection.laddr.ip
        for connection in psutil.net_connections(kind="tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
    }
    assert listening == {"127.0.0.1"}


def test_the_password_is_readable_for_this_user_only(api: Api, scheduled: Installation) -> None:
    home = scheduled.folder / "home"
    password = json.loads((home / "simple_auth_manager_passwords.json.generated").read_text())["admin"].encode()
    files = [path for path in home.iterdir() if path.is_file()]
    holding = {path.name: path.stat().st_mode & 0o777 for path in files if password in path.read_bytes()}
    assert "standalone.log" in holding and set(holding.values()) == {0o600}
