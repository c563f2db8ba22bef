"""Lineages on disk: what a day's clusters were made from, and which days must be made again.

A lineage is stale when it, or one that it descends from, was made from something else than what its predecessor is
now: the day before was run again with another result, or a day in between was run for the first time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import date
from typing import Any

from shelfkin.artifacts import Root, RunPaths, lineage_dates, utc_now
from shelfkin.errors import ArtifactError

LINEAGE_FORMAT = 2

# Format 1 says neither where the products are nor which predecessor it was made from, to the byte.
READABLE_FORMATS = (1, 2)


def check_format(content: Mapping[str, Any]) -> None:
    """Raise ArtifactError if this code can't read a lineage."""
    if content.get("format_version") not in READABLE_FORMATS:
        raise ArtifactError(
            f"The lineage as of {content.get('as_of')} has format_version {content.get('format_version')!r}; "
            f"this code reads {READABLE_FORMATS[0]} to {READABLE_FORMATS[-1]}.",
            next_step="Run that day again with this version of shelfkin.",
        )


def clusters_sha256(content: Mapping[str, Any]) -> str:
    """Return a hash of all that the next day takes from a lineage: model, ids, names, centroids, sizes and members.

    Statuses, paths and run ids stay out of it: a day that is run again to the same clusters makes nothing stale.
    """
    parts = ("cluster_id", "name", "size", "centroid", "named_from")
    clusters = [{part: cluster.get(part) for part in parts} for cluster in content["clusters"]]
    taken = {"model": content.get("model"), "members": content.get("members"), "clusters": clusters}
    return hashlib.sha256(json.dumps(taken, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def lineage_record(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a lineage says about the one that it was made from."""
    return {"as_of": content.get("as_of"), "run_id": content.get("run_id"), "sha256": clusters_sha256(content)}


def read_lineage(root: Root, store: str, day: date) -> dict[str, Any] | None:
    """Return the lineage as of `day`, or None if there is none."""
    uri = RunPaths(root, store, day, "").lineage_uri()
    return root.read_json(uri) if root.exists(uri) else None


def write_lineage(paths: RunPaths, content: dict[str, Any], predecessor: Mapping[str, Any] | None) -> list[date]:
    """Write a day's lineage, set right the stale marks of later days, and return the later days that are stale now.

    A day that was made from a stale predecessor inherits the mark.
    """
    mark = None if predecessor is None else predecessor.get("stale")
    content = {**content, "stale": mark} if mark else content
    paths.root.put_json(paths.lineage_uri(), content)
    return refresh_stale_marks(paths, content)


def refresh_stale_marks(paths: RunPaths, written: Mapping[str, Any]) -> list[date]:
    """Mark the days after this one whose chain of predecessors is broken, unmark the others; return the marked ones.

    Marks are written from the newest day backwards, so that a crash in between leaves no day unmarked that is newer
    than a marked one.

    Parameters
    ----------
    paths
        The run that has just written its lineage.
    written
        That lineage.
    """
    root, store = paths.root, paths.store
    before, inherited = lineage_record(written), written.get("stale")
    marks: dict[date, Any] = {}
    changed: list[date] = []
    for day in lineage_dates(root, store):
        if day <= paths.as_of:
            continue
        content = _readable(root, store, day)
        intact = _made_from(content.get("predecessor"), before)
        mark = inherited if intact else _mark(content.get("stale"), before)
        if content.get("stale") != mark:
            changed.append(day)
        marks[day] = mark
        before, inherited = lineage_record(content), mark
    for day in reversed(changed):
        _set_mark(root, store, day, marks[day])
    return [day for day, mark in marks.items() if mark]


def _readable(root: Root, store: str, day: date) -> dict[str, Any]:
    content = root.read_json(RunPaths(root, store, day, "").lineage_uri())
    check_format(content)
    return content


def _mark(present: Mapping[str, Any] | None, actual: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the mark of a day whose predecessor is another one than it was made from; an equal older mark stays."""
    cause = {"because_of": actual["as_of"], "run_id": actual["run_id"]}
    if present and cause.items() <= present.items():
        return present
    return {**cause, "since": utc_now()}


def _made_from(recorded: Mapping[str, Any] | None, actual: Mapping[str, Any]) -> bool:
    """Whether the predecessor that a lineage names is what stands there now."""
    if recorded is None or recorded.get("as_of") != actual["as_of"]:
        return False
    known_by = "sha256" if "sha256" in recorded else "run_id"
    return bool(recorded.get(known_by) == actual[known_by])


def _set_mark(root: Root, store: str, day: date, mark: Mapping[str, Any] | None) -> None:
    content = _readable(root, store, day)
    content.pop("stale", None)
    root.put_json(RunPaths(root, store, day, "").lineage_uri(), {**content, "stale": mark} if mark else content)


def stale_line(content: Mapping[str, Any] | None) -> str:
    """Return one line for a person about a stale lineage, or an empty string for one that is in order."""
    mark = (content or {}).get("stale")
    if not mark:
        return ""
    return (
        f"Stale: the clusters as of {mark['because_of']} were made on {str(mark['since'])[:10]}, after these; "
        f"run the days after {mark['because_of']} again, in order."
    )
