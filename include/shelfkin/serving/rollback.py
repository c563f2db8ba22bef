"""Going back to an earlier published run, and pausing what readers get; both are recorded with who and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from shelfkin.artifacts import Manifest, Root, RunPaths, published_days, utc_now
from shelfkin.errors import ArtifactError, OptionError
from shelfkin.serving.publish import in_postgres, paused_uri
from shelfkin.settings import PostgresTarget

MAX_REASON = 500


@dataclass(frozen=True)
class Decision:
    """Who decided, and why."""

    by: str
    why: str

    def __post_init__(self) -> None:
        if not self.why.strip() or len(self.why) > MAX_REASON:
            raise OptionError(
                f"A reason of 1 to {MAX_REASON} characters is needed; this one has {len(self.why.strip())}.",
                next_step="Say in a few words why.",
            )


def paused(root: Root, store: str) -> Mapping[str, Any] | None:
    """Return who paused what readers of a store get, when (``since``) and why; None if nobody has."""
    uri = paused_uri(root, store)
    return root.read_json(uri) if root.exists(uri) else None


def pause(root: Root, store: str, decision: Decision) -> None:
    """Keep what readers get as it is: runs are still made and published for their day, but ``latest`` stays."""
    root.put_json(paused_uri(root, store), {"by": decision.by, "why": decision.why, "since": utc_now()})


def resume(root: Root, store: str) -> None:
    """Let the next published run become the latest again."""
    root.remove(paused_uri(root, store))


def roll_back(
    root: Root, store: str, as_of: date, decision: Decision, postgres: PostgresTarget | None = None
) -> dict[str, Any]:
    """Let readers have an earlier published day again, in files and in Postgres, and pause publishing.

    Without the pause, the next run would undo it. Postgres goes first, as when a run is published: if it fails, no
    pointer has moved.

    Parameters
    ----------
    as_of
        A published day.
    postgres
        The shop's database, if it has one; a run that is no longer in it is loaded again.

    Returns
    -------
    The pointer that readers follow now. Its ``rolled_back`` holds by, why, at and the day that was served before.

    Raises
    ------
    ArtifactError
        That day was never published, or its tables are gone.
    PublishError, PublishUnavailableError
        The database refused, or was not to be had; nothing has moved.
    """
    paths = RunPaths(root, store, as_of, "")
    if not root.exists(paths.published_uri()):
        days = ", ".join(day.isoformat() for day in published_days(root, store)[-5:]) or "none"
        raise ArtifactError(
            f"Nothing is published for store {store} as of {as_of}.",
            next_step=f"Choose a published day; the newest are {days}.",
        )
    pointer = root.read_json(paths.published_uri())
    manifests = {stage: Manifest.read(root, uri) for stage, uri in pointer["manifests"].items()}
    _check_tables(root, pointer)
    before = root.read_json(paths.latest_uri()) if root.exists(paths.latest_uri()) else {}
    record = {"by": decision.by, "why": decision.why, "at": utc_now(), "served_before": before.get("as_of")}
    served = {**pointer, "rolled_back": record}
    run = RunPaths(root, store, as_of, pointer["run_id"])
    with in_postgres(postgres, run, manifests, go_back=True):
        # First: a run that ends between the two puts must not move what the second one sets.
        pause(root, store, decision)
        # Again: they may have been pruned while the database was loaded.
        _check_tables(root, pointer)
        root.put_json(paths.latest_uri(), served)
    return served


def _check_tables(root: Root, pointer: Mapping[str, Any]) -> None:
    places = [entry["path"] for entry in pointer["tables"].values()]
    gone = next((place for place in (*places, pointer["serving_index"]) if not root.exists(place)), None)
    if gone is not None:
        raise ArtifactError(
            f"{gone} is gone, which the run published as of {pointer['as_of']} names.",
            next_step="Choose another day, or run that day again.",
        )
