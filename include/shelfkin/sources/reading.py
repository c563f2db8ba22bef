"""Read the rows of a profile's section: one source, or the query's result over several."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from functools import reduce
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from shelfkin import snapshots
from shelfkin.errors import ProfileError, SourceError, without_controls
from shelfkin.profile import FILE_FORMATS, Source, Sourced
from shelfkin.sources import damage, formats
from shelfkin.sources.files import find_files, list_paths
from shelfkin.sources.query import run_query
from shelfkin.sources.query_rules import described
from shelfkin.sources.raw_table import MALFORMED, RawTable, raw_frame
from shelfkin.sources.spark_errors import explained

log = logging.getLogger("shelfkin")


@dataclass(frozen=True)
class _Table:
    """Rows of one source, with their own columns and MALFORMED; `snapshot` is empty for undated files."""

    frame: DataFrame
    path: str
    snapshot: Mapping[str, Any]
    secrets: tuple[str, ...]
    source: Source
    files: list[str]

    @property
    def is_text(self) -> bool:
        """Whether reading may have decoded it by the wrong encoding."""
        return self.source.format in FILE_FORMATS and self.source.format not in ("parquet", "orc")


def read_rows(
    session: SparkSession,
    section: Sourced,
    name: str,
    wanted: Mapping[str, str],
    resolve: Callable[[str], str],
    as_of: date,
) -> RawTable:
    """Return the raw rows of a profile's section as of a date.

    Parameters
    ----------
    section
        The section: ``profile.catalog_source``, or ``profile.events``.
    name
        Its key, "catalog" or "events".
    wanted
        Column wanted for each profile key, for example ``{"events.fields.user_id": "CustomerID"}``.
    resolve
        Returns a path of the profile as an absolute path or URI, as ``Stage.source_path`` does.
    as_of
        The run's date: of dated files, the newest before it are read.

    Raises
    ------
    SourceError
        There is no such file, it is empty or unreadable, the query fails, or a wanted column is missing.
    """
    # Spark accepts few charset names unless told that any of Java's will do (cp1252 is common in shop exports).
    session.conf.set("spark.sql.legacy.javaCharsets", "true")
    if section.source is not None:
        table = _read(session, section.source, f"{name}.source", resolve, as_of)
        _check_columns(table.frame, table.path, wanted, f"{name}.source")
        key, metrics = f"{name}.source", {"source": table.path, **table.snapshot}
        if not table.is_text:
            return RawTable(raw_frame(table.frame, wanted.values()), table.path, metrics, key, table.secrets)
        frame, seen = damage.observed(table.frame)
        raw = raw_frame(frame, wanted.values())
        return RawTable(
            raw,
            table.path,
            metrics,
            key,
            table.secrets,
            lambda: damage.check(session, table.source, table.files, seen.get, key),
        )
    return _read_query(session, section, name, wanted, resolve, as_of)


def _read_query(
    session: SparkSession,
    section: Sourced,
    name: str,
    wanted: Mapping[str, str],
    resolve: Callable[[str], str],
    as_of: date,
) -> RawTable:
    key = f"{name}.query"
    tables = {
        table: _read(session, source, f"{name}.tables.{table}", resolve, as_of)
        for table, source in section.tables.items()
    }
    # Read once: counted here, and then by the query, however often it names them.
    kept = {table: found.frame.persist() for table, found in tables.items()}
    counts = {table: _count(session, kept[table], found, f"{name}.tables.{table}") for table, found in tables.items()}
    readable = {table: frame.where(F.col(MALFORMED).isNull()).drop(MALFORMED) for table, frame in kept.items()}
    result = run_query(session, str(section.query), readable, as_of, key)
    rows = result.withColumn(MALFORMED, F.lit(None).cast("string"))
    files = "; ".join(f"{table}: {found.path}" for table, found in tables.items())
    path = f"{key} ({files})"
    _check_columns(rows, key, wanted, key, described(readable))
    # What could not be read goes the way of such rows of a single file: it is counted and turned away.
    unread = [
        frame.where(F.col(MALFORMED).isNotNull()).select(
            F.concat(F.lit(f"{table}: "), F.col(MALFORMED)).alias(MALFORMED)
        )
        for table, frame in kept.items()
        if counts[table]["malformed"]
    ]
    rows = reduce(lambda left, right: left.unionByName(right, allowMissingColumns=True), unread, rows)
    secrets = tuple(secret for found in tables.values() for secret in found.secrets)
    metrics = {"source": path, "source_tables": counts}
    return RawTable(raw_frame(rows, wanted.values()), path, metrics, key, secrets)


def _count(session: SparkSession, frame: DataFrame, table: _Table, key: str) -> dict[str, Any]:
    with explained(f"{table.path} can't be read", key, table.secrets):
        counts = [F.count("*").alias("rows"), F.count(MALFORMED).alias("malformed")]
        row = frame.agg(*counts, *(damage.marks(frame) if table.is_text else [])).collect()[0]
    log.info("%s: %s rows from %s", key, f"{row['rows']:,}", table.path)
    found = damage.check(session, table.source, table.files, row.asDict(), key) if table.is_text else {}
    return {"rows": row["rows"], "malformed": row["malformed"], **found, "path": table.path, **table.snapshot}


def _read(session: SparkSession, source: Source, key: str, resolve: Callable[[str], str], as_of: date) -> _Table:
    """Return the rows of one source; `key` is its place in the profile."""
    try:
        written = [resolve(path) for path in source.paths]
    except ProfileError as error:
        raise ProfileError(f"{key}: {error.message}", next_step=error.next_step) from None
    snapshot: dict[str, Any] = {}
    if source.is_dated:
        with explained(f"{written[0]} can't be listed", f"{key}.path"):
            paths = list_paths(session, snapshots.search_glob(written[0]))
        found = snapshots.newest_before(written[0], paths, as_of, f"{key}.path")
        written = [found.path]
        snapshot = {"snapshot_date": found.snapshot_date.isoformat(), "revision": found.revision}
    options, secrets = _options(source, key)
    files: list[str] = []
    path = ", ".join(written) or f"format {source.format} ({key})"
    with explained(f"{path} can't be read as {source.format}", f"{key}.format, encoding and options", secrets):
        if source.format in FILE_FORMATS:
            files = find_files(session, written, f"{key}.path")
            frame = formats.read_files(session, source, files, options, key)
        else:
            frame = formats.read_other(session, source, written, options)
    return _Table(frame, path, snapshot, secrets, source, files)


def _options(source: Source, key: str) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the options for Spark's reader, and those of their values that no message may hold."""
    options = {
        name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in source.options.items()
    }
    secrets = []
    for name, variable in source.options_from_env.items():
        value = os.environ.get(variable)
        if not value:
            raise SourceError(
                f"{key}.options_from_env: {name} comes from the environment variable {variable}, which is not set.",
                next_step=f"Set {variable} where the stages run.",
            )
        options[name] = value
        secrets.append(value)
    return options, tuple(secrets)


def _check_columns(frame: DataFrame, path: str, wanted: Mapping[str, str], key: str, also: str = "") -> None:
    present = [name for name in frame.columns if name != MALFORMED]
    missing = {field: column for field, column in wanted.items() if column not in present}
    if not missing:
        return
    asked = "; ".join(f"{field} wants column {column!r}" for field, column in missing.items())
    hint = " A wrong separator or encoding also shows up as one odd column." if len(present) == 1 and not also else ""
    raise SourceError(
        f"{path}: {asked}; columns present: {without_controls(', '.join(present)) or 'none'}.{hint}",
        next_step=f"Correct {', '.join(missing)} (or {key}) in the profile.",
    )
