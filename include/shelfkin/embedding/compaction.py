"""Keeping the vector store readable: many small shards become few sorted ones; what nobody refers to is collected.

Small shards only: a store of a hundred million vectors isn't rewritten because a day brought a thousand (size-tiered
compaction, as in Lakshman & Malik 2010, "Cassandra", section 5.7).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pyarrow as pa
from pyspark import TaskContext
from pyspark.sql import SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the name every PySpark reader knows

from shelfkin.embedding.texts import read_shards
from shelfkin.embedding.vector_store import SHARD_SCHEMA, Generation, Shard, VectorStore
from shelfkin.errors import ArtifactError

log = logging.getLogger("shelfkin.embedding")

# Readers open every file: at 64 small ones that begins to show. One task reads 128 MB in a second or two.
MAX_SMALL_SHARDS = 64
TARGET_BYTES = 128 * 2**20
# Manifests pin generations: what an older run may still be reading stays for a month.
KEEP_FOR = timedelta(days=30)


def compact(
    session: SparkSession,
    store: VectorStore,
    generation: Generation,
    *,
    max_small: int = MAX_SMALL_SHARDS,
    target_bytes: int = TARGET_BYTES,
) -> Generation:
    """Merge the small shards of a generation if there are more than `max_small`; return the newest generation.

    Of a text that was stored twice, the row that every reader takes is kept: a vector before a refusal, and of two
    vectors the smaller one.

    Parameters
    ----------
    generation
        The newest one.
    target_bytes
        Size of a merged shard; shards of half that size and more are left alone.
    """
    small = [shard for shard in generation.shards if shard.size < target_bytes / 2]
    if len(small) <= max_small:
        return generation
    n_files = max(1, round(sum(shard.size for shard in small) / target_bytes))
    rows = read_shards(session, store, small)
    n_listed, n_read = sum(shard.rows for shard in small), rows.count()
    if n_read != n_listed:  # a cluster whose settings ignore missing files would lose what they held
        raise ArtifactError(
            f"{n_read} of {n_listed} rows of the vector store's small files can be read; nothing was merged.",
            next_step="Unset spark.sql.files.ignoreMissingFiles and ignoreCorruptFiles, then run again.",
        )
    # A vector before none; then the smaller one. Structs compare field by field, and false comes before true.
    first = F.min(F.struct(F.col("vector").isNull().alias("lacks"), "vector", "refused"))
    merged = (
        rows.groupBy("text_hash")
        .agg(first.alias("row"))
        .select("text_hash", "row.vector", "row.refused")
        .repartitionByRange(n_files, "text_hash")
        .sortWithinPartitions("text_hash")
    )
    name = f"compact-{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{generation.number:08d}"
    written = merged.mapInArrow(_writer(store, name), "path string, rows bigint, size bigint, sha256 string").collect()
    compacted = [Shard(**row.asDict()) for row in written]
    newest = store.commit(compacted, instead_of=small)
    log.info("%d small files of the vector store became %d", len(small), len(compacted))
    return newest


def _writer(store: VectorStore, folder: str) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """Return a function that writes a partition's rows as one shard and yields its entry."""

    def write(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        rows = pa.Table.from_batches(list(batches), schema=SHARD_SCHEMA)
        context = TaskContext.get()
        if rows.num_rows:
            shard = store.write_rows(folder, f"compact-{context.partitionId() if context else 0}", rows)
            yield pa.RecordBatch.from_pylist([vars(shard)])

    return write
