"""First loads through the Batch API: what is submitted, what is found again after a crash, what is left for later."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import openai
import pyarrow.parquet as pq
import pytest
from openai.resources.batches import Batches

from rehearsal.server import RehearsalServer, Settings, running_rehearsal_server
from shelfkin.artifacts import Root
from shelfkin.embedding.batch_api import INPUTS_PER_REQUEST, BatchRun
from shelfkin.embedding.batch_records import BatchRecords
from shelfkin.embedding.failures import BudgetError
from shelfkin.embedding.ledger import ledger_rows, summarise, unaccounted_journals
from shelfkin.embedding.packing import MAX_INPUTS, Text
from shelfkin.embedding.prices import Budget
from shelfkin.embedding.provider import Provider
from shelfkin.embedding.tokens import counter_of
from shelfkin.embedding.vector_store import VectorStore
from shelfkin.errors import EmbeddingError
from shelfkin.profile import Embedding

MODEL, DIMENSIONS = "text-embedding-3-small", 8
NAMES = [f"red mug number {i}" for i in range(300)]


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def texts(names: list[str]) -> list[Text]:
    sizes = counter_of("openai", MODEL)(names)
    return [Text(sha(name), name, size) for name, size in zip(names, sizes, strict=True)]


class KilledError(BaseException):
    """Stands for kill -9: nothing after it runs, no handler of ours catches it."""


@dataclass
class Desk:
    """A server with a Batch API and a vector store; every `run` is a new process's."""

    server: RehearsalServer
    provider: Provider
    store: VectorStore

    def run(self, names: list[str], batch_inputs: int = 50_000, **options: Any) -> list[str]:
        """Run to the end; returns what was said."""
        said: list[str] = []
        section = Embedding(batch_poll_s=0.01, batch_max_enqueued_tokens=options.pop("max_enqueued_tokens", None))
        batches = BatchRun(
            self.provider,
            "",
            self.store,
            section,
            max_inputs=MAX_INPUTS,
            manifest="m.json",
            progress=lambda message, *args: said.append(message % args),
            sleep=options.pop("sleep", lambda _s: __import__("time").sleep(0.02)),
            **options,
        )
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("shelfkin.embedding.batch_api.MAX_BATCH_INPUTS", batch_inputs)
            batches.run(texts(names))
        return said

    def run_until_killed_in_its_wait(self, names: list[str]) -> None:
        """Be killed while a batch is under way; it is ready when the next process asks."""

        def die(*_args: Any) -> None:
            raise KilledError

        # However long this process takes to ask, the batch isn't ready before.
        usual, self.server.settings.batch_s = self.server.settings.batch_s, 3600.0
        with pytest.raises(KilledError):
            self.run(names, sleep=die)
        self.server.settings.batch_s = usual
        self.finish()

    def finish(self) -> None:
        """Let the server's batches be ready now."""
        for batch in self.server.batches._batches.values():
            batch["_ready_at"] = 0.0

    def stored(self) -> dict[str, list[float]]:
        rows: dict[str, list[float]] = {}
        for shard in self.store.adopt_orphans().shards:
            for row in pq.read_table(self.store.join(shard.path)).to_pylist():
                rows[row["text_hash"]] = row["vector"]
        return rows

    def check(self, names: list[str]) -> None:
        stored = self.stored()
        assert set(stored) == {sha(name) for name in names}
        found = np.array([stored[sha(name)] for name in names], dtype=np.float32)
        np.testing.assert_array_equal(found, self.server.vectors(names, DIMENSIONS))

    def tokens_in_ledger(self) -> int:
        prices = {"standard": 2e-8, "batch": 1e-8}
        rows = [row for journal in self.store.journals() for row in ledger_rows(self.store, journal, MODEL, prices)]
        total = summarise(rows)
        assert total.cost_usd == pytest.approx(total.tokens * 1e-8)
        return total.tokens


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with running_rehearsal_server(Settings(dimensions=DIMENSIONS, batch_s=0.05)) as (server, base_url):
        provider = Provider("compatible", base_url, MODEL, DIMENSIONS, True)
        yield Desk(server, provider, VectorStore.of(Root.at(str(tmp_path)), provider))


def test_every_text_is_answered_once_and_accounted_for_at_half_price(desk: Desk) -> None:
    desk.server.settings.batch_s = 3600.0  # none is ready before all are submitted and waited for
    said = desk.run(NAMES, batch_inputs=120, sleep=lambda _s: desk.finish())
    assert desk.server.batches.created == 3
    desk.check(NAMES)
    billed = desk.server.account.batch_tokens_billed
    assert billed == sum(text.n_tokens for text in texts(NAMES)) == desk.tokens_in_ledger()
    assert any("300 texts are under way" in line for line in said)
    # Nothing is open, and no text lies about any more.
    assert list(Path(desk.store.join("batches")).glob("*.parquet")) == []


