"""Arrays in plain files that tasks map into memory: a machine holds one copy, however many tasks read it.

A Spark broadcast is unpickled by every Python worker on its own: two workers and the driver would hold 1.5 GB of
vectors three times.
"""

from __future__ import annotations

import os
import posixpath
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from shelfkin.artifacts import Root
from shelfkin.errors import ArtifactError

_ROWS_PER_PIECE = 65_536


@dataclass(frozen=True)
class MappedArray:
    """An array in a file, rows one after the other, that every executor reaches.

    Attributes
    ----------
    root
        Root of the file's file system.
    uri
        Where the file stands.
    shape
        Rows first.
    dtype
        Name of the NumPy type.
    """

    root: Root
    uri: str
    shape: tuple[int, ...]
    dtype: str

    @classmethod
    def write(cls, root: Root, uri: str, array: np.ndarray, rows: np.ndarray | None = None) -> MappedArray:
        """Write an array, or some rows of it in an order of their own; a reader sees nothing or all of it."""
        n_rows = len(array) if rows is None else len(rows)
        with tempfile.TemporaryDirectory() as scratch:
            local = _beside(root, uri) or Path(scratch) / "array"
            with local.open("wb") as file:
                # In pieces: a copy of all rows in another order would double the driver's memory.
                for start in range(0, n_rows, _ROWS_PER_PIECE):
                    piece = slice(start, start + _ROWS_PER_PIECE)
                    np.ascontiguousarray(array[piece] if rows is None else array[rows[piece]]).tofile(file)
            root.put_file(local, uri)
        return cls(root, uri, (n_rows, *array.shape[1:]), array.dtype.name)

    def open(self) -> np.ndarray:
        """Return the array, read-only, mapped from a local file.

        A file that lies elsewhere is fetched once into the executor's own folder, which Spark deletes at the end.

        Raises
        ------
        ArtifactError
            The file is missing, or has another size than was written.
        """
        size = int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize
        path = _local(self.root, self.uri)
        if not path.exists() or path.stat().st_size != size:
            raise ArtifactError(f"{self.uri} is missing, or not of {size:,} bytes.", next_step="Run the stage again.")
        if not size:
            return np.empty(self.shape, dtype=self.dtype)
        return np.memmap(path, dtype=self.dtype, mode="r", shape=self.shape)


@dataclass(frozen=True)
class Scratch:
    """A folder of mapped arrays that goes when its ``with`` block ends.

    Attributes
    ----------
    root, uri
        Where the folder stands; every executor must reach it.
    """

    root: Root
    uri: str

    def put(self, name: str, array: np.ndarray, rows: np.ndarray | None = None) -> MappedArray:
        """Write an array, or some rows of it; `name` is made unique, so that no file that is mapped is written over."""
        return MappedArray.write(self.root, posixpath.join(self.uri, f"{name}-{os.urandom(4).hex()}"), array, rows)

    def __enter__(self) -> Scratch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.root.exists(self.uri):
            self.root.fs.rm(self.uri, recursive=True)


def _beside(root: Root, uri: str) -> Path | None:
    """Return a name beside a local target: /tmp may be a small disk, or memory."""
    if not root.is_local:
        return None
    target = Path(uri.removeprefix("file://"))
    target.parent.mkdir(parents=True, exist_ok=True)
    return target.with_name(f".writing-{target.name}")


def _local(root: Root, uri: str) -> Path:
    if root.is_local:
        return Path(uri.removeprefix("file://"))
    from pyspark import SparkFiles

    path = Path(SparkFiles.getRootDirectory()) / uri.replace("://", "/").replace("/", "-")
    if not path.exists():
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            root.fs.get_file(uri, file.name)
        Path(file.name).replace(path)
    return path
