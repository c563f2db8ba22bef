"""Commands that need no running Airflow: setting up with somebody else's database, and what there is to stop."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

from local_home import keep_private
from local_server import scheduled_shops
from shelfkin.settings import Settings

SCRIPT = Path(__file__).resolve().parents[2] / "bin" / "local_airflow.py"


def call(home: Path, *words: str, **environment: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *words],
        env={**os.environ, "AIRFLOW_HOME": str(home), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_setup_leaves_a_database_alone_that_a_url_names(tmp_path: Path) -> None:
    # Nothing listens on port 1: whoever asked it would fail.
    url = "postgresql+psycopg2://nobody@127.0.0.1:1/none"
    status, out, err = call(tmp_path / "home", "setup", AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=url)
    assert (status, err) == (0, "") and "prepared by the first run" in out
    assert not (tmp_path / "home").exists()


def test_what_does_not_run_is_not_stopped(tmp_path: Path) -> None:
    # A file of an Airflow that is gone: its number belongs to another process by now, to this one.
    (tmp_path / "standalone.json").write_text(f'{{"pid": {os.getpid()}, "created": 1.0, "url": "http://127.0.0.1:1"}}')
    for command in ("status", "down"):
        assert call(tmp_path, command) == (0, "Airflow is not running.\n", "")
    assert list(tmp_path.iterdir()) == []


def test_a_port_in_use_is_refused(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        status, out, err = call(tmp_path / "home", "up", "--port", str(port))
    assert (status, out) == (2, "") and err.startswith(f"Error: Port {port} is in use.\nNext step: Choose another")
    assert not (tmp_path / "home").exists()


def test_a_backfill_needs_days_a_schedule_and_airflow(tmp_path: Path) -> None:
    days = ("--from", "2026-11-25", "--to", "2026-11-27")
    asked = {
        ("--store", "living_shop"): "FROM and TO must be days",
        ("--store", "titles_only", *days): "has no schedule",
        ("--store", "living_shop", *days): "Airflow is not running",
    }
    for words, told in asked.items():
        status, out, err = call(tmp_path / "home", "backfill", *words)
        assert (status, out) == (2, "") and told in err


def test_what_runs_by_itself_is_said_with_its_switch() -> None:
    (told,) = scheduled_shops(Settings.from_env({}), "http://127.0.0.1:8080")
    assert told.startswith("Runs by schedule: Living shop, '0 3 * * *' UTC, and now the newest 3 that were missed.")
    assert told.endswith("http://127.0.0.1:8080/dags/product_recommendations__living_shop")


def test_what_holds_a_secret_is_readable_for_this_user_only(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("a secret")
    (tmp_path / "old").chmod(0o644)
    for path in (tmp_path / "old", tmp_path / "home" / "new"):
        keep_private(path)
        with path.open("a+") as file:  # as Airflow opens the file of passwords
            file.write(".")
        assert path.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "old").read_text() == "a secret."
