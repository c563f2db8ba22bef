"""Read prices, currencies and stock as people write them."""

from __future__ import annotations

import tomllib
from importlib import resources

from pyspark.sql import Column
from pyspark.sql import functions as F  # noqa: N812

from shelfkin.sources import let, parse_number

_WRITTEN = tomllib.loads(resources.files(__package__).joinpath("written_values.toml").read_text("utf-8"))
_SIGNS: dict[str, str] = _WRITTEN["signs"]
_ISO_CODES = "|".join(_WRITTEN["currencies"].split())
_FREE = r"(?i)^(?:free|gratis|kostenlos|gratuit)$"


def parse_price(written: Column, decimal_mark: str | None = None) -> Column:
    """Return the price in a text as a double; NULL if it is no price, or negative.

    Currency signs, ISO codes and a trailing ".-" or ",-" go first; then `sources.parse_number` reads the number. With a
    currency sign, a single dot before exactly three digits groups thousands ("1.299 €"): no shop prices in
    thousandths. "free" is 0.

    Parameters
    ----------
    written
        Text column.
    decimal_mark
        "." or "," where the profile knows it.
    """
    plain = written.rlike(r"^\d+(?:\.\d+)?$")
    amount = let(_bare(written), lambda bare: parse_number(bare, decimal_mark, grouped_dot=bare != written))
    amount = F.when(plain, written.cast("double")).otherwise(amount) if decimal_mark != "," else amount
    return let(
        amount,
        lambda found: F.when(written.rlike(_FREE), F.lit(0.0)).when((found >= 0) & (found < float("inf")), found),
    )


def _bare(written: Column) -> Column:
    """Return a price text without currency, outer blanks and a trailing dash for "no cents"."""
    codes = rf"(?i)(?<![A-Za-z])(?:{_ISO_CODES})(?![A-Za-z])"
    bare = F.regexp_replace(
        F.regexp_replace(written, codes, ""), r"US\$|[CAR]\$|\p{Sc}|(?i:zł|kč|kr\.?|fr\.|rs\.?)", ""
    )
    bare = F.regexp_replace(bare, r"[.,](?:-+|–|—)\s*$", "")
    bare = F.regexp_replace(bare, r"^[\s\u00A0\u202F]+|[\s\u00A0\u202F]+$", "")
    # "-$ 5" leaves a blank after the sign.
    return F.regexp_replace(bare, r"^([+-])[\s\u00A0]+", "$1")


def parse_currency(written: Column, default: str | None) -> Column:
    """Return the ISO 4217 code of a price text: written out, else by its sign, else the shop's own.

    Parameters
    ----------
    default
        The shop's currency, also for the ambiguous "$" and "kr".
    """
    code = F.upper(F.regexp_extract(written, rf"(?i)(?<![A-Za-z])({_ISO_CODES})(?![A-Za-z])", 1))
    found = F.when(code != "", code)
    for sign, currency in _SIGNS.items():
        found = found.when(written.contains(sign), F.lit(currency))
    own = "USD" if default is None else default
    return found.when(written.contains("$"), F.lit(own)).otherwise(F.lit(default).cast("string"))


def parse_in_stock(written: Column) -> Column:
    """Return whether a product is in stock: yes/no words, 1/0, a number of pieces; NULL for anything else."""
    word = F.lower(written)
    pieces = F.when(word.rlike(r"^-?\d+(?:\.\d+)?$"), word.cast("double"))
    return (
        F.when(word.isin(*_WRITTEN["in_stock"]), True)
        .when(word.isin(*_WRITTEN["out_of_stock"]), False)
        .otherwise(pieces > 0)
    )
