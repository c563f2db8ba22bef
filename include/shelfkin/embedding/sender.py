"""A task's work: send its texts under permits, keep every answer before its permit goes back, find what is refused."""

from __future__ import annotations

import logging
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from shelfkin.artifacts import utc_now
from shelfkin.embedding.batching import Limits, Text, pack
from shelfkin.embedding.client import RETRYABLE, Answer, EmbeddingClient, RequestFailedError, unavailable
from shelfkin.embedding.permits import Address, PermitLines
from shelfkin.embedding.provider import Provider
from shelfkin.embedding.rate_headers import read_rate_headers, retry_after_s
from shelfkin.embedding.store import Shard, VectorStore
from shelfkin.errors import EmbeddingError

log = logging.getLogger("shelfkin.embedding")

_BACKOFF_BASE_S, _BACKOFF_CAP_S = 0.5, 30.0
_STORE_TRIES, _STORE_PAUSE_S = 4, 5.0
# Requests packed ahead of their permits, per task: one is ready when a permit comes, none is packed by stale limits.
_PACKED_AHEAD = 2


class StoppedError(Exception):
    """The coordinator gives no more permits; why is the driver's to tell."""


@dataclass(frozen=True)
class Job:
    """What a task needs to embed its share. It travels in the task's closure, so it never holds the key.

    Attributes
    ----------
    journal
        Name of the run's journal, which its shards carry too.
    threads
        Requests that one task may have under way.
    timeout_s, deadline_s
        Longest wait for one answer; longest time from a batch's first failure to its success.
    """

    provider: Provider
    store: VectorStore
    journal: str
    limits: Limits
    coordinator: Address
    threads: int
    timeout_s: float
    deadline_s: float


def embed_share(texts: Iterable[Text], partition: int, key: str, job: Job) -> int:
    """Embed one partition's texts; return how many requests were packed.

    Ends early, and quietly, when the coordinator stops the run. What an earlier try of the same partition has stored is
    not sent again.
    """
    with ExitStack() as open_things:
        lines = open_things.enter_context(PermitLines(job.coordinator))
        hint = lines.line.ask("claim", partition=partition)
        if hint["stop"]:
            return 0
        client = open_things.enter_context(EmbeddingClient(job.provider, key, timeout_s=job.timeout_s))
        sender = Sender(client, lines, job, partition)
        if not hint["fresh"]:
            done = job.store.hashes_of(job.journal, partition)
            texts = (text for text in texts if text.text_hash not in done)
        sender.hint = hint
        return sender.embed_all(texts)


