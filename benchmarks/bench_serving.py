"""A run's serving index: its size, the seconds to build it, and what each kind of look-up takes, beside DuckDB.

    make bench-serving                          a made-up shop of 100,000 products (PRODUCTS=1000000: of a million)
    make bench-serving STORE=complete_journey   the newest published run of a store

DuckDB gets the same tables in a file of its own, sorted by what is asked for and with an index on every key. Of a
session it answers only the first question, what is similar to the recent products. Questions are drawn at random;
sessions hold 1 to 10 ids, one in twenty unknown; a search is the beginnings of one or two words of a title.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import numpy as np

from shelfkin.__main__ import read_pointer
from shelfkin.artifacts import Manifest, Root, manifest_with
from shelfkin.serving.build_index import TABLES, build_index
from shelfkin.serving.index import ServingIndex
from shelfkin.serving.session import recommend_for_session
from shelfkin.settings import Settings

N_CALLS = 10_000
N_DUCKDB_CALLS = 200
N_COLD = 20
LENGTH = 10
SHARE_UNKNOWN = 0.05
# 20 similar products, a user for two products, 20 recommendations and 30 events for a user; words by Zipf's law.
SHOP = """
    CREATE TABLE products AS
    SELECT 'P' || lpad(i::VARCHAR, 7, '0') AS product_id, string_agg(word, ' ' ORDER BY place) AS title,
           'brand ' || i % 500 AS brand, ['department ' || i % 20] AS category_path, i % 997 / 10 AS price,
           'EUR' AS currency, i % 50 <> 0 AS in_stock, md5((i * 9 // 10)::VARCHAR) AS text_hash
    FROM (
        SELECT i, place, translate(md5(floor(pow(40000, random()))::VARCHAR)[:3 + (place % 5)], '0123456789',
                                   'ghijklmnop') AS word
        FROM range({n}) products(i), range(7) places(place)
    ) GROUP BY i;
    CREATE MACRO id(i) AS 'P' || lpad((i::BIGINT % {n})::VARCHAR, 7, '0');
    CREATE TABLE product_clusters AS
    SELECT id(i) AS product_id, i::INT % {n_clusters} AS cluster_id, random()::FLOAT AS distance FROM range({n}) t(i);
    CREATE TABLE clusters AS
    SELECT i::INT AS cluster_id, 'cluster ' || i AS name, {n} // {n_clusters} AS size, ['a'] AS top_terms,
           [id(i)] AS representative_product_ids, 'kept' AS status FROM range({n_clusters}) t(i);
    CREATE TABLE cluster_projection AS
    SELECT text_hash, any_value(hash(text_hash) % {n_clusters})::INT AS cluster_id, random()::FLOAT AS x,
           random()::FLOAT AS y FROM products GROUP BY text_hash;
    CREATE TABLE similar_products AS
    SELECT id(i) AS product_id, (place + 1)::INT AS rank, id(i + 1 + place * {n_clusters}) AS similar_product_id,
           (1 - place / 40 + random() / 100)::FLOAT AS score, random()::FLOAT AS content_score,
           random()::FLOAT AS co_purchase_score FROM range({n}) t(i), range(20) places(place);
    CREATE TABLE user_recommendations AS
    SELECT 'U' || i AS user_id, (place + 1)::INT AS rank, id(hash(i * 20 + place) // 2) AS product_id,
           (1 - place / 40 + random() / 100)::FLOAT AS score, 'taste' AS strategy,
           [{{product_id: id(hash(i) // 2), share: 0.9::FLOAT}},
            {{product_id: id(hash(place) // 2), share: 0.1::FLOAT}}] AS reasons
    FROM range({n_users}) t(i), range(20) places(place);
    CREATE TABLE popular_products AS
    SELECT 'all' AS scope, (i + 1)::INT AS rank, id(i * 37) AS product_id, (1 - i / 200)::FLOAT AS score
    FROM range(100) t(i);
    CREATE TABLE events AS
    SELECT 'U' || hash(i) % {n_users} AS user_id, id(pow({n}, random())) AS product_id, 'purchase' AS event_type,
           TIMESTAMPTZ '2025-01-01 00:00:00+00' + INTERVAL (i) SECOND AS occurred_at, 1.0::DOUBLE AS quantity
    FROM range({n} * 15) t(i);
    CREATE TABLE recommender_metrics AS
    SELECT 'shelfkin' AS model, 'all' AS task, DATE '2025-12-01' AS cut, 14 AS horizon_days, 'ndcg' AS metric, 10 AS k,
           0.3::DOUBLE AS value, 5 AS users;
"""
# What is asked by, which is how DuckDB's file is sorted, and has an index.
KEYS = {
    "products": "product_id",
    "product_clusters": "product_id",
    "clusters": "cluster_id",
    "similar_products": "product_id",
    "user_recommendations": "user_id",
    "popular_products": "scope",
}
Ask = Callable[[object], object]


def made_up_shop(folder: Path, n_products: int, n_users: int) -> duckdb.DuckDBPyConnection:
    """Return a connection with the tables of a made-up shop."""
    db = duckdb.connect(str(folder / "shop.duckdb"))
    db.execute("SELECT setseed(0.5)")
    db.execute(SHOP.format(n=n_products, n_users=n_users, n_clusters=max(10, n_products // 1500)))
    return db


def tables_of_run(store: str) -> duckdb.DuckDBPyConnection:
    """Return a connection with the tables of a store's newest published run."""
    settings = Settings.from_env()
    root = Root.at(settings.artifact_root)
    pointer = read_pointer(settings, store, "")
    manifests = {stage: Manifest.read(root, uri) for stage, uri in pointer["manifests"].items()}
    db = duckdb.connect()
    for table in TABLES:
        db.register(table, manifest_with(manifests, table).dataset(table))
    return db


def write_duckdb(tables: duckdb.DuckDBPyConnection, path: Path) -> None:
    tables.execute(f"ATTACH '{path}' AS copy")
    for table, key in KEYS.items():
        tables.execute(f"CREATE TABLE copy.{table} AS SELECT * FROM {table} ORDER BY {key}")
        tables.execute(f"CREATE INDEX by_{table} ON copy.{table} ({key})")
    tables.execute("""
        CREATE TABLE copy.recent_events AS SELECT * FROM events WHERE user_id IS NOT NULL
        QUALIFY row_number() OVER (PARTITION BY user_id ORDER BY occurred_at DESC) <= 20 ORDER BY user_id
    """)
    tables.execute("CREATE INDEX by_user ON copy.recent_events (user_id)")
    tables.execute("DETACH copy")


def draw_questions(tables: duckdb.DuckDBPyConnection, n: int) -> dict[str, Sequence[object]]:
    """Return `n` questions of each kind."""
    products = tables.execute("SELECT product_id, title FROM products ORDER BY 1").fetchall()
    users = tables.execute("SELECT DISTINCT user_id FROM user_recommendations ORDER BY 1").fetchall()
    rng = random.Random(0)
    ids = [rng.choice(products)[0] for _ in range(n)]

    def recent() -> str:
        return f"unknown-{rng.randrange(10**6)}" if rng.random() < SHARE_UNKNOWN else rng.choice(products)[0]

    def typed() -> str:
        words = (rng.choice(products)[1] or "a").split()
        chosen = rng.sample(words, min(len(words), rng.randint(1, 2)))
        return " ".join([*chosen[:-1], chosen[-1][: rng.randint(1, 6)]]) if chosen else "a"

    return {
        "a product by id": ids,
        "similar products": ids,
        "a user's list": [rng.choice(users)[0] for _ in range(n)] if users else [],
        "a list for a session": [[recent() for _ in range(rng.randint(1, 10))] for _ in range(n)],
        "search: beginnings of words": [typed() for _ in range(n)],
        "search: one letter": [rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(n)],
        "search: beginning of an id": [rng.choice(ids)[: rng.randint(3, 8)] for _ in range(n)],
    }


def asking_index(index: ServingIndex) -> dict[str, Ask]:
    def similar(product_id: str) -> object:
        (product,) = index.products([product_id])
        return index.numbered([one.number for one in index.similar([product.number]).get(product.number, [])])

    def user(user_id: str) -> object:
        page = index.user(user_id)
        return index.products([one["product_id"] for one in page.recommendations]) if page else None

    search = lambda typed: index.search(typed, LENGTH)  # noqa: E731
    return {
        "a product by id": lambda product_id: index.products([product_id]),
        "similar products": similar,
        "a user's list": user,
        "a list for a session": lambda recent: recommend_for_session(index, recent, LENGTH),
        "search: beginnings of words": search,
        "search: one letter": search,
        "search: beginning of an id": search,
    }


def asking_duckdb(db: duckdb.DuckDBPyConnection) -> dict[str, Ask]:
    def asking(query: str) -> Ask:
        return lambda value: db.execute(query, [value]).fetchall()

    titled = "JOIN products p ON p.product_id = "

    def search(typed: str) -> object:
        matches = " AND ".join("(lower(title) LIKE ? OR lower(title) LIKE ?)" for _ in typed.split())
        values = [pattern for word in typed.split() for pattern in (f"{word}%", f"% {word}%")]
        return db.execute(f"SELECT * FROM products WHERE {matches} LIMIT {LENGTH}", values).fetchall()

    return {
        "a product by id": asking("SELECT * FROM products WHERE product_id = ?"),
        "similar products": asking(
            f"SELECT * FROM similar_products s {titled} s.similar_product_id WHERE s.product_id = ? ORDER BY rank"
        ),
        "a user's list": asking(
            f"SELECT * FROM user_recommendations r {titled} r.product_id WHERE user_id = ? ORDER BY rank"
        ),
        "a list for a session": asking("SELECT * FROM similar_products WHERE product_id IN (SELECT unnest(?))"),
        "search: beginnings of words": search,
        "search: one letter": search,
        "search: beginning of an id": asking(f"SELECT * FROM products WHERE starts_with(product_id, ?) LIMIT {LENGTH}"),
    }


def timed(ask: Ask, questions: Sequence[object]) -> list[float]:
    """Return the milliseconds of each question."""
    spent = []
    for question in questions:
        began = time.perf_counter()
        ask(question)
        spent.append(1000 * (time.perf_counter() - began))
    return spent


def report(name: str, spent: Sequence[float]) -> None:
    p50, p95, p99 = np.percentile(spent, [50, 95, 99])
    print(f"  {name:42}{len(spent):>8,}{p50:>9.2f}{p95:>9.2f}{p99:>9.2f}{max(spent):>9.2f}", flush=True)


def report_all(name: str, asks: Mapping[str, Ask], questions: Mapping[str, Sequence[object]], n: int) -> None:
    print(f"{name:44}{'calls':>8}{'p50':>9}{'p95':>9}{'p99':>9}{'max':>9}   (milliseconds)")
    for kind, ask in asks.items():
        if questions[kind]:
            timed(ask, questions[kind][-100:])
            report(kind, timed(ask, questions[kind][:n]))


def in_threads(ask: Ask, questions: Sequence[object], n_threads: int) -> list[float]:
    with ThreadPoolExecutor(n_threads) as pool:
        parts = pool.map(lambda first: timed(ask, questions[first::n_threads]), range(n_threads))
        return [one for part in parts for one in part]


def cold_ms(path: Path, recent: Sequence[str]) -> float:
    """Return what a new process waits for its first list, when nothing of the file is in memory."""
    with path.open("rb") as file:
        os.fsync(file.fileno())  # pages that aren't on disk yet can't be dropped
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    words = [sys.executable, __file__, "--cold", str(path), ",".join(recent)]
    return float(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def built(name: str, build: Callable[[], None], path: Path) -> None:
    began = time.perf_counter()
    build()
    seconds, peak = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    size = path.stat().st_size / 2**20
    print(f"{name}: {size:,.0f} MiB, built in {seconds:.0f} s; the process's peak so far {peak:.1f} GiB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", default="")
    parser.add_argument("--products", type=int, default=100_000)
    parser.add_argument("--cold", nargs=2, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.cold:
        began = time.perf_counter()
        with ServingIndex(Path(flags.cold[0])) as index:
            recommend_for_session(index, flags.cold[1].split(","), LENGTH)
            print(1000 * (time.perf_counter() - began))
        return
    with tempfile.TemporaryDirectory(prefix="bench-serving-") as name:
        folder = Path(name)
        n = flags.products
        tables = tables_of_run(flags.store) if flags.store else made_up_shop(folder, n, n // 2)
        sqlite, duck = folder / "index.sqlite", folder / "index.duckdb"
        built("serving index", lambda: build_index(tables, ("shop", "2026-01-01", "bench"), sqlite), sqlite)
        built("DuckDB", lambda: write_duckdb(tables, duck), duck)
        questions = draw_questions(tables, N_CALLS)
        tables.close()
        with ServingIndex(sqlite) as index:
            asks = asking_index(index)
            report_all("serving index", asks, questions, N_CALLS)
            sessions = questions["a list for a session"]
            report("a list for a session, 2 threads", in_threads(asks["a list for a session"], sessions, 2))
        report("a list for a session, cold process", [cold_ms(sqlite, recent) for recent in sessions[:N_COLD]])
        with duckdb.connect(str(duck), read_only=True) as db:
            report_all("DuckDB", asking_duckdb(db), questions, N_DUCKDB_CALLS)


if __name__ == "__main__":
    main()
