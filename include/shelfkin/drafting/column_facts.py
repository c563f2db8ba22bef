"""What the values of a column look like, measured in one pass over a sample."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

import duckdb

from shelfkin.drafting.field_names import name_score, word_list
from shelfkin.drafting.shop_file import SAMPLE_ROWS, ShopFile, ident

_NUMBER = r"[+-]?\d[\d.,\x27\x{00A0} ]*"
# What a value may be, as regular expressions of DuckDB.
_MEASURES = {
    "numeric": rf"^{_NUMBER}$",
    "money": rf"^[^\d+-]{{0,5}}{_NUMBER}[^\d]{{0,5}}$",
    "whole": r"^-?\d{1,4}([.,]0+)?$",
    "fraction": r"\d[.,]\d{1,2}(\D|$)",
    "dated": (
        r"(^|\D)\d{1,4}[-/.年]\w{1,3}[-/.月]\d{1,4}"
        r"|^[A-Za-z]{3}[ -]\d{1,2},?[ -]\d{2,4}|^\d{1,2} [A-Za-z]{3} \d{4}"
    ),
    "epoch": r"^[89]\d{8}$|^1(\d{9}([.]\d+)?|\d{12}|\d{15}|\d{18})$",
    "clock": r"^[0-2]?\d:[0-5]\d(:[0-5]\d)?( ?[AaPp][Mm])?$",
    "spaced": " ",
    "letters": r"\pL{2}|[\p{Han}\p{Hangul}\p{Hiragana}\p{Katakana}]",
    "link": r"^https?:|\.(jpe?g|png|webp)$",
    "mail": "@",
    "numbered": r"^#\d+$",
    "padded": r"^0\d+$",
    "float_like": r"^\d+\.0$",
}


@dataclass(frozen=True)
class ColumnFacts:
    """A column's values, as shares of those that are filled.

    `distinct` counts values of the sample; `share` holds the measures by name; `examples` and `top` (values with their
    counts, most frequent first; only of columns with few) are as the file has them.
    """

    name: str
    rows: int
    filled: int
    distinct: int
    length: float
    share: dict[str, float]
    examples: tuple[str, ...]
    top: tuple[tuple[str, int], ...]

    @property
    def filled_share(self) -> float:
        """Share of the rows that have a value."""
        return self.filled / max(1, self.rows)

    @cached_property
    def time(self) -> TimeFormat | None:
        """How the values are written, if they are times."""
        dated = max(self.share["dated"], self.share["epoch"]) >= 0.9 or self.length in (8.0, 12.0, 14.0)
        if not dated:
            return None
        # Digits alone may be an id of ten digits, or of nine, by chance: then the name decides.
        named = name_score("occurred_at", self.name)[0] + name_score("updated_at", self.name)[0]
        an_id = max(name_score(field, self.name)[0] for field in ("product_id", "order_id", "user_id")) >= 0.5
        if self.share["numeric"] >= 0.9 and not named and (an_id or self._counted_up):
            return None
        return time_format(self.examples)

    @property
    def _counted_up(self) -> bool:
        """Whether figures of fewer than ten digits are as dense as ids that are counted up, or no figures of time."""
        figures = [int(value) for value in self.examples if re.fullmatch(r"\d{9}", value)]
        short = min(map(len, self.examples)) < 10
        return short and (len(figures) < len(self.examples) or max(figures) - min(figures) < 100 * len(figures))

    @property
    def distinct_share(self) -> float:
        """Distinct values per filled row."""
        return self.distinct / max(1, self.filled)


def column_facts(session: duckdb.DuckDBPyConnection, file: ShopFile) -> dict[str, ColumnFacts]:
    """Measure every column of a file; empty columns are left out."""
    sample = f"(SELECT * FROM {ident(file.name)} LIMIT {SAMPLE_ROWS})"
    if file.rows > SAMPLE_ROWS:
        sample = f"(SELECT * FROM {ident(file.name)} USING SAMPLE {SAMPLE_ROWS} (reservoir, 7))"
    session.execute(f"CREATE OR REPLACE TEMP TABLE sampled AS SELECT * FROM {sample}")
    found: dict[str, ColumnFacts] = {}
    for name in file.expressions:
        measured = _measure(session, name)
        if measured is not None:
            found[name] = measured
    return found


def _measure(session: duckdb.DuckDBPyConnection, name: str) -> ColumnFacts | None:
    column = ident(name)
    shares = ", ".join(f"avg(regexp_matches({column}, '{pattern}')::INT)" for pattern in _MEASURES.values())
    row = session.execute(
        f"SELECT count(*), count({column}), count(DISTINCT {column}), avg(length({column})), {shares} FROM sampled"
    ).fetchone()
    if row is None or not row[1]:
        return None
    n, filled, distinct, length, *values = row
    top = session.execute(
        f"SELECT {column}, count(*) AS n FROM sampled WHERE {column} IS NOT NULL GROUP BY 1 ORDER BY n DESC, 1 LIMIT 60"
    ).fetchall()
    examples = session.execute(
        f"SELECT {column} FROM sampled WHERE {column} IS NOT NULL GROUP BY 1 ORDER BY min(rowid) LIMIT 400"
    ).fetchall()
    return ColumnFacts(
        name,
        int(n),
        int(filled),
        int(distinct),
        float(length or 0),
        dict(zip(_MEASURES, map(float, values), strict=True)),
        tuple(str(each[0]) for each in examples),
        tuple((str(value), int(count)) for value, count in top) if distinct <= 60 else (),
    )


@dataclass(frozen=True)
class TimeFormat:
    """How a column's times are written: a Spark pattern, or None where the reader needs none."""

    pattern: str | None
    kind: str
    first: str
    last: str
    doubt: str | None = None


