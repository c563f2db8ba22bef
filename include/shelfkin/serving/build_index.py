"""Building a run's serving index: DuckDB joins the run's tables, and one SQLite file gets what look-ups ask for.

Products are numbered by popularity and users by how much is known of them, so that the first of a look-up by number, or
of a text search, is the best known one. Whatever belongs to one key is one value of one row: Python's sqlite3 hands the
interpreter over at every row, and two threads that do so 200 times an answer wait 5 ms for each other now and then.
"""

from __future__ import annotations

import itertools
import sqlite3
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from shelfkin import tables
from shelfkin.artifacts import Manifest, RunPaths, manifest_with
from shelfkin.errors import ArtifactError
from shelfkin.serving.index import (
    LAYOUT,
    MAP_POINT,
    MAX_FILLERS,
    SIMILAR,
    STORE_SCOPE,
    Product,
    SimilarProduct,
    columns,
)

# What the queries below read.
TABLES = (
    tables.PRODUCTS,
    tables.EVENTS,
    tables.PRODUCT_CLUSTERS,
    tables.CLUSTERS,
    tables.CLUSTER_PROJECTION,
    tables.SIMILAR_PRODUCTS,
    tables.USER_RECOMMENDATIONS,
    tables.POPULAR_PRODUCTS,
    tables.RECOMMENDER_METRICS,
)
RECENT_EVENTS_PER_USER = 20
# A browser draws so many points without a stutter; of a larger catalogue the most popular texts are on the map.
MAX_MAP_POINTS = 100_000
_ROWS_AT_ONCE = 100_000
_USERS_AT_ONCE = 50_000

# A prefix of up to three characters has a list of its own: without it, every product whose title has a word with such a
# beginning would be looked at.
_SCHEMA = """
    CREATE TABLE document (name TEXT PRIMARY KEY, content TEXT NOT NULL);
    CREATE TABLE product (number INTEGER PRIMARY KEY, product_id TEXT NOT NULL UNIQUE, title TEXT, brand TEXT,
        category_path TEXT, price REAL, currency TEXT, in_stock INTEGER, text INTEGER NOT NULL, cluster INTEGER,
        n_lists INTEGER NOT NULL);
    CREATE TABLE map (packed BLOB NOT NULL);
    CREATE TABLE similar (product INTEGER PRIMARY KEY, packed BLOB NOT NULL);
    CREATE TABLE filler (scope INTEGER, rank INTEGER, product INTEGER NOT NULL, is_popular INTEGER NOT NULL,
        PRIMARY KEY (scope, rank)) WITHOUT ROWID;
    CREATE TABLE user (number INTEGER PRIMARY KEY, user_id TEXT NOT NULL UNIQUE, packed BLOB NOT NULL);
    CREATE VIRTUAL TABLE search USING fts5(product_id, title, content='', columnsize=0, prefix='1 2 3',
        tokenize='unicode61 remove_diacritics 2');
"""

# Equal texts are exact twins; a product without one is nobody's.
_NUMBERED_PRODUCTS = """
    CREATE TEMP TABLE numbered AS
    SELECT row_number() OVER (ORDER BY popularity DESC NULLS LAST, n_events DESC NULLS LAST, product_id) AS number,
           product_id, title, brand, to_json(category_path)::VARCHAR AS category_path, price, currency, in_stock,
           dense_rank() OVER (ORDER BY text_hash NULLS LAST)
               + CASE WHEN text_hash IS NULL THEN row_number() OVER (ORDER BY product_id) ELSE 0 END AS text,
           cluster_id AS cluster, distance, in_stock IS DISTINCT FROM FALSE AS sellable, text_hash,
           coalesce(n_lists, 0) AS n_lists
    FROM products
    LEFT JOIN product_clusters USING (product_id)
    LEFT JOIN (SELECT product_id, max(score) AS popularity FROM popular_products GROUP BY ALL) USING (product_id)
    LEFT JOIN (SELECT product_id, count(*) AS n_events FROM events GROUP BY ALL) USING (product_id)
    LEFT JOIN (SELECT product_id, count(*) AS n_lists FROM user_recommendations GROUP BY ALL) USING (product_id)
"""

_SIMILAR = """
    SELECT a.number AS product, b.number, b.text, b.sellable, s.score, coalesce(s.content_score, 0),
           coalesce(s.co_purchase_score, 0)
    FROM similar_products s
    JOIN numbered a ON a.product_id = s.product_id
    JOIN numbered b ON b.product_id = s.similar_product_id
    ORDER BY product, s.rank, b.number
"""

