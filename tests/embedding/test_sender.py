"""Sending in virtual time: the quota's use, what is tried again and when, and what is on storage at any moment."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from shelfkin.artifacts import Root
from shelfkin.embedding.admission import Admission
from shelfkin.embedding.concurrency import ConcurrencyLimit
from shelfkin.embedding.failures import BadKeyError, BudgetError, TooManyRefusedError
from shelfkin.embedding.journal import Journal, JournalWriter
from shelfkin.embedding.ledger import ledger_rows, summarise
from shelfkin.embedding.packing import Text
from shelfkin.embedding.prices import Budget
from shelfkin.embedding.progress import report_progress
from shelfkin.embedding.provider import Provider
from shelfkin.embedding.quota import Quota
from shelfkin.embedding.sender import Sender
from shelfkin.embedding.vector_store import Shard, VectorStore
from shelfkin.errors import ArtifactError, EmbeddingError, EmbeddingUnavailableError
from shelfkin.profile import Embedding
from simulated_server import DIMENSIONS, SimulatedServer, failure, vector_of
from virtual_time import run_in_virtual_time

TEXTS = [f"title {i}" for i in range(8)]
PRICES = {"standard": 1e-6}


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def texts_of(names: Iterable[str], n_tokens: int = 10) -> Iterator[Text]:
    return (Text(sha(name), name, n_tokens) for name in names)


def limits(requests_per_minute: float, tokens_per_minute: float) -> Embedding:
    return Embedding(requests_per_minute=requests_per_minute, tokens_per_minute=tokens_per_minute)


class Bench:
    """A server and a store; every `run` is a run of its own."""

    def __init__(self, folder: Path) -> None:
        provider = Provider("compatible", "http://x/v1", "some-model", DIMENSIONS, True)
        self.store: Any = VectorStore.of(Root.at(str(folder)), provider)
        self.journal = self.store.journal("journal")
        self.server = SimulatedServer()
        self.section = Embedding()
        self.max_inputs, self.highest, self.deadline_s = 8, 64, 300.0

    def run(
        self,
        texts: Iterable[Text] | None = None,
        *,
        seconds: float | None = None,
        tell: Callable[[str], None] | None = None,
        **options: Any,
    ) -> Admission:
        """Send texts, for a time or to the end; returns the run's state, an early end's error among it."""

        async def main() -> Admission:
            clock = asyncio.get_running_loop().time
            quota = Quota(self.section, now=clock())
            concurrency = ConcurrencyLimit(self.highest)
            self.admission = Admission(quota, concurrency, patience_s=self.deadline_s, clock=clock, **options)
            self.sender = Sender(
                self.server,  # type: ignore[arg-type]
                self.admission,
                JournalWriter(self.journal),
                self.store,
                server="the server",
                max_inputs=self.max_inputs,
                dimensions=DIMENSIONS,
                deadline_s=self.deadline_s,
            )
            meanwhile = [] if seconds is None else [lambda: ending_after(seconds)]
            if tell is not None:
                meanwhile.append(lambda: report_progress(self.admission, 500_000, tell))
            await self.sender.run(texts_of(TEXTS) if texts is None else texts, *meanwhile)
            self.ended_at = clock()
            return self.admission

        admission: Admission = run_in_virtual_time(main)
        self.sender.keep()
        return admission

    def stored(self) -> dict[str, Any]:
        """Return vector or refusal by text hash, of what readers see."""
        rows: dict[str, Any] = {}
        for shard in self.store.latest().shards:
            for row in pq.read_table(self.store.join(shard.path)).to_pylist():
                rows[row["text_hash"]] = row["vector"] or row["refused"]
        return rows

    def ledger(self) -> list[dict[str, Any]]:
        return ledger_rows(self.store, self.journal, "m", PRICES)

    def times(self) -> list[float]:
        return [request.at for request in self.server.sent]


class EnoughError(Exception):
    """The test has seen enough."""


async def ending_after(seconds: float) -> None:
    await asyncio.sleep(seconds)
    raise EnoughError


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


class NoStorage:
    """A store and journal that forget at once, for loads of millions."""

    uri = "nowhere"

    def write_shard(self, journal: str, name: str, hashes: list[str], *_more: Any) -> Shard:
        return Shard(name, len(hashes), 0, "")

    def commit(self, shards: list[Shard]) -> None:
        pass


@pytest.fixture
def load(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A bench for loads that never end, of 1,000 texts a request at most."""
    monkeypatch.setattr(Journal, "put", lambda *_args: None)
    bench.store, bench.max_inputs = NoStorage(), 2048
    return bench


