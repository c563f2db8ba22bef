"""Prices with their currencies, as people write them.

Amounts that a machine wrote never leave the JVM. The others go to Python, each distinct text once.
"""

from __future__ import annotations

import functools
import re
import unicodedata

import pandas as pd
from babel.core import get_global
from babel.numbers import get_currency_precision
from pyspark.sql import Column
from pyspark.sql import functions as F  # noqa: N812
from pyspark.sql import types as T  # noqa: N812

from shelfkin import sources
from shelfkin.sources import RawTable
from shelfkin.values.missing import data
from shelfkin.values.numbers import machine_number, number

Price = tuple[float, str | None]

# "12.-", "12:-", "12,--" and "12/-" say that there are no cents.
_NO_CENTS = re.compile(r"(?<=\d)\s*[.,:/=]\s*-+(?=\D*$)")
# Sign, amount, sign. A mark before the first digit is a decimal mark, but after a letter the end of a sign ("Rs.5").
_AROUND = re.compile(r"(\D*?)((?:(?<![^\W\d_])(?<!/)[.,])?\d(?:.*\d)?)(\D*)")
_SIGN_AS_MARK = re.compile(r"(\d[\d .,']*?) ?([^\d .,'-]+) ?(\d\d)")
# In threes, or as India groups: by two, and three at the end. One sign throughout.
_GROUPED = re.compile(r"\d+|\d{1,3}([ '.,])\d{3}(?:\1\d{3})*|\d{1,2}([ ',])\d{2}(?:\2\d{2})*\2\d{3}")
_MARKS = str.maketrans("٫٬，．’‘ʼ`´−–—", ".,,.'''''---")


@functools.cache
def _signs() -> dict[str, tuple[str, ...]]:
    """Return the currencies that a sign, an abbreviation or an ISO code stands for, the likeliest first."""
    tables = data("currencies.toml")
    written = [*tables["signs"].items(), *tables["ambiguous"].items()]
    spent = {
        code for used in get_global("territory_currencies").values() for code, _, _, is_tender in used if is_tender
    }
    # Codes that begin with X belong to no single state. Some are money (XOF), others metals, tests, or no currency.
    codes = {code.lower(): (code,) for code in get_global("all_currencies") if code[0] != "X" or code in spent}
    return codes | {_key(sign): tuple(currencies.split()) for sign, currencies in written}


def _key(sign: str) -> str:
    """Return a sign in lower case, without blanks, full stops and direction marks."""
    return "".join(char for char in sign if char not in " ." and unicodedata.category(char) != "Cf").lower()


@functools.lru_cache(maxsize=100_000)
def read_price(written: str, own: str | None = None, decimal_mark: str | None = None) -> Price | None:
    """Return amount and currency of a price; None if the text as a whole is none, or is negative.

    A sign, an abbreviation or an ISO code may stand before the amount, after it, or as its decimal mark ("12€50").
    Of two different marks the last is the decimal mark, and a mark that occurs twice groups thousands. So does a single
    one before exactly three digits ("1,299", with a sign also "1.299 €"), but for currencies with thousandths
    ("KWD 1.250"). Where it is said that there are no cents ("1.290,-"), it always groups. A note about tax behind the
    price ("incl. VAT") isn't read.

    Parameters
    ----------
    written
        One price.
    own
        The shop's currency: of prices without a sign, and of ambiguous signs such as "$" that may mean it.
    decimal_mark
        "." or "," where the profile knows it.

    Examples
    --------
    >>> read_price("1 299€99"), read_price("AU$ 5"), read_price("10 - 20")
    ((1299.99, 'EUR'), (5.0, 'AUD'), None)
    """
    text = _tax_note().sub("", " ".join(_in_ascii(written).split()).lstrip("+").rstrip("*"))
    text, without_cents = _NO_CENTS.subn("", text)
    if text.lower() in data("words.toml")["free"]:
        return 0.0, own
    parts = _AROUND.fullmatch(text)
    if parts is None:
        return None
    before, number, after = parts.groups()
    inside = None if before or after else _SIGN_AS_MARK.fullmatch(number)
    if inside is not None:
        number, after, decimal_mark = f"{inside[1]}€{inside[3]}", inside[2], "€"
    signs = [key for key in map(_key, (before, after)) if key]
    readable, currency = _currency(signs, own)
    mark = decimal_mark or _guessed_mark(number, bool(signs or without_cents), currency)
    amount = _amount(number, mark) if readable else None
    return None if amount is None else (amount, currency)


