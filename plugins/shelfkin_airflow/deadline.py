"""When a shop's day has to be published: a time of day on the shop's clock, after the run's turn has come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Self
from zoneinfo import ZoneInfo

from airflow.sdk.definitions.deadline import BaseDeadlineReference
from croniter import croniter

from shelfkin.profile import StoreProfile

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


@dataclass(eq=False)
class PublishBy(BaseDeadlineReference):
    """Airflow's deadline of a scheduled run: the next time that the shop's clock shows ``publish_by``.

    A fixed interval after the logical date would be an hour off on the days when clocks change. Runs by hand and
    backfills have no deadline, and neither have runs that a catch-up makes for days long gone.
    """

    publish_by: str = "06:00"
    timezone: str = "UTC"

    required_kwargs: ClassVar[set[str]] = {"dag_id", "run_id"}

    def serialize_reference(self) -> dict[str, Any]:
        """Return what Airflow keeps of this."""
        return {**super().serialize_reference(), **asdict(self)}

    @classmethod
    def deserialize_reference(cls, reference_data: Mapping[str, Any]) -> Self:
        """Return what `serialize_reference` made a dict of."""
        return cls(reference_data["publish_by"], reference_data["timezone"])

    def after(self, moment: datetime) -> datetime:
        """Return the first time after a moment that the clock shows ``publish_by``."""
        here = moment.astimezone(ZoneInfo(self.timezone))
        hours = time.fromisoformat(self.publish_by)
        day = here.date() if here.time() < hours else here.date() + timedelta(days=1)
        return datetime.combine(day, hours, here.tzinfo).astimezone(UTC)

    def _evaluate_with(self, *, session: Session, dag_id: str, run_id: str) -> datetime | None:
        """Return the run's deadline; called by the scheduler when it makes the run."""
        from airflow.models.dagrun import DagRun
        from airflow.utils.types import DagRunType
        from sqlalchemy import select

        run = session.scalars(select(DagRun).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id)).one()
        deadline = self.after(run.run_after)
        is_past = deadline < datetime.now(UTC) - timedelta(days=1)
        return None if run.run_type != DagRunType.SCHEDULED or is_past else deadline


def overdue(profile: StoreProfile, newest: date | None, now: datetime) -> date | None:
    """Return the newest day that should be published by now, if it isn't; without ``publish_by`` a run has a day.

    Parameters
    ----------
    newest
        The newest published day, or None.
    """
    if profile.schedule is None or profile.start_date is None:
        return None
    turns = croniter(profile.schedule, now.astimezone(ZoneInfo(profile.timezone)), ret_type=datetime)
    turn = turns.get_prev()
    while _due(profile, turn) > now:
        turn = turns.get_prev()
    # As the DAG's template says it: the end of the data interval, in UTC.
    expected = turn.astimezone(UTC).date()
    is_published = newest is not None and newest >= expected
    return None if is_published or expected <= profile.start_date else expected


def _due(profile: StoreProfile, turn: datetime) -> datetime:
    if profile.publish_by is None:
        return turn + timedelta(days=1)
    return PublishBy(profile.publish_by, profile.timezone).after(turn)
