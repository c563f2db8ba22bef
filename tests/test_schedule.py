"""Which data intervals stand for a range of days."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from shelfkin.errors import OptionError
from shelfkin.profile import StoreProfile
from shelfkin.schedule import data_intervals, parse_days


def at(month: int, day: int, hour: int) -> datetime:
    return datetime(2026, month, day, hour, tzinfo=UTC)


def shop(schedule: str | None, timezone: str = "UTC") -> StoreProfile:
    return StoreProfile.model_construct(store="shop", schedule=schedule, timezone=timezone)


def test_a_run_is_as_of_the_day_its_interval_ends_on() -> None:
    found = data_intervals(shop("0 3 * * *"), date(2026, 5, 1), date(2026, 5, 2))
    assert found == [(at(4, 30, 3), at(5, 1, 3)), (at(5, 1, 3), at(5, 2, 3))]


def test_the_schedule_is_on_the_shops_clock_and_days_are_utc() -> None:
    # Summer time began on 29 March: that day's interval has 23 hours.
    found = data_intervals(shop("0 3 * * *", "Europe/Berlin"), date(2026, 3, 29), date(2026, 3, 29))
    assert found == [(at(3, 28, 2), at(3, 29, 1))]
    # Ten in the evening in New York is the next day in UTC.
    found = data_intervals(shop("0 22 * * *", "America/New_York"), date(2026, 5, 2), date(2026, 5, 2))
    assert found == [(at(5, 1, 2), at(5, 2, 2))]


@pytest.mark.parametrize(
    ("schedule", "first", "last", "words"),
    [
        (None, 1, 2, "has no schedule"),
        ("0 3 * * *", 2, 1, "is after the last"),
        ("0 3 * * 1", 1, 2, "no run is as of a day from 2026-05-01"),
    ],
)
def test_days_without_a_run_are_refused(schedule: str | None, first: int, last: int, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        data_intervals(shop(schedule), date(2026, 5, first), date(2026, 5, last))


@pytest.mark.parametrize(("first", "last"), [("", ""), ("2026-05-01", ""), ("1 May", "2026-05-02")])
def test_what_is_no_day_is_refused_with_an_example(first: str, last: str) -> None:
    with pytest.raises(OptionError, match="must be days"):
        parse_days(first, last)
    assert parse_days("2026-05-01", "2026-05-02") == (date(2026, 5, 1), date(2026, 5, 2))