@functools.cache
def _tax_note() -> re.Pattern[str]:
    """Return what finds a note about tax behind a price, such as "incl. VAT" or "(税込)"."""
    notes = "|".join(re.escape(note).replace(r"\ ", r"\.?\s?") for note in data("words.toml")["tax_notes"])
    return re.compile(rf"\s?[(（]?(?<![^\W\d_])(?:{notes})\.?[)）]?$", re.IGNORECASE)


def _in_ascii(text: str) -> str:
    """Return a text with the digits, marks, dashes and blanks of ASCII in place of those of other scripts."""
    if text.isascii():
        return text
    return "".join(str(unicodedata.decimal(char, char)) for char in text).translate(_MARKS)


def _currency(signs: list[str], own: str | None) -> tuple[bool, str | None]:
    """Return whether signs beside a price agree, and the currency that they stand for; None if they don't tell."""
    if not signs:
        return True, own
    meant = [_signs().get(each) or _signs_in_one(each) for each in signs]
    shared = [code for code in meant[0] if all(code in codes for codes in meant)]
    if own in shared:
        return True, own
    if all(each in map(_key, data("currencies.toml")["ambiguous"]) for each in signs):
        # "12 K" may be twelve thousand.
        return bool(shared) and len(signs[0]) > 1, None
    return bool(shared), shared[0] if shared else None


def _signs_in_one(written: str) -> tuple[str, ...]:
    """Return the currencies of a code and a sign without a blank between them, such as "SGD$"."""
    for code, sign in ((written[:3], written[3:]), (written[-3:], written[:-3])):
        if sign in _signs():
            return tuple(each for each in _signs().get(code, ()) if each in _signs()[sign])
    return ()


def _guessed_mark(number: str, has_sign: bool, currency: str | None) -> str | None:
    """Return the decimal mark of a number; None if it has none."""
    marks = [char for char in number if char in ".,"]
    if len(marks) != 1:
        return marks[-1] if len(set(marks)) == 2 and marks.count(marks[-1]) == 1 else None
    mark = marks[0]
    head, _, tail = number.partition(mark)
    # "1,299"; but not "0,999", "1234,500" or "1 234,500".
    if len(tail) != 3 or not re.fullmatch(r"[1-9]\d{0,2}", head):
        return mark
    if has_sign and currency is not None and get_currency_precision(currency) == 3:
        return mark if mark == "." or currency in data("currencies.toml")["thousandths"]["comma"] else None
    return mark if mark == "." and not has_sign else None


def _amount(number: str, mark: str | None) -> float | None:
    """Return the value of a number whose decimal mark is known; None if what is left doesn't group its digits."""
    whole, _, fraction = number.partition(mark) if mark else (number, "", "")
    if not re.fullmatch(r"\d*", fraction) or not (whole == "" or _GROUPED.fullmatch(whole)):
        return None
    amount = float(f"{re.sub(r'[^0-9]', '', whole) or 0}.{fraction or 0}")
    return amount if amount < float("inf") else None


def plain_amount(raw: RawTable, column: str | None, decimal_mark: str | None) -> Column:
    """Return a column of prices as doubles where a machine wrote them without a currency; all else is NULL."""
    if column is None or isinstance(raw.type_of(column), T.NumericType):
        amount = number(raw, column)
    else:
        amount = machine_number(sources.text(column), decimal_mark)
    return F.when(amount >= 0, amount)


def read_prices(written: Column, own: str | None, decimal_mark: str | None) -> Column:
    """Return struct(amount double, currency string) of price texts, NULL inside where `read_price` reads nothing."""

    def read_batch(texts: pd.Series) -> pd.DataFrame:
        read = [read_price(text, own, decimal_mark) if isinstance(text, str) else None for text in texts]
        return pd.DataFrame([each or (None, None) for each in read], columns=["amount", "currency"]).astype(
            {"amount": "float64", "currency": "object"}
        )

    return F.pandas_udf(read_batch, "amount double, currency string")(written)  # type: ignore[call-overload]
