"""The one place that builds a Spark session."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import cast

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the name every PySpark reader knows
from pyspark.sql.types import StructType

from shelfkin.errors import ArtifactError
from shelfkin.tables import SCHEMAS

# Settings that results depend on. Everything about size (memory, cores, shuffle partitions) belongs to the connection
# and to spark-submit, so that a cluster is a change of one connection.
_SEMANTICS = {
    "spark.sql.session.timeZone": "UTC",
    # A bad cast must become a NULL that the cleaning code sees and quarantines, not an exception for the whole job.
    "spark.sql.ansi.enabled": "false",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    "spark.sql.execution.arrow.pyspark.fallback.enabled": "false",
    # Microseconds in parquet: what pandas, DuckDB and the referee all read.
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.sql.sources.partitionOverwriteMode": "static",
}


def build_session(app_name: str, extra: Mapping[str, str] | None = None) -> SparkSession:
    """Return the session of one Spark app; spark-submit's own settings win where both speak.

    Parameters
    ----------
    app_name
        Stage name, shown in the Spark UI and history server.
    extra
        More Spark settings, for tests.
    """
    # Executors on this machine run the interpreter that runs the driver: without it, a Python UDF starts whatever
    # `python3` comes first on PATH, with none of our packages.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.appName(app_name)
    for key, value in {**_SEMANTICS, **(extra or {})}.items():
        builder = builder.config(key, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("WARN")
    _size_local_shuffles(session)
    return session


def _size_local_shuffles(session: SparkSession) -> None:
    """Give a session of one machine a few shuffle partitions per core, unless somebody set their number.

    Spark's default of 200 suits a cluster; on a laptop most of the time would go into starting empty tasks.
    """
    context = session.sparkContext
    if str(context.master).startswith("local") and not context.getConf().contains("spark.sql.shuffle.partitions"):
        session.conf.set("spark.sql.shuffle.partitions", str(4 * context.defaultParallelism))


@contextmanager
def persisted(table: DataFrame) -> Iterator[DataFrame]:
    """Keep a table while the ``with`` block reads it more than once: Spark works it out anew for each use otherwise."""
    table.persist()
    try:
        yield table
    finally:
        table.unpersist()


def contract_columns(table: str) -> StructType:
    """Return the Spark schema of a contract table."""
    return cast(StructType, StructType.fromDDL(SCHEMAS[table]))


def conform(frame: DataFrame, table: str) -> DataFrame:
    """Return `frame` with the contract's columns first, in its order and types, then any further columns.

    Raises
    ------
    ArtifactError
        A contract column is missing.
    """
    contract = contract_columns(table)
    missing = [field.name for field in contract if field.name not in frame.columns]
    if missing:
        raise ArtifactError(f"Table {table} lacks the contract columns {missing}; it has {frame.columns}.")
    named = [F.col(field.name).cast(field.dataType).alias(field.name) for field in contract]
    further = [F.col(name) for name in frame.columns if name not in contract.names]
    return frame.select(*named, *further)
