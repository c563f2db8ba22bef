"""First loads through OpenAI's Batch API: half the price, an answer within a day, and never submitted twice.

Before a batch is submitted its texts lie in the vector store (`batch_records`), and its key travels in the batch's
metadata. A run that is killed at any moment is continued: the next one finds the batch by its record, or by its
key in the server's list, and waits for it instead of paying again. What a batch didn't answer (errors, expiry) stays
missing in the store, and is sent again.

Limits: OpenAI API reference, "Create batch": 50,000 inputs over all requests and 200 MB a file.
"""

from __future__ import annotations

import logging
import math
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import IO, Any

import numpy as np
import openai
import orjson
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from shelfkin.embedding.answers import FloatArray, read_vectors, usable_rows
from shelfkin.embedding.batch_records import Batch, BatchRecords
from shelfkin.embedding.client import is_loopback, key_or_stand_in
from shelfkin.embedding.failures import BudgetError, RequestFailedError, UnknownModelError, failure_of, without_key
from shelfkin.embedding.packing import Text, cut, pack
from shelfkin.embedding.prices import Budget
from shelfkin.embedding.progress import duration
from shelfkin.embedding.provider import Provider
from shelfkin.embedding.vector_store import VectorStore
from shelfkin.errors import EmbeddingError, EmbeddingUnavailableError
from shelfkin.profile import Embedding

log = logging.getLogger("shelfkin.embedding")

MAX_BATCH_INPUTS = 50_000
# A little below 200 MB, which leaves room for what the upload adds.
MAX_FILE_BYTES = 190 * 10**6
METADATA_KEY = "shelfkin_batch"
_ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
_TRIES = 6
# A refused text takes the whole request with it: small requests keep what must be sent again small.
INPUTS_PER_REQUEST = 64
_REQUESTS_PER_SHARD = 32
_RECENT_BATCHES = 100  # looked through for one that was submitted just before a crash

# The texts of a request, their vectors where the answer is usable, and the ledger line.
_Answer = tuple[list[Text], FloatArray | None, dict[str, Any]]


