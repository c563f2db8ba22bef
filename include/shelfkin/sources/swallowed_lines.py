"""Give back the lines of a CSV file that a stray quote has swallowed.

A field may hold line breaks between quotes, so a quote that is opened and not closed takes everything up to the next
quote, or to the end of the file, into one field. Such a record is told by what it holds: whole lines of the file. Each
of its lines is then read on its own; the line with the stray quote stays unread, the others are rows again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812

from shelfkin.sources.raw_table import MALFORMED, quoted

# A record with the right number of fields is taken apart only if nearly all lines within have it too, and so many
# separators don't stand there by chance: a description may be a list of two columns.
_SEPARATORS_BY_DESIGN = 20
_LINE_BREAK = r"\r\n|\n|\r"


def give_back(frame: DataFrame, names: Sequence[str], options: Mapping[str, str]) -> DataFrame:
    """Return the rows of CSV files with records that swallowed lines taken apart.

    Parameters
    ----------
    frame
        Columns `names` (strings) and MALFORMED, as Spark's CSV reader gives them with these `options`.
    """
    if len(names) < 2:
        return frame
    columns = [F.col(quoted(name)) for name in names]
    record = F.struct(*[column.alias(name) for name, column in zip(names, columns, strict=True)], F.col(MALFORMED))
    schema = ", ".join(f"{quoted(name)} STRING" for name in [*names, MALFORMED])
    one_line = {**options, "header": "false", "multiLine": "false"}
    one_line = {name: value for name, value in one_line.items() if name not in ("encoding", "columnPruning")}
    has_stray_quote = F.col(MALFORMED).isNotNull() | _has_stray_quote(columns, options["quote"])
    text = F.coalesce(F.col(MALFORMED), _written(columns, options["sep"], options["quote"]))
    lines = F.filter(F.split(text, _LINE_BREAK), lambda line: F.length(F.btrim(line)) > 0)
    read = F.transform(lines, lambda line: F.from_csv(line, schema, one_line))
    # As the variable of a lambda, so that the lines are read once.
    apart = F.transform(F.array(read), lambda rows: F.when(_are_rows(rows, has_stray_quote, len(names)), rows))[0]
    has_line_break = [F.contains(F.coalesce(each, F.lit("")), F.lit("\n")) for each in (F.col(MALFORMED), *columns)]
    may_hold_lines = reduce(lambda left, right: left | right, has_line_break)
    return frame.select(F.inline(F.coalesce(F.when(may_hold_lines, apart), F.array(record))))


def _written(columns: Sequence[Column], separator: str, quote: str) -> Column:
    """Return a record as text again: fields with line breaks as they stand, others quoted where they need it."""
    special = f"[{re.escape(separator + quote)}]"
    fields = []
    for column in columns:
        within = F.concat(F.lit(quote), F.replace(column, F.lit(quote), F.lit(quote * 2)), F.lit(quote))
        needs_quotes = column.rlike(special) & ~F.contains(column, F.lit("\n"))
        fields.append(F.coalesce(F.when(needs_quotes, within).otherwise(column), F.lit("")))
    return F.concat_ws(separator, *fields)


def _has_stray_quote(columns: Sequence[Column], quote: str) -> Column:
    """Return whether a field with line breaks begins with a quote: one that was opened, and closed nowhere."""
    found = F.lit(False)
    for column in columns:
        found = found | (F.startswith(column, F.lit(quote)) & F.contains(column, F.lit("\n")))
    return F.coalesce(found, F.lit(False))


def _are_rows(rows: Column, is_broken: Column, n_columns: int) -> Column:
    """Return whether the lines of a record are rows of their own."""
    good = F.size(F.filter(rows, lambda row: row[MALFORMED].isNull()))
    # The first and the last line are pieces of fields, where the record was opened and closed.
    inner = F.greatest(F.size(rows) - 2, F.lit(1))
    by_chance = good * (n_columns - 1) < _SEPARATORS_BY_DESIGN
    return F.when(is_broken, (good > 0) & (2 * good >= inner)).otherwise((5 * good >= 4 * inner) & ~by_chance)