def test_files_and_batches_keep_their_limits(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shelfkin.embedding.batch_api.MAX_FILE_BYTES", 2_000)
    desk.run(NAMES)
    lines = [file.splitlines() for file in desk.server.batches._files.values() if b'"custom_id"' in file]
    requests = [file for file in lines if b'"method"' in file[0]]
    assert len(requests) > 3
    assert all(sum(map(len, file)) < 2_600 for file in requests)  # what surrounds the texts comes on top
    assert all(line.count(b"red mug") <= INPUTS_PER_REQUEST for file in requests for line in file)
    desk.check(NAMES)


@pytest.mark.parametrize("moment", ["after submitting", "before the name is written down", "while waiting"])
def test_a_run_that_is_killed_is_continued_and_not_paid_for_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    record = BatchRecords.put

    def record_until_named(self: BatchRecords, batch: Any) -> None:
        if batch.batch_id is not None:
            raise KilledError
        record(self, batch)

    def record_then_die(self: BatchRecords, batch: Any) -> None:
        record(self, batch)
        if batch.batch_id is not None:
            raise KilledError

    with monkeypatch.context() as patched:
        if moment == "before the name is written down":
            patched.setattr(BatchRecords, "put", record_until_named)
        elif moment == "after submitting":
            patched.setattr(BatchRecords, "put", record_then_die)
        desk.run_until_killed_in_its_wait(NAMES)
    assert desk.server.batches.created == 1
    said = desk.run([*NAMES, "one more"])
    assert desk.server.batches.created == 2  # the second holds one text
    assert "an earlier run submitted" in said[0]
    desk.check([*NAMES, "one more"])
    assert desk.server.account.batch_tokens_billed == desk.tokens_in_ledger()
    assert desk.server.account.batch_texts_billed == 301


def test_answers_that_were_read_twice_are_stored_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched, pytest.raises(KilledError):
        # Killed between storing the answers and writing down that the batch has ended.
        patched.setattr(BatchRun, "_end", lambda *_args: (_ for _ in ()).throw(KilledError()))
        desk.run(NAMES)
    desk.run([])
    desk.check(NAMES)
    assert desk.tokens_in_ledger() == desk.server.account.batch_tokens_billed


def test_what_expires_or_is_refused_stays_missing(desk: Desk) -> None:
    desk.server.settings.batch_expiring_share = 0.4
    desk.server.settings.poison = "number 7"
    said = desk.run(NAMES)
    stored = set(desk.stored())
    requests = [NAMES[start : start + INPUTS_PER_REQUEST] for start in range(0, 300, INPUTS_PER_REQUEST)]
    # 60% of five requests are done in time; the first and the second hold poison ("7", and "70" to "79").
    assert stored == {sha(name) for name in requests[2]}
    assert any(f"a batch expired: {len(stored)} of 300 texts have vectors" in line for line in said)
    assert desk.tokens_in_ledger() == desk.server.account.batch_tokens_billed


def test_a_full_queue_is_waited_for_and_a_batch_that_never_fits_is_an_error(desk: Desk) -> None:
    one = sum(len(name) for name in NAMES[:100]) // 4
    desk.server.settings.batch_enqueued_tokens = one + one // 2
    desk.run(NAMES, batch_inputs=100)
    desk.check(NAMES)
    # Knowing the limit, no batch is submitted that the server would turn down.
    desk.server.settings.batch_enqueued_tokens = 10
    with pytest.raises(EmbeddingError, match="refused a batch") as caught:
        desk.run(["another " * 20])
    assert "batch_max_enqueued_tokens" in caught.value.next_step


def test_a_known_queue_limit_is_never_overrun(desk: Desk) -> None:
    n_tokens = sum(text.n_tokens for text in texts(NAMES))
    desk.server.settings.batch_enqueued_tokens = n_tokens
    desk.run(NAMES, max_enqueued_tokens=n_tokens // 3)
    assert all("errors" not in batch for batch in desk.server.batches._batches.values())
    assert desk.server.batches.created >= 3
    desk.check(NAMES)


def test_a_budget_holds_for_batches_too(desk: Desk) -> None:
    n_tokens = sum(text.n_tokens for text in texts(NAMES))
    with pytest.raises(BudgetError) as caught:
        desk.run(NAMES, batch_inputs=100, budget=Budget(tokens=n_tokens // 2))
    assert not caught.value.retryable
    desk.run([])  # what was submitted is still waited for
    assert 0 < desk.server.account.batch_tokens_billed <= n_tokens // 2
    assert len(desk.stored()) == desk.server.account.batch_texts_billed == 100


def test_a_batch_whose_acknowledgement_was_lost_is_not_submitted_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = Batches.create
    lost = iter([True])

    def create_and_lose(self: Batches, **wanted: Any) -> Any:
        made = create(self, **wanted)
        if next(lost, False):
            raise openai.APITimeoutError(request=httpx2.Request("POST", "http://x"))
        return made

    monkeypatch.setattr(Batches, "create", create_and_lose)
    desk.run(NAMES)
    assert desk.server.batches.created == 1
    desk.check(NAMES)


def test_answers_go_to_their_texts_although_the_limits_have_changed(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.run_until_killed_in_its_wait(NAMES)
    monkeypatch.setattr("shelfkin.embedding.batch_api.INPUTS_PER_REQUEST", 50)
    desk.run([])
    desk.check(NAMES)


def test_a_batch_that_the_server_forgot_does_not_block_the_next_run(desk: Desk) -> None:
    desk.run_until_killed_in_its_wait(NAMES)
    desk.server.batches._batches.clear()
    desk.run(NAMES)  # given up, not sent again in the same breath: the caller sees what is still missing
    desk.run([name for name in NAMES if sha(name) not in desk.stored()])
    desk.check(NAMES)
    prices = {"standard": 0.0, "batch": 0.0}
    rows = [row for journal in desk.store.journals() for row in ledger_rows(desk.store, journal, MODEL, prices)]
    # The forgotten batch may have been billed.
    assert summarise(rows).tokens_unconfirmed == sum(text.n_tokens for text in texts(NAMES))
    assert summarise(rows).tokens == desk.server.account.batch_tokens_billed


def test_the_journal_of_a_batch_under_way_is_nobodys_to_take(desk: Desk) -> None:
    desk.run_until_killed_in_its_wait(NAMES)
    assert unaccounted_journals(desk.store, "another/manifest.json") == []
    assert unaccounted_journals(desk.store, "m.json") == []
    desk.run([])
    assert len(unaccounted_journals(desk.store, "another/manifest.json")) == 1
