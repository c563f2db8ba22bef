"""What may go of a shop's runs, and that nothing that a reader or the next run needs is among it."""

from __future__ import annotations

import os
import shutil
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from finished_run import stamped_rows, write_run
from shelfkin.__main__ import main
from shelfkin.artifacts import Manifest, Root, RunPaths, published_days
from shelfkin.errors import OptionError
from shelfkin.profile import Retention
from shelfkin.serving.publish import publish_run
from shelfkin.serving.retention import keep, old_runs, remove_quarantine, remove_runs
from shelfkin.serving.rollback import Decision, roll_back

DAYS = [date(2024, 6, 1) + timedelta(days=n) for n in range(10)]
LATER = datetime.now(UTC) + timedelta(days=30)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten published days, and a what-if run of the third."""
    artifacts = tmp_path_factory.mktemp("artifacts")
    for day in DAYS:
        paths, uris = write_run(artifacts, stamped_rows(day.day), as_of=day.isoformat(), run_id=f"run of {day}")
        publish_run(paths, uris, publish=True)
    paths, uris = write_run(artifacts, stamped_rows(99), as_of="2024-06-03", run_id="what if")
    publish_run(paths, uris, publish=False)
    return artifacts


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Root:
    shutil.copytree(made, tmp_path / "artifacts")
    return Root.at(str(tmp_path / "artifacts"))


def folder(root: Root, day: date, run_id: str | None = None) -> str:
    return RunPaths(root, "shop", day, run_id or f"run of {day}").run_uri


def test_days_beyond_those_kept_and_runs_that_nothing_names_go(root: Root) -> None:
    old = old_runs(root, "shop", 8, LATER)
    expected = {folder(root, DAYS[0]), folder(root, DAYS[1]), folder(root, DAYS[2], "what if")}
    assert old.days == DAYS[:2] and {uri for uri, _ in old.folders} == expected
    assert all(n_bytes > 1000 for _, n_bytes in old.folders)
    # Looking changes nothing.
    assert published_days(root, "shop") == DAYS and root.exists(folder(root, DAYS[0]))
    remove_runs(root, "shop", old)
    assert published_days(root, "shop") == DAYS[2:]
    assert not any(root.exists(uri) for uri in expected)
    for day in DAYS[2:]:
        pointer = root.read_json(RunPaths(root, "shop", day, "").published_uri())
        assert all(root.exists(entry["path"]) for entry in pointer["tables"].values())
    assert old_runs(root, "shop", 8, LATER).folders == []


def test_the_day_that_is_served_stays_however_old(root: Root) -> None:
    roll_back(root, "shop", DAYS[0], Decision("ada", "prices"))
    old = old_runs(root, "shop", 8, LATER)
    assert old.days == [DAYS[1]] and folder(root, DAYS[0]) not in dict(old.folders)


def test_the_run_that_clusters_follow_stays_though_it_was_never_published(root: Root) -> None:
    paths = RunPaths(root, "shop", DAYS[2], "what if")
    root.put_json(paths.lineage_uri(), {"as_of": "2024-06-03", "run_id": "what if"})
    assert paths.run_uri not in dict(old_runs(root, "shop", 8, LATER).folders)


def test_what_changed_within_a_week_stays(root: Root) -> None:
    assert old_runs(root, "shop", 10).folders == []


def test_too_few_days_are_refused(root: Root) -> None:
    with pytest.raises(OptionError, match="keep=6 is too few"):
        old_runs(root, "shop", 6)


def test_a_shop_without_runs(tmp_path: Path) -> None:
    old = old_runs(Root.at(str(tmp_path)), "shop", 8)
    assert old.days == [] and old.folders == []


def test_the_command_tells_first_and_removes_when_told(
    root: Root, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for entry in Path(root.join("stores", "shop", "runs")).rglob("*"):
        os.utime(entry, (0, 0))
    (tmp_path / "shop.yaml").write_text(
        "store: shop\ntitle: Shop\n"
        "catalog: {kind: snapshot, source: {path: p.csv}, fields: {product_id: id, title: title}}\n"
    )
    monkeypatch.setenv("ARTIFACT_ROOT", root.uri)
    monkeypatch.setenv("SHELFKIN_STORES_DIR", str(tmp_path))
    words = ["shelfkin", "prune", "--store", "shop", "--keep", "8"]
    monkeypatch.setattr(sys, "argv", words)
    assert main() == 0 and len(published_days(root, "shop")) == 10
    said = capsys.readouterr().out
    assert "3 runs of " in said and "2 published days may go" in said and folder(root, DAYS[0]) in said
    monkeypatch.setattr(sys, "argv", [*words, "--yes"])
    assert main() == 0 and len(published_days(root, "shop")) == 8


def test_rows_turned_away_go_by_age_and_their_counts_stay(root: Root) -> None:
    paths = RunPaths(root, "shop", DAYS[0], f"run of {DAYS[0]}")
    uri = paths.manifest_uri("clean_events")
    place = Path(paths.attempt_uri("clean_events", "1")) / "events_quarantine"
    place.mkdir(parents=True)
    rows = {"reason": ["bad_time", "bad_time"], "detail": ["", ""], "raw": ["secret", "secret"]}
    pq.write_table(pa.table(rows), place / "part-0.parquet")
    content = root.read_json(uri)
    content["tables"]["events_quarantine"] = {"path": root.relative(str(place)), "rows": 2}
    content["counts"] = {"rows_in": 2, "quarantined": 2, "quarantined_by_reason": {"bad_time": 2}}
    for path in Path(root.join("stores", "shop", "runs")).rglob("manifest.json"):
        root.put_json(str(path), {**root.read_json(str(path)), "finished_at": "2024-06-10T00:00:00+00:00"})
    root.put_json(uri, {**content, "finished_at": "2024-06-10T00:00:00+00:00"})
    replaced = Path(paths.attempt_uri("clean_events", "0")) / "events_quarantine" / "part-0.parquet"
    replaced.parent.mkdir(parents=True)
    replaced.touch()
    os.utime(replaced, (0, 0))
    served = {path: path.read_bytes() for path in Path(root.join("stores", "shop", "published")).iterdir()}
    soon = datetime(2024, 6, 11, tzinfo=UTC)
    assert remove_quarantine(root, "shop", 30, soon) == {}
    assert remove_quarantine(root, "shop", 30, soon + timedelta(days=30)) == {"events_quarantine": 2}
    manifest = Manifest.read(root, uri)
    assert manifest.rows("events_quarantine") == 0 == manifest.dataset("events_quarantine").count_rows()
    assert manifest.content["counts"] == content["counts"] and not place.exists() and not replaced.exists()
    assert manifest.content["rewritten"][0]["rows"] == {"events_quarantine": 2}
    assert served == {path: path.read_bytes() for path in Path(root.join("stores", "shop", "published")).iterdir()}
    assert remove_quarantine(root, "shop", 30, soon + timedelta(days=30)) == {}


def test_a_run_that_somebody_goes_back_to_meanwhile_stays(root: Root) -> None:
    old = old_runs(root, "shop", 8, LATER)
    roll_back(root, "shop", DAYS[0], Decision("ada", "prices"))
    remove_runs(root, "shop", old)
    assert root.exists(folder(root, DAYS[0])) and not root.exists(folder(root, DAYS[1]))


def test_without_a_setting_everything_is_kept(root: Root) -> None:
    assert keep(root, "shop", Retention()) == [] and published_days(root, "shop") == DAYS
    (line,) = keep(root, "shop", Retention(published_days=8))
    assert line.endswith("2 published days removed") and published_days(root, "shop") == DAYS[2:]
