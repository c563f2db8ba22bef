"""Raw rows as the cleaning stages see them, whatever they were read from.

A raw frame has the columns `raw`, a struct of the source's own columns (strings for text files), `malformed`, the text
of a line that could not be split into these columns, else NULL, and `text:<column>`, the trimmed text of each column
that the profile names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812
from pyspark.sql import types as T  # noqa: N812

from shelfkin.sources.spark_errors import explained

MALFORMED = "_shelfkin_malformed"
# White space that surrounds ids in exports: ASCII blanks, NBSP, and the byte order mark of concatenated files.
BLANKS = " \t\r\n\u00a0\ufeff"


@dataclass(frozen=True)
class RawTable:
    """Raw rows and where they came from.

    Attributes
    ----------
    frame
        Columns `raw` (struct of the source's columns), `malformed` (string or NULL) and `text:<column>` (string or NULL
        where blank) for each column that the profile names.
    path
        Where the rows are from, for messages: the files, as resolved from the profile, or the query.
    metrics
        Figures for the manifest: `source`, of dated files `snapshot_date` and `revision`, and `source_tables` with the
        rows of each named table.
    key
        The profile's key of what was read, for messages.
    secrets
        Values that no message may hold.
    damage
        What `findings` asks.
    """

    frame: DataFrame
    path: str
    metrics: Mapping[str, Any] = field(default_factory=dict)
    key: str = "source"
    secrets: tuple[str, ...] = field(default=(), repr=False)
    damage: Callable[[], dict[str, int]] = field(default=dict, repr=False)

    def type_of(self, column: str) -> T.DataType:
        """Return the Spark type of one of the source's columns."""
        return self.frame.select(value(column)).schema[0].dataType

    def findings(self) -> dict[str, int]:
        """Return how many rows reading has damaged, for the manifest; call it after an action has read all rows.

        Raises
        ------
        SourceError
            A file is in another encoding than the profile says.
        """
        return self.damage()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Turn what goes wrong while the rows are read, which Spark does late, into a SourceError in plain words."""
        with explained(f"{self.path} can't be read", self.key, self.secrets):
            yield


def raw_frame(rows: DataFrame, named: Iterable[str]) -> DataFrame:
    """Return the raw frame of rows with their own columns and MALFORMED; `named` are the profile's columns."""
    columns = [column for column in rows.schema if column.name != MALFORMED]
    raw = F.struct(*[_storable(column).alias(column.name) for column in columns])
    # Columns of their own, not expressions: Spark would copy the expression into every place that uses the text.
    texts = [
        F.nullif(F.btrim(F.col(quoted(name)).cast("string"), F.lit(BLANKS)), F.lit("")).alias(f"text:{name}")
        for name in sorted(set(named))
    ]
    return rows.select(raw.alias("raw"), F.col(MALFORMED).alias("malformed"), *texts)


def _storable(column: T.StructField) -> Column:
    """Return a column in a type that can be hashed and compared: maps as JSON, odd types as text."""
    found, kind = F.col(quoted(column.name)), column.dataType
    if "map<" in kind.simpleString():
        return F.to_json(found)
    if isinstance(kind, T.NullType | T.VariantType | T.DayTimeIntervalType | T.YearMonthIntervalType):
        return found.cast("string")
    return found


def quoted(name: str) -> str:
    """Return a column's name as Spark's SQL quotes it."""
    return "`" + name.replace("`", "``") + "`"


def raw_json() -> Column:
    """Return the raw row as one JSON object of the source's own columns; a malformed line is kept as it stands."""
    # Spark allows no empty options map in to_json; NULL fields stay, so that the object shows every column.
    row = F.to_json(F.col("raw"), {"ignoreNullFields": "false"})
    line = F.to_json(F.struct(F.col("malformed").alias("malformed_line")))
    return F.when(F.col("malformed").isNotNull(), line).otherwise(row)


def value(column: str | None) -> Column:
    """Return a raw column's value in its own type; NULL for a field that the profile leaves out."""
    return F.lit(None).cast("string") if column is None else F.col("raw").getField(column)


def text(column: str | None) -> Column:
    """Return a raw column as trimmed text; blank text, and a field that the profile leaves out, is NULL."""
    return F.lit(None).cast("string") if column is None else F.col(quoted(f"text:{column}"))


def row_hash() -> Column:
    """Return a 64-bit hash of the whole raw row, to tell exact copies from rows that share the cleaned fields."""
    return F.xxhash64(F.col("raw"))
