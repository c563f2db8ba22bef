"""Repair the text of titles and descriptions.

Most texts are plain ASCII without markup: Spark's own functions tidy those. Only texts that show a sign of damage
(markup, entities, non-ASCII characters, control characters) go to Python, where ftfy repairs mojibake.
"""

from __future__ import annotations

import functools
import html
import re
from collections.abc import Iterable

import ftfy
import pandas as pd
from ftfy import TextFixerConfig
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812

# A tag, a comment, an entity, a control character, DEL, or anything beyond ASCII.
_SUSPECT = r"&[#A-Za-z]|<[A-Za-z/!?]|[\x00-\x08\x0B\x0C\x0E-\x1F\x7F]|[^\x00-\x7F]"

_FTFY = TextFixerConfig(
    unescape_html=False,  # done here, also for texts that hold tags
    uncurl_quotes=False,  # typographic quotes are the shop's own spelling
    fix_latin_ligatures=True,
    fix_character_width=True,
    normalization="NFC",
)
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]"
)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_HIDDEN_BLOCK = re.compile(r"<(script|style)\b[^>]*>.*?</\1\s*>|<!--.*?-->", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"</?[A-Za-z][^<>]*>|<![A-Za-z\[][^<>]*>|<\?[^<>]*>")
_SPACE = re.compile(r"\s+")
# Texts escaped again and again by careless exports; real ones are escaped at most twice.
_MAX_PASSES = 5


def repair(text: str) -> str:
    """Return a text without mojibake, HTML, entities, invisible characters and superfluous white space, in NFC.

    Repeated until nothing changes (at most 5 times), so that repairing a repaired text changes nothing.

    Examples
    --------
    >>> repair("CafÃ© &amp;  <b>crème</b>\\u200b")
    'Café & crème'
    """
    for _ in range(_MAX_PASSES):
        repaired = _repair_once(text)
        if repaired == text:
            break
        text = repaired
    return text


def _repair_once(text: str) -> str:
    text = html.unescape(text)
    text = _TAG.sub(" ", _HIDDEN_BLOCK.sub(" ", text))
    text = ftfy.fix_text(text, _FTFY)
    text = _CONTROL.sub(" ", _INVISIBLE.sub("", text))
    return _SPACE.sub(" ", text).strip()


def _repair_batch(texts: pd.Series) -> pd.Series:
    return texts.map(repair, na_action="ignore")


@functools.cache
def _repair_udf():  # type: ignore[no-untyped-def]
    # Made at first use, so that importing this module asks for no Spark session.
    return F.pandas_udf(_repair_batch, "string")  # type: ignore[call-overload]


def clean_texts(frame: DataFrame, columns: Iterable[str]) -> DataFrame:
    """Return the frame with these text columns repaired and tidied; blank text becomes NULL.

    A text that shows no damage never leaves the JVM: Python sees NULL in its place. Each step is a projection of its
    own, because Spark would copy an expression into every place that uses it.
    """
    columns = list(columns)
    others = [name for name in frame.columns if name not in columns]
    damaged = [F.when(F.col(name).rlike(_SUSPECT), F.col(name)).alias(f"damaged:{name}") for name in columns]
    marked = frame.select("*", *damaged)
    repaired = marked.select(
        *others,
        *[F.coalesce(_repair_udf()(F.col(f"`damaged:{name}`")), F.col(name)).alias(name) for name in columns],
    )
    tidied = [F.btrim(F.regexp_replace(F.col(name), r"\s+", " ")).alias(name) for name in columns]
    return repaired.select(*others, *tidied).select(
        *others, *[F.nullif(F.col(name), F.lit("")).alias(name) for name in columns]
    )


def fold_shouting(text: Column) -> Column:
    """Return ALL-CAPS text in sentence case ("KIDS CEREAL, 14.5 OZ" -> "Kids cereal, 14.5 oz"), other text as it is.

    The first letter stays a capital; a text that begins with a digit is lower case throughout.
    """
    shouting = (text == F.upper(text)) & text.rlike(r"\p{Lu}{2}")
    return F.when(shouting, F.concat(F.substring(text, 1, 1), F.lower(F.substr(text, F.lit(2))))).otherwise(text)


def cut_at_word(text: Column, max_chars: int) -> Column:
    """Return text of at most `max_chars` characters, cut after a whole word where that loses less than a fifth."""
    head = F.substring(text, 1, max_chars)
    whole_words = F.regexp_extract(head, r"^([\s\S]*\S)\s+\S*$", 1)
    cut = F.when(F.length(whole_words) >= int(max_chars * 0.8), whole_words).otherwise(head)
    return F.when(F.length(text) > max_chars, cut).otherwise(text)
