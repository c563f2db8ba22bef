"""k-means passes on the executors, which read the table's files themselves.

A shard is a row group of one of the parquet files of product_vectors. The executor that first works on a shard keeps a
copy of its unit vectors as a plain file of float32 rows on its own disk; later passes map it into memory, and Spark
sends them where the copy is. Nothing is shuffled, and no vector goes through the JVM, which would cost more than the
arithmetic. What comes back of a pass is k x d numbers for each task: exact sums (`passes`), so that neither the cut of
the table nor the number of executors shows in the result.
"""

from __future__ import annotations

import math
import os
import posixpath
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from threadpoolctl import threadpool_limits

from shelfkin.artifacts import Root
from shelfkin.clustering.passes import Known, Rows, Spare, Totals, worst_of
from shelfkin.clustering.vectors import FloatArray, hash_bound, on_grid, unusable, usable_unit_vectors, vectors_of
from shelfkin.errors import ArtifactError

if TYPE_CHECKING:
    from pyspark import RDD, SparkContext

T = TypeVar("T")

# The sums of all tasks are on the driver at once.
TOTALS_BYTES = 512 * 2**20
# A pass makes one task for each core, as a task costs a tenth of a second by itself; more where they would be longer.
TASK_ROWS = 1_000_000
# Rows that are read at a time: 2,048 x 384 doubles are 6 MB, which stay near one core's cache.
READ_ROWS = 2048
# Footers that the driver reads at a time; on an object store, each is a round trip or two.
FOOTER_THREADS = 16


@dataclass(frozen=True)
class Shard:
    """A row group of a file of the table."""

    number: int
    path: str
    row_group: int
    n_rows: int


