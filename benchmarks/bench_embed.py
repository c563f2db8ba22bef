"""What a load of texts costs in time and refusals: the embedding stage against the ways it is usually done.

    make bench-embed                      quota use: ours and four usual ways against one server, both limits binding
    make bench-embed PART=first-minute    quota use from the first request on, where the server grants a second's burst
    make bench-embed PART=throughput      the whole stage on an unlimited server, with memory; TEXTS=1000000
    make bench-embed PART=ceiling         vectors that one sending process takes in, from a server that costs nothing

All contenders meet the same server (`rehearsal`, a process of its own) with the same limits in one run. Steady state is
what comes after a warm-up in which the server's full bucket is used up by whoever overruns it.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import logging
import multiprocessing
import os
import random
import re
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openai
import psutil

PROJECT = Path(__file__).resolve().parents[1]
MODEL, DIMENSIONS = "text-embedding-3-small", 512
WORDS = (
    "white hanging heart t-light holder red mug garden hose cup retro vintage lamp small large set of six".split()  # noqa: SIM905
)


@dataclass(frozen=True)
class Quota:
    """Limits of one scenario."""

    name: str
    requests_per_minute: int
    tokens_per_minute: int


# 2,048 texts of about 17 tokens are a request of 35,000: the first lets 86 of those through a minute, the second 90.
SCENARIOS = (Quota("tokens bind", 3_000, 3_000_000), Quota("requests bind", 90, 6_000_000))


def make_texts(n: int, seed: int = 0) -> Iterator[str]:
    """Yield `n` distinct short texts, as titles are."""
    rng = random.Random(seed)
    for number in range(n):
        yield " ".join(rng.choices(WORDS, k=12)) + f" {seed}-{number}"


@contextmanager
def server(*flags: str) -> Iterator[str]:
    """Run the rehearsal server in a process of its own; yields its base URL."""
    command = [sys.executable, "-m", "rehearsal", "--dimensions", str(DIMENSIONS), *flags]
    child = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        yield json.loads(child.stdout.readline())["base_url"]
    finally:
        child.kill()
        child.wait()


def account(base_url: str) -> dict[str, Any]:
    with urllib.request.urlopen(base_url.removesuffix("/v1") + "/account") as answer:  # noqa: S310 - our own server
        return dict(json.load(answer))


# ---- the usual ways -------------------------------------------------------------------------------------------------


class Peer:
    """What the usual ways have in common: a client, an end, and a count of texts."""

    def __init__(self, base_url: str, quota: Quota) -> None:
        self.client = openai.OpenAI(base_url=base_url, api_key="none", max_retries=0)
        self.quota, self.ended = quota, threading.Event()

    def send(self, texts: list[str]) -> bool:
        """Send one request; back off on a 429 as the server asks. Returns whether it was answered."""
        while not self.ended.is_set():
            try:
                self.client.embeddings.create(input=texts, model=MODEL, dimensions=DIMENSIONS)
                return True
            except openai.APIConnectionError:
                return False  # the server was stopped: the measurement is over
            except openai.RateLimitError as error:
                self.ended.wait(float(error.response.headers.get("retry-after-ms", 1000)) / 1000)
        return False


def one_text_per_request(peer: Peer) -> None:
    """SynapseML's OpenAIEmbedding: one text a request, eight at a time."""
    texts = make_texts(10**9, seed=1)
    lock = threading.Lock()

    def work() -> None:
        while not peer.ended.is_set():
            with lock:
                text = next(texts)
            peer.send([text])

    run_threads(8, work, peer)


def limiter_per_executor(n_tasks: int) -> Callable[[Peer], None]:
    """A limiter in every task, each set to the key's limits (openaivec and the like): load grows with the cluster."""

    def way(peer: Peer) -> None:
        seeds = iter(range(100, 100 + n_tasks))
        lock = threading.Lock()

        def work() -> None:
            with lock:
                texts = make_texts(10**9, seed=next(seeds))
            next_at = time.monotonic()
            while not peer.ended.is_set():
                batch = [next(texts) for _ in range(2048)]
                n_tokens = len(batch) * 17.4
                pause = max(60 / peer.quota.requests_per_minute, n_tokens / peer.quota.tokens_per_minute * 60)
                peer.ended.wait(max(0.0, next_at - time.monotonic()))
                next_at = max(next_at, time.monotonic()) + pause
                peer.send(batch)

        run_threads(n_tasks, work, peer)

    return way


def fixed_sleep(peer: Peer) -> None:
    """A loop that sleeps between requests by a rule of thumb: 70% of the limits, and each answer is waited for."""
    texts = make_texts(10**9, seed=2)
    while not peer.ended.is_set():
        batch = [next(texts) for _ in range(2048)]
        n_tokens = len(batch) * 17.4
        peer.send(batch)
        by_tokens = n_tokens / peer.quota.tokens_per_minute * 60
        peer.ended.wait(max(60 / peer.quota.requests_per_minute, by_tokens) / 0.7)


