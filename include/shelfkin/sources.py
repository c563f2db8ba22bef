"""Read a shop's raw files, whatever their format, and lose no row on the way.

A raw frame has the columns `raw`, a struct of the file's own columns (strings for CSV and JSON lines), `malformed`, the
text of a line that could not be split into these columns, else NULL, and `text:<column>`, the trimmed text of each
column that the profile names. Both catalogue and events are read through here, so values that they share (ids,
numbers, times) are understood in one way.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812
from pyspark.sql import types as T  # noqa: N812

from shelfkin.errors import SourceError, without_controls
from shelfkin.profile import IdRule, Source

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


def normalised_id(column: str, rule: IdRule) -> Column:
    """Return an id as the rule writes it: trimmed, suffix stripped, case folded; blank is NULL."""
    found = text(column)
    if rule.strip_suffix:
        kept = found.substr(F.lit(1), F.length(found) - F.lit(len(rule.strip_suffix)))
        found = F.when(found.endswith(F.lit(rule.strip_suffix)), kept).otherwise(found)
    if rule.case != "keep":
        found = F.upper(found) if rule.case == "upper" else F.lower(found)
    return F.nullif(found, F.lit(""))


def breaks_pattern(normalised: Column, rule: IdRule) -> Column:
    """Return whether an id that was normalised doesn't match the rule's pattern as a whole."""
    if rule.pattern == ".+":
        return F.lit(False)
    return ~normalised.rlike(f"^(?:{rule.pattern})$")


def number(raw: RawTable, column: str | None, decimal_mark: str | None = None) -> Column:
    """Return a raw column as a finite double; what isn't a number is NULL."""
    if column is not None and isinstance(raw.type_of(column), T.NumericType):
        typed = value(column).cast("double")
        return _not_infinite(F.when(~F.isnan(typed), typed))
    return parse_number(text(column), decimal_mark)


def parse_number(written: Column, decimal_mark: str | None = None, grouped_dot: Column | None = None) -> Column:
    """Return the number that a person wrote, as a finite double; NULL if it can't be read.

    Of two different marks the last is the decimal mark; a mark that occurs twice groups thousands. A single comma
    before exactly three digits groups thousands ("1,299"), any other single comma is a decimal mark ("12,5"). A single
    dot is a decimal mark, except where `grouped_dot` holds and exactly three digits follow. Blanks, NBSP and
    apostrophes between digits group thousands. `decimal_mark` ends all guessing.

    Parameters
    ----------
    written
        Text column; currency signs must be gone.
    decimal_mark
        "." or "," where the profile knows it.
    grouped_dot
        Boolean column: whether "1.299" means one thousand two hundred and ninety-nine.
    """
    if decimal_mark is not None:
        return _not_infinite(let(_packed(written), lambda packed: _marked(packed, decimal_mark)))
    # Nearly every number is plain; only the others pay for the guessing.
    plain = written.rlike(r"^[+-]?(?:\d+\.?\d*|\.\d+)$")
    if grouped_dot is not None:
        plain = plain & ~(grouped_dot & written.rlike(r"^[+-]?[1-9]\d{0,2}\.\d{3}$"))
    guess = let(_packed(written), lambda packed: _guessed(packed, grouped_dot))
    return _not_infinite(F.when(plain, written.cast("double")).otherwise(guess))


def _packed(written: Column) -> Column:
    return F.regexp_replace(written, r"(?<=\d)[\s\u00A0\u2007\u2009\u202F'\u2019`](?=\d)", "")


def _marked(packed: Column, decimal_mark: str) -> Column:
    if decimal_mark == ",":
        return _digits(F.translate(F.replace(packed, F.lit("."), F.lit("")), ",", "."))
    return _digits(F.replace(packed, F.lit(","), F.lit("")))


