"""One run of one stage: what it may read, and where it puts what it made."""

from __future__ import annotations

import argparse
import io
import logging
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from shelfkin import spark
from shelfkin.artifacts import Manifest, RunPaths, manifest_content, utc_now
from shelfkin.erased_users import ErasedUsers
from shelfkin.packaging import code_version
from shelfkin.profile import StoreProfile, resolve_path
from shelfkin.settings import Settings
from shelfkin.tables import SCHEMAS

if TYPE_CHECKING:
    import pyarrow.dataset as ds
    from matplotlib.figure import Figure
    from pyspark.sql import DataFrame, SparkSession

log = logging.getLogger("shelfkin")


@dataclass
class Stage:
    """One run of one stage: what it may read, and where it puts what it made.

    Attributes
    ----------
    options
        The app's own flags.
    counts
        Row counts for the manifest. With ``rows_in`` they must reconcile (`artifacts.check_reconciled`).
    metrics
        Figures for the manifest; flat scalars among them are shown in XCom.
    """

    name: str
    paths: RunPaths
    profile: StoreProfile
    settings: Settings
    attempt: str
    options: argparse.Namespace
    inputs: dict[str, Manifest]
    counts: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, dict[str, Any]] = field(default_factory=dict)
    plots: dict[str, str] = field(default_factory=dict)
    started_at: str = field(default_factory=utc_now)

    @cached_property
    def spark(self) -> SparkSession:
        """The Spark session, started at first use: arguments are checked before a JVM is kept busy."""
        return spark.build_session(self.name)

    @property
    def as_of(self) -> date:
        """The run's date."""
        return self.paths.as_of

    @property
    def cutoff(self) -> datetime:
        """Midnight UTC of as_of: only what happened strictly before it is known."""
        return datetime(self.as_of.year, self.as_of.month, self.as_of.day, tzinfo=UTC)

    @cached_property
    def erased_users(self) -> ErasedUsers:
        """The customers whose rows no run reads any more."""
        events = self.profile.events
        return ErasedUsers.of(self.paths.root, self.paths.store, events.user_id) if events else ErasedUsers()

    def source_path(self, path: str) -> str:
        """Return a path of the profile as an absolute path or URI."""
        return resolve_path(path, self.settings.stores_dir, self.settings.path_variables())

    def progress(self, message: str, *args: object) -> None:
        """Tell a person who follows the task log what is going on."""
        log.info(message, *args)

    def table_uri(self, table: str) -> str:
        """Return the folder that this attempt writes a table to."""
        return f"{self.paths.attempt_uri(self.name, self.attempt)}/{table}"

    def read(self, stage: str, table: str) -> DataFrame:
        """Return a table of an input stage."""
        return self.spark.read.parquet(self.inputs[stage].table_uri(table))

    def dataset(self, stage: str, table: str) -> ds.Dataset:
        """Return a table of an input stage for pyarrow: what the driver needs as a whole takes no way through Spark."""
        return self.inputs[stage].dataset(table)

    def write(self, table: str, frame: DataFrame, n_files: int | None = None) -> int:
        """Write a table, record it in the manifest and return its number of rows.

        A contract table gets its contract's columns and types. `n_files` coalesces small results, so that readers
        don't open hundreds of tiny files.
        """
        if table in SCHEMAS:
            frame = spark.conform(frame, table)
        if n_files is not None:
            frame = frame.coalesce(n_files)
        uri = self.table_uri(table)
        frame.write.mode("overwrite").parquet(uri)
        written = self.spark.read.schema(frame.schema).parquet(uri)
        rows = written.count()
        self.tables[table] = {
            "path": self.paths.root.relative(uri),
            "rows": rows,
            "schema": {field.name: field.dataType.simpleString() for field in frame.schema},
        }
        self.progress("wrote %s: %s rows", table, f"{rows:,}")
        return rows

    def write_empty(self, table: str) -> None:
        """Write a contract table without rows, for a store that lacks the data for it."""
        self.write(table, self.spark.createDataFrame([], spark.contract_columns(table)), n_files=1)

    def save_figure(self, name: str, figure: Figure) -> None:
        """Write a picture as PNG beside the tables and record it in the manifest."""
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        uri = f"{self.paths.attempt_uri(self.name, self.attempt)}/plots/{name}.png"
        self.paths.root.put_bytes(uri, buffer.getvalue())
        self.plots[name] = self.paths.root.relative(uri)

    def manifest(self) -> dict[str, Any]:
        """Return the manifest's content."""
        return manifest_content(
            self.paths,
            self.name,
            self.inputs,
            self.started_at,
            parameters=dict(sorted(vars(self.options).items())),
            code_version=code_version(),
            tables=self.tables,
            plots=self.plots,
            counts=self.counts,
            metrics=self.metrics,
        )
