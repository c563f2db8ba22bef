"""Paths, manifests and pointers: what readers rely on."""

from __future__ import annotations

import json
import threading
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelfkin.artifacts import (
    FORMAT_VERSION,
    Manifest,
    Root,
    RunPaths,
    check_reconciled,
    lineage_dates,
    predecessor_lineage,
    run_slug,
)
from shelfkin.errors import ArtifactError, ReconciliationError


def paths(tmp_path: Path, as_of: str = "2011-11-01", run_id: str = "manual__2026-01-02T03:04:05+00:00") -> RunPaths:
    return RunPaths(Root.at(str(tmp_path)), "shop", date.fromisoformat(as_of), run_id)


@given(st.text(min_size=1, max_size=200))
def test_slug_is_safe_for_hadoop_paths(run_id: str) -> None:
    slug = run_slug(run_id)
    assert set(slug) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")
    assert len(slug) <= 89


def test_slugs_of_ids_that_differ_only_in_unsafe_characters_differ() -> None:
    assert run_slug("run:1") != run_slug("run+1")


def test_layout_is_the_contract(tmp_path: Path) -> None:
    run = paths(tmp_path, run_id="r1")
    slug = run_slug("r1")
    assert run.manifest_uri("select_k") == f"{tmp_path}/stores/shop/runs/as_of=2011-11-01/{slug}/select_k/manifest.json"
    assert run.lineage_uri() == f"{tmp_path}/stores/shop/lineage/as_of=2011-11-01.json"
    assert run.published_uri() == f"{tmp_path}/stores/shop/published/as_of=2011-11-01.json"
    assert run.latest_uri() == f"{tmp_path}/stores/shop/published/latest.json"


def test_a_put_replaces_the_whole_file_and_leaves_no_temporary_file(tmp_path: Path) -> None:
    root = Root.at(str(tmp_path))
    uri = root.join("a", "b.json")
    root.put_json(uri, {"long": "x" * 5000})
    root.put_json(uri, {"short": 1})
    assert root.read_json(uri) == {"short": 1}
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.json"]


def test_put_if_absent_lets_exactly_one_of_many_writers_win(tmp_path: Path) -> None:
    root = Root.at(str(tmp_path))
    uri = root.join("generations", "000001.json")
    won: list[int] = []
    barrier = threading.Barrier(8)

    def write(number: int) -> None:
        barrier.wait()
        if root.put_json_if_absent(uri, {"writer": number}):
            won.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert root.read_json(uri) == {"writer": won[0]}


def test_a_path_outside_the_root_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="does not lie under the artifact root"):
        Root.at(str(tmp_path)).relative("/elsewhere/x")


def test_missing_manifest_says_what_to_do(tmp_path: Path) -> None:
    run = paths(tmp_path)
    with pytest.raises(ArtifactError, match="does not exist") as caught:
        Manifest.read(run.root, run.manifest_uri("select_k"))
    assert "Run the stage" in caught.value.next_step


def write_manifest(run: RunPaths, **changes: object) -> str:
    content = {
        "format_version": FORMAT_VERSION,
        "stage": "select_k",
        "tables": {"k_scores": {"path": "stores/shop/x/k_scores", "rows": 7, "schema": {}}},
        "metrics": {"k": 24, "silhouette": 0.31, "reasons": ["nested values stay in the manifest"]},
        **changes,
    }
    uri = run.manifest_uri("select_k")
    run.root.put_json(uri, content)
    return uri


def test_xcom_holds_path_rows_and_scalars_but_nothing_nested(tmp_path: Path) -> None:
    run = paths(tmp_path)
    manifest = Manifest.read(run.root, write_manifest(run))
    message = manifest.xcom()
    assert message["manifest"] == run.manifest_uri("select_k")
    assert len(message["manifest_sha256"]) == 64
    assert {key: message[key] for key in ("rows_k_scores", "k", "silhouette")} == {
        "rows_k_scores": 7,
        "k": 24,
        "silhouette": 0.31,
    }
    assert "reasons" not in message


def test_xcom_above_its_limit_is_refused(tmp_path: Path) -> None:
    run = paths(tmp_path)
    manifest = Manifest.read(run.root, write_manifest(run, metrics={"note": "x" * 3000}))
    with pytest.raises(ArtifactError, match="limit is 2048"):
        manifest.xcom()


def test_manifest_of_another_format_is_refused(tmp_path: Path) -> None:
    run = paths(tmp_path)
    uri = write_manifest(run, format_version=99)
    with pytest.raises(ArtifactError, match="format_version 99"):
        Manifest.read(run.root, uri)


def test_unknown_table_names_the_known_ones(tmp_path: Path) -> None:
    run = paths(tmp_path)
    with pytest.raises(ArtifactError, match="no table 'products'; it has: k_scores"):
        Manifest.read(run.root, write_manifest(run)).table_uri("products")


def test_predecessor_is_the_newest_lineage_before_as_of(tmp_path: Path) -> None:
    for day in ("2011-10-30", "2011-10-31", "2011-11-01", "2011-11-02"):
        run = paths(tmp_path, day)
        run.root.put_json(run.lineage_uri(), {"day": day})
    (tmp_path / "stores/shop/lineage/notes.txt").write_text("not a lineage")
    assert lineage_dates(Root.at(str(tmp_path)), "shop")[0] == date(2011, 10, 30)
    assert predecessor_lineage(paths(tmp_path, "2011-11-01")) == {"day": "2011-10-31"}
    assert predecessor_lineage(paths(tmp_path, "2011-10-30")) is None


def test_counts_that_add_up_pass() -> None:
    check_reconciled(
        "clean_events",
        {
            "rows_in": 10,
            "kept": 4,
            "quarantined": 3,
            "merged": 1,
            "netted": 1,
            "after_as_of": 1,
            "quarantined_by_reason": {"bad_date": 2, "bad_quantity": 1},
        },
    )


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"rows_in": 10, "kept": 9}, "10 rows came in"),
        (
            {"rows_in": 2, "kept": 1, "quarantined": 1, "quarantined_by_reason": {"bad_date": 2}},
            "reasons add up to 2, not to 1",
        ),
    ],
)
def test_lost_rows_are_an_error(counts: dict[str, object], message: str) -> None:
    with pytest.raises(ReconciliationError, match=message):
        check_reconciled("clean_events", counts)


def test_manifest_json_is_readable_by_people(tmp_path: Path) -> None:
    root = Root.at(str(tmp_path))
    root.put_json(root.join("m.json"), {"title": "café", "day": date(2011, 11, 1)})
    text = (tmp_path / "m.json").read_text(encoding="utf-8")
    assert '"title": "café"' in text
    assert json.loads(text)["day"] == "2011-11-01"