def _guessed(packed: Column, grouped_dot: Column | None) -> Column:
    no_commas = F.replace(packed, F.lit(","), F.lit(""))
    no_dots = F.replace(packed, F.lit("."), F.lit(""))
    comma_groups = packed.rlike(r"^[+-]?[1-9]\d{0,2}(?:,\d{3})+(?:\.\d*)?$")
    # India groups by two and three digits: 1,29,999.00.
    indian = packed.rlike(r"^[+-]?\d{1,2}(?:,\d{2})+,\d{3}(?:\.\d*)?$")
    dot_groups = packed.rlike(r"^[+-]?\d{1,3}(?:\.\d{3})+,\d*$|^[+-]?\d{1,3}(?:\.\d{3}){2,}$")
    comma_decimal = packed.rlike(r"^[+-]?\d*,\d+$")
    if grouped_dot is not None:
        dot_groups = dot_groups | (grouped_dot & packed.rlike(r"^[+-]?[1-9]\d{0,2}\.\d{3}$"))
    return (
        F.when(comma_groups | indian, _digits(no_commas))
        .when(dot_groups | comma_decimal, _digits(F.translate(no_dots, ",", ".")))
        .otherwise(_digits(packed))
    )


def let(bound: Column, body: Callable[[Column], Column]) -> Column:
    """Return `body` of a value that is computed once.

    A column expression used in several places is computed in each; as the variable of a lambda it is computed once
    and keeps the plan small. Lambdas run interpreted, so this is for the rare branch of a `when`.
    """
    return F.element_at(F.transform(F.array(bound), body), 1)


def _digits(unified: Column) -> Column:
    return F.when(unified.rlike(r"^[+-]?(?:\d+\.?\d*|\.\d+)$"), unified.cast("double"))


def _not_infinite(found: Column) -> Column:
    # NULLIF, because `when` would compute the number once for the test and once for the result.
    infinity = F.lit(float("inf"))
    return F.nullif(F.nullif(found, infinity), -infinity)


def timestamp(raw: RawTable, column: str | None, pattern: str | None, timezone: str) -> Column:
    """Return a raw column as an instant; what isn't a time is NULL.

    A time that carries an offset is an instant already. One without is the wall clock of `timezone`. Whole numbers,
    in text those of 9 to 13 digits, are seconds since 1970 UTC, or milliseconds from 1e11 on (1973 in milliseconds,
    the year 5138 in seconds).

    Parameters
    ----------
    pattern
        Spark datetime pattern of text; None for ISO 8601 (date, or date and time) and seconds or milliseconds.
    timezone
        IANA name of the shop's zone.
    """
    if column is None:
        return F.lit(None).cast("timestamp")
    kind = raw.type_of(column)
    if isinstance(kind, T.TimestampType):
        return value(column)
    if isinstance(kind, T.TimestampNTZType | T.DateType):
        return _from_wall_clock(value(column).cast("timestamp"), timezone)
    if isinstance(kind, T.IntegralType):
        return _from_epoch(value(column))
    written = text(column)
    if pattern is not None:
        wall_clock = F.try_to_timestamp(written, F.lit(pattern))
        return wall_clock if _has_offset(pattern) else _from_wall_clock(wall_clock, timezone)
    # Spark also reads "2011" and "12:30" as times; only a whole date, with or without a time, is meant here.
    whole = F.when(written.rlike(r"^\d{4}-\d{1,2}-\d{1,2}(?:$|[T ])"), written.cast("timestamp"))
    with_offset = written.rlike(r"(?:[zZ]|UTC|GMT|[+-]\d{2}:?\d{2})$") & written.rlike("[T ]")
    iso = F.when(with_offset, whole).otherwise(_from_wall_clock(whole, timezone))
    # Fewer digits may be a compact date, 20111201.
    epoch = F.when(written.rlike(r"^\d{9,13}$"), written.cast("long"))
    return F.when(epoch.isNotNull(), _from_epoch(epoch)).otherwise(iso)


def _from_epoch(number: Column) -> Column:
    seconds = F.when(F.abs(number) >= 100_000_000_000, number / 1000).otherwise(number)
    return F.timestamp_millis((seconds * 1000).cast("long"))


def _has_offset(pattern: str) -> bool:
    letters = "".join(pattern.split("'")[::2])  # quoted parts of a Spark pattern are literal text
    return any(letter in letters for letter in "XxZzVO")


def _from_wall_clock(moment: Column, timezone: str) -> Column:
    """Move a wall clock that was read as UTC (every session runs in UTC) to the instant it means in `timezone`."""
    return moment if timezone == "UTC" else F.to_utc_timestamp(moment, timezone)


def row_hash() -> Column:
    """Return a 64-bit hash of the whole raw row, to tell exact copies from rows that share the cleaned fields."""
    return F.xxhash64(F.col("raw"))
