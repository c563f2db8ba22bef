"""Which data intervals a schedule gives to the runs of a range of days: a run is as of the day its interval ends on."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from croniter import croniter

from shelfkin.errors import OptionError
from shelfkin.profile import StoreProfile


def parse_days(first: str, last: str) -> tuple[date, date]:
    """Return the days that a command line names; raises OptionError."""
    try:
        return date.fromisoformat(first), date.fromisoformat(last)
    except ValueError as error:
        raise OptionError("FROM and TO must be days.", next_step="Write FROM=2026-03-01 TO=2026-03-05.") from error


def data_intervals(profile: StoreProfile, first: date, last: date) -> list[tuple[datetime, datetime]]:
    """Return the data intervals, as moments in UTC, of the runs as of `first` to `last`, oldest first.

    Raises
    ------
    OptionError
        The store has no schedule, `first` is after `last`, or no run of the schedule is as of a day in between.
    """
    if profile.schedule is None:
        raise OptionError(
            f"Store {profile.store} has no schedule, and only scheduled days can be backfilled.",
            next_step="Give its profile `schedule` and `start_date`, or run its days one by one with make run.",
        )
    if first > last:
        raise OptionError(f"The first day, {first}, is after the last, {last}.", next_step="Swap the two.")
    found = list(_intervals(profile.schedule, ZoneInfo(profile.timezone), first, last))
    if not found:
        raise OptionError(
            f"By the schedule {profile.schedule!r}, no run is as of a day from {first} to {last}.",
            next_step="Choose other days.",
        )
    return found


def _intervals(schedule: str, zone: ZoneInfo, first: date, last: date) -> Iterator[tuple[datetime, datetime]]:
    just_before = datetime(first.year, first.month, first.day, tzinfo=UTC) - timedelta(seconds=1)
    ends = croniter(schedule, just_before.astimezone(zone), ret_type=datetime)
    while (end := ends.get_next()).astimezone(UTC).date() <= last:
        start = croniter(schedule, end, ret_type=datetime).get_prev()
        yield start.astimezone(UTC), end.astimezone(UTC)