class Sender:
    """Sends one task's requests over several threads.

    Attributes
    ----------
    hint
        The coordinator's last word: size of the next request, vector length, whether to stop.
    sleep
        Replaced in tests, so that waits are measured and not suffered.
    """

    def __init__(
        self,
        client: EmbeddingClient,
        lines: PermitLines,
        job: Job,
        partition: int,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client, self._lines, self._job, self._partition = client, lines, job, partition
        self._sleep = sleep
        self.hint: dict[str, Any] = {"request_tokens": 1, "stop": False, "dimensions": None}

    def embed_all(self, texts: Iterable[Text]) -> int:
        """Embed all texts, or as many as the coordinator lets go; return how many requests were packed."""
        ahead = threading.Semaphore(_PACKED_AHEAD)
        running: set[Future[None]] = set()
        n_packed = 0
        with ThreadPoolExecutor(self._job.threads, thread_name_prefix="embedding") as pool:
            for batch in self._packed(texts, ahead):
                n_packed += 1
                running.add(pool.submit(self._embed_freed, batch, ahead))
                finished = {future for future in running if future.done()}
                running -= finished
                if not _all_well(finished):
                    break
            wait(running, return_when=FIRST_EXCEPTION)
            _all_well({future for future in running if future.done()})
        return n_packed

    def _packed(self, texts: Iterable[Text], ahead: threading.Semaphore) -> Iterator[list[Text]]:
        batches = pack(texts, self._job.limits, lambda: int(self.hint["request_tokens"]))
        while True:
            ahead.acquire()
            if self.hint["stop"]:
                return
            batch = next(batches, None)
            if batch is None:
                return
            yield batch

    def _embed_freed(self, batch: list[Text], ahead: threading.Semaphore) -> None:
        """Embed one batch; the next one is packed as soon as this one has its permit."""
        freed = threading.Event()

        def free() -> None:
            if not freed.is_set():
                freed.set()
                ahead.release()

        try:
            self.embed(batch, free)
        finally:
            free()

    def embed(self, batch: list[Text], on_permit: Callable[[], None] = lambda: None) -> None:
        """Embed one batch; texts that the server refuses for good are stored with its words.

        Raises
        ------
        StoppedError
            The coordinator gives no more permits.
        """
        refused: dict[str, str] = {}
        try:
            self._embed_or_halve(batch, refused, on_permit)
        finally:
            if refused:
                job = self._job
                job.store.write_refused(job.journal, self._partition, f"refused-{uuid.uuid4().hex[:16]}", refused)

    def _embed_or_halve(self, batch: list[Text], refused: dict[str, str], on_permit: Callable[[], None]) -> None:
        try:
            self._embed_retrying(batch, on_permit)
        except RequestFailedError as error:
            if error.status != "refused":
                raise
            if len(batch) == 1:
                refused[batch[0].text_hash] = error.said
                return
            # The guilty text is in one of the halves; a refused request costs a round trip, but no tokens.
            middle = len(batch) // 2
            for half in (batch[:middle], batch[middle:]):
                self._embed_or_halve(half, refused, on_permit)

    def _embed_retrying(self, batch: list[Text], on_permit: Callable[[], None]) -> None:
        """Send one batch until an answer is stored.

        What may pass is retried with full jitter (Brooker 2015, AWS Architecture Blog, "Exponential backoff and
        jitter"), never sooner than Retry-After says; after a 429 the coordinator holds all tasks back.
        """
        deadline = _Deadline(self._job.deadline_s)
        retrying = Retrying(
            retry=retry_if_exception(lambda error: isinstance(error, RequestFailedError) and error.status in RETRYABLE),
            wait=_wait_s,
            stop=deadline,
            sleep=self._sleep,
            before_sleep=_log_retry,
            reraise=True,
        )
        try:
            for attempt in retrying:
                with attempt:
                    self._try(batch, attempt.retry_state.attempt_number, on_permit, deadline)
        except RequestFailedError as error:
            if error.status == "refused":
                raise
            n_tries = int(retrying.statistics.get("attempt_number", 1))
            self._stop(error.error or unavailable(self._job.provider.server, n_tries, self._job.deadline_s, error.said))
            raise StoppedError from None

    def _try(self, batch: list[Text], n_try: int, on_permit: Callable[[], None], deadline: _Deadline) -> None:
        """Send one request under one permit, store the answer, and only then hand the permit back."""
        n_tokens = sum(text.n_tokens for text in batch)
        asked_at = time.monotonic()
        answer = self._ask("permit", task=self._task, inputs=len(batch), tokens=n_tokens, **{"try": n_try})
        permit = answer.get("permit")
        deadline.queued_s += time.monotonic() - asked_at
        if permit is None:
            raise StoppedError
        on_permit()
        try:
            found = self._client.send([text.text for text in batch], dimensions=answer["dimensions"], name=permit)
        except RequestFailedError as error:
            self._ask("settle", **_outcome(permit, error, refused=int(error.status == "refused" and len(batch) == 1)))
            raise
        shard = self._store(batch, found, permit, n_try)
        self._ask("settle", **_line(permit, found), dimensions=found.vectors.shape[1], shard=vars(shard))

    def _store(self, batch: list[Text], found: Answer, permit: str, n_try: int) -> Shard:
        """Put the answer on storage; it is paid for, so a fault of the storage gets a few more tries."""
        job = self._job
        line = {
            "permit": permit,
            "at": utc_now(),
            "inputs": len(batch),
            "tokens": sum(text.n_tokens for text in batch),
            "try": n_try,
            **_line(permit, found),
        }
        retrying = Retrying(
            stop=stop_after_attempt(_STORE_TRIES), wait=wait_random_exponential(max=_STORE_PAUSE_S), reraise=True
        )
        try:
            for attempt in retrying:
                with attempt:
                    return job.store.write_shard(
                        job.journal, self._partition, permit, [text.text_hash for text in batch], found.vectors, [line]
                    )
        except Exception as error:  # noqa: BLE001 - every storage has errors of its own
            self._ask("settle", permit=permit, status="unusable", said="the answer could not be stored")
            self._stop(
                EmbeddingError(
                    f"An answer could not be stored under {job.store.uri} ({type(error).__name__}: {error}).",
                    next_step="Check the artifact root's space and permissions, then run again.",
                )
            )
        raise StoppedError

    @property
    def _task(self) -> str:
        return f"p{self._partition}"

    def _ask(self, kind: str, **message: Any) -> dict[str, Any]:
        self.hint = self._lines.line.ask(kind, **message)
        return self.hint

    def _stop(self, error: EmbeddingError) -> None:
        """Tell the coordinator to end the run; an exception would reach the driver as a string, and be tried again."""
        reason = {"error": type(error).__name__, "message": error.message, "next_step": error.next_step}
        self._ask("stop", reason=reason)


class _Deadline:
    """Stops retrying when the next try would begin later than `deadline_s` after the first failure.

    Attributes
    ----------
    queued_s
        Time spent in the queue for permits, which doesn't count: the queue is as long as the quota is small.
    """

    def __init__(self, deadline_s: float) -> None:
        self._deadline_s = deadline_s
        self._first_failure: float | None = None
        self.queued_s = 0.0

    def __call__(self, state: RetryCallState) -> bool:
        now = time.monotonic() - self.queued_s
        if self._first_failure is None:
            self._first_failure = now
        return now - self._first_failure + state.upcoming_sleep > self._deadline_s


def _wait_s(state: RetryCallState) -> float:
    """Full jitter below an exponential cap; on top of Retry-After where the server gives one."""
    error = state.outcome.exception() if state.outcome else None
    jitter = random.uniform(0, min(_BACKOFF_CAP_S, _BACKOFF_BASE_S * 2**state.attempt_number))
    asked = retry_after_s(error.headers) if isinstance(error, RequestFailedError) else None
    if asked is not None and isinstance(error, RequestFailedError) and error.status == "rate_limited":
        return 0.0  # the coordinator holds all tasks back until then
    # After the time that the server named, a little jitter keeps tasks that were refused together apart.
    return jitter if asked is None else asked + min(jitter, 1.0)


def _log_retry(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, RequestFailedError) and error.status != "rate_limited":
        log.warning("request failed (%s); next try in %.1f s", error.said, state.upcoming_sleep)


def _line(permit: str, found: Answer) -> dict[str, Any]:
    return {
        "permit": permit,
        "status": "ok",
        "http_status": 200,
        "billed": found.n_tokens,
        "latency_s": round(found.latency_s, 4),
        "request_id": found.request_id,
        "limits": _limits(found.headers),
    }


def _outcome(permit: str, error: RequestFailedError, refused: int) -> dict[str, Any]:
    return {
        "permit": permit,
        "status": error.status,
        "http_status": error.http_status,
        "billed": error.billed,
        "latency_s": round(error.latency_s, 4),
        "request_id": error.headers.get("x-request-id") or "",
        "limits": _limits(error.headers),
        "retry_after_s": retry_after_s(error.headers),
        "refused": refused,
        "said": error.said,
    }


def _limits(headers: Any) -> dict[str, Any]:
    found = read_rate_headers(headers)
    return {
        what: [allowance.limit, allowance.remaining, allowance.reset_s]
        for what, allowance in (("requests", found.requests), ("tokens", found.tokens))
        if allowance is not None
    }


def _all_well(futures: set[Future[None]]) -> bool:
    """Whether no batch was stopped; an error that nobody foresaw is raised."""
    well = True
    for future in futures:
        error = future.exception()
        if isinstance(error, StoppedError):
            well = False
        elif error is not None:
            raise error
    return well
