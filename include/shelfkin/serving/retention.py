"""What may go: days beyond those that are kept, runs that nothing names any more, rows turned away long ago."""

from __future__ import annotations

import os
import posixpath
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa

from shelfkin.artifacts import Manifest, Root, RunPaths, latest_pointer_uri, lineage_dates, published_days, utc_now
from shelfkin.errors import OptionError
from shelfkin.profile import MIN_KEPT_DAYS, Retention
from shelfkin.serving.table_rewrite import Cut, Rewrite, rewrite, rewritten

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
    served = _served(root, store)
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
        for folder in run_folders(root, store)
        if folder not in named and last_change(root, folder) < before
    ]
    return OldRuns(days, found)


def remove_runs(root: Root, store: str, old: OldRuns) -> None:
    """Remove what `old_runs` found: pointers first, so that none ever names a run that is gone.

    A run that somebody went back to meanwhile stays.
    """
    for day in old.days:
        root.remove(RunPaths(root, store, day, "").published_uri())
    for folder, _ in old.folders:
        if folder not in {_folder(root, store, pointer) for pointer in _served(root, store)}:
            root.fs.rm(folder, recursive=True)


def remove_quarantine(root: Root, store: str, days: int, now: datetime | None = None) -> Counter[str]:
    """Remove the rows that stages turned away more than so many days ago, and return how many, by table.

    An empty table stays, and the manifest's counts by reason. No later stage and no reader asks for these rows.
    """
    now = now or datetime.now(UTC)
    before, removed = now - timedelta(days=days), Counter[str]()
    for folder in run_folders(root, store):
        for stage in root.names(folder):
            uri = posixpath.join(folder, stage, "manifest.json")
            if not root.exists(uri):
                continue
            manifest = Manifest.read(root, uri)
            if datetime.fromisoformat(manifest.content["finished_at"]) < before:
                removed += _without_quarantine(root, manifest)
                _remove_other_tries(root, manifest, before)
    return removed


def _remove_other_tries(root: Root, manifest: Manifest, before: datetime) -> None:
    """Remove the rows that replaced tries of a stage turned away."""
    named = {manifest.table_uri(table) for table in manifest.content["tables"]}
    stage = posixpath.dirname(manifest.uri)
    tries = (posixpath.join(stage, name) for name in root.names(stage) if name != "manifest.json")
    tables = (posixpath.join(one, table) for one in tries for table in root.names(one) if table.endswith("_quarantine"))
    for uri in tables:
        if uri not in named and last_change(root, uri) < before:
            root.fs.rm(uri, recursive=True)


def _without_quarantine(root: Root, manifest: Manifest) -> Counter[str]:
    made = Rewrite()
    for table in manifest.content["tables"]:
        if table.endswith("_quarantine") and root.exists(manifest.table_uri(table)):
            rewrite(root, manifest, table, Cut(["reason"], _nothing), f"pruned-{os.urandom(3).hex()}", made, do=True)
    if not made.paths:
        return Counter()
    root.put_json(manifest.uri, rewritten(manifest, made, "", {"why": "retention", "at": utc_now()}))
    for table in made.paths:
        root.fs.rm(manifest.table_uri(table), recursive=True)
    return Counter({table: made.rows(table) for table in made.paths})


def _nothing(rows: pa.Table) -> tuple[pa.Table, Counter[str]]:
    return rows.slice(0, 0), Counter(rows["reason"].to_pylist())


def keep(root: Root, store: str, retention: Retention) -> list[str]:
    """Remove what a store's setting lets go, and say what that was."""
    lines = []
    if retention.published_days is not None:
        old = old_runs(root, store, retention.published_days)
        remove_runs(root, store, old)
        size = sum(n_bytes for _, n_bytes in old.folders) / 2**20
        lines.append(f"{store}: {len(old.folders)} runs of {size:,.1f} MB and {len(old.days)} published days removed")
    if retention.quarantine_days is not None:
        removed = remove_quarantine(root, store, retention.quarantine_days)
        lines.append(f"{store}: {removed.total():,} rows that were turned away removed")
    return lines


def _served(root: Root, store: str) -> list[dict[str, str]]:
    uri = latest_pointer_uri(root, store)
    return [root.read_json(uri)] if root.exists(uri) else []


def _folder(root: Root, store: str, made: dict[str, str]) -> str:
    return RunPaths(root, store, date.fromisoformat(made["as_of"]), made["run_id"]).run_uri


def run_folders(root: Root, store: str) -> Iterator[str]:
    """Yield the folder of every run of a store."""
    runs = root.join("stores", store, "runs")
    for day in root.names(runs):
        for name in root.names(posixpath.join(runs, day)):
            yield posixpath.join(runs, day, name)


def last_change(root: Root, folder: str) -> datetime:
    """Return when anything below a folder changed last."""
    changes = [root.fs.modified(path) for path in root.fs.find(folder)]
    return max(changes, default=datetime.now(UTC))