def endless() -> Iterator[Text]:
    text = Text("h", "t", 10)
    while True:
        yield text


@pytest.mark.parametrize("burst_s", [60.0, 1.0])
@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize(
    ("known", "names_limits"),
    [(True, True), (False, True), (True, False)],  # with neither the quota is guessed, which takes its time
)
def test_at_least_97_percent_of_the_quota_from_the_first_minute_on(
    load: Bench, burst_s: float, known: bool, strict: bool, names_limits: bool
) -> None:
    load.section = limits(3_000, 1e6) if known else Embedding()
    load.server = SimulatedServer(3_000, 1e6, burst_s=burst_s, strict=strict, names_limits=names_limits)
    load.run(endless(), seconds=120)
    assert load.server.share_of_tokens(0, 60) >= 0.97
    assert load.server.share_of_tokens(60, 120) >= 0.97
    # Where the server says what it holds nothing is refused; otherwise a refusal or two tell.
    assert load.admission.totals.rate_limited <= (0 if names_limits else 2)


def test_the_highest_published_quota_is_filled(load: Bench) -> None:
    load.server = SimulatedServer(10_000, 10e6, latency_s=1.0)
    load.run(endless(), seconds=30)
    assert load.server.share_of_tokens(3, 30) >= 0.97
    assert load.admission.totals.rate_limited == 0


def test_a_key_that_somebody_else_uses_too_is_shared(load: Bench) -> None:
    load.server = SimulatedServer(3_000, 1e6)
    load.section = limits(3_000, 2e6)  # as if half of what we know were used up by another
    load.run(endless(), seconds=120)
    assert load.admission.totals.rate_limited <= 3
    assert load.server.share_of_tokens(60, 120) >= 0.9


def test_before_the_first_answer_one_small_request_finds_out(load: Bench) -> None:
    load.server = SimulatedServer(600, 60_000, latency_s=2.0)
    load.run(endless(), seconds=20)
    first, second, *later = load.server.sent
    assert first.n_tokens <= 8_000 and second.at - first.at >= 2.0
    assert load.admission.limits() == (600, 60_000)
    # The second was packed meanwhile; from then on they hold a second's worth.
    assert later and all(request.n_tokens <= 1_000 for request in later)


@pytest.mark.parametrize(
    "status", [("failed", 408), ("failed", 500), ("failed", 503), ("rate_limited", 429), ("lost", None)]
)
def test_what_may_pass_is_tried_again_with_full_jitter(bench: Bench, status: tuple[Any, int | None]) -> None:
    bench.server.script = [failure(*status), failure(*status)]
    assert bench.run().stopped_by is None
    first, second, third = bench.times()
    assert second - first <= 1.2 and third - second <= 2.2  # and 0.2 s for the journal and the way
    stored = bench.stored()
    for name in TEXTS:
        np.testing.assert_array_equal(np.array(stored[sha(name)], np.float32), vector_of(name))