def run_threads(n: int, work: Callable[[], None], peer: Peer) -> None:
    threads = [threading.Thread(target=work, daemon=True) for _ in range(n)]
    for thread in threads:
        thread.start()
    peer.ended.wait()
    for thread in threads:
        thread.join(timeout=5)


# ---- ours -----------------------------------------------------------------------------------------------------------


def spark_session() -> Any:
    from shelfkin import spark

    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    conf = {
        "spark.master": "local[2]",
        "spark.driver.memory": "3g",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    }
    return spark.build_session("bench-embed", conf)


def run_stage(session: Any, base_url: str, n_texts: int, folder: Path, **section: Any) -> Any:
    """Run the embedding stage on `n_texts` distinct texts; returns the stage."""
    from datetime import date

    from pyspark.sql import functions as F  # noqa: N812

    from shelfkin.artifacts import Manifest, Root, RunPaths
    from shelfkin.profile import StoreProfile
    from shelfkin.settings import Settings
    from shelfkin.stage import Stage
    from shelfkin.stages import embed_products

    os.environ["OPENAI_BASE_URL"] = base_url
    root = Root.at(str(folder))
    words = F.array(*[F.lit(word) for word in WORDS])
    picks = [
        F.element_at(words, (F.pmod(F.xxhash64("id", F.lit(i)), F.lit(len(WORDS))) + 1).cast("int")) for i in range(12)
    ]
    texts = session.range(n_texts).select(
        F.concat(F.lit("P"), "id").alias("product_id"), F.concat_ws(" ", *picks, F.col("id")).alias("embedding_text")
    )
    texts.withColumn("text_hash", F.sha2("embedding_text", 256)).write.parquet(root.join("in", "products"))
    content = {"format_version": 1, "stage": "clean_catalog", "tables": {"products": {"path": "in/products"}}}
    root.put_json(root.join("in", "manifest.json"), content)
    profile = StoreProfile.model_validate(
        {
            "store": "bench",
            "title": "Bench",
            "catalog": {"kind": "snapshot", "source": {"path": "x"}, "fields": {"product_id": "i", "title": "t"}},
            "embedding": {"model": MODEL, "dimensions": DIMENSIONS, "deadline_s": 20, **section},
        }
    )
    stage = Stage(
        name="embed_products",
        paths=RunPaths(root, "bench", date(2026, 1, 1), "bench"),
        profile=profile,
        settings=Settings.from_env({}),
        attempt="attempt-1",
        options=argparse.Namespace(model=None, dimensions=None, budget_usd=None, estimate=False),
        inputs={"clean_catalog": Manifest.read(root, root.join("in", "manifest.json"))},
    )
    embed_products.run(stage)
    return stage


# ---- the parts ------------------------------------------------------------------------------------------------------


def steady(after: dict[str, Any], before: dict[str, Any], seconds: float, quota: Quota) -> dict[str, float]:
    """Return the figures of the time between two looks at the server's account."""
    requests = after["requests"] - before["requests"]
    refused = after["rate_limited"] - before["rate_limited"]
    return {
        "tokens": (after["tokens_billed"] - before["tokens_billed"]) / seconds * 60 / quota.tokens_per_minute,
        "requests": (requests - refused) / seconds * 60 / quota.requests_per_minute,
        "refused": refused / max(requests, 1),
        "texts": (after["texts_billed"] - before["texts_billed"]) / seconds * 60,
    }


