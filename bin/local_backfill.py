"""A backfill on the Airflow that `make up` started: the days that a person names, as data intervals of the schedule."""

from __future__ import annotations

import subprocess

from local_home import prepared_environment
from local_server import running_pid
from shelfkin.errors import OptionError
from shelfkin.schedule import data_intervals, parse_days
from shelfkin.settings import Settings


def backfill(store: str, first: str, last: str) -> int:
    """Create the backfill of the runs as of `first` to `last`; return the exit status."""
    settings = Settings.from_env()
    profile = settings.profile(store or settings.default_store)
    intervals = data_intervals(profile, *parse_days(first, last))
    if running_pid() is None:
        raise OptionError("Airflow is not running, and a backfill needs its scheduler.", next_step="make up")
    words = ["airflow", "backfill", "create", "--dag-id", settings.dag_id(profile.store)]
    words += ["--from-date", intervals[0][0].isoformat(), "--to-date", intervals[-1][0].isoformat()]
    # Days that have run are run again; one at a time, because cluster ids pass from day to day.
    words += ["--reprocess-behavior", "completed", "--max-active-runs", "1"]
    with prepared_environment() as environment:
        return subprocess.run(words, env=environment, check=False).returncode