# Of each cluster: what sells, then what lies nearest its centre. Of the store: what sells, then the nearest of every
# cluster in turn, large clusters first, then what has no cluster. One product per text, and none that is sold out.
_FILLERS = f"""
    WITH popular AS (
        SELECT CASE scope WHEN 'all' THEN {STORE_SCOPE} ELSE split_part(scope, ':', 2)::INT END AS scope,
               number, text, rank, 1 AS is_popular, 0 AS turn
        FROM popular_products JOIN numbered USING (product_id) WHERE sellable
    ), by_distance AS (
        SELECT number, text, cluster, row_number() OVER (PARTITION BY cluster ORDER BY distance, number) AS place,
               count(*) OVER (PARTITION BY cluster) AS size
        FROM numbered WHERE sellable
    ), typical AS (
        SELECT cluster AS scope, number, text, place AS rank, 0 AS is_popular, 0 AS turn
        FROM by_distance WHERE cluster IS NOT NULL
        UNION ALL
        SELECT {STORE_SCOPE}, number, text, CASE WHEN cluster IS NULL THEN 2147483647 ELSE place END, 0,
               row_number() OVER (ORDER BY size DESC, cluster, number)
        FROM by_distance
    ), distinct_texts AS (
        SELECT * FROM (SELECT * FROM popular UNION ALL SELECT * FROM typical)
        QUALIFY row_number() OVER (PARTITION BY scope, text ORDER BY is_popular DESC, rank, turn, number) = 1
    )
    SELECT scope, row_number() OVER (PARTITION BY scope ORDER BY is_popular DESC, rank, turn, number) AS place,
           number, is_popular
    FROM distinct_texts QUALIFY place <= {MAX_FILLERS} ORDER BY scope, place
"""

# Users with a list come first, those with most recent events before the others; of equals a hash decides.
_NUMBERED_USERS = f"""
    CREATE TEMP TABLE numbered_users AS
    WITH lists AS (SELECT DISTINCT user_id, true AS has_list FROM user_recommendations),
    recent AS (
        SELECT user_id, least(count(*), {RECENT_EVENTS_PER_USER}) AS n_events
        FROM events WHERE user_id IS NOT NULL GROUP BY user_id
    )
    SELECT row_number() OVER (ORDER BY has_list NULLS LAST, n_events DESC NULLS LAST, md5(user_id)) AS number, user_id
    FROM lists FULL JOIN recent USING (user_id)
"""

_USERS = f"""
    WITH lists AS (
        SELECT user_id, list({{product_id: product_id, score: round(score, 6), strategy: strategy, reasons: reasons,
                               n_purchases: coalesce(n_purchases, 0), last_purchase: last_purchase}}
                             ORDER BY rank) AS recommendations
        FROM user_recommendations SEMI JOIN users USING (user_id)
        LEFT JOIN (
            SELECT user_id, product_id, count(*) AS n_purchases, max(occurred_at)::DATE::VARCHAR AS last_purchase
            FROM events SEMI JOIN users USING (user_id) WHERE event_type = 'purchase' GROUP BY ALL
        ) USING (user_id, product_id)
        GROUP BY user_id
    ), newest AS (
        SELECT * FROM events SEMI JOIN users USING (user_id)
        QUALIFY row_number() OVER (PARTITION BY user_id ORDER BY occurred_at DESC, product_id)
                <= {RECENT_EVENTS_PER_USER}
    ), recent AS (
        SELECT user_id, list({{product_id: product_id, event_type: event_type, occurred_at: occurred_at::VARCHAR,
                              quantity: quantity}} ORDER BY occurred_at DESC, product_id) AS events
        FROM newest GROUP BY user_id
    )
    SELECT number, user_id,
           to_json({{recommendations: coalesce(recommendations, []), recent_events: coalesce(events, [])}})
    FROM users LEFT JOIN lists USING (user_id) LEFT JOIN recent USING (user_id) ORDER BY number
"""

# One point per distinct text, under its most popular product.
_MAP = f"""
    SELECT min(number) AS number, any_value(cluster_id) AS cluster, any_value(x) AS x, any_value(y) AS y
    FROM cluster_projection JOIN numbered USING (text_hash)
    GROUP BY text_hash ORDER BY number LIMIT {MAX_MAP_POINTS}
"""

_PRODUCTS = f"SELECT {columns(Product)} FROM numbered ORDER BY number"

# What is read as a whole, as JSON.
_DOCUMENTS = """
    SELECT 'run', to_json({store: $1, as_of: $2, run_id: $3, n_users_with_lists: count(DISTINCT user_id)})
    FROM user_recommendations
    UNION ALL
    SELECT 'clusters', to_json(coalesce(list(c ORDER BY size DESC, cluster_id), [])) FROM clusters c
    UNION ALL
    SELECT 'metrics', to_json(coalesce(list(m ORDER BY cut DESC, task, model, metric, k), []))
    FROM recommender_metrics m
"""


