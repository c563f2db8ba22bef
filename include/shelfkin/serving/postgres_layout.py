"""The columns, keys and views of the tables in a shop's Postgres: rows of several runs, views of the served one.

Every table holds the rows of several runs, keyed by run first. ``served``, a table of one row, says which run is
shown, and shops read views that follow it (docs/decisions/0018).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import LiteralString

import psycopg
from psycopg import sql

from shelfkin import tables
from shelfkin.errors import OptionError, PublishError

LAYOUT = "shelfkin published tables, layout 1"


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
    columns: dict[str, str]
    key: tuple[str, ...]
    index: tuple[str, ...]


def _table(name: str, columns: str, key: str, index: str = "") -> PublishedTable:
    types = dict(column.split() for column in columns.split(", "))
    return PublishedTable(name, types, tuple(key.split()), tuple(index.split()))


# text[] and jsonb rather than composite types: every driver of a web shop reads them without registering anything.
# Of products, what a list on a page shows; a shop has its own descriptions.
PUBLISHED_TABLES = (
    _table(
        tables.CLUSTERS,
        "cluster_id int4, name text, size int8, top_terms text[], representative_product_ids text[], status text",
        key="cluster_id",
    ),
    _table(
        tables.PRODUCTS,
        "product_id text, title text, brand text, category_path text[], price float8, currency text, in_stock bool",
        key="product_id",
    ),
    _table(
        tables.PRODUCT_CLUSTERS,
        "product_id text, cluster_id int4, distance float4",
        key="product_id",
        index="cluster_id distance",
    ),
    _table(
        tables.SIMILAR_PRODUCTS,
        "product_id text, rank int4, similar_product_id text, score float4, content_score float4, "
        "co_purchase_score float4",
        key="product_id rank",
    ),
    _table(tables.PRODUCT_VARIANTS, "product_id text, variant_group text", key="product_id", index="variant_group"),
    _table(
        tables.USER_RECOMMENDATIONS,
        "user_id text, rank int4, product_id text, score float4, strategy text, reasons jsonb",
        key="user_id rank",
    ),
    _table(tables.POPULAR_PRODUCTS, "scope text, rank int4, product_id text, score float4", key="scope rank"),
    _table(
        tables.RECOMMENDER_METRICS,
        "cut date, task text, metric text, k int4, model text, horizon_days int4, value float8, users int8",
        key="cut task metric k model",
    ),
)


class StoreSchema:
    """One store's schema: statements with its names, quoted."""

    def __init__(self, store: str) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", store):
            raise OptionError(f"Store name {store!r} can't name a schema.")
        self.store = store
        # Not the bare name: a shop may well have a schema of its own that is called like its store.
        self.name = f"shelfkin_{store}"

    def all_runs(self, table: PublishedTable) -> sql.Identifier:
        """The table behind a view: the rows of every run that is kept."""
        return sql.Identifier(self.name, f"all_{table.name}")

    def statement(self, text: LiteralString, **names: sql.Composable) -> sql.Composed:
        """Return a statement; ``{schema}``, ``{runs}``, ``{served}``, ``{served_run}`` and `names` stand for names."""
        own = {name: sql.Identifier(self.name, name) for name in ("runs", "served", "served_run")}
        return sql.SQL(text).format(schema=sql.Identifier(self.name), **own, **names)


def ensure_layout(db: psycopg.Connection, schema: StoreSchema) -> None:
    """Make schema, tables and views where they aren't there yet; they stay for good, and so do grants on them.

    Raises
    ------
    PublishError
        The schema holds tables of another layout.
    """
    row = db.execute(
        "SELECT to_regnamespace(%s) IS NOT NULL, obj_description(to_regclass(%s), 'pg_class')",
        [schema.name, f"{schema.name}.runs"],
    ).fetchone()
    has_schema, layout = row or (False, None)
    if layout == LAYOUT:
        return
    if layout is not None:
        raise PublishError(
            f"Schema {schema.name} holds {layout!r}; this version writes {LAYOUT!r}.",
            next_step=f"Rename or drop the schema: DROP SCHEMA {schema.name} CASCADE; the next publish makes it anew.",
        )
    if not has_schema:
        # Only then: even IF NOT EXISTS asks for the right to create schemas.
        db.execute(schema.statement("CREATE SCHEMA {schema}"))
    db.execute(
        schema.statement(
            """
            CREATE TABLE {runs} (run int4 PRIMARY KEY, run_id text NOT NULL, as_of date NOT NULL,
                content text NOT NULL, rows jsonb NOT NULL, published_at timestamptz NOT NULL DEFAULT now());
            COMMENT ON TABLE {runs} IS {layout};
            CREATE TABLE {served} (one bool PRIMARY KEY DEFAULT true CHECK (one),
                run int4 NOT NULL REFERENCES {runs});
            CREATE VIEW {served_run} AS
            SELECT run, run_id, as_of, published_at FROM {runs} WHERE run = (SELECT run FROM {served})
            """,
            layout=sql.Literal(LAYOUT),
        )
    )
    for table in PUBLISHED_TABLES:
        _create_table(db, schema, table)


def _create_table(db: psycopg.Connection, schema: StoreSchema, table: PublishedTable) -> None:
    columns = [sql.SQL(f"{{}} {kind}").format(sql.Identifier(name)) for name, kind in table.columns.items()]
    parts = {
        "all_runs": schema.all_runs(table),
        "view": sql.Identifier(schema.name, table.name),
        "columns": sql.SQL(", ").join(columns),
        "names": _listed(table.columns),
        "key": _listed(table.key),
        "index": _listed(table.index),
    }
    # Run first: rows of a run arrive in the order of the key, at one end of the index, and leave its pages empty.
    db.execute(schema.statement("CREATE TABLE {all_runs} (run int4, {columns}, PRIMARY KEY (run, {key}))", **parts))
    if table.index:
        db.execute(schema.statement("CREATE INDEX ON {all_runs} (run, {index})", **parts))
    db.execute(
        schema.statement(
            "CREATE VIEW {view} AS SELECT {names}, run FROM {all_runs} WHERE run = (SELECT run FROM {served})", **parts
        )
    )


def _listed(columns: Iterable[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, columns))
