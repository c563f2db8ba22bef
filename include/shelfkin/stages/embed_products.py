"""Give every distinct product text its vector; send only the texts that the vector store lacks.

Reads products; writes product_vectors (one row per distinct text), embedding_ledger (one row per request) and
embedding_refused (texts that the server won't take). With OPENAI_API_KEY the vectors come from OpenAI, with
OPENAI_BASE_URL from any compatible server, otherwise from the bundled model on this machine. All requests leave under
one quota; a run that ends early keeps what it has paid for.
"""

from __future__ import annotations

import argparse

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - the name every PySpark reader knows

from shelfkin.app import App, optional
from shelfkin.artifacts import Manifest
from shelfkin.checking.joined import check_joined
from shelfkin.driver_memory import DriverMemory
from shelfkin.embedding import texts
from shelfkin.embedding.embedding_run import EmbeddingRun
from shelfkin.embedding.ledger import Summary, summarise
from shelfkin.embedding.vector_store import Generation
from shelfkin.plotting.quota_use import draw_quota_use
from shelfkin.stage import Stage
from shelfkin.tables import EMBEDDING_LEDGER, EMBEDDING_REFUSED, PRODUCT_VECTORS, PRODUCTS, SCHEMAS


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the stage's flags."""
    parser.add_argument("--model", type=optional(str), help="embedding model; 'local' is the bundled one")
    parser.add_argument("--dimensions", type=optional(int), help="length of the vectors, where the model has a choice")
    parser.add_argument("--estimate", action="store_true", help="say what would be sent and what it costs, then end")
    parser.add_argument("--budget-usd", type=optional(float), help="stop before the run costs more")


def run(stage: Stage) -> None:
    """Embed what is new, then write all vectors of this run's products."""
    check_events(stage)
    embedding = EmbeddingRun(stage)
    parts = embedding.distinct_parts(stage.read("clean_catalog", PRODUCTS)).persist()
    counts = texts.count_texts(parts)
    check_memory(stage, counts.distinct, embedding.provider.dimensions)
    if counts.split:
        stage.progress("%d texts are too long for the model: they are split, their vectors averaged", counts.split)
    embedding.open_store()
    pending = embedding.pending(parts)
    embedding.announce(pending, counts)
    if stage.options.estimate:
        pending.delete()
        return stage.progress("an estimate: nothing was sent")
    if pending.n_texts or embedding.has_open_batches():
        embedding.send(parts, pending, counts)
    pending.delete()

    generation = embedding.tidy()
    write_vectors(stage, embedding, parts, generation, counts.distinct)
    write_ledger(stage, embedding)
    stage.metrics.update(
        provider=embedding.provider.slug,
        model=embedding.provider.model,
        texts_distinct=counts.distinct,
        texts_reused=counts.sent - pending.n_texts,
        texts_embedded=pending.n_texts,
        texts_split=counts.split,
        generation=generation.number,
        vector_store={"path": stage.paths.root.relative(embedding.store.uri), "generation": generation.number},
    )


def check_events(stage: Stage) -> None:
    """Refuse events that hardly name a product of the catalogue, before the catalogue's vectors are paid for.

    An estimate reads no events.
    """
    events = stage.profile.events
    if events is None or "clean_events" not in stage.inputs:
        return
    share = check_joined(stage.inputs["clean_catalog"], stage.inputs["clean_events"], events.min_joined_share)
    if share is not None:
        stage.metrics["events_joined_share"] = round(share, 6)
        stage.progress("%.1f%% of the events name a product of the catalogue", 100 * share)


def check_memory(stage: Stage, n_texts: int, dimensions: int | None) -> None:
    """Refuse a catalogue that a later stage can't hold, before its vectors are paid for.

    Where only the server knows how long its vectors are, nothing can be said.
    """
    if dimensions is not None:
        stage.progress("%s", DriverMemory.of_this_machine(stage.settings.driver_memory).check(n_texts, dimensions))


