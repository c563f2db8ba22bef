"""The coordinator over real TCP: who gets a permit when, and what happens to permits whose owner is gone."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shelfkin.artifacts import Root
from shelfkin.embedding.concurrency import ConcurrencyLimit
from shelfkin.embedding.coordinator import Budget, Coordinator
from shelfkin.embedding.ledger import ledger_rows, summarise
from shelfkin.embedding.permit_server import PermitServer
from shelfkin.embedding.permits import Address, PermitLine
from shelfkin.embedding.provider import Provider
from shelfkin.embedding.quota import Quota, RateLimits
from shelfkin.embedding.store import VectorStore
from shelfkin.errors import EmbeddingError

AMPLE = RateLimits(1e6, 1e9)
PROVIDER = Provider("compatible", "http://x/v1", "some-model", 4, True)


@pytest.fixture
def store(tmp_path: Path) -> VectorStore:
    return VectorStore.of(Root.at(str(tmp_path)), PROVIDER)


Make = Callable[..., tuple[Coordinator, Address]]


@pytest.fixture
def started(store: VectorStore) -> Iterator[Make]:
    running: dict[Coordinator, PermitServer] = {}

    def make(limits: RateLimits = AMPLE, **options: Any) -> tuple[Coordinator, Address]:
        quota = Quota(limits, headroom=0.0, burst_s=1.0, now=time.monotonic())
        concurrency = options.pop("concurrency", ConcurrencyLimit(64))
        coordinator = Coordinator(quota, concurrency, store.journal("journal"), **options)
        running[coordinator] = PermitServer(coordinator, store.journal("journal"))
        return coordinator, running[coordinator].start("127.0.0.1", 0, "127.0.0.1")

    make.close = lambda coordinator: running.pop(coordinator).close()  # type: ignore[attr-defined]
    yield make
    for server in running.values():
        server.close()


def permit(line: PermitLine, tokens: int = 10, inputs: int = 1, task: str = "p0") -> dict[str, Any]:
    return line.ask("permit", task=task, inputs=inputs, tokens=tokens)


def settle(line: PermitLine, granted: dict[str, Any], status: str = "ok", **more: Any) -> dict[str, Any]:
    return line.ask("settle", permit=granted["permit"], status=status, **more)


def wait_until(condition: Callable[[], bool], timeout_s: float = 5.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.005)


def test_only_who_knows_the_token_gets_in(started: Make) -> None:
    coordinator, address = started()
    with pytest.raises((ConnectionError, EmbeddingError)):
        PermitLine(Address(address.host, address.port, "guess"))
    # Somebody who says nothing, or nonsense, gets nothing and disturbs nobody.
    with socket.create_connection((address.host, address.port)) as silent:
        challenge = json.loads(silent.makefile("rb").readline())["challenge"]
        silent.sendall(b'{"ask": "permit", "task": "p0", "inputs": 1, "tokens": 1}\n')
        assert silent.recv(100) == b"" and challenge
    assert coordinator.totals.under_way == 0
    line = PermitLine(address)
    assert "permit" in permit(line)
    line.close()


def test_an_impostor_at_the_address_is_found_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as impostor:

        def pretend() -> None:
            connection, _ = impostor.accept()
            connection.sendall(b'{"challenge": "00"}\n')
            connection.recv(1000)
            connection.sendall(b'{"proof": "00"}\n')

        threading.Thread(target=pretend, daemon=True).start()
        with pytest.raises(EmbeddingError, match="isn't this job's driver"):
            PermitLine(Address("127.0.0.1", impostor.getsockname()[1], "token"))


def test_a_permit_is_on_storage_before_it_is_given(started: Make, store: VectorStore) -> None:
    _, address = started()
    line = PermitLine(address)
    granted = permit(line, tokens=12, inputs=3)
    (written,) = list(store.journal("journal").lines())
    assert (written["permit"], written["tokens"], written["inputs"]) == (granted["permit"], 12, 3)
    # Killed now, the request is on the account as one that may have been billed.
    (row,) = ledger_rows(store, store.journal("journal"), "m", {"standard": 1e-6})
    assert (row["status"], row["n_tokens_unconfirmed"], row["n_tokens_billed"]) == ("in_flight", 12, None)
    line.close()


def test_a_lost_executor_gives_its_permits_and_partition_back(started: Make, store: VectorStore) -> None:
    coordinator, address = started(RateLimits(), concurrency=ConcurrencyLimit(highest=1, limit=1.0))
    lost, other = PermitLine(address), PermitLine(address)
    assert lost.ask("claim", partition=7)["fresh"]
    permit(lost, tokens=50)
    got: list[dict[str, Any]] = []
    waiting = threading.Thread(target=lambda: got.append(other.ask("claim", partition=7)), daemon=True)
    waiting.start()
    time.sleep(0.05)
    assert got == []  # two tries of one task never send at the same time
    lost.close()
    waiting.join(5)
    assert got and not got[0]["fresh"]  # so it looks for what its predecessor stored
    assert "permit" in permit(other)  # the only place is free again
    other.close()
    wait_until(lambda: coordinator.totals.tokens_unconfirmed == 60)
    started.close(coordinator)  # type: ignore[attr-defined]
    rows = ledger_rows(store, store.journal("journal"), "m", {"standard": 0.0})
    assert [(row["status"], row["n_tokens_unconfirmed"]) for row in rows] == [("lost", 50), ("lost", 10)]


def test_tasks_take_turns(started: Make) -> None:
    # One request at a time: a task with many threads gets no more than a task with one.
    coordinator, address = started(RateLimits(), concurrency=ConcurrencyLimit(highest=1, limit=1.0))
    order: list[str] = []
    begin = threading.Barrier(6)

    def work(task: str, n: int) -> None:
        line = PermitLine(address)
        begin.wait()
        for _ in range(n):
            granted = permit(line, task=task)
            order.append(task)
            time.sleep(0.002)
            settle(line, granted, billed=10)
        line.close()

    threads = [threading.Thread(target=work, args=("greedy", 8)) for _ in range(5)]
    threads.append(threading.Thread(target=work, args=("modest", 8)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert coordinator.totals.requests == 48
    # While both ask, each gets every second permit (a little less for the modest one, who asks only after an answer).
    last_modest = max(index for index, task in enumerate(order) if task == "modest")
    assert last_modest <= 24


def test_requests_leave_at_the_quotas_pace(started: Make) -> None:
    _, address = started(RateLimits(requests_per_minute=1200))  # 20 a second, and a second's worth at once
    line = PermitLine(address)
    began = time.monotonic()
    for _ in range(30):
        settle(line, permit(line), billed=10)
    elapsed = time.monotonic() - began
    assert elapsed >= 9 / 20
    line.close()


def test_before_the_first_answer_one_request_finds_out(started: Make) -> None:
    coordinator, address = started(RateLimits())
    first, second = PermitLine(address), PermitLine(address)
    granted = permit(first)
    got: list[dict[str, Any]] = []
    thread = threading.Thread(target=lambda: got.append(permit(second)))
    thread.start()
    time.sleep(0.05)
    assert got == []
    hint = settle(first, granted, billed=10, limits={"tokens": [6_000, 5_990, 0.1], "requests": [600, 599, 0.1]})
    thread.join(5)
    assert "permit" in got[0]
    assert hint["request_tokens"] == 100  # a second's worth
    assert coordinator.limits() == (600, 6_000)
    first.close()
    second.close()


def test_where_tokens_are_only_bounded_the_quota_is_used_by_what_the_server_counts(started: Make) -> None:
    _, address = started(RateLimits(tokens_per_minute=6_000))
    line = PermitLine(address)
    for _ in range(3):
        hint = settle(line, permit(line, tokens=20), billed=5)
    # The server counts a quarter of our bound (and 5% is kept for the next to be larger).
    assert hint["request_tokens"] == int(100 / (1.05 / 4))
    line.close()


def test_a_stop_reaches_everybody_at_once(started: Make) -> None:
    coordinator, address = started(RateLimits(tokens_per_minute=60), patience_s=1e6)
    busy, waiting = PermitLine(address), PermitLine(address)
    granted = permit(busy, tokens=60)
    got: list[dict[str, Any]] = []
    thread = threading.Thread(target=lambda: got.append(permit(waiting, tokens=60)))
    thread.start()
    busy.ask("stop", reason={"error": "BadKeyError", "message": "no", "next_step": "set it"})
    thread.join(5)
    assert got[0]["stop"] and "permit" not in got[0]
    busy.ask("stop", reason={"error": "other", "message": "later"})
    assert coordinator.stop_reason is not None and coordinator.stop_reason["error"] == "BadKeyError"
    # What was under way is still taken back, and counts.
    settle(busy, granted, billed=59)
    assert coordinator.totals.tokens == 59
    assert "permit" not in permit(busy)
    busy.close()
    waiting.close()


def test_a_wait_that_is_not_worth_it_ends_the_run(started: Make) -> None:
    coordinator, address = started(RateLimits(requests_per_day=1), patience_s=60)
    line = PermitLine(address)
    settle(line, permit(line), billed=1)
    assert permit(line)["stop"]
    assert coordinator.stop_reason is not None
    assert "24.0 hours" in coordinator.stop_reason["message"]
    assert coordinator.stop_reason["error"] == "EmbeddingUnavailableError"
    line.close()


def test_the_budget_counts_what_nobody_confirmed(started: Make) -> None:
    coordinator, address = started(usd_per_token=0.01, budget=Budget(usd=1.0))
    line = PermitLine(address)
    settle(line, permit(line, tokens=30), "lost")
    settle(line, permit(line, tokens=60), billed=50)
    assert permit(line, tokens=21)["stop"]  # 30 + 50 + 21 > 100
    assert coordinator.stop_reason is not None and "$1.00" in coordinator.stop_reason["message"]
    assert coordinator.spent_usd() == pytest.approx(0.5)
    line.close()


def test_the_ledger_adds_up(started: Make, store: VectorStore) -> None:
    coordinator, address = started()
    line = PermitLine(address)
    settle(line, permit(line, tokens=10), billed=9)
    settle(line, permit(line, tokens=20), "lost")
    settle(line, permit(line, tokens=30), "unusable", billed=33)
    settle(line, permit(line, tokens=40), "failed", http_status=503)
    settle(line, permit(line, tokens=50), "rate_limited", http_status=429, retry_after_s=0.01)
    settle(line, permit(line, tokens=60), "ok")  # a server that reports no usage
    line.close()
    started.close(coordinator)  # type: ignore[attr-defined]
    rows = ledger_rows(store, store.journal("journal"), "m", {"standard": 2e-6})
    assert [(row["status"], row["n_tokens_billed"], row["n_tokens_unconfirmed"]) for row in rows] == [
        ("ok", 9, 0),
        ("lost", None, 20),
        ("unusable", None, 33),
        ("failed", None, 0),
        ("rate_limited", None, 0),
        ("ok", None, 60),
    ]
    total = summarise(rows)
    assert (total.requests, total.tokens, total.tokens_unconfirmed, total.rate_limited) == (6, 9, 113, 1)
    assert total.cost_usd == pytest.approx(18e-6)
    assert (coordinator.totals.tokens, coordinator.totals.tokens_unconfirmed) == (9, 113)


def test_a_port_that_is_taken_is_named(store: VectorStore) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        coordinator = Coordinator(Quota(RateLimits()), ConcurrencyLimit(), store.journal("journal"))
        with pytest.raises(EmbeddingError, match=f"can't listen on 127.0.0.1:{port}") as caught:
            PermitServer(coordinator, store.journal("journal")).start("127.0.0.1", port, "127.0.0.1")
    assert "coordinator_port" in caught.value.next_step


def test_without_a_journal_nothing_is_sent_and_nobody_waits(started: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_args: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("shelfkin.embedding.journal.Journal.put", full)
    coordinator, address = started()
    line = PermitLine(address)
    answer = permit(line)
    assert answer["stop"] and "permit" not in answer
    assert coordinator.stop_reason is not None and "no space left" in coordinator.stop_reason["message"]
    line.close()


def test_an_answer_that_was_stored_counts_although_its_worker_is_gone(started: Make, store: VectorStore) -> None:
    coordinator, address = started()
    line = PermitLine(address)
    name = permit(line, tokens=12)["permit"]
    entry = {"permit": name, "at": "2026-11-24T00:00:00+00:00", "inputs": 1, "tokens": 12, "try": 1}
    vector = np.zeros((1, 4), np.float32)
    store.write_shard("journal", 0, name, ["aa"], vector, [{**entry, "status": "ok", "billed": 11}])
    line.close()  # killed between storing and settling
    wait_until(lambda: coordinator.totals.tokens_unconfirmed == 12)
    started.close(coordinator)  # type: ignore[attr-defined]
    (row,) = ledger_rows(store, store.journal("journal"), "m", {"standard": 0.0})
    assert (row["status"], row["n_tokens_billed"], row["n_tokens_unconfirmed"]) == ("ok", 11, 0)


def test_who_dies_in_the_queue_gets_no_permit(started: Make, store: VectorStore) -> None:
    coordinator, address = started(RateLimits(), concurrency=ConcurrencyLimit(highest=1, limit=1.0))
    busy, dying, patient = PermitLine(address), PermitLine(address), PermitLine(address)
    granted = permit(busy)
    dying._send({"ask": "permit", "task": "p1", "inputs": 1, "tokens": 99})
    time.sleep(0.05)
    dying.close()
    time.sleep(0.05)
    settle(busy, granted, billed=10)
    settle(patient, permit(patient), billed=10)
    assert coordinator.totals.tokens_unconfirmed == 0 and coordinator.totals.requests == 2
    assert [line["tokens"] for line in store.journal("journal").lines() if "settled" not in line] == [10, 10]
    busy.close()
    patient.close()
