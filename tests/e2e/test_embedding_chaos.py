"""Drill: the embedding stage under faults of every kind, poison and kill -9, judged by the server's own account.

`pytest tests/e2e/test_embedding_chaos.py -s` prints a table; EMBEDDING_CHAOS_RUNS sets the number of kills (30).
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import yaml

from installation import PROJECT, temporary_folder
from rehearsal.server import BILLED_FAULTS, FREE_FAULTS, RehearsalServer, Settings, running_rehearsal_server
from shelfkin.embedding.tokens import counter_of

pytestmark = [pytest.mark.slow, pytest.mark.spark]

RUNS = int(os.environ.get("EMBEDDING_CHAOS_RUNS", "30"))
KILLS_PER_SHOP = 5
N_TEXTS, PER_REQUEST, UNDER_WAY, DIMENSIONS = 3_000, 64, 8, 32
POISON = "do not embed"
MODEL = "text-embedding-3-small"
WORDS = "white hanging heart holder red mug garden hose cup retro vintage lamp".split()  # noqa: SIM905


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass
class Shop:
    """A catalogue of distinct texts, a store profile, and the command that embeds it."""

    folder: Path
    base_url: str
    texts: list[str]
    section: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        profile = {
            "store": "chaos",
            "title": "Chaos",
            "catalog": {"kind": "snapshot", "source": {"path": "x"}, "fields": {"product_id": "i", "title": "t"}},
            "embedding": {
                "model": MODEL,
                "dimensions": DIMENSIONS,
                "max_inputs_per_request": PER_REQUEST,
                "max_requests_under_way": UNDER_WAY,
                "timeout_s": 2.0,
                **self.section,
            },
        }
        (self.folder / "stores").mkdir()
        (self.folder / "stores/chaos.yaml").write_text(yaml.safe_dump(profile))
        self.write_products("products")

    @property
    def root(self) -> Path:
        return self.folder / "artifacts"

    def write_products(self, name: str) -> None:
        target = self.root / name
        (target / "products").mkdir(parents=True)
        hashes = [sha(text) for text in self.texts]
        pq.write_table(pa.table({"embedding_text": self.texts, "text_hash": hashes}), target / "products/part.parquet")
        manifest = {"format_version": 1, "stage": "clean_catalog", "tables": {"products": {"path": f"{name}/products"}}}
        (target / "manifest.json").write_text(json.dumps(manifest))

    def start(self, run_id: str, products: str = "products", key: str = "") -> subprocess.Popen[bytes]:
        """Start the stage as a program of its own, as spark-submit would: a Python driver, its JVM, Python workers."""
        arguments = ["--store", "chaos", "--stores-dir", str(self.folder / "stores"), "--artifact-root", str(self.root)]
        arguments += ["--as-of", "2026-01-01", "--run-id", run_id, "--input", f"{self.root}/{products}/manifest.json"]
        spark = "--master local[2] --driver-memory 1g --conf spark.ui.enabled=false "
        spark += "--conf spark.sql.shuffle.partitions=2 pyspark-shell"
        environment = {
            **os.environ,
            "OPENAI_BASE_URL": self.base_url,
            "OPENAI_API_KEY": key,
            "PYSPARK_SUBMIT_ARGS": spark,
            "PYSPARK_PYTHON": sys.executable,
            "SPARK_LOCAL_IP": "127.0.0.1",
        }
        log = (self.folder / f"{run_id}.log").open("ab")
        return subprocess.Popen(
            [sys.executable, str(PROJECT / "spark_apps/embed_products.py"), *arguments],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def run(self, run_id: str, products: str = "products") -> dict[str, Any]:
        """Run the stage to its end and return its manifest."""
        child = self.start(run_id, products)
        assert child.wait(timeout=300) == 0, self.log(run_id)
        return self.manifest(run_id)

    def stage_folder(self, run_id: str) -> Path:
        (found,) = self.root.glob(f"stores/chaos/runs/as_of=*/{run_id}-*/embed_products")
        return found

    def manifest(self, run_id: str) -> dict[str, Any]:
        return dict(json.loads((self.stage_folder(run_id) / "manifest.json").read_text()))

    def log(self, run_id: str) -> str:
        return (self.folder / f"{run_id}.log").read_text(errors="replace")[-5000:]

    def table(self, manifest: dict[str, Any], name: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = ds.dataset(self.root / manifest["tables"][name]["path"]).to_table().to_pylist()
        return rows


def make_texts(rng: random.Random, n: int, n_poisoned: int, label: str) -> list[str]:
    texts = [f"{' '.join(rng.choices(WORDS, k=rng.randint(3, 12)))} {label}-{i}" for i in range(n)]
    for place in rng.sample(range(n), n_poisoned):
        texts[place] += f" {POISON}"
    return texts


def tokens_of(texts: list[str]) -> int:
    return sum(counter_of("openai", MODEL)(texts))


def kill_later(
    child: subprocess.Popen[bytes], server: RehearsalServer, victim: str, at_request: int
) -> threading.Event:
    """Kill -9 the driver or its JVM when the server has seen so many requests."""
    killed = threading.Event()

    def wait_and_kill() -> None:
        while server.account.requests < at_request and child.poll() is None:
            time.sleep(0.005)
        try:
            driver = psutil.Process(child.pid)
            family = driver.children(recursive=True)
            targets = [driver] if victim == "driver" else [child for child in family if "java" in child.name()]
        except psutil.Error:
            return
        for process in targets[:1]:
            process.send_signal(signal.SIGKILL)
            killed.set()

    threading.Thread(target=wait_and_kill, daemon=True).start()
    return killed


@pytest.fixture
def folder() -> Iterator[Path]:
    with temporary_folder() as made:
        yield made


def check_complete(shop: Shop, manifest: dict[str, Any], server: RehearsalServer) -> None:
    """Every text is embedded or refused, and no vector differs from what the server gives undisturbed."""
    vectors = {row["text_hash"]: row["vector"] for row in shop.table(manifest, "product_vectors")}
    refused = {row["text_hash"] for row in shop.table(manifest, "embedding_refused")}
    poisoned = {sha(text) for text in shop.texts if POISON in text}
    assert refused == poisoned
    assert set(vectors) == {sha(text) for text in shop.texts} - poisoned
    good = [text for text in shop.texts if POISON not in text]
    found = np.array([vectors[sha(text)] for text in good], dtype=np.float32)
    np.testing.assert_array_equal(found, server.vectors(good, DIMENSIONS))


def test_kill_9_and_faults_of_every_kind(folder: Path) -> None:
    rng = random.Random(20261124)
    faults = dict.fromkeys((*FREE_FAULTS, *BILLED_FAULTS), 0.03)
    print(f"\n{'kills':>5}  {'victims at request':<44}{'distinct':>9}{'billed':>9}{'wasted':>8}{'in flight':>10}")
    n_kills = 0
    while n_kills < RUNS:
        settings = Settings(
            latency_s=0.03, dimensions=DIMENSIONS, faults=faults, hang_s=3.0, poison=POISON, seed=n_kills
        )
        with running_rehearsal_server(settings) as (server, base_url):
            shop = Shop(folder / f"shop{n_kills}", base_url, make_texts(rng, N_TEXTS, 3, f"s{n_kills}"))
            victims = []
            for number in range(KILLS_PER_SHOP):
                victim = ("driver", "JVM")[(n_kills + number) % 2]
                child = shop.start(f"try{number}")
                killed = kill_later(child, server, victim, server.account.requests + rng.randint(1, 20))
                if child.wait(timeout=300) == 0:  # it came to its end first
                    manifest = shop.manifest(f"try{number}")
                    break
                assert killed.is_set(), shop.log(f"try{number}")
                victims.append(f"{victim} {server.account.requests}")
                time.sleep(0.5)  # what was under way when the driver died comes to its end
            else:
                manifest = shop.run("last")
            n_kills += len(victims)
            check_complete(shop, manifest, server)

            ledger = [*shop.table(manifest, "embedding_ledger")]
            confirmed = sum(row["n_tokens_billed"] or 0 for row in ledger)
            unconfirmed = sum(row["n_tokens_unconfirmed"] for row in ledger)
            in_flight = [
                row["n_tokens"] for row in ledger if row["status"] in ("in_flight", "lost") and not row["http_status"]
            ]
            distinct = tokens_of([text for text in shop.texts if POISON not in text])
            account = server.account
            print(
                f"{n_kills:>5}  {', '.join(victims):<44}{distinct:>9,}{account.tokens_billed:>9,}"
                f"{account.wasted_tokens:>8,}{sum(in_flight):>10,}",
                flush=True,
            )
            assert confirmed <= account.tokens_billed <= confirmed + unconfirmed
            # Nothing that was answered is paid for again: what was billed beyond the texts was wasted, or in flight.
            assert account.tokens_billed <= distinct + account.wasted_tokens + sum(in_flight)
            # And what was in flight is no pretext: at most what may be under way at once.
            beyond = account.tokens_billed - distinct - account.wasted_tokens
            assert beyond <= len(victims) * UNDER_WAY * PER_REQUEST * 40


@pytest.mark.parametrize("terminal", ["insufficient_quota", "bad_key", "no_permission", "unknown_model"])
def test_what_can_not_pass_ends_the_run_at_once(folder: Path, terminal: str) -> None:
    settings = Settings(latency_s=0.05, dimensions=DIMENSIONS)
    with running_rehearsal_server(settings) as (server, base_url):
        shop = Shop(folder / "shop", base_url, make_texts(random.Random(1), N_TEXTS, 0, "t"))
        child = shop.start("try1")

        def turn_bad() -> None:
            while server.account.answered < 10:
                time.sleep(0.002)
            server.settings.terminal = terminal

        threading.Thread(target=turn_bad, daemon=True).start()
        assert child.wait(timeout=120) == 1, shop.log("try1")
        ended_at, account = time.time(), server.account
        assert account.first_terminal_at is not None and account.last_request_at is not None
        assert account.last_request_at - account.first_terminal_at <= 1.0
        assert ended_at - account.first_terminal_at <= 15.0
        error = json.loads((shop.stage_folder("try1") / "error.json").read_text())
        assert (error["kind"], error["retryable"]) == (terminal, False)
        assert error["next_step"]

        server.settings.terminal = None
        billed_before = account.tokens_billed
        manifest = shop.run("try2")
        check_complete(shop, manifest, server)
        # Only the rest was sent: every text was paid for once.
        assert 0 < billed_before < account.tokens_billed == tokens_of(shop.texts)
        ledger = shop.table(manifest, "embedding_ledger")
        assert sum(row["n_tokens_billed"] or 0 for row in ledger) == account.tokens_billed


def test_changed_texts_and_backfills_pay_for_each_new_text_once(folder: Path) -> None:
    rng = random.Random(2)
    with running_rehearsal_server(Settings(dimensions=DIMENSIONS), keep_texts=True) as (server, base_url):
        shop = Shop(folder / "shop", base_url, make_texts(rng, 500, 0, "day0"))
        shop.run("day0")
        assert server.texts is not None
        server.texts.clear()
        changed = {f"{text} mended" for text in shop.texts[:40]}
        shop.texts = [f"{text} mended" if i < 40 else text for i, text in enumerate(shop.texts)]
        shop.write_products("products1")
        manifest = shop.run("day1", "products1")
        assert sorted(server.texts) == sorted(changed)
        assert manifest["metrics"]["tokens"] == tokens_of(sorted(changed))
        # A fix of the catalogue, and the five days after it again: each text of the fix is paid for once.
        server.texts.clear()
        shop.texts = [f"{text} fixed" if i % 10 == 0 else text for i, text in enumerate(shop.texts)]
        sent = []
        for day in range(5):
            shop.texts.append(f"new on backfilled day {day}")
            shop.write_products(f"backfill{day}")
            sent.append(shop.run(f"backfill{day}", f"backfill{day}")["metrics"]["texts_embedded"])
        assert sent == [51, 1, 1, 1, 1]
        assert len(server.texts) == len(set(server.texts)) == 55


def test_a_planted_key_is_nowhere(folder: Path) -> None:
    key = "sk-proj-PLANTED7e57c0ffee0123456789"
    settings = Settings(dimensions=DIMENSIONS, faults={"status_500": 0.2, "html": 0.1})
    with running_rehearsal_server(settings) as (_, base_url):
        shop = Shop(folder / "shop", base_url, make_texts(random.Random(3), 600, 0, "k"))
        child = shop.start("try1", key=key)
        command_lines: set[str] = set()
        while child.poll() is None:
            for process in psutil.process_iter():
                try:
                    command_lines.add(" ".join(process.cmdline()))
                except psutil.Error:
                    continue
            time.sleep(0.2)
        assert child.returncode == 0, shop.log("try1")
    assert not [line for line in command_lines if key in line]
    leaks: list[Path] = [path for path in folder.rglob("*") if path.is_file() and key.encode() in path.read_bytes()]
    assert leaks == []
