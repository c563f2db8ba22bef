"""Read prices and currencies as people write them."""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F  # noqa: N812

from shelfkin.sources import let, parse_number

# Signs that stand for one currency alone come first; "$" and "kr" mean the shop's own unless an ISO code is written.
_SIGNS = {
    "€": "EUR",
    "£": "GBP",
    "₹": "INR",
    "₽": "RUB",
    "₺": "TRY",
    "₩": "KRW",
    "₪": "ILS",
    "₫": "VND",
    "₴": "UAH",
    "₱": "PHP",
    "zł": "PLN",
    "Kč": "CZK",
    "US$": "USD",
    "C$": "CAD",
    "A$": "AUD",
    "R$": "BRL",
}
_ISO_CODES = (
    "AED|ARS|AUD|BGN|BRL|CAD|CHF|CLP|CNY|COP|CZK|DKK|EUR|GBP|HKD|HUF|IDR|ILS|INR|ISK|JPY|KRW|MXN|MYR|NOK|NZD|PHP|PLN|"
    "RON|RUB|SAR|SEK|SGD|THB|TRY|TWD|UAH|USD|VND|ZAR"
)
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