@dataclass(frozen=True)
class Copies:
    """An executor's own copies of shards, and what passes over them found out.

    Attributes
    ----------
    root
        The artifact root, which holds the table.
    name
        Folder of the copies, below the scratch folder that Spark gives each executor and deletes at its end.
    dimensions
        Length of a vector.
    """

    root: Root
    name: str
    dimensions: int

    def make(self, shard: Shard) -> Shard:
        """Copy a shard, unless this machine has it, and return it."""
        target = self._path(shard, "vectors")
        if target.exists():
            return shard
        weights = []
        with _finished(target) as file:
            for batch in self._read(shard, ["n_products", "vector"]):
                vectors, usable = usable_unit_vectors(vectors_of(batch.column("vector"), self.dimensions))
                vectors.tofile(file)
                weights.append(np.asarray(batch.column("n_products"), dtype=np.float64)[usable])
            # First, so that whoever finds vectors finds weights too.
            with _finished(self._path(shard, "weights")) as beside:
                np.concatenate(weights).tofile(beside)
        return shard

    def open(self, shard: Shard) -> Rows:
        """Return the rows of a shard that have a direction, mapped from the copy, and what is known of them.

        Raises
        ------
        ArtifactError
            The copy's files don't fit together.
        """
        self.make(shard)
        weights = np.fromfile(self._path(shard, "weights"))
        path, size = self._path(shard, "vectors"), len(weights) * self.dimensions * 4
        if path.stat().st_size != size:
            raise ArtifactError(
                f"{path}, a copy of {shard.path}, has {path.stat().st_size:,} bytes, not {size:,}.",
                next_step="See that the executors' disks aren't full, and run the stage again.",
            )
        # An empty file can't be mapped.
        flat = np.memmap(path, dtype=np.float32, mode="r") if size else np.empty(0, dtype=np.float32)
        return Rows(np.asarray(flat).reshape(-1, self.dimensions), weights, 1, self._known(shard))

    def totals(self, shards: Iterable[Shard], centroids: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return sums and mass of some shards together; see `passes.Totals`."""
        sums, mass = np.zeros(centroids.shape), np.zeros(len(centroids))
        for shard in shards:
            rows = self.open(shard)
            with threadpool_limits(1):
                found = rows(centroids)
            self._remember(shard, rows.known)
            sums += found.sums
            mass += found.mass
        return sums, mass

    def spares(self, shard: Shard, centroids: FloatArray, n: int) -> list[Spare]:
        """Return the rows of a shard that fit worst; see `passes.Rows.spares`."""
        with threadpool_limits(1):
            return self.open(shard).spares(centroids, n)

    def head(self, shard: Shard, bound: str) -> Head:
        """Return the rows of a shard whose hash lies below `bound`."""
        rows = self.open(shard)
        n_unusable = shard.n_rows - len(rows.weights)
        hashes = pa.chunked_array([batch.column("text_hash") for batch in self._read(shard, ["text_hash"])])
        # Of a table with unusable vectors, only their number is asked for.
        low = np.empty(0, dtype=np.int64) if n_unusable else np.flatnonzero(pc.less(hashes, bound))
        chosen = np.asarray(hashes.take(low).to_pylist(), dtype=np.str_)
        return Head(n_unusable, chosen, rows.vectors[low], rows.weights[low])

    def delete(self, shard: Shard) -> None:
        """Delete the copy of a shard from this machine."""
        for path in self._folder.glob(f"{shard.number}.*"):
            path.unlink(missing_ok=True)

    def _read(self, shard: Shard, columns: list[str]) -> Iterator[pa.RecordBatch]:
        # On an object store, a column is fetched in one request rather than page by page.
        with pq.ParquetFile(shard.path, filesystem=self.root.fs, pre_buffer=not self.root.is_local) as file:
            yield from file.iter_batches(READ_ROWS, row_groups=[shard.row_group], columns=columns, use_threads=False)

    def _known(self, shard: Shard) -> Known | None:
        path = self._path(shard, "known")
        if not path.exists():
            return None
        with path.open("rb") as file:
            return Known(*(np.load(file) for _ in fields(Known)))

    def _remember(self, shard: Shard, known: Known) -> None:
        with _finished(self._path(shard, "known")) as file:
            for field in fields(Known):
                np.save(file, getattr(known, field.name))

    @property
    def _folder(self) -> Path:
        # What PySpark itself spills to: PythonRunner hands a worker the local folders of its executor.
        return Path(os.environ.get("SPARK_LOCAL_DIRS", tempfile.gettempdir()).split(",")[0]) / self.name

    def _path(self, shard: Shard, what: str) -> Path:
        return self._folder / f"{shard.number}.{what}"


@contextmanager
def _finished(path: Path) -> Iterator[IO[bytes]]:
    """Open a new file that appears at `path` once it is complete: two tries of one task may run at a time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as file:
        try:
            yield file
            file.flush()
            Path(file.name).replace(path)
        finally:
            Path(file.name).unlink(missing_ok=True)


@dataclass(frozen=True)
class Head:
    """Rows of the lowest hashes: how many of the shard's vectors are unusable, hashes, vectors and weights."""

    n_unusable: int
    hashes: np.ndarray
    vectors: FloatArray
    weights: FloatArray


class SparkShards:
    """All shards of a table, and the pass over them: a `passes.DataPass`.

    Parameters
    ----------
    root
        The artifact root, which every executor reaches.
    table_uri
        Folder of the table's parquet files, below the root: columns text_hash, n_products and vector.
    k, dimensions
        Clusters wanted, and the length of a vector.
    """

    def __init__(self, context: SparkContext, root: Root, table_uri: str, k: int, dimensions: int) -> None:
        self._context = context
        self._copies = Copies(root, f"shards-{uuid.uuid4().hex}", dimensions)
        shards = list_shards(root, table_uri)
        self.n_rows = sum(shard.n_rows for shard in shards)
        wanted = max(context.defaultParallelism, math.ceil(self.n_rows / TASK_ROWS))
        n_tasks = max(1, min(wanted, len(shards), TOTALS_BYTES // (8 * k * dimensions)))
        # Persisted, so that Spark knows which executor has a copy, and sends each pass there.
        self._shards: RDD[Shard] = context.parallelize(shards, n_tasks).map(self._copies.make).persist()

    def __call__(self, centroids: FloatArray) -> Totals:
        """Return the totals of all shards."""
        copies = self._copies
        found = self._run(centroids, lambda shards, shared: [copies.totals(shards, shared)])
        near = on_grid(centroids).astype(np.float64)
        return Totals(near, np.sum([sums for sums, _ in found], axis=0), np.sum([mass for _, mass in found], axis=0))

    def spares(self, centroids: FloatArray, n: int) -> list[Spare]:
        """Return at most n different rows that fit these centroids worst, worst first."""
        copies = self._copies
        found = self._run(
            centroids, lambda shards, shared: [row for one in shards for row in copies.spares(one, shared, n)]
        )
        return worst_of(found, n)

    def head(self, n_rows: int) -> tuple[FloatArray, FloatArray]:
        """Return vectors and weights of the texts of the lowest hashes, a uniform sample (see `vectors.sample`).

        Raises
        ------
        DataQualityError
            A vector has no direction: NaN, infinity, all zero.
        """
        copies, bound = self._copies, hash_bound(n_rows, self.n_rows)
        found = self._shards.map(lambda shard: copies.head(shard, bound)).collect()
        n_unusable = sum(some.n_unusable for some in found)
        if n_unusable:
            raise unusable(n_unusable, self.n_rows)
        order = np.argsort(np.concatenate([some.hashes for some in found]), kind="stable")[:n_rows]
        vectors = np.concatenate([some.vectors for some in found])
        return vectors[order], np.concatenate([some.weights for some in found])[order]

    def close(self) -> None:
        """Delete the copies; those that this misses go with their executor."""
        self._shards.foreach(self._copies.delete)
        self._shards.unpersist()

    def _run(self, centroids: FloatArray, task: Callable[[Iterable[Shard], FloatArray], list[T]]) -> list[T]:
        """Run a task over all shards, with the centroids sent to each executor once."""
        shared = self._context.broadcast(centroids)
        found = self._shards.mapPartitions(lambda shards: task(shards, shared.value)).collect()
        shared.destroy()
        return found


def list_shards(root: Root, table_uri: str) -> list[Shard]:
    """Return the shards of a table, from the footers of its files."""
    files = [str(path) for path in root.fs.ls(table_uri, detail=False)]
    # As Spark does, leave out what starts with a dot or an underscore.
    paths = sorted(path for path in files if path.endswith(".parquet") and posixpath.basename(path)[0] not in "._")
    with ThreadPoolExecutor(FOOTER_THREADS) as pool:
        footers = pool.map(lambda path: pq.read_metadata(path, filesystem=root.fs), paths)
        groups = [
            (path, group, footer.row_group(group).num_rows)
            for path, footer in zip(paths, footers, strict=True)
            for group in range(footer.num_row_groups)
        ]
    return [Shard(number, *group) for number, group in enumerate(group for group in groups if group[2])]
