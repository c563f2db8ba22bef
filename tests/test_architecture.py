"""The floors of the house: imports point down, and nobody takes a short cut."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]


def test_imports_keep_to_the_floors() -> None:
    result = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"],
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": "plugins"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout


def test_only_the_session_builder_builds_sessions() -> None:
    builders = [
        path.relative_to(PROJECT).as_posix()
        for folder in ("include", "spark_apps", "plugins", "dags")
        for path in (PROJECT / folder).rglob("*.py")
        if "SparkSession.builder" in path.read_text()
    ]
    assert builders == ["include/shelfkin/spark.py"]


def test_nothing_is_pickled() -> None:
    loads_code = (
        r"^\s*(import|from) (pickle|joblib|cloudpickle|dill|shelve|marshal)\b|allow_pickle|torch\.load|read_pickle"
    )
    folders = ("include", "plugins", "dags", "spark_apps", "bin", "rehearsal", "benchmarks")
    paths = [path for folder in folders for path in (PROJECT / folder).rglob("*.py")]
    offenders = [str(path.relative_to(PROJECT)) for path in paths if re.search(loads_code, path.read_text(), re.M)]
    assert len(paths) > 100 and offenders == []