def measured(
    work: Callable[[], None], base_url: str, quota: Quota, warm_up_s: float, seconds: float
) -> dict[str, float]:
    """Run `work` in a thread and return the server's figures after the warm-up; `all_refused` is of the whole run."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    while not account(base_url)["tokens_billed"] and thread.is_alive():
        time.sleep(0.1)
    time.sleep(warm_up_s)
    before, began = account(base_url), time.monotonic()
    time.sleep(seconds)
    after, elapsed = account(base_url), time.monotonic() - began
    if not thread.is_alive():
        raise SystemExit("the load ended before the measurement did: give it more texts")
    result = steady(after, before, elapsed, quota)
    result["all_refused"] = after["rate_limited"] / max(after["requests"], 1)
    return result


def quota_part(seconds: float, *, only_ours: bool) -> None:
    """Print the share of the quota that each way uses, and how often it is refused."""
    session = spark_session()
    warm_up_s = 45.0
    for quota in SCENARIOS:
        limits = ["--rpm", str(quota.requests_per_minute), "--tpm", str(quota.tokens_per_minute), "--latency-s", "0.5"]
        print(
            f"\n{quota.name}: {quota.requests_per_minute:,} requests and {quota.tokens_per_minute:,} tokens a minute,"
        )
        print(f"0.5 s latency, {seconds:.0f} s after {warm_up_s:.0f} s of warm-up\n")
        print(f"{'':42}{'of tokens':>11}{'of requests':>13}{'429s':>9}{'429s, all':>11}{'texts/min':>12}")
        known = {"requests_per_minute": quota.requests_per_minute, "tokens_per_minute": quota.tokens_per_minute}
        # More than the quota lets through in the time, so that the load never ends first.
        n_texts = int(
            (warm_up_s + seconds + 40) / 60 * min(quota.requests_per_minute * 2048, quota.tokens_per_minute / 17)
        )
        for label, section in (("shelfkin, limits known", known), ("shelfkin, limits learned", {})):
            with server(*limits) as base_url, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
                work = lambda: run_stage(session, base_url, n_texts, Path(folder) / "a", **section)  # noqa: E731, B023
                thread_result = measured(quiet(work), base_url, quota, warm_up_s, seconds)
                show(label, thread_result)
                session.sparkContext.cancelAllJobs()
                time.sleep(8)
        ways = (
            ()
            if only_ours
            else (
                ("one text per request, 8 at a time", one_text_per_request),
                ("a limiter per executor, 2 tasks", limiter_per_executor(2)),
                ("a limiter per executor, 4 tasks", limiter_per_executor(4)),
                ("fixed sleep at 70%", fixed_sleep),
            )
        )
        for label, way in ways:
            with server(*limits) as base_url:
                peer = Peer(base_url, quota)
                result = measured(lambda: way(peer), base_url, quota, warm_up_s, seconds)  # noqa: B023
                peer.ended.set()
                show(label, result)


def first_minute_part() -> None:
    """Print the share of the token quota that is used in the first minute and in the second one."""
    session = spark_session()
    quota = Quota("a second's burst", 3_000, 1_000_000)
    limits = ["--rpm", "3000", "--tpm", "1000000", "--burst-s", "1", "--latency-s", "0.5"]
    print("\n1,000,000 tokens a minute, of which a second's worth may come at once; 0.5 s latency\n")
    with server(*limits) as base_url, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        thread = threading.Thread(
            target=quiet(lambda: run_stage(session, base_url, 150_000, Path(folder) / "a")), daemon=True
        )
        thread.start()
        while not account(base_url)["tokens_billed"]:
            time.sleep(0.02)
        before, began = {"requests": 0, "rate_limited": 0, "tokens_billed": 0, "texts_billed": 0}, time.monotonic()
        for label in ("first minute", "second minute"):
            time.sleep(60)
            after, ended = account(base_url), time.monotonic()
            result = steady(after, before, ended - began, quota)
            print(
                f"{label:16}{result['tokens']:>8.1%} of the tokens, {after['rate_limited']} refused so far", flush=True
            )
            before, began = after, ended


def quiet(work: Callable[[], Any]) -> Callable[[], None]:
    """Return `work` without the end that the benchmark itself puts to it."""

    def run() -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - cut off when the figures are taken
            logging.getLogger("bench").debug("ended: %s", error)

    return run


def show(label: str, result: dict[str, float]) -> None:
    print(
        f"{label:42}{result['tokens']:>11.1%}{result['requests']:>13.1%}{result['refused']:>9.2%}"
        f"{result['all_refused']:>11.2%}{result['texts']:>12,.0f}",
        flush=True,
    )


def throughput_part(n_texts: int) -> None:
    """Print texts a second through the whole stage, and the memory it takes."""
    session = spark_session()
    peak = Peak()
    folder = Path(tempfile.mkdtemp(prefix="bench-embed-"))
    try:
        with server() as base_url, peak:
            began = time.monotonic()
            stage = run_stage(session, base_url, n_texts, folder / "a")
            seconds = time.monotonic() - began
        sent = stage.metrics["seconds_sending"]
        print(f"\n{n_texts:,} distinct texts, {DIMENSIONS} dimensions, no limits, the server on the same cores")
        print(f"whole stage   {seconds:8.1f} s  {n_texts / seconds:10,.0f} texts/s")
        print(f"sending       {sent:8.1f} s  {n_texts / sent:10,.0f} texts/s")
        for name, quarters in peak.by_quarter().items():
            print(f"peak RSS, {name:<16} {max(quarters):6,.0f} MiB; by quarter of the time: {quarters}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# ---- one process's ceiling ------------------------------------------------------------------------------------------


def serve_one_answer(n_texts: int, dimensions: int, port: int) -> None:
    """Answer every request with the same bytes, made beforehand: whatever is slow then is the client."""
    rows = np.random.default_rng(0).standard_normal((n_texts, dimensions)).astype("<f4")
    data = [{"index": index, "embedding": base64.b64encode(row.tobytes()).decode()} for index, row in enumerate(rows)]
    body = json.dumps({"data": data, "usage": {"total_tokens": 17 * n_texts}}).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                asked = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(re.search(rb"content-length: *(\d+)", asked).group(1)))
                writer.writelines([head, body])
                await writer.drain()

    async def serve() -> None:
        async with await asyncio.start_server(answer, "127.0.0.1", port, limit=2**24) as listening:
            await listening.serve_forever()

    asyncio.run(serve())


def ceiling_part(n_texts: int) -> None:
    """Print the vectors that one process takes in and stores, a second and a CPU second, without Spark."""
    from shelfkin.artifacts import Root
    from shelfkin.embedding.admission import Admission
    from shelfkin.embedding.client import EmbeddingClient
    from shelfkin.embedding.concurrency import ConcurrencyLimit
    from shelfkin.embedding.journal import JournalWriter
    from shelfkin.embedding.packing import Text
    from shelfkin.embedding.provider import Provider
    from shelfkin.embedding.quota import Quota as KeyQuota
    from shelfkin.embedding.sender import Sender
    from shelfkin.embedding.vector_store import VectorStore
    from shelfkin.profile import Embedding

    async def send(store: VectorStore, provider: Provider, n: int) -> None:
        admission = Admission(KeyQuota(Embedding(), now=time.monotonic()), ConcurrencyLimit())
        journal = JournalWriter(store.journal("bench"))
        async with EmbeddingClient(provider, "") as client:
            sender = Sender(
                client,
                admission,
                journal,
                store,
                server="",
                max_inputs=2000,
                dimensions=None,
                deadline_s=60.0,
            )
            # 4 tokens by our count: a request before the first answer holds 2,000 texts as well.
            texts = (Text(f"{number:064x}", f"{WORDS} {number}", 4) for number in range(n))
            await sender.run(texts)
        if admission.stopped_by is not None:
            raise admission.stopped_by

    print(f"\n{'numbers':>8}{'vectors/s':>12}{'vectors/CPU s':>16}{'peak MiB':>10}")
    for dimensions in (512, 1536):
        port = free_port()
        child = multiprocessing.get_context("spawn").Process(target=serve_one_answer, args=(2000, dimensions, port))
        child.start()
        try:
            wait_for(port)
            with tempfile.TemporaryDirectory() as folder:
                provider = Provider("compatible", f"http://127.0.0.1:{port}/v1", MODEL, dimensions, True)
                store = VectorStore.of(Root.at(folder), provider)
                n = n_texts // 2000 * 2000
                began, cpu = time.monotonic(), time.process_time()
                asyncio.run(send(store, provider, n))
                seconds, cpu = time.monotonic() - began, time.process_time() - cpu
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(f"{dimensions:>8}{n / seconds:>12,.0f}{n / cpu:>16,.0f}{peak:>10,.0f}", flush=True)
        finally:
            child.kill()
            child.join()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int) -> None:
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)


class Peak:
    """Samples the memory of the driver, its JVM and its Python workers (not the server's)."""

    def __init__(self) -> None:
        self.samples: list[dict[str, float]] = []
        self._ended = threading.Event()

    def __enter__(self) -> None:
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def __exit__(self, *_exc: object) -> None:
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        me = psutil.Process()
        while not self._ended.wait(0.5):
            sizes = {"driver (Python)": me.memory_info().rss, "JVM": 0.0, "largest worker": 0.0}
            for child in me.children(recursive=True):
                try:
                    command, rss = " ".join(child.cmdline()), child.memory_info().rss
                except psutil.Error:
                    continue
                if "java" in command.split(" ")[0]:
                    sizes["JVM"] = max(sizes["JVM"], rss)
                elif "pyspark" in command:
                    sizes["largest worker"] = max(sizes["largest worker"], rss)
            self.samples.append({name: size / 2**20 for name, size in sizes.items()})

    def by_quarter(self) -> dict[str, list[int]]:
        step = max(1, -(-len(self.samples) // 4))
        parts = [self.samples[start : start + step] for start in range(0, len(self.samples), step)]
        return {name: [round(max(one[name] for one in part)) for part in parts] for name in self.samples[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=["quota", "first-minute", "throughput", "ceiling"], default="quota")
    parser.add_argument("--texts", type=int, default=1_000_000, help="of the part `throughput`")
    parser.add_argument("--seconds", type=float, default=90.0, help="measured time of each way, of the part `quota`")
    parser.add_argument("--only-ours", action="store_true", help="leave the usual ways out of the part `quota`")
    flags = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    if flags.part == "quota":
        quota_part(flags.seconds, only_ours=flags.only_ours)
    elif flags.part == "first-minute":
        first_minute_part()
    elif flags.part == "throughput":
        throughput_part(flags.texts)
    else:
        ceiling_part(flags.texts)
    # Threads that were cut off must not hold up the end.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
