"""Words that stand for no value: NULL, N/A, a dash."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Collection
from functools import cache
from importlib import resources
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812

from shelfkin.sources.raw_table import quoted


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
    return frame.select(
        *[
            without(name, words).alias(name) if name.startswith("text:") else F.col(quoted(name))
            for name in frame.columns
        ]
    )


def without(name: str, words: Collection[str]) -> Column:
    """Return a text column, NULL where the whole of it is one of the words."""
    if not words:
        return F.col(quoted(name))
    # As SQL: a hundred words as literals of their own cost a hundred trips to the JVM.
    escaped = (word.replace("\\", "\\\\").replace("'", "\\'") for word in words)
    listed = ", ".join(f"'{word}'" for word in escaped)
    return F.expr(f"CASE WHEN {quoted(name)} NOT IN ({listed}) THEN {quoted(name)} END")


def constant(value: Any, kind: str) -> Column:
    """Return a list or a dictionary as one literal of a Spark type, for the same reason."""
    return F.from_json(F.lit(json.dumps(value)), kind)