@dataclass
class BatchRun:
    """Submits batches, waits for them and stores what they answer.

    Parameters
    ----------
    provider, key
        Who is asked, and the API key.
    store
        Where texts, records and vectors are kept.
    section
        The profile's section.
    max_inputs
        Texts that one request may hold.
    manifest
        Path of the run's manifest, as in `journal.Journal.open`.
    progress
        Called at a calm pace with a format string and its arguments.

    Attributes
    ----------
    tokens_submitted
        Tokens of the batches that this run has submitted.
    submitted
        Keys of these batches, which name their journals too.
    """

    provider: Provider
    key: str
    store: VectorStore
    section: Embedding
    max_inputs: int
    manifest: str
    progress: Callable[..., None]
    usd_per_token: float = 0.0
    budget: Budget = Budget()  # noqa: RUF009 - frozen
    sleep: Callable[[float], None] = time.sleep
    tokens_submitted: int = 0
    submitted: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._records = BatchRecords(self.store)
        self._sdk = openai.OpenAI(
            base_url=self.provider.base_url,
            api_key=key_or_stand_in(self.key),
            max_retries=0,
            timeout=self.section.timeout_s,
            http_client=openai.DefaultHttpxClient(trust_env=not is_loopback(self.provider.base_url)),
        )

    def run(self, texts: Iterable[Text]) -> None:
        """Bring all texts through batches, earlier ones first; what no batch answered is left missing in the store.

        Raises
        ------
        EmbeddingError
            The server refuses batches altogether.
        """
        self._records.drop_prepared()
        waiting = self._records.under_way()
        for batch in waiting:
            self.progress("waiting for a batch of %s texts that an earlier run submitted", f"{batch.n_texts:,}")
        covered = {
            text.text_hash
            for batch in waiting
            for request in self._records.requests(batch).values()
            for text in request
        }
        fresh = self._prepared(text for text in texts if text.text_hash not in covered)
        began = time.monotonic()
        upcoming = next(fresh, None)
        while waiting or upcoming is not None:
            while upcoming is not None and self._fits(upcoming, waiting):
                waiting.append(upcoming)
                upcoming = next(fresh, None)
            for batch in list(waiting):
                if self._advance(batch, alone=len(waiting) == 1):
                    waiting.remove(batch)
            if waiting:
                n_texts = sum(batch.n_texts for batch in waiting)
                self.progress(
                    "%s batches with %s texts are under way, for %s now",
                    len(waiting),
                    f"{n_texts:,}",
                    duration(time.monotonic() - began),
                )
                self.sleep(self.section.batch_poll_s)

    def _fits(self, batch: Batch, waiting: list[Batch]) -> bool:
        limit = self.section.batch_max_enqueued_tokens
        return limit is None or not waiting or sum(one.n_tokens for one in waiting) + batch.n_tokens <= limit

    def _advance(self, batch: Batch, *, alone: bool) -> bool:
        """Submit a batch, or look after it; return whether it has ended and its answers are stored."""
        if batch.batch_id is None:
            self._submit(batch)
        try:
            seen = self._patiently(lambda sdk: sdk.batches.retrieve(str(batch.batch_id)))
        except UnknownModelError:  # 404
            return self._give_up(batch)
        if seen.status not in _ENDED:
            return False
        errors = (seen.errors.data or []) if seen.errors else []
        if seen.status == "failed" and any(error.code == "token_limit_exceeded" for error in errors) and not alone:
            # The server's queue is full of our other batches: this one goes again when there is room.
            batch.batch_id = batch.submitted_at = None
            self.tokens_submitted -= batch.n_tokens
            self._records.put(batch)
            return False
        if seen.status == "failed":
            said = "; ".join(str(error.message) for error in errors) or "no reason"
            self._end(batch, seen.status, [])
            raise EmbeddingError(
                f"{self.provider.server} refused a batch of {batch.n_texts:,} texts: {without_key(said, self.key)}.",
                next_step="Lower embedding.batch_max_enqueued_tokens, or set embedding.mode to standard.",
            )
        try:
            n_stored, entries = self._store_answers(batch, seen.output_file_id)
        except UnknownModelError:
            return self._give_up(batch)
        self.progress("a batch %s: %s of %s texts have vectors", seen.status, f"{n_stored:,}", f"{batch.n_texts:,}")
        self._end(batch, seen.status, entries)
        return True

    def _give_up(self, batch: Batch) -> bool:
        """End a batch that the server no longer knows: its texts are sent again, its tokens may have been billed."""
        log.warning(
            "%s knows a batch of %s texts (%s) no longer, or its answers: they are sent again",
            self.provider.server,
            f"{batch.n_texts:,}",
            batch.batch_id,
        )
        entries = [
            self._entry(batch, number, request, status="lost", http_status=404)
            for number, request in self._records.requests(batch).items()
        ]
        self._end(batch, "gone", entries)
        return True

    def _entry(self, batch: Batch, number: int, request: list[Text], **outcome: Any) -> dict[str, Any]:
        """Return one request's line for the ledger."""
        return {
            "permit": f"{batch.key}-r{number}",
            "at": batch.submitted_at,
            "inputs": len(request),
            "tokens": sum(text.n_tokens for text in request),
            "try": 1,
            "mode": "batch",
            **outcome,
        }

    def _check_budget(self, batch: Batch) -> None:
        after = self.tokens_submitted + batch.n_tokens
        if self.budget.crossed_by(after, self.usd_per_token) is not None:
            raise BudgetError(
                f"A batch of {batch.n_tokens:,} tokens would cross the run's budget, after {self.tokens_submitted:,}.",
                next_step="Raise the budget and run again: what is submitted is waited for, and only the rest is sent.",
            )
        self.tokens_submitted = after

    def _submit(self, batch: Batch) -> None:
        """Submit a batch, unless it turns out that this was done already."""
        # A crash may have come between the server's taking the batch and our writing down its name.
        known = batch.submitted_at and self._patiently(lambda sdk: _find(sdk, batch.key))
        batch.batch_id = known or self._create(batch)
        self._records.put(batch)

    def _create(self, batch: Batch) -> str:
        """Upload a batch's requests and submit it; return the server's name for it."""
        self._check_budget(batch)
        self._records.submitting(batch)
        self.submitted.add(batch.key)
        self.store.journal(batch.key).open(self.manifest, until_ended=True)
        with tempfile.TemporaryFile() as file:
            self._write_lines(batch, file)

            def upload(sdk: openai.OpenAI) -> Any:
                file.seek(0)
                return sdk.files.create(file=(f"{batch.key}.jsonl", file), purpose="batch")

            uploaded = self._patiently(upload)

        def create(sdk: openai.OpenAI) -> str:
            # An answer may have been lost after the server took the batch: a second one would be paid for too.
            return (
                _find(sdk, batch.key)
                or sdk.batches.create(
                    completion_window="24h",
                    endpoint="/v1/embeddings",
                    input_file_id=uploaded.id,
                    metadata={METADATA_KEY: batch.key},
                ).id
            )

        return str(self._patiently(create))

    def _write_lines(self, batch: Batch, file: IO[bytes]) -> None:
        for number, request in self._records.requests(batch).items():
            body = self.provider.request([text.text for text in request])
            line = {"custom_id": f"r{number}", "method": "POST", "url": "/v1/embeddings", "body": body}
            file.write(orjson.dumps(line) + b"\n")

    def _store_answers(self, batch: Batch, file_id: str | None) -> tuple[int, list[dict[str, Any]]]:
        """Store every usable answer; return how many texts have one, and the ledger lines of what was billed."""
        requests = self._records.requests(batch)
        lines = iter(self._lines(file_id)) if file_id is not None else iter(())
        entries: list[dict[str, Any]] = []
        n_stored = n_shards = 0
        while some := list(islice(lines, _REQUESTS_PER_SHARD)):
            answers = [answer for line in some if (answer := self._read(batch, requests, line)) is not None]
            entries += [entry for _, _, entry in answers]
            usable = [answer for answer in answers if answer[1] is not None]
            if usable:
                n_shards += 1
                hashes = [text.text_hash for request, _, _ in usable for text in request]
                vectors = np.concatenate([vectors for _, vectors, _ in usable])
                # The shard's name is that of its answers, so a second time is harmless.
                self.store.write_shard(batch.key, f"answers{n_shards}", hashes, vectors, [one[2] for one in usable])
                n_stored += len(hashes)
        return n_stored, entries

    def _read(self, batch: Batch, requests: dict[int, list[Text]], line: dict[str, Any]) -> _Answer | None:
        """Return a request's texts, vectors (None: unusable) and ledger line; None where nothing is billed."""
        number = int(str(line["custom_id"]).removeprefix("r"))
        response, request = line.get("response") or {}, requests[number]
        if line.get("error") or response.get("status_code") != 200:
            return None
        said = {"http_status": 200, "request_id": response.get("request_id") or ""}
        try:
            vectors, billed = read_vectors(response["body"], len(request), self.provider.dimensions)
        except RequestFailedError as error:
            log.warning("request %s of a batch has no usable answer: %s", line["custom_id"], error.said)
            return request, None, self._entry(batch, number, request, status="unusable", billed=error.billed, **said)
        kept, vectors, _ = usable_rows(request, vectors)
        return kept, vectors, self._entry(batch, number, request, status="ok", billed=billed, **said)

    def _lines(self, file_id: str) -> Iterator[dict[str, Any]]:
        """Yield the lines of a file of answers; it is kept on disk, because it may hold hundreds of megabytes."""
        with tempfile.NamedTemporaryFile() as file:

            def download(sdk: openai.OpenAI) -> None:
                with sdk.files.with_streaming_response.content(file_id) as answer:
                    answer.stream_to_file(file.name)

            self._patiently(download)
            with open(file.name, "rb") as content:  # noqa: PTH123 - by name, as the SDK wrote it
                for line in content:
                    yield orjson.loads(line)

    def _prepared(self, texts: Iterable[Text]) -> Iterator[Batch]:
        """Cut texts into batches, each written down before it is yielded."""
        section = self.section
        most = (MAX_BATCH_INPUTS, MAX_FILE_BYTES, section.batch_max_enqueued_tokens or math.inf)

        def size_of(text: Text) -> tuple[int, int, int]:
            return 1, len(orjson.dumps(text.text)) + 1, text.n_tokens

        for chosen in cut(texts, size_of, lambda: most):
            requests = pack(chosen, min(INPUTS_PER_REQUEST, self.max_inputs), lambda: section.max_tokens_per_request)
            yield self._records.prepare(list(requests))

    def _end(self, batch: Batch, status: str, entries: list[dict[str, Any]]) -> None:
        """Close a batch's account and record."""
        journal = self.store.journal(batch.key)
        lines = [line for entry in entries for line in (entry, {**entry, "settled": entry["permit"]})]
        if lines:
            journal.put(1, lines)
        journal.end()
        self._records.end(batch, status)

    def _patiently(self, ask: Callable[[openai.OpenAI], Any]) -> Any:
        """Ask the server, again with full jitter where that may help; raises the typed error where it can't."""
        retrying = Retrying(
            retry=retry_if_exception(lambda error: isinstance(error, RequestFailedError) and error.error is None),
            stop=stop_after_attempt(_TRIES),
            wait=wait_random_exponential(multiplier=0.5, max=30),
            sleep=self.sleep,
            reraise=True,
        )
        try:
            return retrying(self._ask, ask)
        except RequestFailedError as error:
            raise error.error or EmbeddingUnavailableError(
                f"{self.provider.server} did not take a batch request after {_TRIES} tries: {error.said}.",
                next_step="Run the task again: batches under way are found again, and nothing is paid for twice.",
            ) from None

    def _ask(self, ask: Callable[[openai.OpenAI], Any]) -> Any:
        began = time.monotonic()
        try:
            return ask(self._sdk)
        except openai.OpenAIError as error:
            raise failure_of(error, self.provider, self.key, time.monotonic() - began) from None


def _find(sdk: openai.OpenAI, key: str) -> str | None:
    """Return the server's name for the batch with our key, among its newest ones; one that it turned down is none."""
    for seen in sdk.batches.list(limit=_RECENT_BATCHES).data:
        if (seen.metadata or {}).get(METADATA_KEY) == key and seen.status != "failed":
            return seen.id
    return None
