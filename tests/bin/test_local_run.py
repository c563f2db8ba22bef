"""What a person sees of a run: what its tasks report, as it arrives, and at the end why it failed."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import local_run
from local_run import _follow
from shelfkin.errors import OptionError
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


@pytest.mark.parametrize(
    ("conf", "said"),
    [
        ('{"list_length": 0}', "list_length: 0 is less than the minimum of 1. Recommendations per customer"),
        ('{"list_lenght": 5}', "list_lenght: no such field; did you mean list_length?"),
        ('{"as_of": "01.11.2011", "k": 1}', "as_of: '01.11.2011' is not a 'date'"),
        ('{"as_of": "01.11.2011", "k": 1}', "k: 1 is less than the minimum of 2"),
        ('{"as_of": "2999-01-01"}', "as_of=2999-01-01 lies in the future"),
        ('{"model": "--conf x=1"}', "model: '--conf x=1' does not match"),
        ('{"publish": "no"}', "publish: 'no' is not of type 'boolean'"),
        ("[]", "CONF holds a JSON list"),
        ("{", "CONF is not valid JSON"),
    ],
)
def test_wrong_values_are_named_before_anything_starts(
    conf: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_run, "prepared_environment", None)
    with pytest.raises(OptionError) as refused:
        local_run.run_once("complete_journey", "", conf)
    assert said in str(refused.value)


def test_as_of_beside_a_conf_that_is_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextlib.contextmanager
    def nothing() -> Iterator[dict[str, str]]:
        yield {}

    started: list[list[str]] = []
    monkeypatch.setattr(local_run, "prepared_environment", nothing)
    monkeypatch.setattr(local_run, "HOME", tmp_path)
    monkeypatch.setattr(local_run, "_follow", lambda words, environment, log: started.append(words) or 0)
    assert local_run.run_once("complete_journey", "2017-12-01", '{"k": null, "budget_usd": 0.5}') == 0
    assert json.loads(started[0][-1]) == {"k": None, "budget_usd": 0.5, "as_of": "2017-12-01"}
