"""Find a profile's files, on this machine or on any file system that Hadoop knows, and look at their first bytes."""

from __future__ import annotations

import glob
import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from pyspark.sql import DataFrameReader, SparkSession

from shelfkin.encodings import Charset, charset, charset_of_file
from shelfkin.errors import SourceError
from shelfkin.sources.spark_errors import SPARK_ERRORS, explained

log = logging.getLogger("shelfkin")

# Enough for any header, and for a first impression of a file.
_HEAD_BYTES = 65_536


@dataclass(frozen=True)
class Head:
    """A file and its first bytes, unpacked; `charset` is how its text is encoded."""

    path: str
    first: bytes
    charset: Charset

    @property
    def is_marked(self) -> bool:
        """Whether the file begins with a byte order mark."""
        return self.first.decode(self.charset.python, errors="replace").startswith("\ufeff")

    @property
    def text(self) -> str:
        """The beginning of the file as text, without a byte order mark."""
        return self.first.decode(self.charset.python, errors="replace").removeprefix("\ufeff")


def list_paths(session: SparkSession, path: str) -> list[str]:
    """Return the paths, files or folders, that a path or glob stands for, sorted; empty if there are none."""
    jvm: Any = session._jvm
    hadoop_path = jvm.org.apache.hadoop.fs.Path(path)
    files = hadoop_path.getFileSystem(session._jsc.hadoopConfiguration())
    # First as it stands: `orders [1].csv` is a name, too.
    if files.exists(hadoop_path):
        return [path]
    try:
        return sorted(str(status.getPath()) for status in files.globStatus(hadoop_path) or ())
    except SPARK_ERRORS:
        # Hadoop's globs fail on names with a colon, which local file systems allow.
        return sorted(glob.glob(path))  # noqa: PTH207 - a whole path, not one below a folder


def find_files(session: SparkSession, paths: Sequence[str], key: str) -> list[str]:
    """Return the paths that a profile's paths stand for.

    Raises
    ------
    SourceError
        A path stands for nothing, or all files are empty.
    """
    found = []
    for path in paths:
        with explained(f"{path} can't be listed", key):
            matches = list_paths(session, path)
        if not matches:
            raise SourceError(
                f"There is no file {path} ({key}).",
                next_step=f"Put the file there, or correct {key} in the profile.",
            )
        found += matches
    found = list(dict.fromkeys(found))
    if sum(_size(session, each) for each in found) == 0:
        raise SourceError(
            f"{', '.join(paths)} ({key}) is empty: it holds 0 bytes.",
            next_step="Export the file again and check its size.",
        )
    return found


def _size(session: SparkSession, path: str) -> int:
    jvm: Any = session._jvm
    hadoop_path = jvm.org.apache.hadoop.fs.Path(path)
    files = hadoop_path.getFileSystem(session._jsc.hadoopConfiguration())
    return int(files.getContentSummary(hadoop_path).getLength())


def reader(session: SparkSession, paths: Sequence[str]) -> DataFrameReader:
    """Return a reader that takes paths as they stand: globs are resolved already, and names may hold their signs."""
    return session.read.options(__globPaths__="false", **_file_system(paths))


def _file_system(paths: Sequence[str]) -> dict[str, str]:
    """Return the Hadoop settings for local files with a colon in their names: the name of a checksum beside such a file
    is none to Hadoop, so the files are read without."""
    if not any(":" in path.removeprefix("file:") and "://" not in path.removeprefix("file://") for path in paths):
        return {}
    return {"fs.file.impl": "org.apache.hadoop.fs.RawLocalFileSystem", "fs.file.impl.disable.cache": "true"}


def heads(session: SparkSession, paths: Sequence[str], key: str, encoding: str) -> list[Head]:
    """Return the first bytes of every file of these paths, files and folders, that holds any."""
    with explained(f"{', '.join(paths)} can't be read", key):
        # Spark knows best which files of a folder it would read; a listing reads none.
        files = [unquote(uri) for uri in reader(session, paths).text(list(paths)).inputFiles()]
        with ThreadPoolExecutor(8) as threads:
            first_bytes = list(threads.map(lambda path: (path, _first_bytes(session, path)), sorted(files)))
    told = charset(encoding)
    found = [Head(path, first, _charset(path, first, told, key)) for path, first in first_bytes if first]
    if not found:
        raise SourceError(
            f"{', '.join(paths)} ({key}) is empty.", next_step="Export the file again and check its size."
        )
    return found


def _charset(path: str, first: bytes, told: Charset, key: str) -> Charset:
    """Return the encoding of a file; it is said where the file's own mark names another than the profile."""
    found = charset_of_file(first, told)
    if not found.is_wide and first.count(0) > len(first) / 5:
        raise SourceError(
            f"{path} ({key}) is not in {told.python}: every other byte is zero, as in UTF-16.",
            next_step=f"Set {key}.encoding: utf-16-le (or utf-16-be) in the profile.",
        )
    if found.java.removesuffix("LE").removesuffix("BE") != told.java.removesuffix("LE").removesuffix("BE"):
        log.warning("%s is read as %s, as its byte order mark says, not as %s", path, found.python, told.python)
    return found


def _first_bytes(session: SparkSession, path: str) -> bytes:
    with open_stream(session, path) as stream:
        return bytes(stream.readNBytes(_HEAD_BYTES))


@contextmanager
def open_stream(session: SparkSession, path: str) -> Iterator[Any]:
    """Open a file, unpacked, as a java.io.InputStream."""
    jvm: Any = session._jvm
    configuration = jvm.org.apache.hadoop.conf.Configuration(session._jsc.hadoopConfiguration())
    for name, value in _file_system([path]).items():
        configuration.set(name, value)
    hadoop_path = jvm.org.apache.hadoop.fs.Path(path)
    stream = hadoop_path.getFileSystem(configuration).open(hadoop_path)
    try:
        codec = jvm.org.apache.hadoop.io.compress.CompressionCodecFactory(configuration).getCodec(hadoop_path)
        yield stream if codec is None else codec.createInputStream(stream)
    finally:
        stream.close()
