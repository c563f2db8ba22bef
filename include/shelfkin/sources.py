"""Read a shop's raw files, whatever their format, and lose no row on the way.

A raw frame has the columns `raw`, a struct of the file's own columns (strings for CSV and JSON lines), `malformed`, the
text of a line that could not be split into these columns, else NULL, and `text:<column>`, the trimmed text of each
column that the profile names. What these texts mean is the matter of `shelfkin.values`.
"""

from __future__ import annotations

import codecs
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812
from pyspark.sql import types as T  # noqa: N812

from shelfkin.errors import SourceError, without_controls
from shelfkin.profile import Source

_MALFORMED = "_shelfkin_malformed"
# White space that surrounds ids in exports: ASCII blanks, NBSP, and the byte order mark of concatenated files.
_BLANKS = " \t\r\n\u00a0\ufeff"


@dataclass(frozen=True)
class RawTable:
    """Raw rows and where they came from.

    Attributes
    ----------
    frame
        Columns `raw` (struct of the file's columns), `malformed` (string or NULL) and `text:<column>` (string or NULL
        where blank) for each column that the profile names.
    path
        The files, as resolved from the profile.
    """

    frame: DataFrame
    path: str

    def type_of(self, column: str) -> T.DataType:
        """Return the Spark type of one of the file's columns."""
        return self.frame.select(value(column)).schema[0].dataType


def read_source(session: SparkSession, source: Source, path: str, wanted: Mapping[str, str], section: str) -> RawTable:
    """Return the rows of a profile's source.

    Parameters
    ----------
    source
        The profile's description of the files.
    path
        ``source.path`` with its variables resolved; may hold globs.
    wanted
        Column wanted for each profile key, for example ``{"events.fields.user_id": "CustomerID"}``.
    section
        The profile section that holds the source: "catalog" or "events".

    Raises
    ------
    SourceError
        There is no such file, it is empty or unreadable, or it lacks a wanted column.
    """
    _check_files(session, path, f"{section}.source.path")
    try:
        frame = _READERS[source.format](session, source, path)
    except PySparkException as error:
        raise SourceError(
            f"{path} can't be read as {source.format}: {_first_line(error)}",
            next_step=f"Check {section}.source.format and encoding in the profile, and open the file.",
        ) from error
    _check_columns(frame, path, source, wanted, section)
    columns = [name for name in frame.columns if name != _MALFORMED]
    malformed = F.col(_MALFORMED) if _MALFORMED in frame.columns else F.lit(None).cast("string")
    raw = F.struct(*[F.col(_quoted(name)) for name in columns])
    named = sorted(set(wanted.values()))
    # Columns of their own, not expressions: Spark would copy the expression into every place that uses the text.
    texts = [F.nullif(F.btrim(F.col(_quoted(name)).cast("string"), F.lit(_BLANKS)), F.lit("")) for name in named]
    trimmed = [each.alias(f"text:{name}") for name, each in zip(named, texts, strict=True)]
    return RawTable(frame.select(raw.alias("raw"), malformed.alias("malformed"), *trimmed), path)


def list_paths(session: SparkSession, glob: str) -> list[str]:
    """Return the paths that a glob of Hadoop's file systems matches, sorted; empty if there are none."""
    return sorted(str(path) for path in _matches(session, glob)[1])


def _matches(session: SparkSession, glob: str) -> tuple[Any, list[Any]]:
    """Return the Hadoop file system of a glob, and the paths that it matches."""
    jvm: Any = session._jvm
    hadoop_path = jvm.org.apache.hadoop.fs.Path(glob)
    files = hadoop_path.getFileSystem(session._jsc.hadoopConfiguration())
    return files, [status.getPath() for status in files.globStatus(hadoop_path) or ()]


def _check_files(session: SparkSession, path: str, key: str) -> None:
    files, found = _matches(session, path)
    if not found:
        raise SourceError(
            f"There is no file {path} ({key}).",
            next_step=f"Put the file there, or correct {key} in the profile.",
        )
    if sum(files.getContentSummary(each).getLength() for each in found) == 0:
        raise SourceError(
            f"{path} ({key}) is empty: it holds 0 bytes.", next_step="Export the file again and check its size."
        )


