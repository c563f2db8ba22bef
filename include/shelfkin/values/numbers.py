"""Numbers as people write them, without a currency: quantities, pieces in stock."""

from __future__ import annotations

from collections.abc import Callable

from pyspark.sql import Column
from pyspark.sql import functions as F  # noqa: N812
from pyspark.sql import types as T  # noqa: N812

from shelfkin import sources
from shelfkin.sources import RawTable

# As a machine writes a number; also what JSON and Java make of large and small ones (1.2E7, 5.0E-4).
_PLAIN = r"(?:\d+\.?\d*|\.\d+)"
_POWER = r"\d(?:\.\d+)?[eE][+-]?\d{1,3}"
# Decimal digits of other scripts, and their marks.
_DIGITS = "٠١٢٣٤٥٦٧٨٩۰۱۲۳۴۵۶۷۸۹०१२३४५६७८९০১২৩৪৫৬৭৮৯๐๑๒๓๔๕๖๗๘๙０１２３４５６７８９"


def number(raw: RawTable, column: str | None, decimal_mark: str | None = None) -> Column:
    """Return a raw column as a finite double; what isn't a number is NULL."""
    if column is not None and isinstance(raw.type_of(column), T.NumericType):
        typed = sources.value(column).cast("double")
        return _finite(F.when(~F.isnan(typed), typed))
    return parse_number(sources.text(column), decimal_mark)


def amount(raw: RawTable, column: str | None, decimal_mark: str | None = None) -> Column:
    """Return what was paid as a number, whatever its currency; NULL if it can't be read."""
    bare = F.regexp_replace(sources.text(column), r"^[^\d+\-.,]+|[^\d.,]+$", "")
    return F.coalesce(number(raw, column, decimal_mark), parse_number(bare, decimal_mark))


def parse_number(written: Column, decimal_mark: str | None = None) -> Column:
    """Return the number that a person wrote, as a finite double; NULL if it can't be read.

    Of two different marks the last is the decimal mark; a mark that occurs twice groups thousands. A single comma
    before exactly three digits groups thousands ("1,299"), any other single comma is a decimal mark ("12,5"). A single
    dot is a decimal mark. Blanks, NBSP and apostrophes between digits group thousands. `decimal_mark` ends all
    guessing.

    Parameters
    ----------
    written
        Text column.
    decimal_mark
        "." or "," where the profile knows it.
    """
    reading = _guessed if decimal_mark is None else lambda packed: _marked(packed, decimal_mark)
    return F.coalesce(machine_number(written, decimal_mark), _finite(let(_packed(written), reading)))


def machine_number(written: Column, decimal_mark: str | None = None) -> Column:
    """Return a number that needs no guessing as a finite double; NULL for any other text.

    Nearly all numbers are so; only the others pay for the guessing.
    """
    plain = _PLAIN if decimal_mark != "," else r"\d+"
    return _finite(F.when(written.rlike(rf"^[+-]?(?:{plain}|{_POWER})$"), written.cast("double")))


def _packed(written: Column) -> Column:
    ascii_digits = F.translate(written, _DIGITS + "٫٬−", "0123456789" * (len(_DIGITS) // 10) + ".,-")
    return F.regexp_replace(ascii_digits, r"(?<=\d)[\s\u00A0\u2007\u2009\u202F'\u2019`](?=\d)", "")


def _marked(packed: Column, decimal_mark: str) -> Column:
    if decimal_mark == ",":
        return _digits(F.translate(F.replace(packed, F.lit("."), F.lit("")), ",", "."))
    return _digits(F.replace(packed, F.lit(","), F.lit("")))


def _guessed(packed: Column) -> Column:
    no_commas = F.replace(packed, F.lit(","), F.lit(""))
    no_dots = F.replace(packed, F.lit("."), F.lit(""))
    comma_groups = packed.rlike(r"^[+-]?[1-9]\d{0,2}(?:,\d{3})+(?:\.\d*)?$")
    # India groups by two and three digits: 1,29,999.00.
    indian = packed.rlike(r"^[+-]?\d{1,2}(?:,\d{2})+,\d{3}(?:\.\d*)?$")
    dot_groups = packed.rlike(r"^[+-]?\d{1,3}(?:\.\d{3})+,\d*$|^[+-]?\d{1,3}(?:\.\d{3}){2,}$")
    comma_decimal = packed.rlike(r"^[+-]?\d*,\d+$")
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
    return F.when(unified.rlike(rf"^[+-]?{_PLAIN}$"), unified.cast("double"))


def _finite(found: Column) -> Column:
    # NULLIF, because `when` would compute the number once for the test and once for the result.
    infinity = F.lit(float("inf"))
    return F.nullif(F.nullif(found, infinity), -infinity)
