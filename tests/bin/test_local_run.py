"""What a person sees of a run: what its tasks report, as it arrives, and at the end why it failed."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from local_run import _follow
from shelfkin.run_progress import PROGRESS_FILE, report

TASKS = """
import logging
from shelfkin.run_progress import ProgressHandler, report, reported
print("Airflow's own words")
logging.basicConfig(level=logging.INFO)
logging.getLogger().addHandler(ProgressHandler())
with reported("clean_catalog"):
    logging.getLogger("shelfkin").info("wrote %s: %s rows", "products", "7")
    logging.getLogger("shelfkin.embedding").info("a detail for the log")
with reported("clean_events"):
    report("line", "no events\\nin this shop")
"""


def follow(code: str, tmp_path: Path) -> int:
    return _follow([sys.executable, "-c", code], {}, tmp_path / "run.log")


def test_headings_and_lines_are_shown_and_the_log_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert follow(TASKS, tmp_path) == 0
    lines = capsys.readouterr().out.splitlines()
    assert (lines[:2], lines[3:]) == (["", "== clean_catalog"], ["", "== clean_events", "  no events", "in this shop"])
    # Two blanks, the time of day, two blanks, what the stage said.
    assert lines[2][10:] == "  wrote products: 7 rows" and lines[2][4:9:3] == "::"
    assert "Airflow's own words" in (tmp_path / "run.log").read_text()


def test_the_reason_of_a_failure_comes_last(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    failing = TASKS + 'with reported("select_k"): raise OSError("disk full\\nNext step: Make room.")'
    assert follow(failing, tmp_path) == 1
    assert capsys.readouterr().out.splitlines()[-4:] == ["== select_k", "", "disk full", "Next step: Make room."]


def test_without_a_reason_the_end_of_the_log_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert follow("raise SystemExit('The DAG is broken.')", tmp_path) == 1
    assert capsys.readouterr().out.splitlines()[-2:] == ["The end of the log:", "The DAG is broken."]


def test_a_line_is_shown_while_the_run_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The run ends only after its line was seen."""
    seen = tmp_path / "seen"
    code = TASKS + f"import pathlib, time\nwhile not pathlib.Path({str(seen)!r}).exists(): time.sleep(0.01)"
    shown: list[str] = []
    running = threading.Thread(target=follow, args=(code, tmp_path), daemon=True)
    running.start()
    while "wrote products" not in "".join(shown):
        shown.append(capsys.readouterr().out)
    seen.touch()
    running.join(timeout=30)
    assert not running.is_alive()


def test_nobody_follows_and_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PROGRESS_FILE, raising=False)
    report("line", "unheard")
    monkeypatch.setenv(PROGRESS_FILE, str(tmp_path / "no such folder" / "file"))
    report("line", "no place to write is no reason to fail")
