"""Drill: a key planted as OPENAI_API_KEY and a database's password are used, and stand nowhere that a run leaves."""

from __future__ import annotations

import json
import threading

import psutil
import psycopg
import pytest

from embedded_postgres import embedded_postgres
from installation import Installation
from rehearsal.server import Settings, running_rehearsal_server

pytestmark = [pytest.mark.slow, pytest.mark.spark, pytest.mark.airflow]

KEY = "sk-proj-PLANTED7e57c0ffee0123456789"
PASSWORD = "PLANTED5ecre7c0ffee"
SECRETS = (KEY, PASSWORD)


def test_a_whole_run_with_a_key_leaves_it_nowhere(installation: Installation) -> None:
    event_log = installation.folder / "spark-events"
    event_log.mkdir()
    conf = {
        "spark.sql.shuffle.partitions": "2",
        "spark.eventLog.enabled": "true",
        "spark.eventLog.compress": "false",
        "spark.eventLog.dir": str(event_log),
    }
    command_lines: set[str] = set()
    finished = threading.Event()

    def watch() -> None:
        while not finished.wait(0.3):
            for process in psutil.process_iter():
                try:
                    command_lines.add(" ".join(process.cmdline()))
                except psutil.Error:
                    continue

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    faults = {"status_500": 0.2, "status_429": 0.1, "html": 0.1}
    with (
        embedded_postgres() as trusting,
        running_rehearsal_server(Settings(dimensions=16, faults=faults)) as (server, base_url),
    ):
        database = trusting.replace("//postgres:@", f"//postgres:{PASSWORD}@")
        assert PASSWORD in database
        run = installation.airflow(
            "run",
            *("--as-of", "2024-06-01", "--conf", json.dumps({"model": "text-embedding-3-small", "dimensions": 16})),
            OPENAI_API_KEY=KEY,
            OPENAI_BASE_URL=base_url,
            SHELFKIN_PUBLISH_POSTGRES=database,
            SHELFKIN_SPARK_CONF=json.dumps(conf),
        )
        # A run that fails shows even more of itself.
        server.settings.terminal = "bad_key"
        failed = installation.airflow(
            "run",
            *("--as-of", "2024-06-01", "--conf", json.dumps({"model": "text-embedding-3-large", "dimensions": 16})),
            OPENAI_API_KEY=KEY,
            OPENAI_BASE_URL=base_url,
            SHELFKIN_PUBLISH_POSTGRES=database,
            SHELFKIN_SPARK_CONF=json.dumps(conf),
        )
        finished.set()
        watcher.join()
        assert run.returncode == 0, run.stdout[-4000:]
        assert failed.returncode != 0 and "does not accept OPENAI_API_KEY" in failed.stdout
        assert server.authorizations == {f"Bearer {KEY}"}  # it was really sent
        with psycopg.connect(database) as shop:
            served = shop.execute("SELECT count(*), min(run) FROM shelfkin_corner_shop.user_recommendations").fetchone()
        assert served == (600, 1)
    assert command_lines and not [line for line in command_lines for secret in SECRETS if secret in line]
    printed = run.stdout + run.stderr + failed.stdout + failed.stderr
    assert not [secret for secret in SECRETS if secret in printed]
    assert len(list(event_log.iterdir())) > 5
    # Artifacts, manifests, task logs, Spark's event logs, and the data files of Airflow's database.
    files = [path for path in installation.folder.rglob("*") if path.is_file()]
    assert len([path for path in files if "postgres" in path.parts]) > 100
    assert [path for path in files for secret in SECRETS if secret.encode() in path.read_bytes()] == []
