"""Whether a product can be bought."""

from __future__ import annotations

import re

from pyspark.sql import Column
from pyspark.sql import functions as F  # noqa: N812

from shelfkin.values.missing import constant, data
from shelfkin.values.numbers import let, parse_number

_FILLERS = r"[\s\u00A0_.-]+|!+$"


def parse_in_stock(written: Column, decimal_mark: str | None = None) -> Column:
    """Return whether a product can be bought: a word of words.toml, or a number of pieces; NULL for anything else."""
    # Export after export repeats a few numbers and words: most rows end at the first line.
    whole = F.when(written.rlike(r"^\d+$"), written.cast("double") > 0)
    return F.coalesce(whole, let(F.lower(written), lambda word: _by_word(word, decimal_mark)))


def _by_word(word: Column, decimal_mark: str | None) -> Column:
    words = data("words.toml")
    meanings = dict.fromkeys(map(bare, words["in_stock"]), True) | dict.fromkeys(
        map(bare, words["out_of_stock"]), False
    )
    meaning = constant(meanings, "map<string, boolean>")
    units = "|".join(words["pieces"])
    pieces = F.regexp_replace(word, rf"^[<>≥≤~]=?\s*|(?<=\d)(?:\s*(?:{units})\.?|\+)$", "")
    stripped = F.regexp_replace(word, rf"^https?://schema\.org/|{_FILLERS}", "")
    return F.coalesce(meaning[stripped], parse_number(pieces, decimal_mark) > 0)


def bare(word: str) -> str:
    """Return a word of words.toml as it is compared: "out of stock" is out_of_stock and outofstock as well."""
    return re.sub(_FILLERS, "", word)
