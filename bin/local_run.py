"""One run of a store's DAG on this machine, without a scheduler, and what a person sees of it."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path

from local_home import HOME, prepared_environment, tail
from local_server import stop_tree
from shelfkin.app import check_not_in_the_future
from shelfkin.errors import OptionError
from shelfkin.json_object import json_object
from shelfkin.run_form import check_run, run_form
from shelfkin.run_progress import PROGRESS_FILE
from shelfkin.settings import Settings

_POLL_INTERVAL_S = 0.3


def run_once(store: str, as_of: str, conf_text: str) -> int:
    """Run a store's DAG once in this process tree; return the exit status."""
    settings = Settings.from_env()
    store = store or settings.default_store
    profile = settings.profile(store)
    if not profile.enabled:
        raise OptionError(f"Store {store!r} has `enabled: false`.", next_step="Enable it in its profile.")
    conf = json_object(conf_text or "{}", "CONF", OptionError, """Write CONF='{"repurchase": "exclude"}'.""")
    check_run(conf, run_form(profile), "CONF")
    if as_of := as_of or conf.get("as_of") or "":
        conf["as_of"] = _checked_date(as_of)
    dag_id = settings.dag_id(store)
    # As by Ctrl-C: Airflow and the JVM below it end with us.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with prepared_environment() as environment:
        log_path = HOME / "logs" / f"run-{store}-{time.strftime('%Y%m%d-%H%M%S')}.log"
        log_path.parent.mkdir(parents=True, exist_ok=True)
        print(f"Running {dag_id} (whole log: {log_path})", flush=True)
        started = time.monotonic()
        status = _follow(["airflow", "dags", "test", dag_id, "--conf", json.dumps(conf)], environment, log_path)
        outcome = "succeeded" if status == 0 else "FAILED"
        print(f"{dag_id} {outcome} after {time.monotonic() - started:.0f} s", flush=True)
        return status


def _follow(words: list[str], environment: dict[str, str], log_path: Path) -> int:
    """Run a command with its output in a log file, and print the progress that its tasks report.

    When we are interrupted, the command ends together with the JVM below it.
    """
    progress_path = log_path.with_suffix(".progress")
    progress_path.touch()
    failures = []
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            words, env={**environment, PROGRESS_FILE: str(progress_path)}, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            for kind, text in _reports(process, progress_path):
                if kind == "failure":
                    failures.append(text)
                else:
                    print(f"\n== {text}" if kind == "task" else f"  {text}", flush=True)
        except BaseException:
            stop_tree(process.pid, signal.SIGINT)
            raise
    if process.returncode != 0:
        print("\n" + "\n".join(failures or [f"The end of the log:\n{tail(log_path)}"]))
    return process.returncode


def _reports(process: subprocess.Popen[bytes], path: Path) -> Iterator[tuple[str, str]]:
    """Yield kind and text of each report as it arrives, until the process has ended."""
    rest = ""
    with path.open() as progress:
        while True:
            # Asked before reading: what was written last is read as well.
            has_ended = process.poll() is not None
            *lines, rest = (rest + progress.read()).split("\n")
            for line in lines:
                kind, text = json.loads(line)
                yield kind, text
            if has_ended:
                return
            time.sleep(_POLL_INTERVAL_S)


def _checked_date(text: str) -> str:
    try:
        as_of = date.fromisoformat(text)
    except ValueError as error:
        raise OptionError(f"AS_OF={text!r} is not a date.", next_step="Write it like 2011-11-01.") from error
    check_not_in_the_future(as_of)
    return as_of.isoformat()
