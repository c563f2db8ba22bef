"""Find a profile's files, on this machine or on any file system that Hadoop knows, and look at their first bytes."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from pyspark.sql import DataFrameReader, SparkSession

from shelfkin.errors import SourceError
from shelfkin.sources.spark_errors import SPARK_ERRORS, explained

# Enough for any header, and for a first impression of a file.
_HEAD_BYTES = 65_536


@dataclass(frozen=True)
class Head:
    """A file and its first bytes, unpacked."""

    path: str
    first: bytes


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


def heads(session: SparkSession, paths: Sequence[str], key: str) -> list[Head]:
    """Return the first bytes of every file of these paths, files and folders, that holds any."""
    with explained(f"{', '.join(paths)} can't be read", key):
        # Spark knows best which files of a folder it would read; a listing reads none.
        files = [unquote(uri) for uri in reader(session, paths).text(list(paths)).inputFiles()]
        with ThreadPoolExecutor(8) as threads:
            first = threads.map(lambda path: Head(path, _first_bytes(session, path)), sorted(files))
            return [head for head in first if head.first]


def _first_bytes(session: SparkSession, path: str) -> bytes:
    jvm: Any = session._jvm
    configuration = jvm.org.apache.hadoop.conf.Configuration(session._jsc.hadoopConfiguration())
    for name, value in _file_system([path]).items():
        configuration.set(name, value)
    hadoop_path = jvm.org.apache.hadoop.fs.Path(path)
    stream = hadoop_path.getFileSystem(configuration).open(hadoop_path)
    try:
        codec = jvm.org.apache.hadoop.io.compress.CompressionCodecFactory(configuration).getCodec(hadoop_path)
        if codec is not None:
            stream = codec.createInputStream(stream)
        return bytes(stream.readNBytes(_HEAD_BYTES))
    finally:
        stream.close()