def write_vectors(
    stage: Stage, embedding: EmbeddingRun, parts: DataFrame, generation: Generation, n_distinct: int
) -> None:
    """Write the vectors of this run's texts, and the texts that have none because the server refuses them."""
    stored = texts.stored_vectors(stage.spark, embedding.store, generation)
    vectors = texts.product_vectors(parts, stored)
    n_vectors = stage.write(PRODUCT_VECTORS, vectors)
    n_refused = stage.write(EMBEDDING_REFUSED, texts.refused_texts(parts, stored), n_files=1)
    embedding.check_complete(n_distinct, n_vectors, n_refused)
    if n_refused:
        server = embedding.provider.server
        stage.progress("%s texts have no vector: %s refuses them (see embedding_refused)", n_refused, server)
    stage.metrics.update(dimensions=embedding.provider.dimensions or length_of(vectors), texts_refused=n_refused)


def write_ledger(stage: Stage, embedding: EmbeddingRun) -> None:
    """Write the ledger of this run, and of earlier runs that ended without one, with its sums and picture."""
    own_rows, earlier_rows, journals = embedding.account()
    before = earlier_ledger(stage, journals)
    ledger = stage.spark.createDataFrame([*own_rows, *earlier_rows], SCHEMAS[EMBEDDING_LEDGER])
    if before is not None:
        ledger = ledger.unionByName(before)
        journals = sorted({*journals, *(row["journal"] for row in before.select("journal").distinct().collect())})
    stage.write(EMBEDDING_LEDGER, ledger, n_files=1)
    own, earlier = summarise(own_rows), summarise(earlier_rows)
    stage.metrics.update(
        requests_sent=own.requests,
        requests_rate_limited=own.rate_limited,
        tokens=own.tokens,
        tokens_unconfirmed=own.tokens_unconfirmed,
        cost_usd=own.cost_usd,
        price=embedding.price().source,
        tokens_of_unfinished_runs=earlier.tokens,
        tokens_unconfirmed_of_unfinished_runs=earlier.tokens_unconfirmed,
        journals=journals,
    )
    if own.requests:
        stage.save_figure("quota_use", draw_quota_use(own_rows, stage.metrics.get("limit_tokens_per_minute")))
        stage.progress("%s", in_words("this run", own))
    if earlier.requests:
        stage.progress("%s: the ledger holds them too", in_words("earlier runs that ended without a manifest", earlier))


def earlier_ledger(stage: Stage, journals: list[str]) -> DataFrame | None:
    """Return the ledger of the manifest that this run is about to replace (a cleared task), without these journals."""
    uri = stage.paths.manifest_uri(stage.name)
    if not stage.paths.root.exists(uri):
        return None
    replaced = Manifest.read(stage.paths.root, uri)
    if EMBEDDING_LEDGER not in replaced.content["tables"]:
        return None
    rows = stage.spark.read.schema(SCHEMAS[EMBEDDING_LEDGER]).parquet(replaced.table_uri(EMBEDDING_LEDGER))
    return rows.filter(~F.col("journal").isin(journals)) if journals else rows


def in_words(who: str, total: Summary) -> str:
    """Return what a ledger adds up to."""
    unconfirmed = f", at most {total.tokens_unconfirmed:,} more unconfirmed" if total.tokens_unconfirmed else ""
    cost = f", ${total.cost_usd:,.4f}" if total.cost_usd else ""
    return f"{who}: {total.requests:,} requests, {total.tokens:,} tokens billed{unconfirmed}{cost}"


def length_of(vectors: DataFrame) -> int | None:
    """Return the vector length that only the server knew; None without any vector."""
    first = vectors.first()
    return len(first["vector"]) if first is not None else None


APP = App(
    "embed_products",
    run,
    inputs=("clean_catalog",),
    optional_inputs=("clean_events",),
    add_flags=add_flags,
    description=__doc__,
)
