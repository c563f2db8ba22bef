"""One run against one provider's store: what is missing, sending it one way or the other, and the account of it."""

from __future__ import annotations

import asyncio
import os
import time
from datetime import UTC, datetime
from functools import partial
from typing import Any

from py4j.protocol import Py4JError
from pyspark.sql import DataFrame, SparkSession

from shelfkin.artifacts import run_slug
from shelfkin.embedding import texts
from shelfkin.embedding.admission import Admission
from shelfkin.embedding.batch_api import BatchRun
from shelfkin.embedding.batch_records import BatchRecords
from shelfkin.embedding.client import EmbeddingClient, check_key
from shelfkin.embedding.compaction import KEEP_FOR, compact
from shelfkin.embedding.concurrency import ConcurrencyLimit
from shelfkin.embedding.failures import TooManyRefusedError
from shelfkin.embedding.journal import Journal, JournalWriter
from shelfkin.embedding.ledger import ledger_rows, unaccounted_journals
from shelfkin.embedding.local_client import LocalClient
from shelfkin.embedding.packing import MAX_INPUTS
from shelfkin.embedding.prices import Budget, Mode, Price, price_of
from shelfkin.embedding.progress import duration, report_progress
from shelfkin.embedding.provider import KEY_VARIABLE, choose_provider
from shelfkin.embedding.quota import Quota
from shelfkin.embedding.sender import Sender
from shelfkin.embedding.texts import PendingTexts, TextCounts
from shelfkin.embedding.tokens import is_exact
from shelfkin.embedding.vector_store import Generation, VectorStore
from shelfkin.errors import ArtifactError, EmbeddingUnavailableError, OptionError
from shelfkin.stage import Stage

# A second or two of work on a laptop, so that progress is seen; and shards that are not tiny.
_LOCAL_INPUTS = 512
# The bundled model uses all cores for one request; a second one in line keeps it busy.
_LOCAL_UNDER_WAY = 4
# What batches leave unanswered (errors, expiry) goes into further batches while it is much; then the standard way.
_BATCH_ROUNDS = 3
_LOOK_AT_SPARK_S = 2.0


