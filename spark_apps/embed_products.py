"""Give every distinct product text its vector; send only the texts that the vector store lacks.

Reads products; writes product_vectors (one row per distinct text) and embedding_ledger (one row per request).
With OPENAI_API_KEY the vectors come from OpenAI, with OPENAI_BASE_URL from any compatible server, otherwise from the
bundled endpoint, which runs on this machine only while it is needed.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from datetime import UTC, datetime

from pyspark.sql import DataFrame, Row

from shelfkin.embedding import embed
from shelfkin.embedding.local_endpoint import running_local_endpoint
from shelfkin.embedding.provider import Provider, choose_provider
from shelfkin.embedding.store import VectorStore
from shelfkin.stage import Stage, main, optional
from shelfkin.tables import EMBEDDING_LEDGER, PRODUCT_VECTORS, PRODUCTS


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the stage's flags."""
    parser.add_argument("--model", type=optional(str), help="embedding model; 'local' is the bundled one")
    parser.add_argument("--dimensions", type=optional(int), help="length of the vectors, where the model has a choice")


def run(stage: Stage) -> None:
    """Embed what is new, then write all vectors of this run's products."""
    section, options = stage.profile.embedding, stage.options
    provider = choose_provider(section, model=options.model, dimensions=options.dimensions)
    stage.progress("vectors come from %s", provider.describe())
    store = VectorStore.of(stage.paths.root, provider)
    limits = embed.limits_of(section, provider)

    products = stage.read("clean_catalog", PRODUCTS)
    texts = embed.distinct_texts(products, limits.max_tokens_per_input).persist()
    n_texts, n_truncated = embed.count_texts(texts)
    if n_truncated:
        stage.progress("%d texts are longer than %d bytes and were cut", n_truncated, limits.max_tokens_per_input)

    generation = store.adopt_orphans()
    missing = embed.missing_texts(texts, embed.stored_vectors(stage.spark, store, generation)).persist()
    n_missing = missing.count()
    ledger: list[Row] = []
    if n_missing == 0:
        stage.progress("0 requests sent: all %s texts were in the vector store", f"{n_texts:,}")
    else:
        stage.progress("%s of %s distinct texts are new", f"{n_missing:,}", f"{n_texts:,}")
        ledger = _embed(stage, provider, store, missing, n_missing)
        generation = store.latest()
    missing.unpersist()

    vectors = embed.product_vectors(texts, embed.stored_vectors(stage.spark, store, generation))
    n_rows = stage.write(PRODUCT_VECTORS, vectors)
    embed.check_complete(n_texts, n_rows, provider.server)
    stage.write(EMBEDDING_LEDGER, stage.spark.createDataFrame(ledger, embed.LEDGER_DDL), n_files=1)
    stage.metrics.update(
        provider=provider.slug,
        model=provider.model,
        dimensions=provider.dimensions or _length(vectors),
        texts_distinct=n_texts,
        texts_reused=n_texts - n_missing,
        texts_embedded=n_missing,
        texts_truncated=n_truncated,
        requests_sent=sum(1 + row["n_retries"] for row in ledger if row["status"] == "ok"),
        tokens=sum(row["n_tokens"] or 0 for row in ledger),
        generation=generation.number,
        vector_store={"path": stage.paths.root.relative(store.uri), "generation": generation.number},
    )


def _embed(stage: Stage, provider: Provider, store: VectorStore, missing: DataFrame, n_missing: int) -> list[Row]:
    """Embed the missing texts, with the bundled endpoint running meanwhile where it is the provider."""
    section = stage.profile.embedding
    embed.refuse_remote_executors(stage.spark, provider)
    embed.check_key_on_executors(stage.spark, provider)
    with ExitStack() as running:
        if provider.kind == "local":
            provider = provider.at(running.enter_context(running_local_endpoint()))
        job = embed.Job(
            provider=provider,
            store=store,
            journal=f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{stage.attempt}",
            limits=embed.limits_of(section, provider),
            timeout_s=section.timeout_s,
            deadline_s=section.deadline_s,
        )
        return embed.embed_missing(missing, n_missing, job, stage.progress)


def _length(vectors: DataFrame) -> int | None:
    """Return the vector length that only the server knew; None without any vector."""
    first = vectors.first()
    return len(first["vector"]) if first is not None else None


if __name__ == "__main__":
    main("embed_products", run, inputs=("clean_catalog",), add_flags=add_flags, description=__doc__)
