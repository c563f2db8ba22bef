"""What a product is called but for its size and colour, and its model number; the words are in `language/english.toml`.

Two products are one product in another size, colour or pack when nothing else of their titles differs: "Small red
babushka notebook" and "Large purple babushka notebook". A model number says the same of titles that are worded in
different ways.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from shelfkin.language.english import (
    COLOURS,
    COUNTS,
    GRAMMAR,
    LETTER_SIZES,
    MEASURES,
    NUMBERS,
    PACKAGING,
    PLAIN_SIZES,
    SHADES,
    fold,
)

# Stands for a colour in a key: "orange juice" is no variant of "juice", though "orange mug" is one of "red mug".
COLOUR = "~colour"

_BARE_UNITS = MEASURES | {"half"}
# Nothing of a title that says how much of the thing there is.
_HOW_MUCH = COUNTS | PLAIN_SIZES | PACKAGING

_NUMBER = r"(?:\d+(?:[.,]\d+)*|\.\d+)"
_RANGE = rf"{_NUMBER}(?:\s*[-–x×*/]\s*{_NUMBER})*"
_UNIT = "|".join(sorted(map(re.escape, MEASURES | COUNTS), key=len, reverse=True))
_AMOUNT = re.compile(
    rf"""
    (?<![^\W_]) (?:
        (?:set|pack|box|bag|case|bundle|tin|jar|roll|s)s? \s* (?:of|/) \s* {_NUMBER}# set of 3, s/4
      | (?:size|eu|uk) \s* {_RANGE}                                                 # size 42
      | (?:x{{1,4}}|\d\s?x) [-\s]? (?:large|small|l|s)                              # x-large, 2xl
      | x \s? \d+                                                                   # x6
      | {_NUMBER} (?:\s* [x×] \s* {_NUMBER})+ (?:\s* (?:{_UNIT}))?                  # 30 x 40 cm
      | {_RANGE} \s* (?:{_UNIT})                                                    # 14.5 oz, 10/.71 oz, 64gb
      | {_NUMBER} \s* ["”]                                                          # 42"
    ) (?![^\W_])
    | (?<=[\s(]) \( \s* \d+ \s* \)                                                  # 8 oz (6)
    """,
    re.VERBOSE,
)
_WORD = re.compile(r"[^\W_]+")
_LETTER = re.compile(r"[^\W\d_]")
_DECADE_OR_ORDINAL = re.compile(r"\d+(?:s|st|nd|rd|th)")
_MIN_CODE_LENGTH, _MIN_CODE_DIGITS = 5, 2


@dataclass(frozen=True)
class VariantName:
    """What tells a product from others, whatever its size and colour.

    Attributes
    ----------
    key
        Equal for products that differ in size, colour or pack only; empty where nothing else is left.
    codes
        Model numbers, rising: words of letters and digits.
    """

    key: str
    codes: tuple[str, ...]


def variant_name(title: str, brand: str | None = None, *, by_colour: bool = True) -> VariantName:
    """Return a product's name without what variants differ in.

    Parameters
    ----------
    title
        The product's title.
    brand
        Its brand; products of two brands are never variants.
    by_colour
        Whether products that differ in colour only are variants.

    Examples
    --------
    >>> variant_name("SET OF 3 CAKE TINS PANTRY DESIGN").key
    'cake pantry tin'
    >>> variant_name("Samsung UE55MU6200 139.7 cm LED TV").codes
    ('ue55mu6200',)
    """
    words = _words(re.sub("['’`´]", "", title.lower()))
    kept = sorted({word if word == COLOUR else fold(word) for word in _told(words, by_colour=by_colour)})
    if not any(_LETTER.search(word) for word in kept if word != COLOUR):
        return VariantName("", ())
    maker = " ".join(_WORD.findall((brand or "").lower()))
    prefix = f"{maker}: " if maker else ""
    return VariantName(prefix + " ".join(kept), tuple(sorted({prefix + word for word in words if _is_code(word)})))


def _words(title: str) -> list[str]:
    """Return the words of a title but for amounts, and but for what a till adds to an amount at its end.

    ``", b d 16 oz"``, ``", 4 ct 183897"``, ``", half gal"``: single letters, numbers and bare units say nothing there.
    """
    rest, comma, end = title.rpartition(", ")
    words = _WORD.findall(_AMOUNT.sub(" ", end))
    if not comma:
        return words
    if _AMOUNT.search(end) or all(word in _BARE_UNITS for word in words):
        words = [word for word in words if len(word) > 1 and not word.isdigit() and word not in _BARE_UNITS]
    return _WORD.findall(_AMOUNT.sub(" ", rest)) + words


def _told(words: list[str], *, by_colour: bool) -> Iterator[str]:
    """Yield the words that tell products apart."""
    for place, word in enumerate(words):
        following = words[place + 1] if place + 1 < len(words) else ""
        if word in GRAMMAR or word in NUMBERS or word in _HOW_MUCH or (not following and word in LETTER_SIZES):
            continue
        if by_colour and word in COLOURS:
            yield COLOUR
        elif not (by_colour and word in SHADES and following in COLOURS):
            yield word


def _is_code(word: str) -> bool:
    return (
        len(word) >= _MIN_CODE_LENGTH
        and sum(letter.isdigit() for letter in word) >= _MIN_CODE_DIGITS
        and _LETTER.search(word) is not None
        and not _DECADE_OR_ORDINAL.fullmatch(word)
    )