_ISO = re.compile(r"\d{4}-\d{1,2}-\d{1,2}(?:[T ]\d{1,2}:\d{2}(?!.*[ap]\.?m\.?$).*)?$", re.IGNORECASE)


def time_format(values: tuple[str, ...]) -> TimeFormat | None:
    """Return how times are written, None if these are none.

    >>> time_format(("31.12.2023 10:00", "01.02.2024 09:30")).pattern
    'd.M.yyyy H:mm'
    """
    needed = 0.95 * len(values)
    iso = [value[:10] for value in values if _ISO.match(value)]
    if len(iso) >= needed:
        return TimeFormat(None, "ISO 8601", min(iso), max(iso))
    numbers = [value.partition(".")[0] for value in values if re.fullmatch(r"[89]\d{8}|1\d{9,18}(\.\d+)?", value)]
    unit = {9: "seconds", 10: "seconds", 13: "milliseconds", 16: "microseconds", 19: "nanoseconds"}.get(
        len(numbers[0]) if numbers else 0
    )
    if unit and len(numbers) >= needed and len({len(number) for number in numbers}) == 1:
        days = [datetime.fromtimestamp(int(number[:10]), UTC).date().isoformat() for number in numbers]
        return TimeFormat(None, f"{unit} since 1970", min(days), max(days))
    words = word_list("time_formats")
    patterns = [(day + clock, one + other) for clock, other in words["clocks"] for day, one in words["dates"]]
    read = {spark: _read(python, values) for spark, python in patterns if _read(python, values[:20])}
    fits = [spark for spark, moments in read.items() if len(moments) >= needed]
    if not fits:
        return None
    days = [moment.date().isoformat() for moment in read[fits[0]]]
    other = next((each for each in fits[1:] if each.replace("M", "d") == fits[0].replace("M", "d")), None)
    doubt = f"timestamp_format: every value fits {fits[0]} and {other}: which is the day?" if other else None
    return TimeFormat(fits[0], fits[0], min(days), max(days), doubt)


def _read(python: str, values: tuple[str, ...]) -> list[datetime]:
    found = []
    for value in values:
        try:
            moment = datetime.strptime(value, python)
        except ValueError:
            continue
        if 1980 <= moment.year <= 2100:
            found.append(moment)
    return found
