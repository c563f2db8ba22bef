"""What of the demo is work, and what any chain of Spark tasks costs: the demo's DAG beside a floor, in turn.

    make bench-demo

The floor (`benchmarks/floor`) has as many Spark tasks, each of which reads a manifest and writes one row. Three runs in
a home of their own: the floor, the demo, and the demo once more, which finds its data and vectors: a day on which
nothing has changed. By task, in seconds: from the start of Java to that of Python; from there until the stage begins
(imports); the stage; from its manifest until Java has ended; and what Airflow takes until the next task's Java starts.
A stage of the floor is a session, and the plan and the write of one row.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import psutil

from shelfkin.artifacts import Root
from shelfkin.stages import STAGES

PROJECT = Path(__file__).resolve().parents[1]
STORE, AS_OF = "complete_journey", "2018-01-01"
CONF = {"as_of": AS_OF, "ranker_windows": 1}
COLUMNS = ("Java", "imports", "stage", "exit", "Airflow")
_POLL_INTERVAL_S = 0.05


@dataclass
class Processes:
    """When those of a task were there, in seconds since 1970."""

    java_from: float
    java_to: float
    python_from: float = float("nan")


def run_dag(
    dag_id: str, conf: Mapping[str, object], environment: Mapping[str, str]
) -> tuple[float, dict[str, Processes]]:
    """Run a DAG once; returns its seconds, and the processes of each stage."""
    began, seen = time.monotonic(), dict[str, Processes]()
    with tempfile.TemporaryFile() as log:
        words = ["airflow", "dags", "test", dag_id, "--conf", json.dumps(conf)]
        process = psutil.Popen(words, env=environment, stdout=log, stderr=subprocess.STDOUT)
        while process.poll() is None:
            for child in process.children(recursive=True):
                note(child, seen)
            time.sleep(_POLL_INTERVAL_S)
        if process.returncode != 0:
            log.seek(0)
            raise SystemExit(f"{dag_id} failed:\n{log.read().decode(errors='replace')[-3000:]}")
    return time.monotonic() - began, seen


def note(child: psutil.Process, seen: dict[str, Processes]) -> None:
    """Note that a process is there, if it is Java or Python of a stage."""
    try:
        name, words, started = child.name(), child.cmdline(), child.create_time()
    except psutil.Error:
        return  # it has just ended
    stage = next((Path(word).stem for word in words if word.endswith(".py") and Path(word).stem in STAGES), None)
    if stage is None:
        return
    if name == "java":
        seen.setdefault(stage, Processes(started, started)).java_to = time.time()
    elif stage in seen and words[1].endswith(".py"):
        seen[stage].python_from = started


def seconds_of(root: Root, store: str, as_of: str, seen: Mapping[str, Processes]) -> np.ndarray:
    """Return the seconds of every stage of the newest run, of shape (n_stages, n_columns)."""
    runs = root.fs.ls(f"{root.uri}/stores/{store}/runs/as_of={as_of}", detail=False)
    newest = max(runs, key=lambda folder: (Path(folder) / STAGES[0] / "manifest.json").stat().st_mtime)
    rows, next_java = [], [seen[stage].java_from for stage in STAGES[1:]] + [float("nan")]
    for stage, then in zip(STAGES, next_java, strict=True):
        manifest, there = root.read_json(f"{newest}/{stage}/manifest.json"), seen[stage]
        began, ended = (datetime.fromisoformat(manifest[key]).timestamp() for key in ("started_at", "finished_at"))
        moments = [there.java_from, there.python_from, began, ended, there.java_to, then]
        rows.append(np.diff(moments))
    return np.array(rows)


def report(name: str, whole_s: float, seconds: np.ndarray) -> None:
    print(f"\n{name}: {whole_s:.0f} s\n{'':26}" + "".join(f"{column:>9}" for column in COLUMNS))
    for stage, row in zip((*STAGES, "all"), (*seconds, np.nansum(seconds, axis=0)), strict=True):
        print(f"  {stage:24}" + "".join(f"{value:9.1f}" for value in row))
    sys.stdout.flush()


def main() -> None:
    print(f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB")
    with tempfile.TemporaryDirectory(prefix="bench-demo-") as name:
        folder = Path(name)
        apps = folder / "apps"
        apps.mkdir()
        for stage in STAGES:
            shutil.copy(PROJECT / "benchmarks" / "floor" / "floor_stage.py", apps / f"{stage}.py")
        os.environ |= {"AIRFLOW_HOME": str(folder / "home"), "ARTIFACT_ROOT": str(folder / "artifacts")}
        sys.path.insert(0, str(PROJECT / "bin"))
        from local_home import prepared_environment  # it reads AIRFLOW_HOME when it is imported

        root = Root.at(str(folder / "artifacts"))
        with prepared_environment() as demo:
            floor = {
                **demo,
                "AIRFLOW__CORE__DAGS_FOLDER": str(PROJECT / "benchmarks" / "floor"),
                "FLOOR_APPS": str(apps),
            }
            floor_s, seen = run_dag("floor", {}, floor)
            report("floor", floor_s, seconds_of(root, "titles_only", "2026-01-01", seen))
            for title in ("demo", "demo, nothing changed"):
                whole_s, seen = run_dag("product_recommendations", CONF, demo)
                report(f"{title} ({whole_s / floor_s:.1f} x the floor)", whole_s, seconds_of(root, STORE, AS_OF, seen))


if __name__ == "__main__":
    main()
