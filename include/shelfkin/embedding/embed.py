"""Embedding what the vector store lacks: the driver gives permits under one quota, Spark tasks send the requests."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
from py4j.protocol import Py4JError
from pyspark import TaskContext
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

from shelfkin.embedding import client as client_module
from shelfkin.embedding.batching import Limits, Text
from shelfkin.embedding.client import BadKeyError
from shelfkin.embedding.concurrency import ConcurrencyLimit
from shelfkin.embedding.coordinator import Budget, Coordinator
from shelfkin.embedding.journal import Journal
from shelfkin.embedding.permit_server import PermitServer
from shelfkin.embedding.permits import Address, PermitLine
from shelfkin.embedding.progress import report_progress
from shelfkin.embedding.provider import KEY_VARIABLE, Provider
from shelfkin.embedding.quota import Quota, RateLimits
from shelfkin.embedding.sender import Job, embed_share
from shelfkin.embedding.store import Shard
from shelfkin.embedding.texts import Plan
from shelfkin.errors import ArtifactError, EmbeddingError, EmbeddingUnavailableError, OptionError
from shelfkin.profile import Embedding

log = logging.getLogger("shelfkin.embedding")

# A second or two of work on a laptop, so that progress is seen; and shards that are not tiny.
_LOCAL_INPUTS = 512
# The bundled model uses all cores for one request; a second one in line keeps it busy.
_LOCAL_UNDER_WAY = 4
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
# Enough tasks that the slowest doesn't hold up the rest; in a first load of millions, tasks that stay small in memory.
_TASKS_PER_SLOT = 4
_REQUESTS_PER_TASK = 50
# After a stop, requests under way may finish and be stored: they are paid for. Then their tasks are cut off.
_STOP_GRACE_S = 8.0
_JOB_GROUP = "shelfkin-embedding"


def limits_of(section: Embedding, provider: Provider) -> Limits:
    """Return what one request to this provider may hold."""
    default = _LOCAL_INPUTS if provider.kind == "local" else Limits.max_inputs
    return Limits(
        max_inputs=section.max_inputs_per_request or default,
        max_tokens=section.max_tokens_per_request,
        max_tokens_per_input=section.max_tokens_per_input,
    )


def quota_of(section: Embedding) -> Quota:
    """Return the quota as the profile knows it, before any answer."""
    return Quota(
        RateLimits(
            section.requests_per_minute, section.tokens_per_minute, section.requests_per_day, section.tokens_per_day
        ),
        headroom=section.quota_headroom,
        burst_s=section.quota_burst_s,
        now=time.monotonic(),
        max_tokens_per_request=section.max_tokens_per_request,
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


@contextmanager
def coordinated(
    session: SparkSession,
    section: Embedding,
    provider: Provider,
    journal: Journal,
    *,
    usd_per_token: float,
    n_texts: int,
    dimensions: int | None,
) -> Iterator[tuple[Coordinator, Address]]:
    """Run the quota coordinator on the driver while the block lasts.

    It binds to ``spark.driver.bindAddress`` and is reached at ``spark.driver.host``, as the driver itself; in local
    mode to the loopback.
    """
    conf = session.sparkContext.getConf()
    local = str(session.sparkContext.master).startswith("local")
    host = "127.0.0.1" if local else str(conf.get("spark.driver.host"))
    bind = "127.0.0.1" if local else str(conf.get("spark.driver.bindAddress") or host)
    highest = _LOCAL_UNDER_WAY if provider.kind == "local" else section.max_requests_under_way
    coordinator = Coordinator(
        quota_of(section),
        ConcurrencyLimit(highest=highest),
        journal,
        usd_per_token=usd_per_token,
        budget=Budget(section.budget_tokens, section.budget_usd),
        patience_s=section.deadline_s,
        max_refused=max_refused(section, n_texts),
        dimensions=dimensions,
    )
    server = PermitServer(coordinator, journal)
    address = server.start(bind, section.coordinator_port, host)
    try:
        yield coordinator, address
    finally:
        server.close()
        journal.end()


def executors_reach(session: SparkSession, provider: Provider, address: Address) -> bool:
    """Whether every executor reaches the coordinator, asked before the first request is sent.

    Raises
    ------
    BadKeyError
        An executor doesn't see the key that the requests need.
    """
    needs_key = provider.kind == "openai" or (provider.kind == "compatible" and bool(os.environ.get(KEY_VARIABLE)))
    local = str(session.sparkContext.master).startswith("local")
    if local and not needs_key:
        return True

    def look(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for _ in batches:
            pass
        try:
            PermitLine(address).close()
            reached = True
        except (OSError, EmbeddingError):
            reached = False
        row = {
            "host": socket.gethostname(),
            "has_key": bool(os.environ.get(KEY_VARIABLE)),
            "reached": reached,
        }
        yield pa.RecordBatch.from_pylist([row])

    n_slots = session.sparkContext.defaultParallelism
    ddl = "host string, has_key boolean, reached boolean"
    seen = session.range(0, n_slots, numPartitions=n_slots).mapInArrow(look, ddl).distinct().collect()
    blind = sorted(row["host"] for row in seen if not row["has_key"])
    if needs_key and blind:
        raise BadKeyError(
            f"{KEY_VARIABLE} is set for the driver, but executors on {', '.join(blind)} don't see it.",
            next_step=f"Put {KEY_VARIABLE} into the environment of every worker (never into --conf or arguments).",
        )
    deaf = sorted(row["host"] for row in seen if not row["reached"])
    if deaf:
        log.warning(
            "executors on %s can't reach the quota coordinator at %s:%d: requests go out from the driver. "
            "Open the port (embedding.coordinator_port) or set spark.driver.host to use the executors.",
            ", ".join(deaf),
            address.host,
            address.port,
        )
    return not deaf


def embed_missing(
    missing: DataFrame,
    plan: Plan,
    job: Job,
    coordinator: Coordinator,
    *,
    on_executors: bool,
    progress: Callable[..., None],
) -> None:
    """Embed texts and commit their vectors.

    Whatever happens, finished shards are committed: a run that fails is continued, not repeated.

    Parameters
    ----------
    missing
        text_hash, text, n_tokens.
    on_executors
        Whether the executors send the requests; otherwise the driver does.
    progress
        Called at a calm pace with a format string and its arguments.

    Raises
    ------
    EmbeddingError
        The typed error of the first task that gave up.
    """
    # By hash: a task that is tried again, even on another machine, gets the same texts and finds its own shards.
    spread = missing.repartition(_n_tasks(missing.sparkSession, plan, job), "text_hash").persist()
    try:
        with report_progress(coordinator, plan, progress), _cut_off_after_stop(missing.sparkSession, coordinator):
            if on_executors:
                _embed_on_executors(spread, job)
            else:
                _embed_on_driver(spread, job, coordinator)
    except (Py4JError, PySparkException):
        if coordinator.stop_reason is None:
            raise  # not the cut that we made ourselves
    finally:
        spread.unpersist()
        stopped = coordinator.stop_reason
        if stopped is not None and stopped["error"] == client_module.TooManyRefusedError.__name__:
            # So many refusals are the settings' fault sooner than the texts': they must not stand as known.
            job.store.drop_refused(job.journal)
        job.store.commit(Shard(**entry) for entry in coordinator.shards)
        generation = job.store.adopt_orphans()
    if coordinator.stop_reason is not None:
        progress(
            "stopped: %s vectors of this run are kept in generation %d",
            f"{coordinator.totals.texts:,}",
            generation.number,
        )
        raise typed_error(coordinator.stop_reason)


def _n_tasks(session: SparkSession, plan: Plan, job: Job) -> int:
    n_requests = max(-(-plan.n_texts // job.limits.max_inputs), -(-plan.n_tokens // job.limits.max_tokens))
    n_slots = session.sparkContext.defaultParallelism
    return max(1, min(n_requests, n_slots * _TASKS_PER_SLOT), -(-n_requests // _REQUESTS_PER_TASK))


def _embed_on_executors(spread: DataFrame, job: Job) -> None:
    def share(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        context = TaskContext.get()
        texts = (text for batch in batches for text in _texts(batch))
        n_packed = embed_share(texts, context.partitionId() if context else 0, _key(job.provider), job)
        yield pa.RecordBatch.from_pydict({"n_requests": pa.array([n_packed], pa.int64())})

    spread.mapInArrow(share, "n_requests bigint").collect()


def _embed_on_driver(spread: DataFrame, job: Job, coordinator: Coordinator) -> None:
    """Send from this process; after a stop, requests that hang are left behind like tasks that are cut off."""
    rows = spread.toLocalIterator(prefetchPartitions=True)
    texts = (Text(row["text_hash"], row["text"], row["n_tokens"]) for row in rows)
    errors: list[BaseException] = []

    def send() -> None:
        try:
            embed_share(texts, 0, _key(job.provider), job)
        except BaseException as error:  # noqa: BLE001 - handed on to the thread that waits
            errors.append(error)

    sending = threading.Thread(target=send, name="embedding-driver", daemon=True)
    sending.start()
    while sending.is_alive() and not coordinator.wait_stopped(0.5):
        pass
    sending.join(_STOP_GRACE_S if coordinator.stop_reason is not None else None)
    if errors and coordinator.stop_reason is None:
        raise errors[0]


def _key(provider: Provider) -> str:
    return os.environ.get(KEY_VARIABLE, "") if provider.kind != "local" else ""


def _texts(batch: pa.RecordBatch) -> Iterator[Text]:
    columns = (batch[name].to_pylist() for name in ("text_hash", "text", "n_tokens"))
    for text_hash, text, n_tokens in zip(*columns, strict=True):
        yield Text(text_hash, text, n_tokens)


@contextmanager
def _cut_off_after_stop(session: SparkSession, coordinator: Coordinator) -> Iterator[None]:
    """Cancel the Spark job a grace after the run was stopped: a request that hangs must not hold up the end."""
    context = session.sparkContext
    finished = threading.Event()

    def watch() -> None:
        while not finished.is_set():
            if coordinator.wait_stopped(0.5):
                if not finished.wait(_STOP_GRACE_S):
                    context.cancelJobGroup(_JOB_GROUP)
                return

    context.setJobGroup(_JOB_GROUP, "embedding texts", interruptOnCancel=True)
    watcher = threading.Thread(target=watch, name="embedding-stop", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        finished.set()
        watcher.join()
        for name in ("spark.jobGroup.id", "spark.job.description", "spark.job.interruptOnCancel"):
            context.setLocalProperty(name, None)  # type: ignore[arg-type]


def typed_error(reason: dict[str, Any]) -> EmbeddingError:
    """Return the error that a stop's reason stands for."""
    kinds = (
        EmbeddingUnavailableError,
        BadKeyError,
        client_module.BadRequestError,
        client_module.BudgetError,
        client_module.InsufficientQuotaError,
        client_module.NoPermissionError,
        client_module.TooManyRefusedError,
        client_module.UnknownModelError,
    )
    kind = {kind.__name__: kind for kind in kinds}.get(str(reason.get("error")), EmbeddingError)
    return kind(str(reason.get("message")), next_step=str(reason.get("next_step") or ""))


def max_refused(section: Embedding, n_texts: int) -> int:
    """Return how many of `n_texts` distinct texts the server may refuse for good; one always may."""
    return max(1, int(section.max_refused_share * n_texts))


def check_complete(n_texts: int, n_vectors: int, n_refused: int, limit: int, server: str) -> None:
    """Raise unless every distinct text has a vector or a refusal, and at most `limit` are refused."""
    if n_texts != n_vectors + n_refused:
        raise ArtifactError(
            f"{n_texts} distinct texts, but {n_vectors} vectors and {n_refused} refusals from {server}.",
            next_step="Run the stage again; if it stays so, report it with the stage's manifest.",
        )
    if n_refused > limit or (n_texts and not n_vectors):
        raise client_module.TooManyRefusedError(
            f"{server} refuses {n_refused} of {n_texts} texts; {limit} may be.",
            next_step="Mend the texts, raise embedding.max_refused_share, or, if the server's settings were to blame, "
            "set embedding.retry_refused for one run.",
        )
