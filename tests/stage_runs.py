"""Run Spark apps in this process, on the shared session, just as spark-submit would run them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from shelfkin.app import app_of
from shelfkin.artifacts import Manifest, Root, RunPaths
from shelfkin.stages import STAGES


@dataclass
class Run:
    """One run of a store; stages are run by name and leave their manifests here."""

    stores: Path
    artifacts: Path
    store: str
    as_of: str
    run_id: str = "test"
    manifests: dict[str, Manifest] = field(default_factory=dict)

    @property
    def paths(self) -> RunPaths:
        return RunPaths(Root.at(str(self.artifacts)), self.store, date.fromisoformat(self.as_of), self.run_id)

    def stage(self, name: str, *flags: str) -> Manifest:
        """Run one stage; raises SystemExit where the program would end with status 1."""
        arguments = ["--store", self.store, "--as-of", self.as_of, "--run-id", self.run_id]
        arguments += ["--artifact-root", str(self.artifacts), "--stores-dir", str(self.stores)]
        app = app_of(name)
        for upstream in app.inputs:
            arguments += ["--input", self.manifests[upstream].uri]
        app.main([*arguments, *flags])
        self.manifests[name] = Manifest.read(self.paths.root, self.paths.manifest_uri(name))
        return self.manifests[name]

    def all_stages(self, **flags: tuple[str, ...]) -> Run:
        """Run every Spark stage in order, some with flags of their own."""
        for name in STAGES:
            self.stage(name, *flags.get(name, ()))
        return self

    def error(self, stage: str) -> dict[str, Any]:
        """Return the error.json that a failed stage left."""
        return json.loads(Path(self.paths.error_uri(stage)).read_text())

    def records(self, stage: str, table: str, *columns: str) -> list[dict[str, Any]]:
        """Return a table's rows by column name."""
        import pyarrow.dataset as ds

        found = ds.dataset(self.manifests[stage].table_uri(table), format="parquet")
        return list(found.to_table(columns=list(columns) or None).to_pylist())

    def rows(self, stage: str, table: str, *columns: str) -> list[tuple[Any, ...]]:
        """Return a table's rows as plain tuples, sorted, so that two runs can be compared row for row."""
        return sorted((tuple(row.values()) for row in self.records(stage, table, *columns)), key=repr)
