"""A run's serving index: one SQLite file that answers by key in microseconds, whatever else holds the run's tables."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import unicodedata
import zlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from shelfkin.artifacts import Root, local_path
from shelfkin.errors import ArtifactError

LAYOUT = 2
# The longest list for a session, and the recent products that count for it: the fiftieth step back weighs 0.8**50,
# hardly 1/70,000.
MAX_LENGTH = 100
MAX_RECENT = 50
# So many texts fill the longest list, whatever of them the session has seen already.
MAX_FILLERS = MAX_LENGTH + MAX_RECENT
# The scope of fillers for the whole store; the others are cluster ids.
STORE_SCOPE = -1
MAX_SEARCH_WORDS = 10
# One similar product in a packed value.
SIMILAR = np.dtype(
    [
        *(("number", "<i4"), ("text", "<i4"), ("sellable", "?")),
        *(("score", "<f4"), ("content_score", "<f4"), ("co_purchase_score", "<f4")),
    ]
)
# One point of the map of the catalogue; a browser reads them as they are.
MAP_POINT = np.dtype([("number", "<i4"), ("cluster", "<i4"), ("x", "<f4"), ("y", "<f4")])
_PUBLISH_AGAIN = "Publish again: clear the run's task publish_recommendations, or make a new run."


class Product(NamedTuple):
    """A product of the index.

    Attributes
    ----------
    number
        Its name inside; 1 is the most popular.
    text
        Products of equal texts are exact twins.
    n_lists
        Customers whose lists it is on.
    """

    number: int
    product_id: str
    title: str | None
    brand: str | None
    category_path: list[str] | None
    price: float | None
    currency: str | None
    in_stock: int | None
    text: int
    cluster: int | None
    n_lists: int


class SimilarProduct(NamedTuple):
    """One similar product; `sellable` is False if it was sold out as of the run."""

    number: int
    text: int
    sellable: bool
    score: float
    content_score: float
    co_purchase_score: float


class Filler(NamedTuple):
    """A product that may fill up a list.

    Attributes
    ----------
    cluster
        The cluster that it fills for, or None: the whole store.
    rank
        Place within that, from 1.
    is_popular
        Whether it was ordered lately; otherwise it is there because it is typical.
    """

    cluster: int | None
    rank: int
    number: int
    text: int
    is_popular: bool


class UserPage(NamedTuple):
    """What is known of a user.

    Attributes
    ----------
    recommendations
        The list, best first: product_id, score, strategy, reasons (dictionaries of product_id and share), n_purchases
        of this product by this user, and last_purchase (an ISO date, or None).
    recent_events
        The last 20 events, newest first: product_id, event_type, occurred_at and quantity.
    """

    recommendations: list[dict[str, Any]]
    recent_events: list[dict[str, Any]]


def open_index(root: Root, pointer: Mapping[str, Any], cache: Path) -> ServingIndex:
    """Return the serving index that a published pointer names; a remote one is copied to `cache` once.

    Raises
    ------
    ArtifactError
        The run was published by an older version, or the file is gone.
    """
    uri = pointer["serving_index"]
    run = f"The published run {pointer['run_id']} of store {pointer['store']}"
    if not uri.endswith(".sqlite"):
        raise ArtifactError(f"{run} has an index of an older version: {uri}.", next_step=_PUBLISH_AGAIN)
    if not root.exists(uri):
        raise ArtifactError(f"{run} names {uri}, which is gone.", next_step=_PUBLISH_AGAIN)
    return ServingIndex(_local_copy(root, uri, cache))


def _local_copy(root: Root, uri: str, cache: Path) -> Path:
    if root.is_local:
        return local_path(uri)
    local = cache / root.relative(uri).replace("/", "__")
    if not local.exists():
        cache.mkdir(parents=True, exist_ok=True)
        # A name of its own: two processes may fetch at the same time.
        partial = local.with_suffix(f".{os.getpid()}.part")
        root.fs.get_file(uri, str(partial))
        partial.replace(local)
    return local


class ServingIndex(AbstractContextManager["ServingIndex"]):
    """Look-ups in a serving index. Threads may share one: each gets a connection of its own at its first question.

    Parameters
    ----------
    path
        A file that `build_index` wrote. It must not change while it is open: SQLite is told so, and takes no locks.

    Raises
    ------
    ArtifactError
        The file is of another version of shelfkin, or broken.
    """

    def __init__(self, path: Path) -> None:
        self._uri = f"{path.resolve().as_uri()}?mode=ro&immutable=1"
        self._of_thread = threading.local()
        self._connections: list[sqlite3.Connection] = []
        try:
            ((layout,),) = self._ask("PRAGMA user_version")
        except sqlite3.DatabaseError as error:
            self.close()
            raise ArtifactError(f"{path} can't be read: {error}.", next_step=_PUBLISH_AGAIN) from error
        if layout != LAYOUT:
            self.close()
            raise ArtifactError(f"{path} has layout {layout}; this version reads {LAYOUT}.", next_step=_PUBLISH_AGAIN)

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections of all threads; none of them may be asking."""
        while self._connections:
            self._connections.pop().close()

    def run(self) -> dict[str, Any]:
        """Return store, as_of, run_id and n_users_with_lists."""
        return self._document("run")

    def clusters(self) -> list[dict[str, Any]]:
        """Return the rows of the table ``clusters``, large ones first."""
        return self._document("clusters")

    def metrics(self) -> list[dict[str, Any]]:
        """Return the rows of the table ``recommender_metrics``, newest cut first; dates are ISO strings."""
        return self._document("metrics")

    def products(self, product_ids: Sequence[str]) -> list[Product]:
        """Return those of `product_ids` that the store has, in any order."""
        return self._products("product_id", [one for one in product_ids if _is_text(one)])

    def numbered(self, numbers: Sequence[int]) -> list[Product]:
        """Return products by number, in any order."""
        return self._products("number", numbers)

    def search(self, typed: str, n: int) -> list[Product]:
        """Return up to `n` products whose title or id has words that begin as those typed do, popular ones first.

        Parameters
        ----------
        typed
            What somebody has typed so far, in any case, with or without accents; words in any order. Only the first
            10 words count.
        """
        words = "".join(" " if unicodedata.category(one)[0] == "C" else one for one in typed).split()
        if not words:
            return []
        quoted = " ".join('"{}"*'.format(word.replace('"', '""')) for word in words[:MAX_SEARCH_WORDS])
        numbers = self._ask("SELECT rowid FROM search WHERE search MATCH ? ORDER BY rowid LIMIT ?", [quoted, n])
        return sorted(self.numbered([number for (number,) in numbers]))

    def similar(self, numbers: Sequence[int]) -> dict[int, list[SimilarProduct]]:
        """Return the similar products of those products that have some, by number, most similar first."""
        rows = self._ask(f"SELECT product, packed FROM similar WHERE product IN ({_places(numbers)})", numbers)
        return {
            product: [SimilarProduct(*row) for row in np.frombuffer(packed, SIMILAR).tolist()]
            for product, packed in rows
        }

    def of_cluster(self, cluster: int, n: int) -> list[Product]:
        """Return the `n` most popular products of a cluster."""
        query = f"SELECT {columns(Product)} FROM product WHERE cluster = ? ORDER BY number LIMIT ?"
        return [_product(row) for row in self._ask(query, [cluster, n])]

    def map_points(self) -> bytes:
        """Return the map of the catalogue, one `MAP_POINT` per distinct text, popular ones first."""
        ((packed,),) = self._ask("SELECT packed FROM map")
        return bytes(packed)

    def fillers(self, clusters: Sequence[int], n: int) -> list[Filler]:
        """Return the first `n` fillers of each cluster and of the store, in any order."""
        rows = self._ask(
            "SELECT f.scope, f.rank, f.product, p.text, f.is_popular FROM filler f JOIN product p "
            f"ON p.number = f.product WHERE f.scope IN ({_places([*clusters, STORE_SCOPE])}) AND f.rank <= ?",
            [*clusters, STORE_SCOPE, n],
        )
        return [
            Filler(None if scope == STORE_SCOPE else scope, rank, product, text, bool(is_popular))
            for scope, rank, product, text, is_popular in rows
        ]

    def user(self, user_id: str) -> UserPage | None:
        """Return the list and the last events of a user, or None if neither is known."""
        rows = self._ask("SELECT packed FROM user WHERE user_id = ?", [user_id]) if _is_text(user_id) else []
        return UserPage(**json.loads(zlib.decompress(rows[0][0]))) if rows else None

    def example_product(self) -> Product | None:
        """Return the most popular product that has similar ones."""
        ((number,),) = self._ask("SELECT min(product) FROM similar")
        return self.numbered([number])[0] if number is not None else None

    def example_users(self) -> list[str]:
        """Return up to three users with lists: those with the most, the median and few recent events."""
        n_users = self.run()["n_users_with_lists"]
        numbers = sorted({1, 1 + n_users // 2, 1 + 9 * n_users // 10} if n_users else ())
        rows = self._ask(f"SELECT user_id FROM user WHERE number IN ({_places(numbers)}) ORDER BY number", numbers)
        return [user_id for (user_id,) in rows]

    def _document(self, name: str) -> Any:
        ((content,),) = self._ask("SELECT content FROM document WHERE name = ?", [name])
        return json.loads(content)

    def _products(self, column: str, values: Sequence[str] | Sequence[int]) -> list[Product]:
        rows = self._ask(f"SELECT {columns(Product)} FROM product WHERE {column} IN ({_places(values)})", values)
        return [_product(row) for row in rows]

    def _ask(self, query: str, values: Sequence[object] = ()) -> list[Any]:
        connection = getattr(self._of_thread, "connection", None)
        if connection is None:
            # Used by one thread, but closed by whichever closes the index.
            connection = sqlite3.connect(self._uri, uri=True, check_same_thread=False)
            self._of_thread.connection = connection
            self._connections.append(connection)
        return connection.execute(query, values).fetchall()


def _product(row: Sequence[Any]) -> Product:
    return Product._make([*row[:4], json.loads(row[4]) if row[4] else None, *row[5:]])


def columns(row: type[NamedTuple]) -> str:
    """Return the names of a row's columns, as a query lists them."""
    return ", ".join(row._fields)


def _places(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))


def _is_text(value: str) -> bool:
    """Whether a string is Unicode text: what came over a command line may hold bytes that aren't."""
    return value.encode(errors="ignore").decode() == value
