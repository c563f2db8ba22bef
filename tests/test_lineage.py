"""Which days are stale when another one is run again. Days are 1 to 5 November; each is made from the one before."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from shelfkin import lineage
from shelfkin.artifacts import Root, RunPaths, predecessor_lineage
from shelfkin.errors import ArtifactError


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return Root.at(str(tmp_path))


def run_day(root: Root, day: int, size: int = 7, run_id: str = "first", **more: Any) -> list[int]:
    """Write the lineage of a day from its newest predecessor; return the days that are stale now."""
    paths = RunPaths(root, "shop", date(2011, 11, day), run_id)
    predecessor = predecessor_lineage(paths)
    content = {
        "format_version": 2,
        "as_of": paths.as_of.isoformat(),
        "run_id": run_id,
        "model": "m",
        "members": "1",
        "predecessor": None if predecessor is None else lineage.lineage_record(predecessor),
        "clusters": [{"cluster_id": 1, "name": "Mugs", "size": size, "status": "kept", "centroid": [1.0, 0.0]}],
        **more,
    }
    return [stale.day for stale in lineage.write_lineage(paths, content, predecessor)]


def marked(root: Root) -> dict[int, str]:
    """Return the stale days, and because of which day they are."""
    found = {}
    for day in range(1, 6):
        content = lineage.read_lineage(root, "shop", date(2011, 11, day))
        if content and "stale" in content:
            found[day] = content["stale"]["because_of"][-2:]
    return found


def test_days_in_order_are_never_stale(root: Root) -> None:
    assert [run_day(root, day) for day in range(1, 6)] == [[]] * 5
    assert marked(root) == {}


def test_a_changed_day_marks_all_later_days(root: Root) -> None:
    for day in range(1, 5):
        run_day(root, day)
    assert run_day(root, 2, size=8, run_id="again") == [3, 4]
    assert marked(root) == {3: "02", 4: "02"}
    content = lineage.read_lineage(root, "shop", date(2011, 11, 4))
    assert content is not None
    assert content["stale"]["run_id"] == "again"
    assert content["clusters"][0]["size"] == 7  # nothing else is touched


def test_the_same_clusters_mark_nothing_whatever_run_made_them(root: Root) -> None:
    for day in range(1, 5):
        run_day(root, day)
    assert run_day(root, 2, run_id="again", product_clusters="elsewhere", gone=[{"cluster_id": 9}]) == []
    assert marked(root) == {}


@pytest.mark.parametrize(
    "change",
    [
        {"model": "other"},
        {"members": "2"},
        {"clusters": [{"cluster_id": 2, "name": "Mugs", "size": 7, "centroid": [1.0, 0.0]}]},
        {"clusters": [{"cluster_id": 1, "name": "Cups", "size": 7, "centroid": [1.0, 0.0]}]},
        {"clusters": [{"cluster_id": 1, "name": "Mugs", "size": 7, "centroid": [1.0, 0.000001]}]},
        {"clusters": [{"cluster_id": 1, "name": "Mugs", "size": 7, "centroid": [1.0, 0.0], "named_from": [0.0, 1.0]}]},
    ],
)
def test_whatever_the_next_day_takes_over_counts_as_a_change(root: Root, change: dict[str, Any]) -> None:
    run_day(root, 1)
    run_day(root, 2)
    assert run_day(root, 1, **change) == [2]


def test_running_the_days_again_in_order_clears_the_marks_one_by_one(root: Root) -> None:
    for day in range(1, 6):
        run_day(root, day)
    run_day(root, 2, size=8)
    assert run_day(root, 3, size=9) == [4, 5]
    assert marked(root) == {4: "03", 5: "03"}
    # This one comes out as it was: the day after it was made from just that.
    assert run_day(root, 4) == []
    assert marked(root) == {}


def test_going_back_to_what_it_was_unmarks(root: Root) -> None:
    for day in range(1, 5):
        run_day(root, day)
    run_day(root, 2, size=8)
    assert run_day(root, 2, size=7) == []
    assert marked(root) == {}


def test_another_break_further_on_keeps_its_mark(root: Root) -> None:
    for day in range(1, 6):
        run_day(root, day)
    run_day(root, 3, size=9)
    run_day(root, 1, size=8)
    assert marked(root) == {2: "01", 3: "01", 4: "03", 5: "03"}
    run_day(root, 1, size=7)
    assert marked(root) == {4: "03", 5: "03"}


def test_a_day_made_from_a_stale_one_is_stale_until_that_is_made_again(root: Root) -> None:
    for day in range(1, 5):
        run_day(root, day)
    run_day(root, 2, size=8)
    assert run_day(root, 4) == []  # nothing later
    assert marked(root) == {3: "02", 4: "02"}
    run_day(root, 3)
    assert marked(root) == {}


def test_a_day_that_is_put_in_between_marks_the_next(root: Root) -> None:
    run_day(root, 1)
    run_day(root, 4)
    assert run_day(root, 2) == [4]
    assert marked(root) == {4: "02"}


def test_an_older_first_day_marks_what_had_no_predecessor(root: Root) -> None:
    run_day(root, 3)
    assert run_day(root, 1) == [3]


def test_a_repeated_write_leaves_a_mark_as_it_is(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    run_day(root, 1)
    run_day(root, 2)
    run_day(root, 1, size=8)
    first = lineage.read_lineage(root, "shop", date(2011, 11, 2))
    monkeypatch.setattr(lineage, "utc_now", lambda: "later")
    assert run_day(root, 1, size=8) == [2]
    assert lineage.read_lineage(root, "shop", date(2011, 11, 2)) == first


def test_a_crash_between_marks_is_made_good_by_the_next_try(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    for day in range(1, 5):
        run_day(root, day)
    put = Root.put_json

    def full_disk(self: Root, uri: str, content: dict[str, Any]) -> bytes:
        if "as_of=2011-11-03" in uri:
            raise OSError("disk full")
        return put(self, uri, content)

    with monkeypatch.context() as patched, pytest.raises(OSError, match="disk full"):
        patched.setattr(Root, "put_json", full_disk)
        run_day(root, 1, size=8)
    assert run_day(root, 1, size=8) == [2, 3, 4]
    assert set(marked(root)) == {2, 3, 4}


def test_a_predecessor_without_a_hash_is_told_by_its_run(root: Root) -> None:
    run_day(root, 1)
    run_day(root, 2, format_version=1, predecessor={"as_of": "2011-11-01", "run_id": "first"})
    assert run_day(root, 1, size=8) == []
    assert run_day(root, 1, run_id="again") == [2]


def test_a_later_lineage_of_an_unknown_format_is_an_error_not_a_guess(root: Root) -> None:
    run_day(root, 2, format_version=3)
    with pytest.raises(ArtifactError, match="2011-11-02 has format_version 3; this code reads 1 to 2"):
        run_day(root, 1)


def test_one_line_for_a_person(root: Root) -> None:
    run_day(root, 1)
    run_day(root, 2)
    assert lineage.stale_line(lineage.read_lineage(root, "shop", date(2011, 11, 2))) == ""
    assert lineage.stale_line(lineage.read_lineage(root, "shop", date(2011, 11, 3))) == ""
    run_day(root, 1, size=8)
    line = lineage.stale_line(lineage.read_lineage(root, "shop", date(2011, 11, 2)))
    assert line.startswith("Stale: the clusters as of 2011-11-01 were made on 20")
    assert line.endswith("run the days after 2011-11-01 again, in order.")
    assert "\n" not in line
