"""One run of the embedding stage: what is missing, sending it one way or the other, and the account of it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the name every PySpark reader knows

from shelfkin.artifacts import run_slug
from shelfkin.embedding import embed, texts
from shelfkin.embedding.batch_api import BatchRun, BatchSettings, open_batches
from shelfkin.embedding.batching import Text
from shelfkin.embedding.client import BadKeyError, EmbeddingClient
from shelfkin.embedding.compaction import KEEP_FOR, compact
from shelfkin.embedding.coordinator import Budget
from shelfkin.embedding.ledger import ledger_rows, unaccounted_journals
from shelfkin.embedding.local_endpoint import running_local_endpoint
from shelfkin.embedding.prices import Price, price_of
from shelfkin.embedding.progress import duration
from shelfkin.embedding.provider import KEY_VARIABLE, Provider
from shelfkin.embedding.sender import Job
from shelfkin.embedding.store import Generation, VectorStore
from shelfkin.embedding.tokens import is_exact
from shelfkin.errors import OptionError
from shelfkin.profile import Embedding

# What batches leave unanswered (errors, expiry) goes into further batches while it is much; then the standard way.
_BATCH_ROUNDS = 3


@dataclass
class EmbeddingRun:
    """One run against one provider's store.

    Attributes
    ----------
    section
        The profile's section, with the run's own choices.
    owner
        Path of the manifest that the run will write, relative to the artifact root: what journals are claimed by.
    label
        Unique among tries; names the run's journal.
    progress
        Called at a calm pace with a format string and its arguments.
    figures
        What the run found out, for the manifest.
    """

    session: SparkSession
    section: Embedding
    provider: Provider
    store: VectorStore
    owner: str
    label: str
    progress: Callable[..., None]
    figures: dict[str, Any] = field(default_factory=dict)
    _own_journals: set[str] = field(default_factory=set)

    @property
    def price(self) -> Price:
        """Price of the standard way."""
        return price_of(self.provider, "standard", self.section.usd_per_million_tokens)

    @property
    def prices(self) -> dict[str, float]:
        """US dollars per token by mode."""
        own = self.section.usd_per_million_tokens
        halved = None if own is None else own / 2
        return {
            "standard": self.price.usd_per_token,
            "batch": price_of(self.provider, "batch", halved).usd_per_token,
        }

    def parts(self, products: DataFrame) -> DataFrame:
        """Return the distinct texts as they are sent (`texts.distinct_parts`)."""
        limit = embed.limits_of(self.section, self.provider).max_tokens_per_input
        return texts.distinct_parts(products, self.provider.kind, self.provider.model, limit)

    def missing(self, parts: DataFrame) -> DataFrame:
        """Return text_hash, text and n_tokens of what the store lacks."""
        stored = texts.stored_vectors(self.session, self.store, self.store.latest())
        return texts.missing_texts(parts, stored, retry_refused=self.section.retry_refused)

    def open_store(self) -> None:
        """Set torn files aside and take in what a killed run left."""
        self.store.set_damaged_aside()
        self.store.adopt_orphans()

    def has_open_batches(self) -> bool:
        """Whether batches of an earlier run may still bring answers that are paid for."""
        return bool(open_batches(self.store))

    def announce(self, plan: texts.Plan, counts: texts.TextCounts) -> None:
        """Say before the first request what the run will send, what that costs and how long it takes."""
        exactly = "" if is_exact(self.provider.kind, self.provider.model) else "at most "
        self.progress(
            "%s of %s distinct texts are new: %s%s tokens",
            f"{plan.n_texts:,}",
            f"{counts.sent:,}",
            exactly,
            f"{plan.n_tokens:,}",
        )
        mode = "batch" if self._goes_in_batches(plan) else "standard"
        cost = plan.n_tokens * self.prices[mode]
        if cost:
            half = " by the Batch API" if mode == "batch" else ""
            self.progress("that costs %s$%.4f%s (%s)", exactly, cost, half, self.price.source)
        limit = self.section.tokens_per_minute
        if limit and mode == "standard":
            at_best = duration(plan.n_tokens / limit * 60)
            self.progress("at %s tokens a minute it takes %s", f"{limit:,.0f}", at_best)
        if cost and counts.tokens > plan.n_tokens:
            self.progress("without the vector store it would cost $%.4f", counts.tokens * self.prices[mode])

    def planned(self, plan: texts.Plan, counts: texts.TextCounts) -> dict[str, Any]:
        """Return what the run is about to send and what it costs, beside what that would be without the store."""
        usd = self.prices["batch" if self._goes_in_batches(plan) else "standard"]
        return {
            "tokens_planned": plan.n_tokens,
            "cost_planned_usd": round(plan.n_tokens * usd, 6),
            "tokens_without_store": counts.tokens,
            "cost_without_store_usd": round(counts.tokens * usd, 6),
        }

    def send(self, parts: DataFrame, missing: DataFrame, plan: texts.Plan) -> None:
        """Embed what is missing; raises the typed error of what stopped it, with everything finished kept."""
        began = time.monotonic()
        check_key(os.environ.get(KEY_VARIABLE, ""))
        self._check_budget_can_bind()
        embed.refuse_remote_executors(self.session, self.provider)
        if self.provider.kind != "local":
            missing, plan = self._by_batches(parts, missing, plan)
        if plan.n_texts:
            self._at_once(missing, plan)
        self.figures["seconds_sending"] = round(time.monotonic() - began, 3)

    def _check_budget_can_bind(self) -> None:
        if self.section.budget_usd is not None and self.provider.kind != "local" and not self.price.usd_per_token:
            raise OptionError(
                f"A budget of ${self.section.budget_usd:,.2f} can't hold: {self.provider.model} has no known price.",
                next_step="Set embedding.usd_per_million_tokens in the store profile, or budget_tokens instead.",
            )

    def tidy(self) -> Generation:
        """Merge small files of the store, delete what nobody reads any more; return the newest generation."""
        newest = compact(self.session, self.store, self.store.latest())
        self.store.collect_garbage(datetime.now(UTC) - KEEP_FOR)
        return newest

    def account(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[str]]:
        """Return the ledger rows of this run, those of earlier runs without a manifest, and all their journals."""
        own: list[dict[str, Any]] = []
        earlier: list[dict[str, Any]] = []
        names = []
        for journal in unaccounted_journals(self.store, self.owner):
            journal.take(self.owner)
            rows = ledger_rows(self.store, journal, self.provider.model, self.prices)
            (own if journal.name in self._own_journals else earlier).extend(rows)
            names.append(journal.name)
        return own, earlier, names

    def _goes_in_batches(self, plan: texts.Plan) -> bool:
        return (
            self.section.mode == "batch"
            and self.provider.kind != "local"
            and plan.n_texts >= self.section.batch_from_texts
        )

    def _by_batches(self, parts: DataFrame, missing: DataFrame, plan: texts.Plan) -> tuple[DataFrame, texts.Plan]:
        """Send what the profile wants sent in batches, and wait for those of earlier runs; return what is left."""
        key = os.environ.get(KEY_VARIABLE, "")
        with EmbeddingClient(self.provider, key, timeout_s=self.section.timeout_s) as client:
            batches = BatchRun(
                client,
                self.provider,
                self.store,
                BatchSettings(
                    embed.limits_of(self.section, self.provider),
                    poll_s=self.section.batch_poll_s,
                    max_enqueued_tokens=self.section.batch_max_enqueued_tokens,
                ),
                owner=self.owner,
                progress=self.progress,
                usd_per_token=self.prices["batch"],
                budget=Budget(self.section.budget_tokens, self.section.budget_usd),
            )
            for _ in range(_BATCH_ROUNDS):
                wanted = self._goes_in_batches(plan)
                if not wanted and not open_batches(self.store):
                    break
                try:
                    batches.run(_local_texts(missing) if wanted else ())
                finally:
                    self._own_journals |= batches.submitted
                    self.store.adopt_orphans()
                missing = self.missing(parts).persist()
                plan = texts.plan_of(missing)
            self._spend(batches.tokens_submitted)
        return missing, plan

    def _spend(self, n_tokens: int) -> None:
        """Take what batches cost off the budget of the rest."""
        section = self.section
        if section.budget_tokens is not None:
            left = max(1, section.budget_tokens - n_tokens)
            self.section = self.section.model_copy(update={"budget_tokens": left})
        if section.budget_usd is not None:
            left_usd = max(1e-9, section.budget_usd - n_tokens * self.prices["batch"])
            self.section = self.section.model_copy(update={"budget_usd": left_usd})

    def _at_once(self, missing: DataFrame, plan: texts.Plan) -> None:
        """Embed texts under the quota, with the bundled endpoint running meanwhile where it is the provider."""
        section, provider = self.section, self.provider
        journal = self.store.journal(f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{run_slug(self.label)}")
        with ExitStack() as running:
            if provider.kind == "local":
                provider = provider.at(running.enter_context(running_local_endpoint()))
            journal.open(self.owner, self.owner)
            self._own_journals.add(journal.name)
            coordinator, address = running.enter_context(
                embed.coordinated(
                    self.session,
                    section,
                    provider,
                    journal,
                    usd_per_token=self.price.usd_per_token,
                    n_texts=plan.n_texts,
                    dimensions=provider.dimensions or self.store.known_dimensions(),
                )
            )
            on_executors = embed.executors_reach(self.session, provider, address)
            n_senders = self.session.sparkContext.defaultParallelism if on_executors else 1
            job = Job(
                provider=provider,
                store=self.store,
                journal=journal.name,
                limits=embed.limits_of(section, provider),
                coordinator=address,
                threads=-(-section.max_requests_under_way // n_senders),
                timeout_s=section.timeout_s,
                deadline_s=section.deadline_s,
            )
            embed.embed_missing(missing, plan, job, coordinator, on_executors=on_executors, progress=self.progress)
            requests_per_minute, tokens_per_minute = coordinator.limits()
            self.figures.update(
                limit_requests_per_minute=requests_per_minute, limit_tokens_per_minute=tokens_per_minute
            )


def check_key(key: str) -> None:
    """Raise BadKeyError for a key that no HTTP header can carry: a line break copied along, or letters with accents."""
    if not key.isascii() or key != key.strip() or any(character.isspace() for character in key):
        raise BadKeyError(
            f"{KEY_VARIABLE} holds white space, a line break or a character that isn't ASCII.",
            next_step=f"Set {KEY_VARIABLE} again, without what was copied along.",
        )


def choose_section(section: Embedding, budget_usd: float | None) -> Embedding:
    """Return the profile's section with a run's own budget, where it has one."""
    return section if budget_usd is None else section.model_copy(update={"budget_usd": budget_usd})


def _local_texts(missing: DataFrame) -> Iterator[Text]:
    for row in missing.orderBy(F.col("text_hash")).toLocalIterator():
        yield Text(row["text_hash"], row["text"], row["n_tokens"])
