"""Read the values that catalogue and events share: ids, numbers and times."""

from __future__ import annotations

from collections.abc import Callable

from pyspark.sql import Column
from pyspark.sql import functions as F  # noqa: N812
from pyspark.sql import types as T  # noqa: N812

from shelfkin.profile import IdRule
from shelfkin.sources.raw_table import RawTable, text, value


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
