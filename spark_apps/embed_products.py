"""Give every distinct product text its vector; send only the texts that the vector store lacks.

Reads products; writes product_vectors (one row per distinct text), embedding_ledger (one row per request) and
embedding_refused (texts that the server won't take). With OPENAI_API_KEY the vectors come from OpenAI, with
OPENAI_BASE_URL from any compatible server, otherwise from the bundled endpoint, which runs on this machine only while
it is needed. All requests leave under one quota; a run that ends early keeps what it has paid for.
"""

from __future__ import annotations

import argparse
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812

from shelfkin.embedding import embed, texts
from shelfkin.embedding.compaction import KEEP_FOR, compact
from shelfkin.embedding.journal import Journal
from shelfkin.embedding.ledger import Summary, ledger_rows, summarise, unaccounted_journals
from shelfkin.embedding.local_endpoint import running_local_endpoint
from shelfkin.embedding.prices import Price, price_of
from shelfkin.embedding.progress import duration
from shelfkin.embedding.provider import Provider, choose_provider
from shelfkin.embedding.sender import Job
from shelfkin.embedding.store import VectorStore
from shelfkin.embedding.tokens import is_exact
from shelfkin.plotting.quota_use import draw_quota_use
from shelfkin.stage import Stage, main, optional
from shelfkin.tables import EMBEDDING_LEDGER, EMBEDDING_REFUSED, PRODUCT_VECTORS, PRODUCTS, SCHEMAS


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the stage's flags."""
    parser.add_argument("--model", type=optional(str), help="embedding model; 'local' is the bundled one")
    parser.add_argument("--dimensions", type=optional(int), help="length of the vectors, where the model has a choice")
    parser.add_argument("--budget-usd", type=optional(float), help="stop before the run costs more")


def run(stage: Stage) -> None:
    """Embed what is new, then write all vectors of this run's products."""
    section, options = stage.profile.embedding, stage.options
    if options.budget_usd is not None:
        section = section.model_copy(update={"budget_usd": options.budget_usd})
    provider = choose_provider(section, model=options.model, dimensions=options.dimensions)
    price = price_of(provider, "standard", section.usd_per_million_tokens)
    stage.progress("vectors come from %s", provider.describe())
    store = VectorStore.of(stage.paths.root, provider)

    products = stage.read("clean_catalog", PRODUCTS)
    parts = texts.distinct_parts(
        products, provider.kind, provider.model, embed.limits_of(section, provider).max_tokens_per_input
    ).persist()
    counts = texts.count_texts(parts)
    if counts.split:
        stage.progress("%d texts are too long for the model: they are split, their vectors averaged", counts.split)

    store.set_damaged_aside()
    generation = store.adopt_orphans()
    missing = texts.missing_texts(
        parts,
        texts.stored_vectors(stage.spark, store, generation),
        provider.kind,
        provider.model,
        retry_refused=section.retry_refused,
    ).persist()
    plan = plan_of(missing)
    journals = unaccounted_journals(store, run_name(stage))
    own_journal = None
    if plan.n_texts == 0:
        stage.progress("0 requests sent: all %s texts were in the vector store", f"{counts.sent:,}")
    else:
        announce(stage, plan, counts.sent, provider, price)
        own_journal = send(stage, section, provider, price, store, missing, plan)
        journals.append(own_journal)
        generation = store.latest()
    missing.unpersist()
    generation = compact(stage.spark, store, generation)
    store.collect_garbage(datetime.now(UTC) - KEEP_FOR)

    stored = texts.stored_vectors(stage.spark, store, generation)
    vectors = texts.product_vectors(parts, stored)
    n_vectors = stage.write(PRODUCT_VECTORS, vectors)
    n_refused = stage.write(EMBEDDING_REFUSED, texts.refused_texts(parts, stored), n_files=1)
    embed.check_complete(counts.distinct, n_vectors, n_refused, provider.server)
    if n_refused:
        stage.progress("%s texts have no vector: %s refuses them (see embedding_refused)", n_refused, provider.server)
    write_ledger(stage, store, provider, price, journals, own_journal)
    stage.metrics.update(
        provider=provider.slug,
        model=provider.model,
        dimensions=provider.dimensions or length_of(vectors),
        texts_distinct=counts.distinct,
        texts_reused=counts.sent - plan.n_texts,
        texts_embedded=plan.n_texts,
        texts_split=counts.split,
        texts_refused=n_refused,
        generation=generation.number,
        vector_store={"path": stage.paths.root.relative(store.uri), "generation": generation.number},
    )


def run_name(stage: Stage) -> str:
    """Return a name that only tries of the same stage of the same run share."""
    return stage.paths.root.relative(stage.paths.manifest_uri(stage.name))


def plan_of(missing: DataFrame) -> embed.Plan:
    """Count what is about to be sent."""
    row = missing.agg(F.count("*").alias("n"), F.coalesce(F.sum("n_tokens"), F.lit(0)).alias("tokens")).collect()[0]
    return embed.Plan(int(row["n"]), int(row["tokens"]))