class EmbeddingRun:
    """One run against one provider's store, as the profile and the run's options choose them.

    What it finds out goes to the stage's metrics.

    Attributes
    ----------
    section
        The profile's section, with the run's own budget.
    """

    def __init__(self, stage: Stage) -> None:
        options, section, root = stage.options, stage.profile.embedding, stage.paths.root
        if options.budget_usd is not None:
            section = section.model_copy(update={"budget_usd": options.budget_usd})
        self.section = section
        self.provider = choose_provider(section, model=options.model, dimensions=options.dimensions)
        stage.progress("vectors come from %s", self.provider.describe())
        self.store = VectorStore.of(root, self.provider)
        self._stage = stage
        self._manifest = root.relative(stage.paths.manifest_uri(stage.name))
        self._budget = Budget(section.budget_tokens, section.budget_usd)
        default = _LOCAL_INPUTS if self.provider.kind == "local" else MAX_INPUTS
        self._max_inputs = section.max_inputs_per_request or default
        self._key = os.environ.get(KEY_VARIABLE, "")
        self._own_journals: set[str] = set()

    def price(self, mode: Mode = "standard") -> Price:
        """Return the price of a token."""
        return price_of(self.provider, mode, self.section.usd_per_million_tokens)

    def distinct_parts(self, products: DataFrame) -> DataFrame:
        """Return the distinct texts as they are sent (`texts.distinct_parts`)."""
        provider = self.provider
        return texts.distinct_parts(products, provider.kind, provider.model, self.section.max_tokens_per_input)

    def open_store(self) -> None:
        """Set torn files aside and take in what a killed run left."""
        self.store.set_damaged_aside()
        self.store.adopt_orphans()

    def pending(self, parts: DataFrame) -> PendingTexts:
        """Return what the store lacks."""
        stored = texts.stored_vectors(self._stage.spark, self.store, self.store.latest())
        missing = texts.missing_texts(parts, stored, retry_refused=self.section.retry_refused)
        return PendingTexts.write(missing, self.store.root, self._stage.table_uri("pending_texts"))

    def has_open_batches(self) -> bool:
        """Whether batches of an earlier run may still bring answers that are paid for."""
        return bool(BatchRecords(self.store).under_way())

    def announce(self, pending: PendingTexts, counts: TextCounts) -> None:
        """Say before the first request what the run will send, what that costs and how long it takes."""
        progress, mode = self._stage.progress, self._mode(pending)
        usd = self.price(mode).usd_per_token
        self._stage.metrics.update(
            tokens_planned=pending.n_tokens,
            cost_planned_usd=round(pending.n_tokens * usd, 6),
            tokens_without_store=counts.tokens,
            cost_without_store_usd=round(counts.tokens * usd, 6),
        )
        if pending.n_texts == 0:
            return progress("0 requests sent: all %s texts were in the vector store", f"{counts.sent:,}")
        exactly = "" if is_exact(self.provider.kind, self.provider.model) else "at most "
        new, sent, n_tokens = (f"{n:,}" for n in (pending.n_texts, counts.sent, pending.n_tokens))
        progress("%s of %s distinct texts are new: %s%s tokens", new, sent, exactly, n_tokens)
        if cost := pending.n_tokens * usd:
            half = " by the Batch API" if mode == "batch" else ""
            progress("that costs %s$%.4f%s (%s)", exactly, cost, half, self.price().source)
        limit = self.section.tokens_per_minute
        if limit and mode == "standard":
            at_best = duration(pending.n_tokens / limit * 60)
            progress("at %s tokens a minute it takes %s", f"{limit:,.0f}", at_best)
        if cost and counts.tokens > pending.n_tokens:
            progress("without the vector store it would cost $%.4f", counts.tokens * usd)

    def send(self, parts: DataFrame, pending: PendingTexts, counts: TextCounts) -> None:
        """Embed what is missing of `counts`; raises the error of what stopped it, with everything finished kept."""
        began = time.monotonic()
        check_key(self._key)
        self._check_budget_can_bind()
        for _ in range(_BATCH_ROUNDS):
            wanted = self._mode(pending) == "batch"
            if not wanted and not self.has_open_batches():
                break
            self._send_in_batches(pending if wanted else None)
            pending = self.pending(parts)
        if pending.n_texts:
            self._send_at_once(pending, counts.sent)
        self._stage.metrics["seconds_sending"] = round(time.monotonic() - began, 3)

    def tidy(self) -> Generation:
        """Merge small files of the store, delete what nobody reads any more; return the newest generation."""
        newest = compact(self._stage.spark, self.store, self.store.latest())
        self.store.collect_garbage(datetime.now(UTC) - KEEP_FOR)
        return newest

    def max_refused(self, n_texts: int) -> int:
        """Return how many of `n_texts` distinct texts the server may refuse for good; one always may."""
        return max(1, int(self.section.max_refused_share * n_texts))

    def check_complete(self, n_texts: int, n_vectors: int, n_refused: int) -> None:
        """Raise unless every distinct text has a vector or a refusal, and no more are refused than may be."""
        server, limit = self.provider.server, self.max_refused(n_texts)
        if n_texts != n_vectors + n_refused:
            raise ArtifactError(
                f"{n_texts} distinct texts, but {n_vectors} vectors and {n_refused} refusals from {server}.",
                next_step="Run the stage again; if it stays so, report it with the stage's manifest.",
            )
        if n_refused > limit or (n_texts and not n_vectors):
            raise TooManyRefusedError(
                f"{server} refuses {n_refused} of {n_texts} texts; {limit} may be.",
                next_step="Mend the texts, raise embedding.max_refused_share, or, if the server's settings were to "
                "blame, set embedding.retry_refused for one run.",
            )

    def account(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[str]]:
        """Return the ledger rows of this run, those of earlier runs without a manifest, and all their journals."""
        prices = {mode: self.price(mode).usd_per_token for mode in ("standard", "batch")}
        own: list[dict[str, Any]] = []
        earlier: list[dict[str, Any]] = []
        names = []
        for journal in unaccounted_journals(self.store, self._manifest):
            journal.take(self._manifest)
            rows = ledger_rows(self.store, journal, self.provider.model, prices)
            (own if journal.name in self._own_journals else earlier).extend(rows)
            names.append(journal.name)
        return own, earlier, names

    def _mode(self, pending: PendingTexts) -> Mode:
        section = self.section
        large = section.mode == "batch" and pending.n_texts >= section.batch_from_texts
        return "batch" if large and self.provider.kind != "local" else "standard"

    def _check_budget_can_bind(self) -> None:
        if self._budget.usd is not None and self.provider.kind != "local" and not self.price().usd_per_token:
            raise OptionError(
                f"A budget of ${self._budget.usd:,.2f} can't hold: {self.provider.model} has no known price.",
                next_step="Set embedding.usd_per_million_tokens in the store profile, or budget_tokens instead.",
            )

    def _send_in_batches(self, pending: PendingTexts | None) -> None:
        """Send what the profile wants sent in batches, and wait for those of earlier runs."""
        usd = self.price("batch").usd_per_token
        batches = BatchRun(
            self.provider,
            self._key,
            self.store,
            self.section,
            max_inputs=self._max_inputs,
            manifest=self._manifest,
            progress=self._stage.progress,
            usd_per_token=usd,
            budget=self._budget,
        )
        try:
            batches.run(pending or ())
        finally:
            self._own_journals |= batches.submitted
            self.store.adopt_orphans()
        self._budget = self._budget.after(batches.tokens_submitted, usd)

    def _send_at_once(self, pending: PendingTexts, n_distinct: int) -> None:
        """Embed texts under the quota."""
        journal = self.store.journal(f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{run_slug(self._stage.attempt)}")
        journal.open(self._manifest)
        self._own_journals.add(journal.name)
        try:
            asyncio.run(self._send(journal, pending, n_distinct))
        finally:
            self.store.adopt_orphans()  # what requests that were cut off have still stored
            journal.end()

    def _client(self) -> EmbeddingClient | LocalClient:
        if self.provider.kind == "local":
            return LocalClient()
        return EmbeddingClient(self.provider, self._key, timeout_s=self.section.timeout_s)

    async def _send(self, journal: Journal, pending: PendingTexts, n_distinct: int) -> None:
        section, provider = self.section, self.provider
        admission = self._admission(pending.n_texts, n_distinct)
        async with self._client() as client:
            sender = Sender(
                client,
                admission,
                JournalWriter(journal),
                self.store,
                server=provider.server,
                max_inputs=self._max_inputs,
                dimensions=provider.dimensions or self.store.known_dimensions(),
                deadline_s=section.deadline_s,
            )
            try:
                await sender.run(
                    pending,
                    partial(report_progress, admission, pending.n_texts, self._stage.progress),
                    partial(end_with_spark, self._stage.spark),
                )
            finally:
                await asyncio.to_thread(sender.keep)
        requests_per_minute, tokens_per_minute = admission.limits()
        self._stage.metrics.update(
            limit_requests_per_minute=requests_per_minute, limit_tokens_per_minute=tokens_per_minute
        )
        if admission.stopped_by is not None:
            self._stage.progress("stopped: %s vectors of this run are kept", f"{admission.totals.texts:,}")
            raise admission.stopped_by

    def _admission(self, n_pending: int, n_distinct: int) -> Admission:
        section = self.section
        highest = _LOCAL_UNDER_WAY if self.provider.kind == "local" else section.max_requests_under_way
        return Admission(
            Quota(section, now=time.monotonic()),
            ConcurrencyLimit(highest=highest),
            usd_per_token=self.price().usd_per_token,
            budget=self._budget,
            patience_s=section.deadline_s,
            max_refused=self.max_refused(n_distinct),
            # A share of the whole catalogue would let a wrong setting refuse all that is new of a day. Of what is new
            # alone, two odd texts would stop a run that has little left to send.
            max_refused_unanswered=self.max_refused(n_pending),
        )


async def end_with_spark(session: SparkSession) -> None:
    """Raise when Spark is gone: a driver that outlives its JVM would send on while Airflow tries the task again."""

    def is_gone() -> bool:
        try:
            return bool(session.sparkContext._jsc.sc().isStopped())
        except (Py4JError, OSError):
            return True

    while not await asyncio.to_thread(is_gone):
        await asyncio.sleep(_LOOK_AT_SPARK_S)
    raise EmbeddingUnavailableError(
        "Spark has ended, and with it this run.", next_step="Run the task again: finished vectors are kept."
    )
