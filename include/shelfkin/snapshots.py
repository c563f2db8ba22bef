"""Find the snapshot that was known on a day.

Nothing here imports pyspark: a task looks for a delivery before it starts a JVM.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

import fsspec

from shelfkin.errors import SourceError

_DATE, _REVISION = "{snapshot_date}", "{revision}"


@dataclass(frozen=True, order=True)
class Snapshot:
    """One delivery of a table; the order is by date, then revision."""

    snapshot_date: date
    revision: int
    path: str


def search_glob(template: str) -> str:
    """Return the glob that finds every snapshot of a path such as ``products-{snapshot_date}-r{revision}.csv``."""
    return template.replace(_DATE, "*").replace(_REVISION, "*")


def newest_before(template: str, paths: Iterable[str], as_of: date, key: str = "catalog.source.path") -> Snapshot:
    """Return the highest revision of the newest snapshot dated before `as_of`.

    Parameters
    ----------
    template
        Path with ``{snapshot_date}`` (YYYY-MM-DD or YYYYMMDD) and, optionally, ``{revision}`` (a whole number).
        Without ``{revision}``, every snapshot is revision 0.
    paths
        Paths that exist.
    as_of
        The run's date; a snapshot of that very day isn't known yet.
    key
        The profile's key of the template, for messages.

    Raises
    ------
    SourceError
        No path fits the template, or all fitting ones are of `as_of` or later.
    """
    found = sorted(snapshot for path in paths if (snapshot := _parse(template, path)) is not None)
    if not found:
        raise SourceError(
            f"No snapshot fits {template} ({key}).",
            next_step=f"Correct {key}, or deliver a snapshot with its date in the file name.",
        )
    known = [snapshot for snapshot in found if snapshot.snapshot_date < as_of]
    if not known:
        raise SourceError(
            f"No snapshot fitting {template} is dated before {as_of}; "
            f"the oldest of {len(found)} is of {found[0].snapshot_date}.",
            next_step=f"Choose an as_of after {found[0].snapshot_date}, or deliver an older snapshot.",
        )
    return known[-1]


def is_delivered(template: str, day: date) -> bool:
    """Return whether a snapshot of that very day is there."""
    files, template = fsspec.core.url_to_fs(template)
    files.invalidate_cache()
    found = (_parse(template, path) for path in files.glob(search_glob(template)))
    return any(snapshot is not None and snapshot.snapshot_date == day for snapshot in found)


def _parse(template: str, path: str) -> Snapshot | None:
    pattern = re.escape(template)
    # A placeholder may stand in a folder and again in the file name; both must then say the same.
    pattern = pattern.replace(re.escape(_DATE), r"(?P<date>\d{4}-?\d{2}-?\d{2})", 1).replace(
        re.escape(_DATE), "(?P=date)"
    )
    pattern = pattern.replace(re.escape(_REVISION), r"(?P<revision>\d+)", 1).replace(
        re.escape(_REVISION), "(?P=revision)"
    )
    # Hadoop lists "file:/a/b" for "/a/b"; globs of the profile itself are not allowed beside the placeholders.
    match = re.search(pattern + r"/?$", path)
    if match is None:
        return None
    try:
        day = date.fromisoformat(match["date"])
    except ValueError:
        return None
    groups = match.groupdict()
    return Snapshot(day, int(groups.get("revision") or 0), path)
