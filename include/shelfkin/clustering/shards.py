"""k-means passes on the executors: the catalogue's vectors lie in files of fixed ranges of the text hash.

Which texts share a shard, and in which order they stand in it, follows from their hashes alone, so that the sums of a
pass are added in one order however Spark has cut the table, and however many executors there are. A shard is a plain
file of float32 rows: a worker maps it into memory, which costs nothing after the first pass, where handing rows
through the JVM would cost more than the arithmetic. What comes back of a shard is k x d numbers.
"""

from __future__ import annotations

import math
import posixpath
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from pyspark.sql import functions as F  # noqa: N812 - the name every PySpark reader knows
from threadpoolctl import threadpool_limits

from shelfkin.artifacts import Root
from shelfkin.clustering.kmeans import Totals, shard_totals
from shelfkin.clustering.vectors import FloatArray, unusable, usable_unit_vectors, vectors_of
from shelfkin.mapped import MappedArray

if TYPE_CHECKING:
    from pyspark import SparkContext
    from pyspark.sql import Column, DataFrame

# Rows of a shard, about: 65,536 x 384 float32 are 100 MB, half a second of work for one core.
SHARD_ROWS = 65_536
# The totals of all shards are on the driver at once.
TOTALS_BYTES = 512 * 2**20
# Hash digits that place a text: 32 bits tell 4 billion places apart.
_DIGITS = 8

_WRITTEN_SCHEMA = "shard int, n_rows long, n_unusable long"


def n_shards(n_rows: int, k: int, dimensions: int) -> int:
    """Return the number of shards, a power of two that depends on the data's size only.

    About `SHARD_ROWS` rows each; fewer and larger ones where k x d is so large that their totals would fill the driver.
    """
    wanted = math.ceil(math.log2(max(n_rows / SHARD_ROWS, 1)))
    affordable = math.floor(math.log2(max(TOTALS_BYTES / (8 * k * dimensions), 1)))
    return 2 ** min(wanted, affordable)


def shard_ends(hashes: Sequence[str] | np.ndarray, n: int) -> list[int]:
    """Return where each of `n` shards ends among sorted hashes; the last one ends with them."""
    first_beyond = [f"{shard * 16**_DIGITS // n:0{_DIGITS}x}" for shard in range(1, n)]
    return [*np.searchsorted(hashes, first_beyond).tolist(), len(hashes)]


def shard_of(text_hash: Column, n: int) -> Column:
    """Return the number of the shard of a text hash: a power of two of equal ranges of its first 32 bits."""
    place = F.conv(F.substring(text_hash, 1, _DIGITS), 16, 10).cast("long")
    return F.floor(place * n / 16**_DIGITS).cast("int")


