"""Read one source in its format: rows with the source's own columns, and those that can't be read as text.

CSV and TSV have a module of their own, `csv_files`. Every reader returns a frame with the column MALFORMED, the text of
a record that could not be read, else NULL.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote

from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812
from pyspark.sql import types as T  # noqa: N812

from shelfkin.encodings import charset
from shelfkin.errors import SourceError
from shelfkin.profile import Source
from shelfkin.sources.csv_files import read_csv
from shelfkin.sources.files import heads, reader
from shelfkin.sources.raw_table import MALFORMED, quoted

_PERMISSIVE = {"mode": "PERMISSIVE", "columnNameOfCorruptRecord": MALFORMED}


def read_files(
    session: SparkSession, source: Source, paths: Sequence[str], options: Mapping[str, str], key: str
) -> DataFrame:
    """Return the rows of files; `options` are the profile's own for Spark's reader, `key` names the source."""
    if source.format in ("csv", "tsv"):
        return read_csv(session, source, paths, options, key)
    if source.format in ("json", "jsonl"):
        return _read_json(session, source, paths, options, key)
    if source.format == "xml":
        return _read_xml(session, source, paths, options, key)
    if source.format == "parquet":
        return _read_parquet(session, paths, options, key)
    return _typed(reader(session, paths).options(**options).format(source.format).load(list(paths)))


def read_other(session: SparkSession, source: Source, paths: Sequence[str], options: Mapping[str, str]) -> DataFrame:
    """Return the rows that another of Spark's readers finds, for example jdbc."""
    loader = session.read.format(source.format).options(**options)
    return _typed(loader.load(list(paths)) if paths else loader.load())


def _typed(frame: DataFrame) -> DataFrame:
    return frame.withColumn(MALFORMED, F.lit(None).cast("string"))


def _read_json(
    session: SparkSession, source: Source, paths: Sequence[str], options: Mapping[str, str], key: str
) -> DataFrame:
    found = {"primitivesAsString": "true", **_PERMISSIVE}
    head = heads(session, paths, key, source.encoding)[0]
    if _is_one_document(head.text):
        found["multiLine"] = "true"
    else:
        found["lineSep"] = "\n"
    # Told UTF-8, which is the default, Spark would write numbers anew: 12345678.5 as 1.23456785E7.
    if head.charset.is_wide and head.is_marked and "lineSep" in found:
        raise SourceError(
            f"{head.path} ({key}) holds JSON lines in UTF-16 with a byte order mark, which Spark can't read.",
            next_step="Convert it: iconv -f utf-16 -t utf-8.",
        )
    if head.charset.java != "UTF-8":
        found["encoding"] = head.charset.java
    frame = _inferred(session, "json", paths, found | dict(options), key)
    # Outside of UTF-8 lines, Spark marks numbers that JSON doesn't have by quotes.
    texts = [field.name for field in frame.schema if isinstance(field.dataType, T.StringType)]
    no_numbers = ['"NaN"', '"Infinity"', '"-Infinity"']
    columns = {
        name: F.when(~F.col(quoted(name)).isin(no_numbers), F.col(quoted(name))) for name in texts if name != MALFORMED
    }
    return frame.withColumns(columns) if "multiLine" in found or "encoding" in found else frame


def _is_one_document(first: str) -> bool:
    """Return whether a JSON file is one array or object over several lines, rather than one object a line."""
    text = first.lstrip()
    line = text.split("\n", 1)[0]
    try:
        json.loads(line)
    except json.JSONDecodeError:
        return line.rstrip() in ("[", "{", "[{") or text.startswith("[")
    return False


def _read_xml(
    session: SparkSession, source: Source, paths: Sequence[str], options: Mapping[str, str], key: str
) -> DataFrame:
    # A merchant feed's rows are its items. Values stay text, so that ids keep their zeros.
    found = {"rowTag": "item", "inferSchema": "false", **_PERMISSIVE}
    head = heads(session, paths, key, source.encoding)[0]
    declared = re.match(r"\s*<\?xml[^>]*?encoding=[\"']([\w.-]+)[\"']", head.text)
    found["charset"] = charset(declared[1]).java if declared and source.encoding == "utf-8" else head.charset.java
    return _inferred(session, "xml", paths, found | dict(options), key)


def _inferred(
    session: SparkSession, kind: str, paths: Sequence[str], options: Mapping[str, str], key: str
) -> DataFrame:
    """Read files whose columns Spark finds by a first pass, all of them, and the records that can't be read."""
    load: Any = reader(session, paths).options(**options).format(kind)
    session.conf.set("spark.sql.caseSensitive", "true")
    try:
        inferred = load.load(list(paths)).schema
    finally:
        session.conf.unset("spark.sql.caseSensitive")
    _refuse_twins([field.name for field in inferred], ", ".join(paths), key)
    schema = inferred if MALFORMED in inferred.names else inferred.add(MALFORMED, T.StringType())
    return load.schema(schema).load(list(paths))


def _refuse_twins(names: Sequence[str], path: str, key: str) -> None:
    """Raise SourceError for columns that differ by case only: Spark can't tell them apart."""
    seen: dict[str, str] = {}
    for name in names:
        twin = seen.setdefault(name.lower(), name)
        if twin != name:
            raise SourceError(
                f"{path} ({key}) holds the columns {twin} and {name}, which differ by case only.",
                next_step="Write one of them everywhere, in the export or with sed, and read the file again.",
            )


def _read_parquet(session: SparkSession, paths: Sequence[str], options: Mapping[str, str], key: str) -> DataFrame:
    load: Any = reader(session, paths).options(**options)
    session.conf.set("spark.sql.caseSensitive", "true")
    session.conf.set("spark.sql.legacy.parquet.nanosAsLong", "true")
    try:
        frame = _merged(load, paths)
        names = [field.name for field in frame.schema]
    finally:
        session.conf.unset("spark.sql.caseSensitive")
    _refuse_twins(names, ", ".join(paths), key)
    return _typed(frame.withColumns(_from_nanoseconds(session, frame)))


def _merged(load: Any, paths: Sequence[str]) -> DataFrame:
    """Return the frame with the columns of all files; files whose types differ are read with the first one's."""
    frame: DataFrame = load.option("mergeSchema", "false").parquet(*paths)
    if len(frame.inputFiles()) == 1:  # To merge, Spark runs a job of its own.
        return frame
    try:
        return load.option("mergeSchema", "true").parquet(*paths)
    except AnalysisException:
        return frame


def _from_nanoseconds(session: SparkSession, frame: DataFrame) -> dict[str, Any]:
    """Return the times that a frame holds as whole numbers of nanoseconds, which Spark has no type for."""
    if not any(isinstance(field.dataType, T.LongType) for field in frame.schema):
        return {}
    jvm: Any = session._jvm
    hadoop = jvm.org.apache.parquet.hadoop
    path = jvm.org.apache.hadoop.fs.Path(unquote(frame.inputFiles()[0]))
    file = hadoop.ParquetFileReader.open(hadoop.util.HadoopInputFile.fromPath(path, session._jsc.hadoopConfiguration()))
    try:
        schema = str(file.getFileMetaData().getSchema().toString())
    finally:
        file.close()
    found = {}
    for name, is_utc in re.findall(r"int64 (\S+) \(TIMESTAMP\(NANOS,(true|false)\)\)", schema):
        if name in frame.columns:
            micros = F.timestamp_micros(F.expr(f"({quoted(name)} - pmod({quoted(name)}, 1000)) div 1000"))
            found[name] = micros if is_utc == "true" else micros.cast("timestamp_ntz")
    return found
