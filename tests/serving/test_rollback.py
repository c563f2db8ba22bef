"""Going back to an earlier day, and pausing: what readers follow, and what later runs may do to it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr

from embedded_postgres import embedded_postgres
from finished_run import stamped_rows, write_run
from shelfkin.artifacts import Root, RunPaths
from shelfkin.errors import ArtifactError, OptionError, PublishUnavailableError
from shelfkin.serving.publish import PublishResult, publish_run
from shelfkin.serving.rollback import Decision, pause, paused, resume, roll_back
from shelfkin.settings import PostgresTarget

MONDAY, TUESDAY, WEDNESDAY = (date(2024, 6, day) for day in (3, 4, 5))
BAD_PRICES = Decision("ada", "yesterday's prices are wrong")


def publish_day(artifacts: Path, day: date, postgres: PostgresTarget | None = None) -> PublishResult:
    paths, uris = write_run(artifacts, stamped_rows(day.day), as_of=day.isoformat(), run_id=f"run of {day}")
    return publish_run(paths, uris, publish=True, postgres=postgres)


def served(root: Root) -> str:
    return str(root.read_json(RunPaths(root, "shop", MONDAY, "").latest_uri())["as_of"])


@pytest.fixture
def root(tmp_path: Path) -> Root:
    for day in (MONDAY, TUESDAY):
        publish_day(tmp_path, day)
    return Root.at(str(tmp_path))


def test_readers_get_the_day_that_was_gone_back_to_with_who_and_why(root: Root) -> None:
    pointer = roll_back(root, "shop", MONDAY, BAD_PRICES)
    assert served(root) == "2024-06-03"
    record = pointer["rolled_back"]
    assert (record["by"], record["why"], record["served_before"]) == ("ada", BAD_PRICES.why, "2024-06-04")
    # The day's own pointer is what it was.
    assert "rolled_back" not in root.read_json(RunPaths(root, "shop", MONDAY, "").published_uri())


def test_a_later_run_is_published_for_its_day_and_readers_follow_only_after_resume(root: Root, tmp_path: Path) -> None:
    roll_back(root, "shop", MONDAY, BAD_PRICES)
    held = publish_day(tmp_path, WEDNESDAY)
    assert held.published and not held.is_latest and served(root) == "2024-06-03"
    assert "publishing was paused by ada" in held.log_lines[-1] and BAD_PRICES.why in held.log_lines[-1]
    resume(root, "shop")
    assert paused(root, "shop") is None
    assert publish_day(tmp_path, WEDNESDAY).is_latest and served(root) == "2024-06-05"


def test_a_pause_holds_the_day_of_today(root: Root, tmp_path: Path) -> None:
    pause(root, "shop", Decision("bo", "stocktaking"))
    assert not publish_day(tmp_path, WEDNESDAY).is_latest and served(root) == "2024-06-04"
    assert (paused(root, "shop") or {})["why"] == "stocktaking"


def test_a_day_that_was_never_published_and_one_whose_tables_are_gone_change_nothing(
    root: Root, tmp_path: Path
) -> None:
    with pytest.raises(ArtifactError, match="Nothing is published for store shop as of 2024-06-05") as never:
        roll_back(root, "shop", WEDNESDAY, BAD_PRICES)
    assert "2024-06-03, 2024-06-04" in str(never.value)
    pointer = root.read_json(RunPaths(root, "shop", MONDAY, "").published_uri())
    shutil.rmtree(pointer["tables"]["similar_products"]["path"])
    with pytest.raises(ArtifactError, match="similar_products is gone"):
        roll_back(root, "shop", MONDAY, BAD_PRICES)
    assert served(root) == "2024-06-04" and paused(root, "shop") is None


@pytest.mark.parametrize("why", ["", "  ", "x" * 501])
def test_a_reason_is_needed(why: str) -> None:
    with pytest.raises(OptionError, match="reason"):
        Decision("ada", why)


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with embedded_postgres() as url:
        yield url


def test_postgres_goes_back_too_and_loads_a_run_that_it_no_longer_has(database: str, tmp_path: Path) -> None:
    target = PostgresTarget(SecretStr(database), keep_runs=2)
    for day in (MONDAY, TUESDAY, WEDNESDAY):
        publish_day(tmp_path, day, target)
    root = Root.at(str(tmp_path))

    def price_in_database() -> float:
        with psycopg.connect(database) as db:
            row = db.execute("SELECT max(price) FROM shelfkin_shop.products").fetchone()
            assert row is not None
            return float(row[0])

    assert price_in_database() == 5.0
    roll_back(root, "shop", TUESDAY, BAD_PRICES, target)
    assert price_in_database() == 4.0 and served(root) == "2024-06-04"
    # Monday's rows were removed when Wednesday came.
    roll_back(root, "shop", MONDAY, BAD_PRICES, target)
    assert price_in_database() == 3.0 and served(root) == "2024-06-03"
    nowhere = PostgresTarget(SecretStr("postgresql://nobody@127.0.0.1:1/none"), keep_runs=2)
    with pytest.raises(PublishUnavailableError):
        roll_back(root, "shop", TUESDAY, BAD_PRICES, nowhere)
    assert served(root) == "2024-06-03"