def announce(stage: Stage, plan: embed.Plan, n_distinct: int, provider: Provider, price: Price) -> None:
    """Say before the first request what the run will send, cost and take."""
    section = stage.profile.embedding
    exactly = "" if is_exact(provider.kind, provider.model) else "at most "
    stage.progress(
        "%s of %s distinct texts are new: %s%s tokens",
        f"{plan.n_texts:,}",
        f"{n_distinct:,}",
        exactly,
        f"{plan.n_tokens:,}",
    )
    if price.usd_per_token:
        stage.progress("that costs %s$%.4f (%s)", exactly, plan.n_tokens * price.usd_per_token, price.source)
    if section.tokens_per_minute:
        at_best_s = plan.n_tokens / section.tokens_per_minute * 60
        stage.progress("at %s tokens a minute it takes %s", f"{section.tokens_per_minute:,.0f}", duration(at_best_s))
    stage.metrics.update(tokens_planned=plan.n_tokens, cost_planned_usd=round(plan.n_tokens * price.usd_per_token, 6))


def send(
    stage: Stage,
    section: Any,
    provider: Provider,
    price: Price,
    store: VectorStore,
    missing: DataFrame,
    plan: embed.Plan,
) -> Journal:
    """Embed the missing texts, with the bundled endpoint running meanwhile where it is the provider."""
    embed.refuse_remote_executors(stage.spark, provider)
    journal = store.journal(f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{stage.attempt}")
    with ExitStack() as running:
        if provider.kind == "local":
            provider = provider.at(running.enter_context(running_local_endpoint()))
        journal.open(run_name(stage), run_name(stage))
        coordinator, address = running.enter_context(
            embed.coordinated(
                stage.spark, section, provider, journal, usd_per_token=price.usd_per_token, n_texts=plan.n_texts
            )
        )
        on_executors = embed.executors_reach(stage.spark, provider, address)
        n_senders = stage.spark.sparkContext.defaultParallelism if on_executors else 1
        job = Job(
            provider=provider,
            store=store,
            journal=journal.name,
            limits=embed.limits_of(section, provider),
            coordinator=address,
            threads=-(-section.max_requests_under_way // n_senders),
            timeout_s=section.timeout_s,
            deadline_s=section.deadline_s,
        )
        began = time.monotonic()
        embed.embed_missing(missing, plan, job, coordinator, on_executors=on_executors, progress=stage.progress)
        stage.metrics["seconds_sending"] = round(time.monotonic() - began, 3)
        requests_per_minute, tokens_per_minute = coordinator.limits()
        stage.metrics.update(limit_requests_per_minute=requests_per_minute, limit_tokens_per_minute=tokens_per_minute)
    return journal


def write_ledger(
    stage: Stage,
    store: VectorStore,
    provider: Provider,
    price: Price,
    journals: list[Journal],
    own_journal: Journal | None,
) -> None:
    """Write the ledger of this run, and of earlier runs that ended without one, with its sums and picture."""
    for journal in journals:
        journal.take(run_name(stage))
    rows = [row for journal in journals for row in ledger_rows(store, journal, provider.model, price.usd_per_token)]
    columns = [field.split()[0] for field in SCHEMAS[EMBEDDING_LEDGER].split(", ")]
    values = [
        tuple(datetime.fromisoformat(row[name]) if name == "requested_at" else row[name] for name in columns)
        for row in rows
    ]
    stage.write(EMBEDDING_LEDGER, stage.spark.createDataFrame(values, SCHEMAS[EMBEDDING_LEDGER]), n_files=1)
    own = summarise(row for row in rows if own_journal is not None and row["journal"] == own_journal.name)
    earlier = summarise(row for row in rows if own_journal is None or row["journal"] != own_journal.name)
    stage.metrics.update(
        requests_sent=own.requests,
        requests_rate_limited=own.rate_limited,
        tokens=own.tokens,
        tokens_unconfirmed=own.tokens_unconfirmed,
        cost_usd=own.cost_usd,
        price=price.source,
        tokens_of_unfinished_runs=earlier.tokens,
        tokens_unconfirmed_of_unfinished_runs=earlier.tokens_unconfirmed,
        journals=[journal.name for journal in journals],
    )
    if own.requests:
        own_rows = [row for row in rows if own_journal is not None and row["journal"] == own_journal.name]
        stage.save_figure("quota_use", draw_quota_use(own_rows, stage.metrics.get("limit_tokens_per_minute")))
        stage.progress("%s", said("this run", own))
    if earlier.requests:
        stage.progress("%s: the ledger holds them too", said("earlier runs that ended without a manifest", earlier))


def said(who: str, total: Summary) -> str:
    """Return what a ledger adds up to, in words."""
    unconfirmed = f", at most {total.tokens_unconfirmed:,} more unconfirmed" if total.tokens_unconfirmed else ""
    cost = f", ${total.cost_usd:,.4f}" if total.cost_usd else ""
    return f"{who}: {total.requests:,} requests, {total.tokens:,} tokens billed{unconfirmed}{cost}"


def length_of(vectors: DataFrame) -> int | None:
    """Return the vector length that only the server knew; None without any vector."""
    first = vectors.first()
    return len(first["vector"]) if first is not None else None


if __name__ == "__main__":
    main("embed_products", run, inputs=("clean_catalog",), add_flags=add_flags, description=__doc__)
