"""Lists for sessions: how long one takes from the session index, and from the published tables without it.

    make bench-session                    the newest published run of STORE (default: the default store)

Sessions are 1 to 10 product ids drawn at random; one id in twenty is unknown to the store, so that some sessions know
no product at all and get what is popular. Peers answer the same questions with the same rules from the run's DuckDB
file, and from the Parquet files that it was made of, and must give the same lists. Cold is a process of its own, and
its first answer after the file was dropped from the page cache.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from shelfkin.__main__ import read_pointer
from shelfkin.recommending.recent import Filler
from shelfkin.serving.session import recommend_for_session
from shelfkin.serving.session_index import FILLER_ROWS, Product, SessionIndex, SessionLookups
from shelfkin.settings import Settings
from shelfkin.tables import POPULAR_PRODUCTS, PRODUCT_CLUSTERS, PRODUCTS, SIMILAR_PRODUCTS

N_CALLS = 10_000
N_PEER_CALLS = 200
N_COLD = 20
LENGTH = 10
SHARE_UNKNOWN = 0.05
TABLES = (PRODUCTS, PRODUCT_CLUSTERS, SIMILAR_PRODUCTS, POPULAR_PRODUCTS)


class DuckLookups:
    """The look-ups of a session by SQL on a run's tables; a product's id serves as its number, a hash as its text."""

    def __init__(self, db: duckdb.DuckDBPyConnection) -> None:
        self._db = db
        db.execute("""
            CREATE TEMP VIEW numbered AS
            SELECT product_id AS number, product_id, title, coalesce(text_hash, product_id) AS text,
                   cluster_id AS cluster, distance, in_stock IS DISTINCT FROM FALSE AS sellable
            FROM products LEFT JOIN product_clusters USING (product_id)
        """)

    def products(self, product_ids: Sequence[str]) -> list[Product]:
        rows = self._db.execute(
            "SELECT number, product_id, title, text, cluster FROM numbered WHERE product_id IN ?", [list(product_ids)]
        ).fetchall()
        return [Product(*row) for row in rows]

    numbered = products

    def similar(self, numbers: Sequence[Any]) -> list[tuple[Any, Any, Any, float]]:
        return self._db.execute(
            "SELECT s.product_id, s.similar_product_id, b.text, s.score FROM similar_products s "
            "JOIN numbered b ON b.product_id = s.similar_product_id WHERE b.sellable AND s.product_id IN ?",
            [list(numbers)],
        ).fetchall()

    def fillers(self, clusters: Sequence[int], n: int) -> list[Filler[Any]]:
        rows = self._db.execute(
            f"SELECT scope, place, number, text, is_popular FROM ({FILLER_ROWS}) JOIN numbered USING (number) "
            "WHERE scope IN ? AND place <= ?",
            [[*clusters, -1], n],
        ).fetchall()
        return [
            Filler(None if scope == -1 else scope, rank, product, text, bool(is_popular))
            for scope, rank, product, text, is_popular in rows
        ]


def from_serving_index(pointer: dict[str, Any]) -> DuckLookups:
    return DuckLookups(duckdb.connect(pointer["serving_index"], read_only=True))


def from_parquet(pointer: dict[str, Any]) -> DuckLookups:
    db = duckdb.connect()
    for table in TABLES:
        path = pointer["tables"][table]["path"]
        db.execute(f"CREATE VIEW {table} AS SELECT * FROM read_parquet('{path}/*.parquet')")
    return DuckLookups(db)


def draw_sessions(pointer: dict[str, Any], n: int, seed: int = 0) -> list[list[str]]:
    with duckdb.connect(pointer["serving_index"], read_only=True) as db:
        ids = [row[0] for row in db.execute("SELECT product_id FROM products ORDER BY 1").fetchall()]
    rng = random.Random(seed)

    def one() -> str:
        return f"unknown-{rng.randrange(10**6)}" if rng.random() < SHARE_UNKNOWN else rng.choice(ids)

    return [[one() for _ in range(rng.randint(1, 10))] for _ in range(n)]


def timed(ask: Callable[[list[str]], object], sessions: list[list[str]]) -> list[float]:
    """Return the milliseconds of each call."""
    spent = []
    for session in sessions:
        began = time.perf_counter()
        ask(session)
        spent.append(1000 * (time.perf_counter() - began))
    return spent


def in_threads(ask: Callable[[list[str]], object], sessions: list[list[str]], n_threads: int) -> list[float]:
    with ThreadPoolExecutor(n_threads) as pool:
        parts = pool.map(lambda first: timed(ask, sessions[first::n_threads]), range(n_threads))
        return [one for part in parts for one in part]


def report(name: str, spent: Sequence[float], seconds: float) -> float:
    """Print one line; returns the 99th percentile."""
    p50, p95, p99 = np.percentile(spent, [50, 95, 99])
    print(
        f"{name:44}{len(spent):>8,}{p50:>9.2f}{p95:>9.2f}{p99:>9.2f}{max(spent):>9.2f}{len(spent) / seconds:>10,.0f}",
        flush=True,
    )
    return float(p99)


def measured(name: str, ask: Callable[[list[str]], object], sessions: list[list[str]], n_threads: int = 1) -> float:
    began = time.perf_counter()
    spent = timed(ask, sessions) if n_threads == 1 else in_threads(ask, sessions, n_threads)
    return report(name, spent, time.perf_counter() - began)


def cold(pointer: dict[str, Any], sessions: list[list[str]]) -> None:
    began = time.perf_counter()
    spent = []
    for session in sessions:
        words = [sys.executable, __file__, "--cold", pointer["session_index"], json.dumps(session)]
        spent.append(float(subprocess.run(words, check=True, capture_output=True, text=True).stdout))
    report("shelfkin, cold: open and first answer", spent, time.perf_counter() - began)


def first_answer_ms(path: Path, session: list[str]) -> float:
    with path.open("rb") as file:
        os.fsync(file.fileno())  # pages that aren't on disk yet can't be dropped
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    began = time.perf_counter()
    with SessionIndex(path) as index:
        recommend_for_session(index, session, LENGTH)
        return 1000 * (time.perf_counter() - began)


def asking(lookups: SessionLookups | DuckLookups) -> Callable[[list[str]], object]:
    return lambda session: recommend_for_session(lookups, session, LENGTH)


def compare(pointer: dict[str, Any], n_calls: int) -> None:
    sessions = draw_sessions(pointer, n_calls)
    few = sessions[:N_PEER_CALLS]
    peers = {
        "DuckDB on the serving index": asking(from_serving_index(pointer)),
        "DuckDB on the published Parquet": asking(from_parquet(pointer)),
    }
    with SessionIndex(Path(pointer["session_index"])) as index:
        ours = asking(index)
        for name, peer in peers.items():
            assert [peer(session) for session in few[:20]] == [ours(session) for session in few[:20]], name
        timed(ours, few)
        print(f"\n{'':44}{'calls':>8}{'p50':>9}{'p95':>9}{'p99':>9}{'max':>9}{'calls/s':>10}   (milliseconds)")
        p99 = measured("shelfkin, warm", ours, sessions)
        measured("shelfkin, warm, 2 threads", ours, sessions, n_threads=2)
        nothing_known = [[f"unknown-{number}"] for number in range(1000)]
        measured("shelfkin, warm, no known product: popular", ours, nothing_known)
    cold(pointer, sessions[:N_COLD])
    of_peers = {name: measured(name, peer, few) for name, peer in peers.items()}
    print("\nAt the 99th percentile")
    for name, peer_p99 in of_peers.items():
        print(f"  {name} takes {peer_p99 / p99:.0f} times as long")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", default="")
    parser.add_argument("--calls", type=int, default=N_CALLS)
    parser.add_argument("--cold", nargs=2, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.cold:
        path, session = flags.cold
        print(first_answer_ms(Path(path), json.loads(session)))
        return
    settings = Settings.from_env()
    pointer = read_pointer(settings, flags.store or settings.default_store, "")
    rows = {table: pointer["tables"][table]["rows"] for table in TABLES}
    size = Path(pointer["session_index"]).stat().st_size
    print(json.dumps({"cores": os.cpu_count(), "store": pointer["store"], "rows": rows, "session_index_bytes": size}))
    compare(pointer, flags.calls)


if __name__ == "__main__":
    main()