@dataclass(frozen=True)
class SparkShards:
    """Shards on storage, and the pass over them.

    Attributes
    ----------
    folder
        URI of the shards' folder, which every executor reaches.
    rows
        Texts in each shard.
    dimensions
        Length of a vector.
    """

    context: SparkContext
    root: Root
    folder: str
    rows: tuple[int, ...]
    dimensions: int

    @classmethod
    def write(cls, product_vectors: DataFrame, root: Root, folder: str, n: int, dimensions: int) -> SparkShards:
        """Write the shards of a table of text_hash, n_products and vector; one shuffle, and nothing on the driver.

        Raises
        ------
        DataQualityError
            A vector has no direction: NaN, infinity, all zero.
        """
        placed = product_vectors.select(
            shard_of(F.col("text_hash"), n).alias("shard"), "text_hash", F.col("n_products").cast("double"), "vector"
        )

        def write_shard(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            yield from _write_shard(batches, root, folder, dimensions)

        written = (
            placed.repartitionById(n, "shard")
            .sortWithinPartitions("text_hash")
            .mapInArrow(write_shard, _WRITTEN_SCHEMA)
            .collect()
        )
        n_unusable = sum(row["n_unusable"] for row in written)
        if n_unusable:
            raise unusable(n_unusable, n_unusable + sum(row["n_rows"] for row in written))
        rows = [0] * n
        for row in written:
            rows[row["shard"]] = row["n_rows"]
        return cls(product_vectors.sparkSession.sparkContext, root, folder, tuple(rows), dimensions)

    def __call__(self, centroids: FloatArray) -> Totals:
        """Return the totals of all shards: a `kmeans.DataPass`."""
        shared = self.context.broadcast(centroids)
        root, folder, dimensions = self.root, self.folder, self.dimensions
        # Without the closure of `self`, whose Spark context can't travel.
        tasks = [(shard, n_rows) for shard, n_rows in enumerate(self.rows) if n_rows]

        def one(task: tuple[int, int]) -> Totals:
            shard, n_rows = task
            vectors, weights = open_shard(root, folder, shard, n_rows, dimensions)
            with threadpool_limits(1):
                return shard_totals(vectors, weights, shared.value, shard)

        found = Totals.nothing(*centroids.shape)
        for totals in self.context.parallelize(tasks, len(tasks)).map(one).collect():
            found.add(totals)
        shared.unpersist()
        return found

    def head(self, n_rows: int) -> tuple[FloatArray, FloatArray]:
        """Return vectors and weights of the texts of the lowest hashes, a uniform sample, on the driver."""
        vectors, weights, found = [], [], 0
        for shard, rows in enumerate(self.rows):
            if found >= n_rows or not rows:
                continue
            some, some_weights = open_shard(self.root, self.folder, shard, rows, self.dimensions)
            vectors.append(np.array(some[: n_rows - found]))
            weights.append(np.array(some_weights[: n_rows - found]))
            found += len(vectors[-1])
        return np.concatenate(vectors), np.concatenate(weights)

    def remove(self) -> None:
        """Delete the shards."""
        if self.root.exists(self.folder):
            self.root.fs.rm(self.folder, recursive=True)


def _write_shard(
    batches: Iterator[pa.RecordBatch], root: Root, folder: str, dimensions: int
) -> Iterator[pa.RecordBatch]:
    """Write one partition, which is one shard in the order of its hashes, as rows of float32 and their weights."""
    weights: list[FloatArray] = []
    shard, n_unusable = None, 0
    with tempfile.TemporaryDirectory() as scratch:
        rows_file, weights_file = Path(scratch) / "vectors", Path(scratch) / "weights"
        with rows_file.open("wb") as out:
            for batch in batches:
                if not batch.num_rows:
                    continue
                shard = batch.column("shard")[0].as_py()
                vectors, usable = usable_unit_vectors(vectors_of(batch.column("vector"), dimensions))
                out.write(vectors.tobytes())
                weights.append(np.asarray(batch.column("n_products"), dtype=np.float64)[usable])
                n_unusable += int((~usable).sum())
        if shard is None:
            return
        n_rows = sum(len(some) for some in weights)
        weights_file.write_bytes(np.concatenate(weights).tobytes())
        root.put_file(rows_file, _uri(folder, shard, "vectors"))
        root.put_file(weights_file, _uri(folder, shard, "weights"))
    yield pa.RecordBatch.from_pydict(
        {"shard": pa.array([shard], pa.int32()), "n_rows": [n_rows], "n_unusable": [n_unusable]}
    )


def open_shard(root: Root, folder: str, shard: int, n_rows: int, dimensions: int) -> tuple[FloatArray, FloatArray]:
    """Return vectors (n, d) float32 and weights (n,) float64 of a shard, mapped from a local file.

    A shard that lies elsewhere is fetched once into the executor's own folder, which Spark deletes at the end.

    Raises
    ------
    ArtifactError
        A file has another size than was written.
    """
    vectors = MappedArray(root, _uri(folder, shard, "vectors"), (n_rows, dimensions), "float32")
    weights = MappedArray(root, _uri(folder, shard, "weights"), (n_rows,), "float64")
    return vectors.open(), weights.open()


def _uri(folder: str, shard: int, what: str) -> str:
    return posixpath.join(folder, f"{shard:05d}.{what}")
