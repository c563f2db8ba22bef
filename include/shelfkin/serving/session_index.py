"""The session index: one SQLite file per run for the few look-ups that a session's list needs.

A point look-up takes SQLite some microseconds, and DuckDB, made for scans, some milliseconds (docs/decisions/0019).
"""

from __future__ import annotations

import sqlite3
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import duckdb

from shelfkin.errors import ArtifactError
from shelfkin.recommending.recent import Filler

# The longest list, and the recent products that count for it: the fiftieth step back weighs 0.8**50, hardly 1/70,000.
MAX_LENGTH = 100
MAX_RECENT = 50
# So many texts fill the longest list, whatever of them the session has seen already.
_FILLERS_PER_SCOPE = MAX_LENGTH + MAX_RECENT
_STORE = -1
_ROWS_AT_ONCE = 50_000

_SCHEMA = """
    CREATE TABLE product (number INTEGER PRIMARY KEY, product_id TEXT NOT NULL UNIQUE, title TEXT,
        text INTEGER NOT NULL, cluster INTEGER);
    CREATE TABLE similar (product INTEGER PRIMARY KEY, packed BLOB NOT NULL);
    CREATE TABLE filler (scope INTEGER, rank INTEGER, product INTEGER NOT NULL, is_popular INTEGER NOT NULL,
        PRIMARY KEY (scope, rank)) WITHOUT ROWID;
"""

# A similar product: number, text, score. All of a product's are one value of one row: Python's sqlite3 hands the
# interpreter over at every row, and two threads that do so 200 times an answer wait 5 ms for each other now and then.
_PACKED = struct.Struct("<iif")

# Numbers by id, so that ties by number are ties by id. A product without a text is nobody's twin.
NUMBERED = """
    CREATE TEMP TABLE numbered AS
    SELECT row_number() OVER (ORDER BY product_id) AS number, product_id, title, cluster_id AS cluster, distance,
           dense_rank() OVER (ORDER BY text_hash NULLS LAST)
               + CASE WHEN text_hash IS NULL THEN row_number() OVER (ORDER BY product_id) ELSE 0 END AS text,
           in_stock IS DISTINCT FROM FALSE AS sellable
    FROM products LEFT JOIN product_clusters USING (product_id)
"""

SIMILAR_ROWS = """
    SELECT a.number, b.number, b.text, s.score
    FROM similar_products s
    JOIN numbered a ON a.product_id = s.product_id
    JOIN numbered b ON b.product_id = s.similar_product_id
    WHERE b.sellable
"""

# Of each cluster: what sells, then what lies nearest its centre. Of the store: what sells, then the nearest of every
# cluster in turn, large clusters first, then what has no cluster. One product per text.
FILLER_ROWS = f"""
    WITH popular AS (
        SELECT CASE scope WHEN 'all' THEN {_STORE} ELSE split_part(scope, ':', 2)::INT END AS scope,
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
        SELECT {_STORE}, number, text, CASE WHEN cluster IS NULL THEN 2147483647 ELSE place END, 0,
               row_number() OVER (ORDER BY size DESC, cluster, number)
        FROM by_distance
    ), distinct_texts AS (
        SELECT * FROM (SELECT * FROM popular UNION ALL SELECT * FROM typical)
        QUALIFY row_number() OVER (PARTITION BY scope, text ORDER BY is_popular DESC, rank, turn, number) = 1
    )
    SELECT scope, row_number() OVER (PARTITION BY scope ORDER BY is_popular DESC, rank, turn, number) AS place,
           number, is_popular
    FROM distinct_texts
    QUALIFY place <= {_FILLERS_PER_SCOPE}
"""


class Product(NamedTuple):
    """A product of the index; `number` is its name inside, and equal texts are exact twins."""

    number: int
    product_id: str
    title: str | None
    text: int
    cluster: int | None


class SessionLookups(Protocol):
    """What a session's list is made from."""

    def products(self, product_ids: Sequence[str]) -> list[Product]:
        """Return those of `product_ids` that the store has, in any order."""

    def numbered(self, numbers: Sequence[int]) -> list[Product]:
        """Return products by number, in any order."""

    def similar(self, numbers: Sequence[int]) -> list[tuple[int, int, int, float]]:
        """Return (product, similar product, the latter's text, score) of the products with these numbers."""

    def fillers(self, clusters: Sequence[int], n: int) -> list[Filler[int]]:
        """Return the first `n` fillers of each cluster and of the store, in any order."""


