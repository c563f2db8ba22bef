"""Times as people and machines write them, as instants."""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F  # noqa: N812
from pyspark.sql import types as T  # noqa: N812

from shelfkin import sources
from shelfkin.sources import RawTable
from shelfkin.values.missing import constant, data
from shelfkin.values.numbers import let

# Date and time of day without a zone, as most logs write them: Spark casts these at once.
_PLAIN = r"^\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?)?$"
# A date with four digits of a year, then perhaps a time of day, then perhaps a zone. Hours alone are no time of day.
_CLOCK = r"\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?"
_PARTS = rf"^(\d{{4}}-\d{{1,2}}-\d{{1,2}})(?:(?:[Tt]|\s+)({_CLOCK}))?(?:\s*([A-Za-z+\-\u2212\[].*))?$"
# Other orders of a date that leave no doubt: 2024/06/05, 05.06.2024 (nobody writes the month first with full stops),
# and ISO 8601 without its hyphens and colons.
_REWRITTEN = (
    (r"^(\d{4})[/.](\d{1,2})[/.](\d{1,2})(?!\d)", "$1-$2-$3"),
    (r"^(\d{1,2})\.(\d{1,2})\.(\d{4})(?!\d)", "$3-$2-$1"),
    (r"^(\d{4})(\d{2})(\d{2})[Tt](\d{2})(\d{2})(\d{2})?", "$1-$2-$3T$4:$5:$6"),
    (r"T(\d{2}:\d{2}):(?!\d)", "T$1"),
)
# +02, +0200, +02:00, -3:30, UTC+2, and Postgres' offsets of old local times with their seconds.
_OFFSET = r"^(?:UTC|GMT)?([+-])(\d{1,2})(?::?(\d{2}))?(:\d{2})?$"
# An area and a place, or UTC's own area; an offset before a zone in brackets says it all.
_PLACE = r"^[A-Z][A-Za-z_]+(?:/[A-Za-z0-9_+\-]+)+$"
_BRACKETS = r"\[([^\]]*)\]$"
# Numbers since 1970, by their size: seconds, milli-, micro- and nanoseconds. In text, 8 digits are a compact date, 14
# and 17 one with its time.
_EPOCH = r"^-?(?:\d{9,13}|\d{15,16}|\d{18,19})(?:\.\d*)?$|^-?\d(?:\.\d+)?[eE]\+?(?:9|1[0-8])$"
_MILLIS, _MICROS, _NANOS = 10**11, 10**14, 10**17


def timestamp(raw: RawTable, column: str | None, pattern: str | None, timezone: str) -> Column:
    """Return a raw column as an instant; what isn't a time is NULL.

    A time that carries an offset or a zone is an instant already; with a zone that nobody knows it is none. One
    without is the wall clock of `timezone`. Numbers count since 1970 UTC, in seconds, or in milliseconds from 1e11 on
    (1973 in milliseconds, the year 5138 in seconds), in microseconds from 1e14 on, in nanoseconds from 1e17 on. In
    text, numbers of 8, 14 and 17 digits may be compact dates and are no times.

    Parameters
    ----------
    pattern
        Spark datetime pattern of text; None for ISO 8601, what Postgres writes, and numbers.
    timezone
        IANA name of the shop's zone.
    """
    if column is None:
        return F.lit(None).cast("timestamp")
    kind, value, text = raw.type_of(column), sources.value(column), sources.text(column)
    if isinstance(kind, T.TimestampType):
        return value
    if isinstance(kind, T.TimestampNTZType | T.DateType):
        return _from_wall_clock(value.cast("timestamp"), timezone)
    if isinstance(kind, T.NumericType):
        return _from_epoch(value if isinstance(kind, T.IntegralType) else value.cast("decimal(38,9)"))
    if pattern is not None:
        wall_clock = F.try_to_timestamp(text, F.lit(pattern))
        return wall_clock if _has_offset(pattern) else _from_wall_clock(wall_clock, timezone)
    return F.when(text.rlike(_PLAIN), _from_wall_clock(text.cast("timestamp"), timezone)).otherwise(
        let(text, lambda written: _odd(written, timezone))
    )


def _odd(written: Column, timezone: str) -> Column:
    rewritten = written
    for before, after in _REWRITTEN:
        rewritten = F.regexp_replace(rewritten, before, after)
    epoch = F.when(written.rlike(_EPOCH), _from_epoch(written.cast("decimal(38,9)")))
    return F.coalesce(epoch, let(rewritten, lambda found: _with_zone(found, timezone)))


def _with_zone(written: Column, timezone: str) -> Column:
    date, clock, zone = (F.regexp_extract(written, _PARTS, position) for position in (1, 2, 3))
    # Spark reads a zone only after seconds.
    whole = F.when(clock.rlike(":.*:"), clock).when(clock == "", "00:00:00").otherwise(F.concat(clock, F.lit(":00")))
    wall_clock = F.concat(date, F.lit(" "), F.translate(whole, ",", "."))
    instant = F.concat(wall_clock, F.lit(" "), let(zone, _zone)).cast("timestamp")
    local = _from_wall_clock(wall_clock.cast("timestamp"), timezone)
    # Of a time of day alone, Spark makes one of today.
    return F.when(date != "", F.when(zone == "", local).otherwise(instant))


def _zone(written: Column) -> Column:
    """Return a written zone as Spark reads it, NULL where it is none."""
    signed = F.replace(written, F.lit("\u2212"), F.lit("-"))
    in_brackets = F.regexp_extract(signed, _BRACKETS, 1)
    before = F.btrim(F.regexp_replace(signed, _BRACKETS, ""))
    return let(F.when(before == "", in_brackets).otherwise(before), _named_zone)


def _named_zone(zone: Column) -> Column:
    upper = F.upper(zone)
    names = constant(data("times.toml")["zones"], "map<string, string>")
    hours = F.lpad(F.regexp_extract(upper, _OFFSET, 2), 2, "0")
    minutes = F.regexp_extract(upper, _OFFSET, 3)
    sign, seconds = F.regexp_extract(upper, _OFFSET, 1), F.regexp_extract(upper, _OFFSET, 4)
    offset = F.concat(sign, hours, F.lit(":"), F.when(minutes == "", "00").otherwise(minutes), seconds)
    return F.when(upper.rlike(_OFFSET), offset).when(zone.rlike(_PLACE), zone).otherwise(names[upper])


def _from_epoch(number: Column) -> Column:
    size = F.abs(number)
    micros = (
        F.when(size < _MILLIS, (number * 1_000_000).cast("long"))
        .when(size < _MICROS, (number * 1_000).cast("long"))
        .when(size < _NANOS, number.cast("long"))
        # As decimals: a double doesn't hold so many digits.
        .otherwise(F.floor(number.cast("decimal(20,0)") / 1_000).cast("long"))
    )
    return F.timestamp_micros(micros)


def _has_offset(pattern: str) -> bool:
    letters = "".join(pattern.split("'")[::2])  # quoted parts of a Spark pattern are literal text
    return any(letter in letters for letter in "XxZzVO")


def _from_wall_clock(moment: Column, timezone: str) -> Column:
    """Move a wall clock that was read as UTC (every session runs in UTC) to the instant it means in `timezone`."""
    return moment if timezone == "UTC" else F.to_utc_timestamp(moment, timezone)
