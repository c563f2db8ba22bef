"""Which catalogue snapshot a run reads."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from shelfkin.errors import SourceError
from shelfkin.snapshots import is_delivered, newest_before, search_glob

TEMPLATE = "/shop/products-{snapshot_date}-r{revision}.csv"


def files(*names: str) -> list[str]:
    return [f"file:/shop/products-{name}.csv" for name in names]


def test_newest_date_before_as_of_and_its_highest_revision_win() -> None:
    # r10 > r9 as numbers, though not as text; the 3rd is not known as of the 3rd.
    paths = files("2026-01-01-r7", "2026-01-02-r9", "2026-01-02-r10", "2026-01-03-r1")
    found = newest_before(TEMPLATE, paths, date(2026, 1, 3))
    assert (found.snapshot_date, found.revision) == (date(2026, 1, 2), 10)
    assert found.path == "file:/shop/products-2026-01-02-r10.csv"


def test_a_fix_of_the_past_is_seen_by_a_backfill_of_that_past() -> None:
    paths = files("2026-01-01-r0", "2026-01-01-r1", "2026-01-05-r0")
    assert newest_before(TEMPLATE, paths, date(2026, 1, 4)).revision == 1


def test_date_alone_and_date_in_folder_and_name() -> None:
    assert newest_before("/s/{snapshot_date}.csv", ["/s/20260102.csv"], date(2026, 2, 1)).revision == 0
    template = "/s/{snapshot_date}/p-{snapshot_date}.csv"
    paths = ["/s/2026-01-01/p-2026-01-01.csv", "/s/2026-01-02/p-2026-01-01.csv"]
    assert newest_before(template, paths, date(2026, 2, 1)).path == paths[0]
    assert search_glob(template) == "/s/*/p-*.csv"


def test_files_that_do_not_fit_are_passed_over() -> None:
    paths = files("2026-13-01-r0", "latest-r0", "2026-01-01-rX", "2026-01-01-r2")
    assert newest_before(TEMPLATE, paths, date(2026, 2, 1)).revision == 2


def test_none_fits_and_none_is_old_enough() -> None:
    with pytest.raises(SourceError, match="No snapshot fits"):
        newest_before(TEMPLATE, files("latest-r0"), date(2026, 1, 1))
    with pytest.raises(SourceError, match="oldest of 1 is of 2026-01-01") as error:
        newest_before(TEMPLATE, files("2026-01-01-r0"), date(2026, 1, 1))
    assert "after 2026-01-01" in error.value.next_step


def test_a_delivery_is_of_that_very_day(tmp_path: Path) -> None:
    template = str(tmp_path / "{snapshot_date}" / "products-{snapshot_date}-r{revision}.csv")
    path = tmp_path / "2026-03-01" / "products-2026-03-01-r2.csv"
    path.parent.mkdir()
    assert not is_delivered(template, date(2026, 3, 1))
    path.touch()
    assert is_delivered(template, date(2026, 3, 1)) and not is_delivered(template, date(2026, 3, 2))
    assert is_delivered(f"file://{template}", date(2026, 3, 1))