def test_never_sooner_than_the_server_asks(bench: Bench) -> None:
    bench.server.script = [failure("failed", 503, headers={"retry-after": "3"})]
    bench.run()
    first, second = bench.times()
    assert 3 <= second - first <= 4.2
    bench.server.sent.clear()
    bench.server.script = [failure("rate_limited", 429, headers={"retry-after-ms": "40000"})]
    bench.run(texts_of(["another"]))
    first, second = bench.times()
    assert 40 <= second - first <= 41.2


def test_the_deadline_begins_with_the_first_failure_and_ends_the_run(bench: Bench) -> None:
    bench.deadline_s = 5.0
    bench.server.script = [failure("failed", 503, headers={"retry-after": wait}) for wait in ("4", "60")]
    error = bench.run().stopped_by
    assert isinstance(error, EmbeddingUnavailableError) and error.retryable
    assert len(bench.server.sent) == 2
    assert "after 2 tries" in error.message and "HTTP 503" in error.message


def test_time_in_the_queue_for_the_quota_does_not_count(bench: Bench) -> None:
    bench.deadline_s, bench.section, bench.max_inputs = 60.0, Embedding(requests_per_minute=1), 1
    # One request a minute: the second try of the first text leaves after more than its deadline.
    bench.server.script = [failure("failed", 503)]
    assert bench.run(texts_of(TEXTS[:3])).stopped_by is None
    assert len(bench.stored()) == 3


def test_a_429_that_asks_for_more_than_the_deadline_ends_the_run(bench: Bench) -> None:
    bench.server.script = [failure("rate_limited", 429, headers={"retry-after": "3600"})]
    error = bench.run().stopped_by
    assert isinstance(error, EmbeddingUnavailableError) and "60 minutes" in error.message
    assert len(bench.server.sent) == 1


def test_a_days_limit_that_is_used_up_ends_the_run(bench: Bench) -> None:
    bench.section, bench.max_inputs = Embedding(requests_per_day=1), 1
    error = bench.run().stopped_by
    assert isinstance(error, EmbeddingUnavailableError) and "24.2 hours" in error.message
    assert len(bench.stored()) == 1


@pytest.mark.parametrize("guilty", [["title 0"], ["title 7"], ["title 2", "title 3"], TEXTS])
def test_halving_finds_every_guilty_text_and_no_other(bench: Bench, guilty: list[str]) -> None:
    bench.server.poison = set(guilty)
    assert bench.run().stopped_by is None
    stored = bench.stored()
    assert set(stored) == {sha(name) for name in TEXTS}
    assert {name for name in TEXTS if isinstance(stored[sha(name)], str)} == set(guilty)
    assert "input" in stored[sha(guilty[0])]
    # Halving 8 texts down to one guilty one: 8, 4 + 4, 2 + 2, 1 + 1.
    if len(guilty) == 1:
        assert len(bench.server.sent) == 7
    rows = bench.ledger()
    assert summarise(rows).tokens == 10 * (len(TEXTS) - len(guilty))


def test_too_many_refusals_end_the_run_and_none_of_them_stands(bench: Bench) -> None:
    bench.server.poison, bench.max_inputs = set(TEXTS), 2
    error = bench.run(max_refused=1).stopped_by
    assert isinstance(error, TooManyRefusedError) and "refused 2 texts" in error.message
    assert bench.stored() == {} and len(bench.server.sent) < 15


def test_two_odd_texts_do_not_stop_the_rest_of_a_run(bench: Bench) -> None:
    # Of 8 texts that are left of 3,000, a hundredth is none: yet the 6 others were embedded.
    bench.server.poison, bench.max_inputs = {"title 5", "title 7"}, 2
    assert bench.run(max_refused=30, max_refused_unanswered=1).stopped_by is None
    assert len(bench.stored()) == 8


def test_a_wrong_setting_stops_a_day_with_few_new_texts(bench: Bench) -> None:
    bench.server.poison, bench.max_inputs = set(TEXTS), 2
    error = bench.run(max_refused=30, max_refused_unanswered=1).stopped_by
    assert isinstance(error, TooManyRefusedError) and "refused 2 texts" in error.message
    assert bench.stored() == {}


