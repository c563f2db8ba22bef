"""Sends a stream of texts from one process: paced by one quota, tried again, halved where one text is refused.

Every answer is on storage before its request counts as done. Whatever ends a run early, what is paid for is kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from tenacity import Retrying, stop_after_attempt, wait_random_exponential

from shelfkin.artifacts import utc_now
from shelfkin.embedding.admission import Admission, Permit, StoppedError
from shelfkin.embedding.answers import usable_rows
from shelfkin.embedding.client import Answer, EmbeddingClient
from shelfkin.embedding.failures import RequestFailedError, TooManyRefusedError, unavailable
from shelfkin.embedding.journal import JournalWriter
from shelfkin.embedding.local_client import LocalAnswer, LocalClient
from shelfkin.embedding.packing import Text, pack
from shelfkin.embedding.rate_headers import read_rate_headers
from shelfkin.embedding.retry_policy import Deadline, retrying
from shelfkin.embedding.vector_store import Shard, VectorStore
from shelfkin.errors import ArtifactError, EmbeddingError

_STORE_TRIES, _STORE_PAUSE_S = 4, 5.0
# After a stop, requests under way may finish and be stored: they are paid for.
_STOP_GRACE_S = 8.0
# Failures of the same batch before one of its texts, or its size, is suspected; and of a single text before it is set
# aside, while others are answered.
_FAILURES_OF_A_BATCH, _FAILURES_OF_A_TEXT = 3, 5

Outcome = dict[str, Any]


class _LaterError(Exception):
    """A text fails, and nothing tells yet whether that is its fault."""


@dataclass
class Sender:
    """Sends one run's texts.

    Parameters
    ----------
    client
        Sends one request.
    admission
        Says when.
    journal
        Where requests are written down before they are sent.
    store
        Where answers go.
    server
        Who answers, in a word for messages.
    max_inputs
        Texts that one request may hold.
    dimensions
        Length that the vectors must have; None: whatever comes first.
    deadline_s
        Longest time from a request's first failure to its success, without the time in the queue for the quota.

    Attributes
    ----------
    shards
        What is on storage.
    refused
        The server's words by text_hash, of texts that it refuses for good.
    """

    client: EmbeddingClient | LocalClient
    admission: Admission
    journal: JournalWriter
    store: VectorStore
    server: str
    max_inputs: int
    dimensions: int | None
    deadline_s: float
    shards: list[Shard] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    _running: set[asyncio.Task[None]] = field(default_factory=set)
    # The one batch that may be halved although nothing is answered: the server may be down.
    _probe: Deadline | None = None

    async def run(self, texts: Iterable[Text], *meanwhile: Callable[[], Awaitable[None]]) -> None:
        """Embed all texts, or as many as possible before the run is stopped (`Admission.stopped_by`).

        Parameters
        ----------
        meanwhile
            What goes on for as long as texts are sent; an error of it stops the run.
        """
        beside = [asyncio.create_task(self._stopping_on_error(work())) for work in meanwhile]
        stopped = asyncio.create_task(self.admission.stopped.wait())
        self._start(self._start_all(texts))
        try:
            while self._running and not stopped.done():
                await asyncio.wait({*self._running, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if self._running:
                await asyncio.wait(self._running, timeout=_STOP_GRACE_S)
        finally:
            await _cancel([*self._running, *beside, stopped])
            await self.journal.close()

    async def _start_all(self, texts: Iterable[Text]) -> None:
        """Start a task per request, each when it is admitted; the next one is packed while it waits."""
        # Requests that wait for another try are not under way, but their texts are in memory.
        room = asyncio.Semaphore(self.admission.concurrency.highest)
        batches = pack(texts, self.max_inputs, self.admission.request_tokens)
        upcoming = _next(batches)
        while batch := await upcoming:
            upcoming = _next(batches)
            for part in self._fitting(batch):
                await room.acquire()
                permit = await self._admit(part)
                self._start(self.embed(part, permit)).add_done_callback(lambda _: room.release())

    def _fitting(self, batch: list[Text]) -> Iterator[list[Text]]:
        """Yield the batch, in parts if requests have become smaller since it was packed."""
        return pack(batch, self.max_inputs, self.admission.request_tokens)

    def _start(self, work: Awaitable[None]) -> asyncio.Task[None]:
        task = asyncio.create_task(self._stopping_on_error(work))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def _stopping_on_error(self, work: Awaitable[None]) -> None:
        try:
            await work
        except StoppedError:
            pass
        except Exception as error:  # noqa: BLE001 - it is raised by whoever started the run
            self.admission.stop(error)

    async def embed(self, batch: list[Text], permit: Permit | None = None, deadline: Deadline | None = None) -> None:
        """Embed one batch, with the permit for its first try or in its turn; bad texts end up in `refused`.

        Parameters
        ----------
        deadline
            Of the batch that this one is a part of.

        Raises
        ------
        StoppedError
            The run was stopped.
        """
        if deadline is None:
            return await self._embed_whole(batch, permit, Deadline(self.deadline_s))
        try:
            parts = await self._embed_retrying(batch, permit, deadline)
        except _LaterError:
            return deadline.later.extend(batch)
        except RequestFailedError as error:
            if len(batch) == 1:
                self.refused[batch[0].text_hash] = error.said
                return self.admission.refused(error.said)
            parts = list(self._fitting(batch))
            if len(parts) == 1:
                # The guilty text is in one of the halves; a refused request costs a round trip, but no tokens.
                parts = [batch[: len(batch) // 2], batch[len(batch) // 2 :]]
        deadline.in_parts = deadline.in_parts or bool(parts)
        for part in parts:
            await self.embed(part, deadline=deadline)

    async def _embed_whole(self, batch: list[Text], permit: Permit | None, deadline: Deadline) -> None:
        """Embed a batch and its parts, and after all of them the texts that failed before any was answered."""
        await self.embed(batch, permit, deadline)
        deadline.in_parts = False
        for text in deadline.later:
            await self.embed([text], deadline=deadline)
        if self._probe is deadline:
            self._probe = None

    async def _embed_retrying(self, batch: list[Text], permit: Permit | None, deadline: Deadline) -> list[list[Text]]:
        """Send one batch until an answer is stored; after a 429 the quota holds all requests back.

        Returns
        -------
        list of batches
            What the answer had no usable vector for, to be sent again by itself.

        Raises
        ------
        RequestFailedError
            ``refused``: the server doesn't take the batch as it is, because of a text of it or of its size.
        """
        n_failures, left = 0, list[Text]()
        tries = retrying(deadline, self.admission.pause)
        try:
            async for attempt in tries:
                with attempt:
                    began = deadline.now()
                    permit, given = None, permit or await self._admit(batch)
                    deadline.queued_s += deadline.now() - began
                    try:
                        left = await self._try(batch, given, attempt.retry_state.attempt_number)
                    except RequestFailedError as error:
                        n_failures += 1
                        if self._is_batchs_fault(batch, error, n_failures, deadline):
                            raise replace(error, status="refused") from None
                        raise
                    deadline.restart()
        except RequestFailedError as error:
            if error.status == "refused":
                raise
            n_tries = int(tries.statistics.get("attempt_number", 1))
            raise error.error or unavailable(self.server, n_tries, self.deadline_s, error.said) from None
        if not left:
            return []
        deadline.n_answered = self.admission.totals.texts - 1  # the server works: it has just answered the others
        return [left]

    def _is_batchs_fault(
        self, batch: list[Text], error: RequestFailedError, n_failures: int, deadline: Deadline
    ) -> bool:
        """Whether the same batch won't pass at another try, for its size or for one of its texts."""
        n_answered = self.admission.totals.texts
        if deadline.n_answered is None:
            deadline.n_answered = n_answered
        suspected = n_failures >= (_FAILURES_OF_A_BATCH if len(batch) > 1 else _FAILURES_OF_A_TEXT)
        if error.http_status in (413, 429) and len(batch) > 1:
            return self._is_too_large(batch, error, suspected)
        if not error.may_be_a_texts or n_failures < _FAILURES_OF_A_BATCH:
            return False
        if n_answered > deadline.n_answered:
            return suspected
        if len(batch) == 1 and deadline.in_parts:
            raise _LaterError
        if len(batch) == 1 or self._probe not in (None, deadline):
            return False
        self._probe = deadline
        return True

    def _is_too_large(self, batch: list[Text], error: RequestFailedError, suspected: bool) -> bool:
        """Whether a 413 or 429 is about the size of the request, or has made requests smaller than it."""
        n_tokens = sum(text.n_tokens for text in batch)
        # A server that names its limits means its pace; of one that doesn't, waiting tells.
        if error.status == "refused" or (suspected and not read_rate_headers(error.headers)):
            self.admission.quota.shrink(n_tokens)
        return error.status == "refused" or n_tokens > self.admission.request_tokens()

    async def _admit(self, batch: list[Text]) -> Permit:
        return await self.admission.admit(len(batch), sum(text.n_tokens for text in batch))

    async def _try(self, batch: list[Text], permit: Permit, n_try: int) -> list[Text]:
        """Send one request, and store the answer before the request counts as done; return the texts without vector."""
        line = await self._write_down(permit, n_try)
        try:
            answer = await self.client.send([text.text for text in batch], name=line["permit"])
            shard, outcome, left = await asyncio.to_thread(self._keep, batch, answer, line)
        except RequestFailedError as error:
            self.admission.failed(permit, error)
            outcome = _outcome(error.status, error.http_status, error.billed, error)
            self.journal.note({"settled": line["permit"], **outcome, "said": error.said})
            raise
        self.shards.append(shard)
        self.admission.answered(replace(permit, n_texts=shard.rows), outcome["billed"], answer.headers)
        self.journal.note({"settled": line["permit"], **outcome, "shard": vars(shard)})
        return left

    async def _write_down(self, permit: Permit, n_try: int) -> dict[str, Any]:
        """Put the request's line on storage before it is sent; return it."""
        line = {
            "permit": f"{self.journal.journal.name}-{permit.number:07d}",
            "at": utc_now(),
            "inputs": permit.n_texts,
            "tokens": permit.n_tokens,
            "try": n_try,
        }
        try:
            await self.journal.write(line)
        except Exception as error:
            self.admission.not_sent(permit)
            raise ArtifactError(
                f"The journal {self.journal.journal.uri} can't be written ({type(error).__name__}: {error}).",
                next_step="Check the artifact root's space and permissions, then run again.",
            ) from error
        if self.admission.stopped_by is not None:
            self.admission.not_sent(permit)
            self.journal.note({"settled": line["permit"], "status": "not_sent"})
            raise StoppedError
        return line

    def _keep(
        self, batch: list[Text], answer: Answer | LocalAnswer, line: dict[str, Any]
    ) -> tuple[Shard, Outcome, list[Text]]:
        """Read an answer and put its vectors on storage; they are paid for, so a storage's fault gets a few more tries.

        Runs in a thread, because it is nearly all of the work. Returns the texts without a usable vector too.
        """
        vectors, billed = answer.read(len(batch), self.dimensions)
        self.dimensions = vectors.shape[1]
        outcome = _outcome("ok", 200, billed, answer)
        kept, vectors, left = usable_rows(batch, vectors)
        hashes = [text.text_hash for text in kept]
        wait = wait_random_exponential(max=_STORE_PAUSE_S)
        write = Retrying(stop=stop_after_attempt(_STORE_TRIES), wait=wait, reraise=True).wraps(self.store.write_shard)
        try:
            name, lines = self.journal.journal.name, [{**line, **outcome}]
            return write(name, line["permit"], hashes, vectors, lines), outcome, left
        except Exception as error:
            raise EmbeddingError(
                f"An answer could not be stored under {self.store.uri} ({type(error).__name__}: {error}).",
                next_step="Check the artifact root's space and permissions, then run again.",
            ) from error

    def keep(self) -> None:
        """Commit what is on storage, refusals too; what a cut-off request still stored is adopted by the next run.

        After too many refusals none of them is kept: so many are the settings' fault sooner than the texts'.
        """
        shards = list(self.shards)
        if self.refused and not isinstance(self.admission.stopped_by, TooManyRefusedError):
            shards.append(self.store.write_refused(self.journal.journal.name, self.refused))
        self.store.commit(shards)


def _outcome(
    status: str, http_status: int | None, billed: int | None, source: Answer | LocalAnswer | RequestFailedError
) -> Outcome:
    """Return what the journal says of a request that has ended."""
    return {
        "status": status,
        "http_status": http_status,
        "billed": billed,
        "latency_s": round(source.latency_s, 4),
        "request_id": source.headers.get("x-request-id") or "",
    }


def _next(batches: Iterator[list[Text]]) -> asyncio.Task[list[Text] | None]:
    """Pack a batch in a thread: its texts may come from a remote storage."""
    return asyncio.create_task(asyncio.to_thread(next, batches, None))


async def _cancel(tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
