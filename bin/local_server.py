"""All of Airflow on 127.0.0.1, in the background: started, found again, and stopped with everything below it."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil

from local_home import HOME, keep_private, local_environment, prepared_environment, tail
from shelfkin.demo_data import materialise_for
from shelfkin.errors import OptionError
from shelfkin.settings import Settings

START_TIMEOUT_S = 180
STOP_TIMEOUT_S = 40
_STATE_FILE = HOME / "standalone.json"
_PASSWORD_FILE = HOME / "simple_auth_manager_passwords.json.generated"


def up(port: int) -> None:
    """Start Airflow in the background, wait until it answers, unpause the DAGs and print the login."""
    if (running := running_pid()) is not None:
        print(f"Airflow runs already (pid {running}): {json.loads(_STATE_FILE.read_text())['url']}")
        return
    _require_free_port(port)
    settings = Settings.from_env()
    _prepare_data(settings)
    environment = local_environment(port)
    log_path = HOME / "standalone.log"
    # Airflow writes the password into both, and would let everybody on this machine read them.
    for path in (_PASSWORD_FILE, log_path):
        keep_private(path)
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("local_airflow.py")), "_serve", "--port", str(port)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    state = {"pid": process.pid, "created": psutil.Process(process.pid).create_time(), "url": url}
    _STATE_FILE.write_text(json.dumps(state))
    print(f"Starting Airflow on {url} (log: {log_path}) ...", flush=True)
    _wait_until_ready(url, process, log_path)
    password = json.loads(_PASSWORD_FILE.read_text())["admin"]
    print(f"Airflow is up: {url}\n  user      admin\n  password  {password}")
    for line in scheduled_shops(settings, url):
        print(line)
    print("Stop it with `make down`.")


def _prepare_data(settings: Settings) -> None:
    """Make the raw files of shipped shops whose runs begin by themselves."""
    for profile in settings.profiles()[0]:
        if profile.enabled and profile.schedule and profile.materialise:
            materialise_for(profile, settings)


def scheduled_shops(settings: Settings, url: str) -> list[str]:
    """Return what runs by itself, when, and how to pause it."""
    lines = []
    for profile in settings.profiles()[0]:
        if profile.enabled and profile.schedule:
            dag_id = settings.dag_id(profile.store)
            lines.append(
                f"Runs by schedule: {profile.title}, {profile.schedule!r} {profile.timezone}, and now the newest "
                f"{profile.catchup_runs} that were missed.\n  Look, or pause it by its switch: {url}/dags/{dag_id}"
            )
    return lines


def serve(port: int) -> None:
    """Keep Postgres and ``airflow standalone`` running until told to stop; the body of the background process."""
    with prepared_environment(port) as environment:
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
    pid = running_pid()
    if pid is None:
        print("Airflow is not running.")
    else:
        stop_tree(pid, signal.SIGTERM, grace_s=2 * STOP_TIMEOUT_S)
        print("Airflow is down.")
    _STATE_FILE.unlink(missing_ok=True)


def status() -> None:
    """Print whether Airflow runs."""
    pid = running_pid()
    print("Airflow is not running." if pid is None else f"Airflow runs (pid {pid}).")


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
    psutil.wait_procs([root], timeout=grace_s)
    for sign in (signal.SIGTERM, signal.SIGKILL):
        alive = [process for process in family if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
        for process in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(sign)
        psutil.wait_procs(alive, timeout=10)


def running_pid() -> int | None:
    """Return the process of the Airflow that `up` started, or None if it doesn't run."""
    if not _STATE_FILE.exists():
        return None
    state = json.loads(_STATE_FILE.read_text())
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
            raise SystemExit(f"Airflow ended while starting; the end of {log_path}:\n{tail(log_path)}")
        if _healthy(url) and _PASSWORD_FILE.exists():
            return
        time.sleep(1)
    down()
    raise SystemExit(f"Airflow was not ready after {START_TIMEOUT_S} s; the end of {log_path}:\n{tail(log_path)}")


def _healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/api/v2/monitor/health", timeout=3) as response:  # noqa: S310 - loopback
            health = json.load(response)
    except (OSError, ValueError):
        return False
    return all(health[part]["status"] == "healthy" for part in ("metadatabase", "scheduler", "dag_processor"))
