"""Words that stand for no value: NULL, N/A, a dash."""

from __future__ import annotations

import tomllib
from collections.abc import Collection
from functools import cache
from importlib import resources
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812


@cache
def data(name: str) -> dict[str, Any]:
    """Return one of this room's data files."""
    return tomllib.loads(resources.files(__package__).joinpath(name).read_text("utf-8"))


def _in_any_case(words: Collection[str]) -> list[str]:
    """Return the words as they stand and in the usual cases, sorted: comparing whole texts is cheaper than folding."""
    cases = (str.lower, str.upper, str.capitalize, str.title)
    return sorted({case(word) for word in words for case in cases} | set(words))


def missing_words(own: Collection[str] | None) -> list[str]:
    """Return the spellings that mean no value: the profile's `missing_words`, else those of words.toml."""
    return _in_any_case(data("words.toml")["missing"] if own is None else own)


def brandless_words(own: Collection[str] | None) -> list[str]:
    """Return the spellings that mean no brand: the profile's `catalog.placeholder_brands`, else those of words.toml."""
    return _in_any_case(data("words.toml")["placeholder_brands"] if own is None else own)


def blanked(frame: DataFrame, words: Collection[str]) -> DataFrame:
    """Return a raw frame in which every `text:` column is NULL where the whole of it is one of the words."""
    texts = {name: _quoted(name) for name in frame.columns if name.startswith("text:")}
    return frame.select(
        *[_quoted(name) for name in frame.columns if name not in texts],
        *[without(column, words).alias(name) for name, column in texts.items()],
    )


def without(text: Column, words: Collection[str]) -> Column:
    """Return a text, NULL where the whole of it is one of the words."""
    return F.when(~text.isin(*words), text) if words else text


def _quoted(name: str) -> Column:
    return F.col("`" + name.replace("`", "``") + "`")
