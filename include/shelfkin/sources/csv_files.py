"""Read CSV and TSV as shops export them: files with other columns, a `sep=` line, blank rows of a spreadsheet."""

from __future__ import annotations

import csv
import io
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812
from pyspark.sql import types as T  # noqa: N812

from shelfkin.encodings import Charset
from shelfkin.errors import SourceError, without_controls
from shelfkin.profile import Source
from shelfkin.sources.files import Head, heads, reader
from shelfkin.sources.raw_table import BLANKS, MALFORMED, quoted
from shelfkin.sources.swallowed_lines import give_back

log = logging.getLogger("shelfkin")

_SEP_LINE = re.compile(r'\ufeff?"?sep=(.)"?[ \t]*(?:\r?\n|\r|$)', re.IGNORECASE)
# A field longer than this is no field: a quote was opened and never closed.
_LONGEST_FIELD = 10_000_000


@dataclass(frozen=True)
class _Layout:
    """What files must share to be read in one go.

    Attributes
    ----------
    cells
        The header's cells as written; of files without a header, the profile's `columns`.
    charset
        How text is encoded.
    separator
        Between fields.
    has_sep_line
        Whether the file begins with a line such as ``sep=;``, which tells spreadsheets the separator.
    """

    cells: tuple[str, ...]
    charset: Charset
    separator: str
    has_sep_line: bool


def read_csv(
    session: SparkSession, source: Source, paths: Sequence[str], options: Mapping[str, str], key: str
) -> DataFrame:
    """Return the rows of CSV files, columns matched by name; a column that a file lacks is NULL there."""
    files: dict[_Layout, list[str]] = {}
    for head in heads(session, paths, key, source.encoding):
        files.setdefault(_layout(source, head), []).append(head.path)
    _compare(files, key)
    # One layout: the paths as they are, so that folders such as month=2024-01 stay columns.
    in_one_go = {layout: list(paths) if len(files) == 1 else found for layout, found in files.items()}
    frames = [_read(session, source, found, layout, options) for layout, found in in_one_go.items()]
    return reduce(lambda left, right: left.unionByName(right, allowMissingColumns=True), frames)


def _layout(source: Source, head: Head) -> _Layout:
    text = head.text
    separator = source.separator or ("\t" if source.format == "tsv" else ",")
    sep_line = _SEP_LINE.match(text)
    if sep_line:
        text = text[sep_line.end() :]
        separator = source.separator or sep_line[1]
    cells = _first_row(text, source, separator) if source.header else source.columns
    if not cells:
        raise SourceError(f"{head.path} holds no line.", next_step="Export the file again and check its size.")
    return _Layout(tuple(cells), head.charset, separator, sep_line is not None)


def _first_row(text: str, source: Source, separator: str) -> Sequence[str]:
    """Return the cells of the first line that holds anything."""
    one = separator.replace("\\t", "\t")
    if len(one) > 1:
        one, text = "\x1f", text.replace(one, "\x1f")
    escape = None if source.escape in (None, source.quote) else source.escape
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=one, quotechar=source.quote, escapechar=escape)
    return next((row for row in rows if row), [])


def _compare(files: Mapping[_Layout, Sequence[str]], key: str) -> None:
    """Say which files lack columns of others; refuse a file that seems to be another table."""
    if len(files) < 2:
        return
    names = {layout: dict.fromkeys(unique_names(layout.cells)) for layout in files}
    every = list(dict.fromkeys(name for found in names.values() for name in found))
    first = next(iter(files))
    for layout, found in files.items():
        common = sum(name in names[first] for name in names[layout])
        if 2 * common < min(len(names[first]), len(names[layout])):
            raise SourceError(
                f"{found[0]} ({key}) has the columns {_listed(names[layout])}; {files[first][0]} has "
                f"{_listed(names[first])}. They seem to be different tables.",
                next_step=f"Give each a {key} of its own, or write the same header into both.",
            )
        missing = [name for name in every if name not in names[layout]]
        if missing:
            more = f" and {len(found) - 1} more" if len(found) > 1 else ""
            log.warning("%s%s: no column %s; it stays empty there", found[0], more, _listed(missing))


def _listed(names: Sequence[str] | Mapping[str, None]) -> str:
    return without_controls(", ".join(names))


def _read(
    session: SparkSession, source: Source, paths: Sequence[str], layout: _Layout, options: Mapping[str, str]
) -> DataFrame:
    names = unique_names(layout.cells) if source.header else list(source.columns)
    found = {
        "sep": layout.separator,
        "quote": source.quote,
        "escape": source.escape or source.quote,
        "encoding": layout.charset.java,
        "multiLine": str(source.multiline or layout.charset.is_wide).lower(),
        "mode": "PERMISSIVE",
        "columnNameOfCorruptRecord": MALFORMED,
        # With pruning, a line with too few or too many fields passes unseen when the missing ones aren't asked for.
        "columnPruning": "false",
        "maxCharsPerColumn": str(_LONGEST_FIELD),
        # The line before the header would be taken for it: both are dropped below.
        "header": str(source.header and not layout.has_sep_line).lower(),
        "enforceSchema": "true",
        **options,
    }
    schema = T.StructType([T.StructField(name, T.StringType()) for name in [*names, MALFORMED]])
    frame = reader(session, paths).options(**found).schema(schema).csv(list(paths))
    if layout.has_sep_line:
        frame = frame.where(~_is_sep_line(names) & ~_is_header(names, layout.cells if source.header else ()))
    if found["multiLine"] == "true":
        frame = give_back(frame, names, found)
    return frame.where(~_is_blank(names, layout.separator, source.quote))


def _is_sep_line(names: Sequence[str]) -> Column:
    """Return whether a row is a line such as ``sep=;``, whether or not it has the right number of fields."""
    first = F.coalesce(F.col(MALFORMED), F.col(quoted(names[0])))
    return F.coalesce(first.rlike(r'(?i)^\ufeff?"?sep=.?"?\s*$'), F.lit(False))


def _is_header(names: Sequence[str], cells: Sequence[str]) -> Column:
    equal = [F.col(quoted(name)).eqNullSafe(F.lit(cell or None)) for name, cell in zip(names, cells, strict=False)]
    return reduce(lambda left, right: left & right, equal) if equal else F.lit(False)


def _is_blank(names: Sequence[str], separator: str, quote: str) -> Column:
    """Return whether a row holds nothing, as spreadsheets leave them below the last one: lines of separators."""
    filled = [F.nullif(F.btrim(F.col(quoted(name)), F.lit(BLANKS)), F.lit("")) for name in names]
    nothing = f"^[\\s{re.escape(separator.strip() or ',')}{re.escape(quote)}]*$"
    return F.coalesce(F.col(MALFORMED).rlike(nothing), F.coalesce(*filled).isNull())


def unique_names(cells: Sequence[str]) -> list[str]:
    """Return column names for the cells of a header: trimmed, none blank, none repeated (Spark ignores case)."""
    names: list[str] = []
    seen: set[str] = set()
    for position, cell in enumerate(cells, start=1):
        base = cell.strip(BLANKS) or f"column_{position}"
        name, copy = base, 1
        while name.lower() in seen:
            copy += 1
            name = f"{base}_{copy}"
        seen.add(name.lower())
        names.append(name)
    return names
