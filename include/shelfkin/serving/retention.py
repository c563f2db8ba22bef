"""Which runs may go: published days beyond those that are kept, and runs that nothing names any more."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from shelfkin.artifacts import Root, RunPaths, latest_pointer_uri, lineage_dates, published_days
from shelfkin.errors import OptionError

# A week: the gate, cluster identity, drift and the ranker's reuse look back as far.
MIN_KEPT_DAYS = 7
# A run that nothing names yet may be at work, or wait for somebody to look at it.
MIN_AGE = timedelta(days=7)


@dataclass(frozen=True)
class OldRuns:
    """What `remove_runs` would remove.

    Attributes
    ----------
    days
        Published days whose pointers go.
    folders
        URI and bytes of each run that goes.
    """

    days: list[date]
    folders: list[tuple[str, int]]


def old_runs(root: Root, store: str, keep: int, now: datetime | None = None) -> OldRuns:
    """Find what may go; nothing is changed.

    What stays: the newest published days with their runs, the day that is served, the runs that the newest clusters
    were found in, and whatever changed within the last week.

    Parameters
    ----------
    keep
        Number of published days to keep, at least 7.

    Raises
    ------
    OptionError
        `keep` is too small.
    """
    if keep < MIN_KEPT_DAYS:
        raise OptionError(f"keep={keep} is too few days.", next_step=f"Keep {MIN_KEPT_DAYS} or more.")
    before = (now or datetime.now(UTC)) - MIN_AGE
    latest_uri = latest_pointer_uri(root, store)
    served = [root.read_json(latest_uri)] if root.exists(latest_uri) else []
    days = published_days(root, store)[:-keep]
    days = [day for day in days if day.isoformat() not in {pointer["as_of"] for pointer in served}]
    kept = [day for day in published_days(root, store) if day not in days]
    pointers = [*served, *(root.read_json(RunPaths(root, store, day, "").published_uri()) for day in kept)]
    lineages = (
        root.read_json(RunPaths(root, store, day, "").lineage_uri()) for day in lineage_dates(root, store)[-keep:]
    )
    named = {_folder(root, store, made) for made in (*pointers, *lineages)}
    found = [
        (folder, int(root.fs.du(folder)))
        for folder in _run_folders(root, store)
        if folder not in named and _last_change(root, folder) < before
    ]
    return OldRuns(days, found)


def remove_runs(root: Root, store: str, old: OldRuns) -> None:
    """Remove what `old_runs` found: pointers first, so that none ever names a run that is gone."""
    for day in old.days:
        root.remove(RunPaths(root, store, day, "").published_uri())
    for folder, _ in old.folders:
        root.fs.rm(folder, recursive=True)


def _folder(root: Root, store: str, made: dict[str, str]) -> str:
    return RunPaths(root, store, date.fromisoformat(made["as_of"]), made["run_id"]).run_uri


def _run_folders(root: Root, store: str) -> Iterator[str]:
    runs = root.join("stores", store, "runs")
    for day in root.names(runs):
        for name in root.names(posixpath.join(runs, day)):
            yield posixpath.join(runs, day, name)


def _last_change(root: Root, folder: str) -> datetime:
    changes = [root.fs.modified(path) for path in root.fs.find(folder)]
    return max(changes, default=datetime.now(UTC))