def write_index(paths: RunPaths, manifests: Mapping[str, Manifest], uri: str) -> None:
    """Write the serving index of a finished run as one file at `uri`.

    Parameters
    ----------
    manifests
        Stage name to manifest of the run.
    """
    with tempfile.TemporaryDirectory(prefix="shelfkin-index-") as folder:
        local = Path(folder) / "index.sqlite"
        # A file for what doesn't fit into memory.
        with duckdb.connect(str(Path(folder) / "tables.duckdb")) as db:
            for table in TABLES:
                db.register(table, manifest_with(manifests, table).dataset(table))
            build_index(db, (paths.store, paths.as_of.isoformat(), paths.run_id), local)
        paths.root.put_file(local, uri)


def build_index(db: duckdb.DuckDBPyConnection, run: tuple[str, str, str], path: Path) -> None:
    """Write the serving index of a run.

    Parameters
    ----------
    db
        Connection on which the run's `TABLES` are tables or views.
    run
        Store, as_of and run id.
    path
        The file to write; there must be none.

    Raises
    ------
    ArtifactError
        A product stands in its table, or in that of its cluster, twice.
    """
    db.execute("SET TimeZone = 'UTC'")
    db.execute(_NUMBERED_PRODUCTS)
    db.execute(_NUMBERED_USERS)
    with closing(sqlite3.connect(path)) as index, index:
        # Without a journal: a file that isn't finished is never seen.
        index.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;" + _SCHEMA)
        index.execute(f"PRAGMA user_version = {LAYOUT}")

        def fill(table: str, rows: Iterator[tuple[Any, ...]]) -> None:
            n_columns = len(index.execute(f"SELECT * FROM {table} LIMIT 0").description)
            index.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * n_columns)})", rows)

        try:
            fill("product", _rows(db, _PRODUCTS))
            fill("similar", _packed_similar(db.sql(_SIMILAR)))
            fill("filler", _rows(db, _FILLERS))
            fill("user", _packed_users(db))
            fill("map", iter([(_packed_map(db.sql(_MAP)),)]))
            fill("document", _rows(db, _DOCUMENTS, run))
        except sqlite3.IntegrityError as error:
            raise ArtifactError(
                f"A table of this run holds a row twice ({error}).",
                next_step="Clear the run and let every stage run; if that doesn't help, report it as a bug.",
            ) from error
        index.execute("CREATE INDEX product_cluster ON product (cluster, number)")
        index.execute("INSERT INTO search (rowid, product_id, title) SELECT number, product_id, title FROM product")
        index.execute("INSERT INTO search (search) VALUES ('optimize')")


def _rows(db: duckdb.DuckDBPyConnection, query: str, values: tuple[str, ...] = ()) -> Iterator[tuple[Any, ...]]:
    result = db.execute(query, values)
    while rows := result.fetchmany(_ROWS_AT_ONCE):
        yield from rows


def _packed_users(db: duckdb.DuckDBPyConnection) -> Iterator[tuple[int, str, bytes]]:
    """Yield number, id and page of each user; by so many at a time, because DuckDB holds lists in memory."""
    ((n_users,),) = db.execute("SELECT count(*) FROM numbered_users").fetchall()
    for first in range(1, n_users + 1, _USERS_AT_ONCE):
        last = first + _USERS_AT_ONCE - 1
        some = "CREATE OR REPLACE TEMP TABLE users AS SELECT * FROM numbered_users WHERE number BETWEEN ? AND ?"
        db.execute(some, [first, last])
        for number, user_id, page in _rows(db, _USERS):
            yield number, user_id, zlib.compress(page.encode(), 1)


def _packed_map(points: duckdb.DuckDBPyRelation) -> bytes:
    columns = points.fetchnumpy()
    packed = np.empty(len(columns["number"]), MAP_POINT)
    for name in MAP_POINT.names or ():
        packed[name] = columns[name]
    return packed.tobytes()


def _packed_similar(ordered: duckdb.DuckDBPyRelation) -> Iterator[tuple[int, bytes]]:
    """Yield each product's similar ones as one value; the last product of a batch may go on in the next."""
    product, rows = np.empty(0, np.int64), np.empty(0, SIMILAR)
    for batch in ordered.to_arrow_reader(_ROWS_AT_ONCE):
        first, *columns = (column.to_numpy(zero_copy_only=False) for column in batch.columns)
        added = np.empty(len(first), SIMILAR)
        for name, column in zip(SimilarProduct._fields, columns, strict=True):
            added[name] = column
        product, rows = np.concatenate([product, first]), np.concatenate([rows, added])
        bounds = np.flatnonzero(np.diff(product, prepend=-1))
        for begin, end in itertools.pairwise(bounds):
            yield int(product[begin]), rows[begin:end].tobytes()
        product, rows = product[bounds[-1] :], rows[bounds[-1] :]
    if len(product):
        yield int(product[0]), rows.tobytes()