def test_requests_get_smaller_until_they_pass(bench: Bench) -> None:
    # A server that says 429 to any request above a size, and nothing else: waiting can't help.
    bench.server.largest_request, bench.max_inputs = 1_000, 400
    names = [f"title {i}" for i in range(400)]
    assert bench.run(texts_of(names)).stopped_by is None
    assert set(bench.stored()) == {sha(name) for name in names}
    assert bench.ended_at < 60


def test_a_request_is_written_down_before_it_leaves(bench: Bench) -> None:
    bench.server.script = [10.0]
    bench.run(seconds=1.0)  # and cut off 8 s later: as good as killed
    (row,) = bench.ledger()
    assert (row["status"], row["n_tokens_unconfirmed"], row["n_tokens_billed"]) == ("in_flight", 80, None)
    assert bench.stored() == {} and bench.ended_at == pytest.approx(9.0)


def test_an_answer_that_was_stored_counts_although_its_run_was_killed(bench: Bench) -> None:
    bench.run()
    lines = list(bench.journal.lines())
    bench.journal.delete()
    bench.journal.put(1, [line for line in lines if "settled" not in line])  # killed before the outcome was written
    (row,) = bench.ledger()
    assert (row["status"], row["n_tokens_billed"], row["n_tokens_unconfirmed"]) == ("ok", 80, 0)


def test_what_can_not_pass_ends_the_run_at_once_and_what_is_under_way_is_kept(bench: Bench) -> None:
    bench.max_inputs, bench.section = 1, limits(6_000, 1e6)
    wrong_key = failure("terminal", 401, error=BadKeyError("no such key", next_step="set it"))
    bench.server.script = [None, 1.0, 100.0, wrong_key]
    error = bench.run(texts_of(f"title {i}" for i in range(500))).stopped_by
    assert isinstance(error, BadKeyError)
    refused_at = bench.times()[3]
    assert max(bench.times()) - refused_at <= 0.2
    assert bench.ended_at - refused_at == pytest.approx(8.0)  # the one that hangs is cut off
    hanging = {sha(bench.server.sent[2].texts[0]), sha(bench.server.sent[3].texts[0])}
    assert set(bench.stored()) == {sha(request.texts[0]) for request in bench.server.sent} - hanging
    total = summarise(bench.ledger())
    assert (total.tokens, total.tokens_unconfirmed) == (10 * len(bench.stored()), 10)


def test_a_run_that_fails_streams_and_does_not_hoard(load: Bench) -> None:
    load.server.script = [failure("failed", 500)] * 100_000
    load.highest, n_read = 4, 0

    def texts() -> Iterator[Text]:
        nonlocal n_read
        for text in endless():
            n_read += 1
            yield text

    load.run(texts(), seconds=100)
    assert len(load.server.sent) > 20
    assert n_read <= (4 + 2) * 2048


def test_no_more_under_way_than_may_be(load: Bench) -> None:
    load.server = SimulatedServer(10_000, 10e6, latency_s=5.0)
    load.highest = 7
    load.run(endless(), seconds=60)
    assert load.server.most_under_way == 7


