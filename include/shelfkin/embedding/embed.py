"""Embedding what the vector store lacks: Spark tasks send the requests, each answer is a shard before it counts."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the name every PySpark reader knows

from shelfkin.embedding import client as client_module
from shelfkin.embedding.batching import Limits, Text, pack
from shelfkin.embedding.client import BadKeyError, EmbeddingClient
from shelfkin.embedding.provider import KEY_VARIABLE, Provider
from shelfkin.embedding.store import SHARD_DDL, Generation, Shard, VectorStore
from shelfkin.errors import ArtifactError, EmbeddingError, EmbeddingUnavailableError, OptionError
from shelfkin.settings import Embedding

log = logging.getLogger("shelfkin.embedding")

# A second or two of work on a laptop, so that progress is seen; and shards that are not tiny.
_LOCAL_INPUTS = 512
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_PROGRESS_EVERY_S = 10.0
# Enough tasks that the slowest doesn't hold up the rest; in a first load of millions, tasks that stay small in memory.
_TASKS_PER_SLOT = 4
_REQUESTS_PER_TASK = 50

LEDGER_DDL = (
    "request_id string, requested_at timestamp, model string, n_inputs bigint, n_tokens bigint, n_retries bigint, "
    "latency_s double, status string, shard string, shard_sha256 string"
)
_LEDGER_ARROW = pa.schema(
    [
        ("request_id", pa.string()),
        ("requested_at", pa.timestamp("us", tz="UTC")),
        ("model", pa.string()),
        ("n_inputs", pa.int64()),
        ("n_tokens", pa.int64()),
        ("n_retries", pa.int64()),
        ("latency_s", pa.float64()),
        ("status", pa.string()),
        ("shard", pa.string()),
        ("shard_sha256", pa.string()),
    ]
)


@dataclass(frozen=True)
class Job:
    """What a task needs to embed its share; it travels in the task's closure, so it never holds the key.

    Attributes
    ----------
    journal
        Name of the run's folder of shards.
    timeout_s, deadline_s
        Longest wait for one answer, and for one batch with all its retries.
    """

    provider: Provider
    store: VectorStore
    journal: str
    limits: Limits
    timeout_s: float
    deadline_s: float


def limits_of(section: Embedding, provider: Provider) -> Limits:
    """Return what one request to this provider may hold."""
    default = _LOCAL_INPUTS if provider.kind == "local" else Limits.max_inputs
    return Limits(
        max_inputs=section.max_inputs_per_request or default,
        max_tokens=section.max_tokens_per_request,
        max_tokens_per_input=section.max_tokens_per_input,
    )


def distinct_texts(products: DataFrame, max_bytes: int) -> DataFrame:
    """Return one row per distinct embedding text.

    Parameters
    ----------
    products
        Columns text_hash, embedding_text.
    max_bytes
        Longest text sent, in UTF-8 bytes; longer ones are cut at a character and flagged.

    Returns
    -------
    DataFrame
        text_hash, n_products, text (as sent), sent_hash (sha256 hex of it, the vector store's key), truncated.
    """
    distinct = products.groupBy("text_hash").agg(
        F.min("embedding_text").alias("whole"), F.count("*").alias("n_products")
    )
    # Cut bytes may end inside a character; what remains of it becomes U+FFFD, which goes.
    cut = F.regexp_replace(
        F.make_valid_utf8(F.substring(F.col("whole").cast("binary"), 1, max_bytes).cast("string")), "\ufffd+$", ""
    )
    too_long = F.octet_length("whole") > max_bytes
    return distinct.withColumns(
        {"truncated": too_long, "text": F.when(too_long, cut).otherwise(F.col("whole"))}
    ).select(
        "text_hash",
        "n_products",
        "text",
        F.when(F.col("truncated"), F.sha2("text", 256)).otherwise(F.col("text_hash")).alias("sent_hash"),
        "truncated",
    )


def count_texts(texts: DataFrame) -> tuple[int, int]:
    """Return how many distinct texts there are, and how many of them were cut."""
    (n_texts, n_truncated) = texts.agg(F.count("*"), F.count_if("truncated")).collect()[0]
    return int(n_texts), int(n_truncated)


def stored_vectors(session: SparkSession, store: VectorStore, generation: Generation) -> DataFrame:
    """Return the vectors of a generation: text_hash, vector. Runs that raced may have stored a text twice."""
    uris = store.shard_uris(generation)
    if not uris:
        return session.createDataFrame([], SHARD_DDL)
    return session.read.schema(SHARD_DDL).parquet(*uris)


def missing_texts(texts: DataFrame, stored: DataFrame) -> DataFrame:
    """Return text_hash and text of what has no vector yet, each distinct text as sent once."""
    known = stored.select(F.col("text_hash").alias("sent_hash")).distinct()
    return (
        texts.join(known, on="sent_hash", how="left_anti")
        .groupBy("sent_hash")
        .agg(F.min("text").alias("text"))
        .withColumnRenamed("sent_hash", "text_hash")
    )


def product_vectors(texts: DataFrame, stored: DataFrame) -> DataFrame:
    """Return text_hash, n_products, vector, truncated, sorted by text_hash.

    Of a text that was stored twice, the smaller vector is taken: any fixed choice makes the table reproducible.
    """
    wanted = texts.select("sent_hash").distinct()
    found = (
        stored.withColumnRenamed("text_hash", "sent_hash")
        .join(wanted, on="sent_hash", how="left_semi")
        .groupBy("sent_hash")
        .agg(F.min("vector").alias("vector"))
    )
    return (
        texts.join(found, on="sent_hash", how="inner")
        .select("text_hash", "n_products", "vector", "truncated")
        .orderBy("text_hash")
    )


def refuse_remote_executors(session: SparkSession, provider: Provider) -> None:
    """Raise OptionError if executors on other machines would have to reach the bundled endpoint on this one."""
    conf = session.sparkContext.getConf()
    master, host = session.sparkContext.master or "", conf.get("spark.driver.host") or ""
    if provider.kind != "local" or master.startswith("local") or host in _LOOPBACK:
        return
    raise OptionError(
        f"The bundled endpoint listens on this machine's loopback; executors of {master} can't reach it.",
        next_step=(
            f"Set {KEY_VARIABLE} or OPENAI_BASE_URL, run this stage on a local[*] connection, or, if all workers are "
            "on this machine, set spark.driver.host=127.0.0.1."
        ),
    )


def check_key_on_executors(session: SparkSession, provider: Provider) -> None:
    """Raise BadKeyError if an executor doesn't see the key that the requests need, before any request is sent."""
    if provider.kind == "local" or not (provider.kind == "openai" or os.environ.get(KEY_VARIABLE)):
        return
    n_slots = session.sparkContext.defaultParallelism

    def look(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for _ in batches:
            pass
        missing = [] if os.environ.get(KEY_VARIABLE) else [socket.gethostname()]
        yield pa.RecordBatch.from_pydict({"host": pa.array(missing, pa.string())})

    blind = session.range(0, n_slots, numPartitions=n_slots).mapInArrow(look, "host string").distinct().collect()
    if blind:
        raise _no_key(", ".join(sorted(row["host"] for row in blind)))


def _no_key(host: str) -> BadKeyError:
    return BadKeyError(
        f"{KEY_VARIABLE} is set for the driver, but executors on {host} don't see it.",
        next_step=f"Put {KEY_VARIABLE} into the environment of every worker (never into --conf or arguments).",
    )


def embed_missing(missing: DataFrame, n_missing: int, job: Job, progress: Callable[..., None]) -> list[Row]:
    """Embed texts on the executors and commit their vectors; return one ledger row per request.

    Whatever happens, finished shards are committed: a run that fails is continued, not repeated.

    Parameters
    ----------
    missing
        text_hash, text.
    progress
        Called about every ten seconds with a format string and its arguments.

    Raises
    ------
    EmbeddingError
        The typed error of the first task that gave up.
    """
    n_slots = missing.sparkSession.sparkContext.defaultParallelism
    n_requests = -(-n_missing // job.limits.max_inputs)
    n_tasks = max(min(n_requests, n_slots * _TASKS_PER_SLOT), -(-n_requests // _REQUESTS_PER_TASK))
    # Kept in memory: a task that is tried again must see the same texts in the same order to find its own shards.
    spread = missing.repartition(n_tasks).persist()
    try:
        with _reported(job, n_missing, progress):
            ledger: list[Row] = spread.mapInArrow(lambda batches: _embed_share(batches, job), LEDGER_DDL).collect()
        job.store.commit(
            Shard(row["shard"], row["n_inputs"], row["shard_sha256"]) for row in ledger if row["shard"] is not None
        )
    finally:
        spread.unpersist()
        generation = job.store.adopt_orphans()
    reason = job.store.stop_reason(job.journal)
    if reason is not None:
        progress(
            "stopped: %s vectors of this run are kept in generation %d",
            f"{job.store.listed_rows(job.journal):,}",
            generation.number,
        )
        raise _typed(reason)
    return ledger


def _embed_share(batches: Iterator[pa.RecordBatch], job: Job) -> Iterator[pa.RecordBatch]:
    """One task: send its texts request by request; a shard is on storage before its ledger row is returned."""
    key = os.environ.get(KEY_VARIABLE, "") if job.provider.kind != "local" else ""
    if job.provider.kind == "openai" and not key:
        _stop(job, _no_key(socket.gethostname()))
        return
    with EmbeddingClient(job.provider, key, timeout_s=job.timeout_s, deadline_s=job.deadline_s) as client:
        for batch in pack(_texts(batches), job.limits):
            if job.store.stop_reason(job.journal) is not None:
                return
            try:
                yield pa.RecordBatch.from_pylist([_embed_batch(batch, client, job)], schema=_LEDGER_ARROW)
            except EmbeddingError as error:
                _stop(job, error)
                return


def _texts(batches: Iterator[pa.RecordBatch]) -> Iterator[Text]:
    for batch in batches:
        for text_hash, text in zip(batch["text_hash"].to_pylist(), batch["text"].to_pylist(), strict=True):
            yield Text(text_hash, text)


def _embed_batch(batch: list[Text], client: EmbeddingClient, job: Job) -> dict[str, Any]:
    hashes = [text.text_hash for text in batch]
    entry: dict[str, Any] = {"model": job.provider.model, "n_inputs": len(batch)}
    found = job.store.find_shard(job.journal, hashes)
    if found is not None:
        # An earlier try of this task was lost after its answer was stored: nothing is sent twice.
        return {**entry, "status": "recovered", "shard": found.path, "shard_sha256": found.sha256}
    answer = client.embed([text.text for text in batch])
    shard = job.store.write_shard(job.journal, hashes, answer.vectors)
    return {
        **entry,
        "request_id": answer.request_id,
        "requested_at": answer.requested_at,
        "n_tokens": answer.n_tokens,
        "n_retries": answer.n_retries,
        "latency_s": answer.latency_s,
        "status": "ok",
        "shard": shard.path,
        "shard_sha256": shard.sha256,
    }


def _stop(job: Job, error: EmbeddingError) -> None:
    """Leave the error where the driver and the other tasks find it.

    Raising it here would hand the driver a string, and make Spark try the task again.
    """
    job.store.stop(
        job.journal,
        {"error": type(error).__name__, "message": error.message, "next_step": error.next_step},
    )


def _typed(reason: dict[str, Any]) -> EmbeddingError:
    known = {
        kind.__name__: kind
        for kind in (
            EmbeddingUnavailableError,
            BadKeyError,
            client_module.InsufficientQuotaError,
            client_module.NoPermissionError,
            client_module.UnknownModelError,
            client_module.BadRequestError,
        )
    }
    kind = known.get(str(reason.get("error")), EmbeddingError)
    return kind(str(reason.get("message")), next_step=str(reason.get("next_step") or ""))


@contextmanager
def _reported(job: Job, n_missing: int, progress: Callable[..., None]) -> Iterator[None]:
    """Tell about every ten seconds how many vectors are stored, how fast, and how long the rest will take."""
    finished = threading.Event()
    started = time.monotonic()

    def report() -> None:
        while not finished.wait(_PROGRESS_EVERY_S):
            n_done = job.store.listed_rows(job.journal)
            rate = n_done / (time.monotonic() - started)
            left = f"about {(n_missing - n_done) / rate:,.0f} s left" if n_done else "first answers are on their way"
            progress("embedded %s of %s texts, %.0f texts/s, %s", f"{n_done:,}", f"{n_missing:,}", rate, left)

    reporter = threading.Thread(target=report, name="embedding-progress", daemon=True)
    reporter.start()
    try:
        yield
    finally:
        finished.set()
        reporter.join()


def check_complete(n_texts: int, n_rows: int, server: str) -> None:
    """Raise ArtifactError unless every distinct text has its vector."""
    if n_texts != n_rows:
        raise ArtifactError(
            f"{n_texts} distinct texts, but {n_rows} vectors from {server}.",
            next_step="Run the stage again; if it stays so, report it with the stage's manifest.",
        )
