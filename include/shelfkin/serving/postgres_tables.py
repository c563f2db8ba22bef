"""The tables that a shop finds in its Postgres: their columns and keys, and how a run's rows get in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from psycopg import sql
from psycopg.types.json import set_json_dumps

from shelfkin import tables
from shelfkin.errors import ArtifactError

# Rows that are Python objects at one moment; some megabytes.
_ROWS_PER_BATCH = 8192
# Postgres has no U+0000 in text; its replacement shows that something stood there.
_NUL, _INSTEAD = "\0", "\ufffd"


@dataclass(frozen=True)
class PublishedTable:
    """One table as a shop sees it.

    Attributes
    ----------
    columns
        Postgres type by name, of the columns that are published.
    key
        What a page looks rows up by, then what orders them: the primary key within a run.
    index
        Columns of a further index within a run.
    """

    name: str
    columns: Mapping[str, str]
    key: tuple[str, ...]
    index: tuple[str, ...] = field(default=())


# text[] and jsonb rather than composite types: every driver of a web shop reads them without registering anything.
# Of products, what a list on a page shows; a shop has its own descriptions.
PUBLISHED_TABLES = (
    PublishedTable(
        tables.CLUSTERS,
        {
            "cluster_id": "int4",
            "name": "text",
            "size": "int8",
            "top_terms": "text[]",
            "representative_product_ids": "text[]",
            "status": "text",
        },
        key=("cluster_id",),
    ),
    PublishedTable(
        tables.PRODUCTS,
        {
            "product_id": "text",
            "title": "text",
            "brand": "text",
            "category_path": "text[]",
            "price": "float8",
            "currency": "text",
            "in_stock": "bool",
        },
        key=("product_id",),
    ),
    PublishedTable(
        tables.PRODUCT_CLUSTERS,
        {"product_id": "text", "cluster_id": "int4", "distance": "float4"},
        key=("product_id",),
        index=("cluster_id", "distance"),
    ),
    PublishedTable(
        tables.SIMILAR_PRODUCTS,
        {
            "product_id": "text",
            "rank": "int4",
            "similar_product_id": "text",
            "score": "float4",
            "content_score": "float4",
            "co_purchase_score": "float4",
        },
        key=("product_id", "rank"),
    ),
    PublishedTable(
        tables.PRODUCT_VARIANTS,
        {"product_id": "text", "variant_group": "text"},
        key=("product_id",),
        index=("variant_group",),
    ),
    PublishedTable(
        tables.USER_RECOMMENDATIONS,
        {
            "user_id": "text",
            "rank": "int4",
            "product_id": "text",
            "score": "float4",
            "strategy": "text",
            "reasons": "jsonb",
        },
        key=("user_id", "rank"),
    ),
    PublishedTable(
        tables.POPULAR_PRODUCTS,
        {"scope": "text", "rank": "int4", "product_id": "text", "score": "float4"},
        key=("scope", "rank"),
    ),
    PublishedTable(
        tables.RECOMMENDER_METRICS,
        {
            "cut": "date",
            "task": "text",
            "metric": "text",
            "k": "int4",
            "model": "text",
            "horizon_days": "int4",
            "value": "float8",
            "users": "int8",
        },
        key=("cut", "task", "metric", "k", "model"),
    ),
)


def copy_rows(
    db: psycopg.Connection, table: PublishedTable, target: sql.Composable, run: int, source: ds.Dataset
) -> int:
    """Stream a table's rows into `target` under the number of their run, and return how many they are.

    A batch of rows is in memory at a time, whatever the size of the table.

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
    columns = sql.SQL(", ").join(map(sql.Identifier, ("run", *table.columns)))
    set_json_dumps(orjson.dumps, db)
    with db.cursor() as cursor:
        with cursor.copy(sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(target, columns)) as copy:
            copy.set_types(["int4", *table.columns.values()])
            for batch in source.to_batches(
                columns=list(table.columns), batch_size=_ROWS_PER_BATCH, batch_readahead=2, fragment_readahead=1
            ):
                for row in _rows(batch):
                    copy.write_row((run, *row))
        return cursor.rowcount


def _rows(batch: pa.RecordBatch) -> Iterator[tuple[Any, ...]]:
    return zip(*(_values(column) for column in batch.columns), strict=True)


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