def test_an_answer_is_on_storage_before_its_request_counts_as_done(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    write, answered = VectorStore.write_shard, Admission.answered
    monkeypatch.setattr(VectorStore, "write_shard", lambda self, *args: (write(self, *args), order.append("stored"))[0])
    monkeypatch.setattr(Admission, "answered", lambda self, *args: (answered(self, *args), order.append("done"))[0])
    bench.run()
    assert order == ["stored", "done"]


def test_storage_that_fails_is_tried_again_and_then_ends_the_run(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shelfkin.embedding.sender._STORE_PAUSE_S", 0.001)
    write, failures = VectorStore.write_shard, iter([OSError("full"), OSError("full"), None])

    def flaky(self: VectorStore, *args: Any) -> Any:
        error = next(failures, OSError("full"))
        if error:
            raise error
        return write(self, *args)

    monkeypatch.setattr(VectorStore, "write_shard", flaky)
    assert bench.run(texts_of(TEXTS[:4])).stopped_by is None
    assert len(bench.server.sent) == 1  # the answer was paid for: it isn't asked for again
    error = bench.run(texts_of(TEXTS[4:])).stopped_by
    assert isinstance(error, EmbeddingError) and "could not be stored" in error.message and "full" in error.message


def test_without_a_journal_nothing_is_sent(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shelfkin.embedding.journal._PAUSE_S", 0.001)

    def full(*_args: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(Journal, "put", full)
    error = bench.run().stopped_by
    assert isinstance(error, ArtifactError) and "no space left" in error.message
    assert bench.server.sent == []


def test_an_error_that_nobody_foresaw_is_not_swallowed(bench: Bench) -> None:
    bench.server.script = [ZeroDivisionError()]
    assert isinstance(bench.run().stopped_by, ZeroDivisionError)


def test_the_budget_counts_what_nobody_confirmed(bench: Bench) -> None:
    bench.max_inputs = 3
    bench.server.script = [failure("lost")]
    admission = bench.run(usd_per_token=0.01, budget=Budget(usd=1.0))
    # 30 were lost, 30 and 20 answered; the 30 once more would be 110.
    assert isinstance(admission.stopped_by, BudgetError) and "$1.00" in admission.stopped_by.message
    assert (admission.totals.tokens, admission.totals.tokens_unconfirmed) == (50, 30)
    assert admission.spent_usd() == pytest.approx(0.5)


def test_where_tokens_are_only_bounded_the_quota_is_used_by_what_the_server_counts(load: Bench) -> None:
    load.server = SimulatedServer(3_000, 1e6, tokens_per_text=3)
    load.run(endless(), seconds=60)  # by our count a text may have 10
    assert load.server.share_of_tokens(20, 60) >= 0.94


def test_the_ledger_adds_up(bench: Bench) -> None:
    bench.max_inputs = 1
    bench.server.script = [
        None,
        failure("lost"),
        failure("unusable", 200, billed=33),
        failure("failed", 503),
        failure("rate_limited", 429, headers={"retry-after-ms": "10"}),
    ]
    admission = bench.run(texts_of(TEXTS[:2]))
    rows = bench.ledger()
    assert [(row["status"], row["n_tokens_billed"], row["n_tokens_unconfirmed"]) for row in rows] == [
        ("ok", 10, 0),
        ("lost", None, 10),
        ("unusable", None, 33),
        ("failed", None, 0),
        ("rate_limited", None, 0),
        ("ok", 10, 0),
    ]
    assert [row["n_retries"] for row in rows] == [0, 0, 1, 2, 3, 4]
    total = summarise(rows)
    assert (total.requests, total.tokens, total.tokens_unconfirmed, total.rate_limited) == (6, 20, 43, 1)
    assert total.cost_usd == pytest.approx(20e-6)
    assert (admission.totals.tokens, admission.totals.tokens_unconfirmed) == (20, 43)


def test_the_log_tells_how_far_it_is_at_a_calm_pace(load: Bench) -> None:
    load.server, said = SimulatedServer(3_000, 1e6), []
    texts = (text for text, _ in zip(endless(), range(500_000), strict=False))
    admission = load.run(texts, tell=said.append, usd_per_token=1e-6)
    assert admission.stopped_by is None and load.ended_at == pytest.approx(303, abs=5)  # 5,000,000 tokens
    assert 8 <= len(said) <= 12
    # After five seconds, and then less and less often.
    assert said[0].startswith("embedded ") and " of 500,000 texts" in said[0]
    assert "tokens/min of 1,000,000" in said[-1] and "$" in said[-1] and "about" in said[-1]
