"""Which earlier day's rankers a run may go on with, and that they come back as they were written."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from shelfkin.evaluation.learning import Rankers
from shelfkin.evaluation.ranker_reuse import from_rows, ranker_key, reusable_day, to_rows
from shelfkin.recommending.ranker import Ranker

TODAY = date(2026, 11, 24)


def day(as_of: str, learned: str | None, key: str = "k", stages: tuple[str, ...] = ("evaluate_recommenders",)) -> dict:
    metrics: dict[str, Any] = {"ranker_key": key}
    if learned:
        metrics["ranker_learned_as_of"] = learned
    return {"as_of": as_of, "metrics": metrics, "manifests": dict.fromkeys(stages, "uri")}


@pytest.mark.parametrize(
    ("pointers", "found"),
    [
        ([], None),
        ([day("2026-11-23", "2026-11-23")], "2026-11-23"),
        # Age counts from the training set, however often they were taken over; at seven days it is over.
        ([day("2026-11-23", "2026-11-18")], "2026-11-23"),
        ([day("2026-11-23", "2026-11-17")], None),
        # Other settings or another model: not the newest day, but the one before, as long as it is fresh.
        ([day("2026-11-23", "2026-11-23", key="other"), day("2026-11-22", "2026-11-22")], "2026-11-22"),
        # A day without an evaluation, as of a store that had no events yet.
        ([day("2026-11-23", None)], None),
        ([day("2026-11-23", "2026-11-23", stages=())], None),
    ],
)
def test_rankers_are_taken_over_while_they_are_fresh_and_alike(pointers: list[dict], found: str | None) -> None:
    pointer = reusable_day(pointers, TODAY, "k", 7)
    assert (pointer["as_of"] if pointer else None) == found
    assert reusable_day(pointers, TODAY, "k", 0) is None


def test_the_key_changes_with_what_rankers_depend_on() -> None:
    assert ranker_key({"a": 1, "b": 2}, "model") == ranker_key({"b": 2, "a": 1}, "model")
    assert ranker_key({"a": 1}, "model") != ranker_key({"a": 1}, "other model")
    assert ranker_key({"a": 1}, "model") != ranker_key({"a": 2}, "model")


def test_rankers_come_back_as_they_were_written() -> None:
    rankers = Rankers({"all": Ranker("one"), "new": None}, {"all": Ranker("two"), "new": Ranker("three")}, TODAY)
    rows = list(to_rows(rankers))
    assert len(rows) == 3
    assert from_rows(rows[::-1], TODAY) == rankers


def test_rankers_of_days_published_by_earlier_versions_are_read() -> None:
    rankers = from_rows([("all", "one", "judged"), ("all", "two", "tonight")], TODAY)
    assert rankers.backtest["all"] == Ranker("one")
    assert rankers.production["all"] == Ranker("two")