def build_session_index(tables: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Write the session index of a run.

    Only products that can be bought are ever suggested: sold-out ones are left out of the rows here.

    Parameters
    ----------
    tables
        Connection on which products, product_clusters, similar_products and popular_products are tables or views.
    path
        The file to write; there must be none.

    Raises
    ------
    ArtifactError
        A product stands in its table twice.
    """
    tables.execute(NUMBERED)
    # Without a journal: a file that isn't finished is never seen.
    with closing(sqlite3.connect(path)) as index, index:
        index.execute("PRAGMA journal_mode = OFF")
        index.execute("PRAGMA synchronous = OFF")
        index.executescript(_SCHEMA)
        try:
            found = _rows(tables, "SELECT number, product_id, title, text, cluster FROM numbered ORDER BY 1")
            index.executemany("INSERT INTO product VALUES (?, ?, ?, ?, ?)", found)
            found = _rows(tables, f"{SIMILAR_ROWS} ORDER BY s.product_id, s.rank, 2")
            index.executemany("INSERT INTO similar VALUES (?, ?)", _packed(found))
            found = _rows(tables, f"{FILLER_ROWS} ORDER BY 1, 2")
            index.executemany("INSERT INTO filler VALUES (?, ?, ?, ?)", found)
        except sqlite3.IntegrityError as error:
            raise ArtifactError(
                f"A table of this run holds a row twice ({error}).",
                next_step="Clear the run and let every stage run; if that doesn't help, report it as a bug.",
            ) from error
    tables.execute("DROP TABLE numbered")


def _rows(tables: duckdb.DuckDBPyConnection, query: str) -> Iterator[tuple[Any, ...]]:
    found = tables.execute(query)
    while rows := found.fetchmany(_ROWS_AT_ONCE):
        yield from rows


def _packed(rows: Iterator[tuple[Any, ...]]) -> Iterator[tuple[int, bytes]]:
    for product, similar in groupby(rows, key=itemgetter(0)):
        yield product, b"".join(_PACKED.pack(*row[1:]) for row in similar)


class SessionIndex:
    """Look-ups in a session index. Threads may share one: each gets a connection of its own at its first question.

    Parameters
    ----------
    path
        A file that `build_session_index` wrote. It must not change while it is open: SQLite is told so, and takes no
        locks.
    """

    def __init__(self, path: Path) -> None:
        self._uri = f"{path.resolve().as_uri()}?mode=ro&immutable=1"
        self._of_thread = threading.local()
        self._all: list[sqlite3.Connection] = []

    def __enter__(self) -> SessionIndex:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections of all threads; none of them may be asking."""
        while self._all:
            self._all.pop().close()

    def products(self, product_ids: Sequence[str]) -> list[Product]:
        """Return those of `product_ids` that the store has, in any order."""
        return self._products("product_id", [one for one in product_ids if _is_text(one)])

    def numbered(self, numbers: Sequence[int]) -> list[Product]:
        """Return products by number, in any order."""
        return self._products("number", numbers)

    def similar(self, numbers: Sequence[int]) -> list[tuple[int, int, int, float]]:
        """Return (product, similar product, the latter's text, score) of the products with these numbers."""
        found = self._ask(f"SELECT product, packed FROM similar WHERE product IN ({_places(numbers)})", numbers)
        return [(product, *row) for product, packed in found for row in _PACKED.iter_unpack(packed)]

    def fillers(self, clusters: Sequence[int], n: int) -> list[Filler[int]]:
        """Return the first `n` fillers of each cluster and of the store, in any order."""
        rows = self._ask(
            "SELECT f.scope, f.rank, f.product, p.text, f.is_popular FROM filler f JOIN product p "
            f"ON p.number = f.product WHERE f.scope IN ({_places([*clusters, _STORE])}) AND f.rank <= ?",
            [*clusters, _STORE, n],
        )
        return [
            Filler(None if scope == _STORE else scope, rank, product, text, bool(is_popular))
            for scope, rank, product, text, is_popular in rows
        ]

    def _products(self, column: str, values: Sequence[str] | Sequence[int]) -> list[Product]:
        rows = self._ask(
            f"SELECT number, product_id, title, text, cluster FROM product WHERE {column} IN ({_places(values)})",
            values,
        )
        return [Product(*row) for row in rows]

    def _ask(self, query: str, values: Sequence[object]) -> Iterator[Any]:
        connection = getattr(self._of_thread, "connection", None)
        if connection is None:
            # Used by one thread, but closed by whichever closes the index.
            connection = sqlite3.connect(self._uri, uri=True, check_same_thread=False)
            self._of_thread.connection = connection
            self._all.append(connection)
        return connection.execute(query, values)


def _places(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))


def _is_text(value: str) -> bool:
    """Whether a string is Unicode text: what came over a command line may hold bytes that aren't."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
