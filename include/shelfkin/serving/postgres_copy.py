"""How a run's rows get into Postgres: a binary COPY, a batch of rows in memory at a time."""

from __future__ import annotations

from typing import Any

import orjson
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from psycopg import sql
from psycopg.types.json import set_json_dumps

from shelfkin.errors import ArtifactError
from shelfkin.serving.postgres_layout import PublishedTable, StoreSchema

# Rows that are Python objects at one moment; some megabytes.
_ROWS_PER_BATCH = 8192
# Postgres has no U+0000 in text; its replacement shows that something stood there.
_NUL, _INSTEAD = "\0", "\ufffd"


def copy_rows(db: psycopg.Connection, schema: StoreSchema, table: PublishedTable, run: int, source: ds.Dataset) -> int:
    """Stream a table's rows into the table of all runs under the number of their run, and return how many they are.

    Raises
    ------
    ArtifactError
        The run's table lacks a column.
    """
    missing = sorted(set(table.columns) - set(source.schema.names))
    if missing:
        raise ArtifactError(
            f"Table {table.name} of this run lacks the columns {', '.join(missing)}.",
            next_step="Run the stage that writes it with this version of shelfkin.",
        )
    copy_in = schema.statement(
        "COPY {all_runs} ({columns}) FROM STDIN (FORMAT binary)",
        all_runs=schema.all_runs(table),
        columns=sql.SQL(", ").join(map(sql.Identifier, ("run", *table.columns))),
    )
    batches = source.to_batches(
        columns=list(table.columns), batch_size=_ROWS_PER_BATCH, batch_readahead=2, fragment_readahead=1
    )
    set_json_dumps(orjson.dumps, db)
    with db.cursor() as cursor:
        with cursor.copy(copy_in) as copy:
            copy.set_types(["int4", *table.columns.values()])
            for batch in batches:
                for row in zip(*map(_values, batch.columns), strict=True):
                    copy.write_row((run, *row))
        return cursor.rowcount


def _values(column: pa.Array) -> list[Any]:
    if pa.types.is_string(column.type):
        return pc.replace_substring(column, _NUL, _INSTEAD).to_pylist()
    if pa.types.is_nested(column.type):
        return [_storable(value) for value in column.to_pylist()]
    return column.to_pylist()


def _storable(value: Any) -> Any:
    """Return a nested value without U+0000; the digits that a float32 gains on its way to float64 are cut off."""
    if isinstance(value, str):
        return value.replace(_NUL, _INSTEAD)
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, list):
        return [_storable(entry) for entry in value]
    if isinstance(value, dict):
        return {key: _storable(entry) for key, entry in value.items()}
    return value
