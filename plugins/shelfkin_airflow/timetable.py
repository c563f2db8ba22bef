"""A schedule that makes up for a few missed runs: between Airflow's ``catchup=True`` (all) and False (the newest)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.serialization.encoders import encode_timezone
from airflow.timetables.interval import CronDataIntervalTimetable

if TYPE_CHECKING:
    from pendulum import DateTime


class CronWithCatchup(CronDataIntervalTimetable):
    """Airflow's own timetable of cron intervals, for a DAG with ``catchup=False``.

    Parameters
    ----------
    cron
        The expression.
    timezone
        Name of its IANA time zone.
    catchup_runs
        How many runs, the newest among them, are made up when the DAG is new, or was paused or down.
    """

    def __init__(self, cron: str, timezone: str, catchup_runs: int = 1) -> None:
        super().__init__(cron, timezone)
        self.catchup_runs = catchup_runs

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> CronWithCatchup:
        """Return the timetable that `serialize` wrote."""
        return cls(data["expression"], data["timezone"], data["catchup_runs"])

    def serialize(self) -> dict[str, Any]:
        """Return what the scheduler reads."""
        return {
            "expression": self._expression,
            "timezone": encode_timezone(self._timezone),
            "catchup_runs": self.catchup_runs,
        }

    def _skip_to_latest(self, earliest: DateTime | None) -> DateTime:
        start = super()._skip_to_latest(None)
        for _ in range(self.catchup_runs - 1):
            start = self._get_prev(start)
        return start if earliest is None else max(start, self._align_to_next(earliest))
