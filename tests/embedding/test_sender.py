"""A task's sending: what is tried again and when, how a guilty text is found, and what is on storage at any moment."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import embedding_server as faulty
from embedding_server import DIMENSIONS, Server, refuse, running_server, vector_of
from shelfkin.artifacts import Root
from shelfkin.embedding.batching import Limits, Text
from shelfkin.embedding.client import EmbeddingClient
from shelfkin.embedding.concurrency import ConcurrencyLimit
from shelfkin.embedding.coordinator import Coordinator
from shelfkin.embedding.ledger import ledger_rows, summarise
from shelfkin.embedding.permit_server import PermitServer
from shelfkin.embedding.permits import PermitLines
from shelfkin.embedding.provider import Provider
from shelfkin.embedding.quota import Quota, RateLimits
from shelfkin.embedding.sender import Job, Sender, StoppedError, embed_share
from shelfkin.embedding.store import VectorStore

TEXTS = [f"title {i}" for i in range(8)]


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def texts(names: list[str] = TEXTS) -> list[Text]:
    return [Text(sha(name), name, len(name)) for name in names]


class Waits(list[float]):
    """Records the waits between tries instead of suffering them."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


class Bench:
    """A server, a coordinator and a store; `sender` sends between them."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server = server
        provider = Provider("compatible", server.base_url, "some-model", DIMENSIONS, True)
        self.store = VectorStore.of(Root.at(str(folder)), provider)
        quota = Quota(RateLimits(1e6, 1e9), now=time.monotonic())
        self.coordinator = Coordinator(quota, ConcurrencyLimit(), self.store.journal("journal"), patience_s=5.0)
        self.permit_server = PermitServer(self.coordinator, self.store.journal("journal"))
        address = self.permit_server.start("127.0.0.1", 0, "127.0.0.1")
        self.job = Job(provider, self.store, "journal", Limits(max_inputs=8), address, 2, 5.0, 5.0)
        self.lines = PermitLines(address)
        self.waits = Waits()
        self.sender = Sender(EmbeddingClient(provider, "", timeout_s=2.0), self.lines, self.job, 0, sleep=self.waits)

    def close(self) -> None:
        self.lines.__exit__()
        self.permit_server.close()

    def stored(self) -> dict[str, Any]:
        """Return vector or refusal by text hash, of all shards."""
        import pyarrow.parquet as pq

        rows: dict[str, Any] = {}
        for shard in self.store.adopt_orphans().shards:
            for row in pq.read_table(self.store.join(shard.path)).to_pylist():
                rows[row["text_hash"]] = row["vector"] or row["refused"]
        return rows


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with running_server() as server:
        bench = Bench(server, tmp_path)
        yield bench
        bench.close()


@pytest.mark.parametrize(
    "fault",
    [refuse(408), refuse(409), refuse(500), refuse(503), refuse(429), faulty.reset, faulty.html, faulty.not_a_number],
)
def test_what_may_pass_is_tried_again_with_full_jitter(bench: Bench, fault: faulty.Fault) -> None:
    bench.server.faults = [fault, fault]
    bench.sender.embed(texts())
    assert len(bench.server.seen) == 3
    assert len(bench.waits) == 2 and 0 <= bench.waits[0] <= 1 and 0 <= bench.waits[1] <= 2
    stored = bench.stored()
    for name in TEXTS:
        np.testing.assert_array_equal(np.array(stored[sha(name)], np.float32), vector_of(name))


def test_never_sooner_than_the_server_asks(bench: Bench) -> None:
    bench.server.faults = [refuse(503, headers={"Retry-After": "3"})]
    bench.sender.embed(texts())
    assert 3 <= bench.waits[0] <= 4
    # After a 429 the coordinator holds everybody back, so that the task itself has nothing to wait for.
    bench.server.faults = [refuse(429, "rate_limit_exceeded", headers={"retry-after-ms": "400"})]
    began = time.monotonic()
    bench.sender.embed(texts(["another"]))
    assert time.monotonic() - began >= 0.4
    assert bench.waits[1] == 0


def test_the_deadline_begins_with_the_first_failure_and_ends_the_run(bench: Bench) -> None:
    bench.server.faults = [refuse(503, headers={"Retry-After": "4"}), refuse(503, headers={"Retry-After": "60"})]
    with pytest.raises(StoppedError):
        bench.sender.embed(texts())
    assert len(bench.server.seen) == 2 and len(bench.waits) == 1
    reason = bench.coordinator.stop_reason
    assert reason is not None and reason["error"] == "EmbeddingUnavailableError"
    assert "after 2 tries" in reason["message"] and "HTTP 503" in reason["message"]


def test_a_429_that_asks_for_more_than_the_deadline_ends_the_run(bench: Bench) -> None:
    bench.server.faults = [refuse(429, "rate_limit_exceeded", headers={"Retry-After": "3600"})]
    with pytest.raises(StoppedError):
        bench.sender.embed(texts())
    assert len(bench.server.seen) == 1
    reason = bench.coordinator.stop_reason
    assert reason is not None and "60 minutes" in reason["message"]


@pytest.mark.parametrize("guilty", [["title 0"], ["title 7"], ["title 2", "title 3"], TEXTS])
def test_halving_finds_every_guilty_text_and_no_other(bench: Bench, guilty: list[str]) -> None:
    def judge(handler: faulty.Handler, sent: list[str]) -> None:
        if set(sent) & set(guilty):
            refuse(400, "invalid_request_error", "'$.input' is invalid.")(handler, sent)
        else:
            handler.reply(200, faulty.answer(faulty.entries(sent)))

    bench.server.faults = [judge] * 50
    bench.sender.embed(texts())
    stored = bench.stored()
    assert set(stored) == {sha(name) for name in TEXTS}
    assert {name for name in TEXTS if isinstance(stored[sha(name)], str)} == set(guilty)
    assert "input" in stored[sha(guilty[0])]
    assert bench.coordinator.totals.refused_texts == len(guilty)
    # Halving 8 texts down to one guilty one: 8, 4 + 4, 2 + 2, 1 + 1.
    if len(guilty) == 1:
        assert len(bench.server.seen) == 7
    rows = ledger_rows(bench.store, bench.store.journal("journal"), "m", {"standard": 0.0})
    assert summarise(rows).tokens == 7 * sum(row["status"] == "ok" for row in rows)


def test_an_answer_is_on_storage_before_its_permit_goes_back(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    ask, write = Sender._ask, VectorStore.write_shard
    monkeypatch.setattr(Sender, "_ask", lambda self, kind, **more: (order.append(kind), ask(self, kind, **more))[1])
    monkeypatch.setattr(VectorStore, "write_shard", lambda self, *args: (write(self, *args), order.append("stored"))[0])
    bench.sender.embed(texts())
    assert order == ["permit", "stored", "settle"]


def test_storage_that_fails_is_tried_again_and_then_ends_the_run(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shelfkin.embedding.sender._STORE_PAUSE_S", 0.01)
    write, failures = VectorStore.write_shard, iter([OSError("full"), OSError("full"), None])

    def flaky(self: VectorStore, *args: Any) -> Any:
        error = next(failures, OSError("full"))
        if error:
            raise error
        return write(self, *args)

    monkeypatch.setattr(VectorStore, "write_shard", flaky)
    bench.sender.embed(texts(TEXTS[:4]))
    assert len(bench.server.seen) == 1  # the answer was paid for: it isn't asked for again
    with pytest.raises(StoppedError):
        bench.sender.embed(texts(TEXTS[4:]))
    reason = bench.coordinator.stop_reason
    assert reason is not None and "could not be stored" in reason["message"] and "full" in reason["message"]


def test_a_second_try_of_a_partition_sends_only_what_is_not_stored(bench: Bench) -> None:
    assert embed_share(texts(TEXTS[:3]), 4, "", bench.job) == 1
    # The first try was killed before its end; the same partition comes again, whole.
    assert embed_share(texts(), 4, "", bench.job) == 1
    assert bench.server.texts == TEXTS
    # Another partition knows nothing of it.
    embed_share(texts(["title 0"]), 5, "", bench.job)
    assert bench.server.texts == [*TEXTS, "title 0"]


def test_an_error_that_nobody_foresaw_is_not_swallowed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EmbeddingClient, "send", lambda *_args, **_more: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        embed_share(texts(), 0, "", bench.job)
