"""A shop as its DAG names it: its runs, its published days, and the serving indexes that pages ask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

from shelfkin.artifacts import Manifest, Root, RunPaths, published_days, published_pointer
from shelfkin.errors import ArtifactError, ShelfkinError
from shelfkin.profile import StoreProfile, store_names
from shelfkin.serving.index import ServingIndex, open_index
from shelfkin.serving.publish import STAGE as PUBLISH
from shelfkin.settings import Settings
from shelfkin.stages import STAGES

# In the order of a run.
TASKS = (*STAGES, PUBLISH)
_CACHE = Path.home() / ".cache" / "shelfkin"


@dataclass(frozen=True)
class Shop:
    """One store, and the DAG that makes its recommendations."""

    dag_id: str
    profile: StoreProfile
    root: Root

    @property
    def store(self) -> str:
        """The store's slug."""
        return self.profile.store

    def run(self, as_of: date, run_id: str) -> RunPaths:
        """Return where a run is."""
        return RunPaths(self.root, self.store, as_of, run_id)

    def manifests(self, paths: RunPaths) -> dict[str, Manifest]:
        """Return the manifests of the stages of a run that have succeeded, by stage."""
        uris = {stage: paths.manifest_uri(stage) for stage in TASKS}
        return {stage: Manifest.read(self.root, uri) for stage, uri in uris.items() if self.root.exists(uri)}

    def error(self, paths: RunPaths, stage: str) -> dict[str, Any] | None:
        """Return why a stage's last try failed, or None if it didn't."""
        uri = paths.error_uri(stage)
        return self.root.read_json(uri) if self.root.exists(uri) else None

    def days(self) -> list[date]:
        """Return the published days, newest first."""
        return published_days(self.root, self.store)[::-1]

    def pointer(self, as_of: date | None = None) -> dict[str, Any] | None:
        """Return the pointer of a published day (None: of the newest), or None if there is none."""
        paths = self.run(as_of or date.min, "")
        uri = paths.published_uri() if as_of else paths.latest_uri()
        return published_pointer(self.root, uri) if self.root.exists(uri) else None

    def index(self, pointer: Mapping[str, Any]) -> ServingIndex:
        """Return the serving index of a published run.

        Raises
        ------
        ArtifactError
            It is gone, or of another version.
        """
        return _opened(self.root, str(pointer["serving_index"]), str(pointer["run_id"]), self.store)


@lru_cache(maxsize=16)
def _opened(root: Root, uri: str, run_id: str, store: str) -> ServingIndex:
    # An index never changes: a run that is made again has another file.
    return open_index(root, {"serving_index": uri, "run_id": run_id, "store": store}, _CACHE)


def shops(settings: Settings | None = None) -> dict[str, Shop]:
    """Return the shops of this installation by DAG id; profiles that can't be read have no DAG either."""
    settings = settings or Settings.from_env()
    found = {}
    for store in store_names(settings.stores_dir):
        try:
            profile = settings.profile(store)
        except ShelfkinError:
            continue
        if profile.enabled:
            dag_id = settings.dag_id(store)
            found[dag_id] = Shop(dag_id, profile, Root.at(settings.artifact_root))
    return found


def day_of_run(conf: Mapping[str, Any], profile: StoreProfile, interval_end: date | None, run_after: date) -> date:
    """Return a run's as_of as the DAG's template does: the Param, else the interval's end, else when it was to run.

    Raises
    ------
    ArtifactError
        The Param is no date.
    """
    default = profile.default_as_of if not profile.schedule else None
    param = conf.get("as_of", default)
    if not param:
        return interval_end or run_after
    try:
        return param if isinstance(param, date) else date.fromisoformat(str(param))
    except ValueError:
        raise ArtifactError(f"This run's as_of is {param!r}, which is no date.") from None