def _read_csv(session: SparkSession, source: Source, path: str) -> DataFrame:
    # Spark accepts few charset names unless told that any of Java's will do (cp1252 is common in shop exports).
    session.conf.set("spark.sql.legacy.javaCharsets", "true")
    options = {
        "sep": source.separator,
        "quote": source.quote,
        "escape": source.quote,
        "encoding": _java_charset(source.encoding),
        "multiLine": str(source.multiline).lower(),
        "mode": "PERMISSIVE",
        "columnNameOfCorruptRecord": _MALFORMED,
        # With pruning, a line with too few or too many fields passes unseen when the missing ones aren't asked for.
        "columnPruning": "false",
    }
    if source.header:
        cells = session.read.options(header="false", **options).csv(path).head()
        if cells is None:
            raise SourceError(f"{path} holds no line.", next_step="Export the file again and check its size.")
        given = [cell or "" for cell in cells]
        names = unique_names(given)
        # Later files of a glob must have the same header; a renamed header (blank, repeated) can't be compared.
        options |= {"header": "true", "enforceSchema": str(names != given).lower()}
    else:
        names = list(source.columns)
        options |= {"header": "false"}
    schema = T.StructType([T.StructField(name, T.StringType()) for name in [*names, _MALFORMED]])
    return session.read.options(**options).schema(schema).csv(path)


def _read_jsonl(session: SparkSession, source: Source, path: str) -> DataFrame:
    reader = session.read.options(
        primitivesAsString="true",
        mode="PERMISSIVE",
        columnNameOfCorruptRecord=_MALFORMED,
        encoding=_java_charset(source.encoding),
        lineSep="\n",
    )
    inferred = reader.json(path).schema
    names = {field.name for field in inferred}
    schema = inferred if _MALFORMED in names else inferred.add(_MALFORMED, T.StringType())
    return reader.schema(schema).json(path)


def _read_parquet(session: SparkSession, source: Source, path: str) -> DataFrame:
    return session.read.parquet(path)


_READERS = {"csv": _read_csv, "jsonl": _read_jsonl, "parquet": _read_parquet}


def _java_charset(encoding: str) -> str:
    """Return Java's name of an encoding that the profile names as Python does."""
    name = codecs.lookup(encoding).name
    return {"utf-8-sig": "utf-8", "iso8859-1": "ISO-8859-1"}.get(name, name)


def unique_names(cells: Sequence[str]) -> list[str]:
    """Return column names for the cells of a header: trimmed, none blank, none repeated (Spark ignores case)."""
    names: list[str] = []
    seen: set[str] = set()
    for position, cell in enumerate(cells, start=1):
        base = cell.strip(_BLANKS) or f"column_{position}"
        name, copy = base, 1
        while name.lower() in seen:
            copy += 1
            name = f"{base}_{copy}"
        seen.add(name.lower())
        names.append(name)
    return names


def _check_columns(frame: DataFrame, path: str, source: Source, wanted: Mapping[str, str], section: str) -> None:
    present = [name for name in frame.columns if name != _MALFORMED]
    missing = {key: column for key, column in wanted.items() if column not in present}
    if not missing:
        return
    asked = "; ".join(f"{key} wants column {column!r}" for key, column in missing.items())
    hint = " A wrong separator or encoding also shows up as one odd column." if len(present) == 1 else ""
    raise SourceError(
        f"{path}: {asked}; columns present: {without_controls(', '.join(present)) or 'none'}.{hint}",
        next_step=f"Correct {', '.join(missing)} (or {section}.source) in the profile.",
    )


def _first_line(error: Exception) -> str:
    return without_controls(str(error).strip().splitlines()[0][:300])


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def raw_json() -> Column:
    """Return the raw row as one JSON object of the file's own columns; a malformed line is kept as it stands."""
    # Spark allows no empty options map in to_json; NULL fields stay, so that the object shows every column.
    row = F.to_json(F.col("raw"), {"ignoreNullFields": "false"})
    line = F.to_json(F.struct(F.col("malformed").alias("malformed_line")))
    return F.when(F.col("malformed").isNotNull(), line).otherwise(row)


def value(column: str | None) -> Column:
    """Return a raw column's value in its own type; NULL for a field that the profile leaves out."""
    return F.lit(None).cast("string") if column is None else F.col("raw").getField(column)


def text(column: str | None) -> Column:
    """Return a raw column as trimmed text; blank text, and a field that the profile leaves out, is NULL."""
    return F.lit(None).cast("string") if column is None else F.col(_quoted(f"text:{column}"))


def row_hash() -> Column:
    """Return a 64-bit hash of the whole raw row, to tell exact copies from rows that share the cleaned fields."""
    return F.xxhash64(F.col("raw"))
