"""Repair the text of titles and descriptions.

Most texts are plain ASCII without markup: Spark's own functions tidy those. Only texts that show a sign of damage
(markup, entities, non-ASCII characters, control characters) go to Python, where ftfy repairs mojibake.
"""

from __future__ import annotations

import functools
import html
import html.entities
import re
import tomllib
from collections.abc import Iterable
from importlib import resources

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
    fix_character_width=False,  # full-width punctuation is right in Chinese and Japanese
    normalization="NFC",
)
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff]"
)
# Scripts whose spelling needs joiners and non-joiners: Arabic with Syriac and others, those of India and Sri Lanka,
# Myanmar, Khmer, Mongolian (which has a joiner of its own, U+180E), and Arabic's presentation forms.
_JOINING = "\u0600-\u08ff\u0900-\u0dff\u1000-\u109f\u1780-\u18af\ufb50-\ufdff\ufe70-\ufefc"
_VIRAMA = "\u094d\u09cd\u0a4d\u0acd\u0b4d\u0bcd\u0c4d\u0ccd\u0d4d\u0dca"
_EMOJI = "\u00a9\u00ae\u203c-\u2bff\u3030\u303d\u3297\u3299\ufe0f\U0001f000-\U0001faff\U000e0020-\U000e007f"
# A joiner stays between two letters or signs of these scripts, after a virama (where it shapes the last consonant of a
# word), and between two emoji; any other is the second group.
_JOINER = re.compile(
    f"((?<=[{_VIRAMA}])[\u200c\u200d]|(?<=[{_JOINING}])[\u200c\u200d\u180e](?=[{_JOINING}])|(?<=[{_EMOJI}])\u200d(?=[{_EMOJI}]))"
    "|[\u200c\u200d\u180e]"
)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_HIDDEN_BLOCK = re.compile(r"<(script|style)\b[^>]*>.*?</\1\s*>|<!--.*?-->", re.IGNORECASE | re.DOTALL)
_ELEMENTS = tomllib.loads(resources.files(__package__).joinpath("html.toml").read_text("utf-8"))["elements"].split()
# A name alone, or with attributes; of names with one letter only with a value, because "a<b and c>d" is no tag. Word
# and other editors write tags of their own, such as <o:p>.
_TAG = re.compile(
    rf"</?(?:{'|'.join(sorted(_ELEMENTS, key=len, reverse=True))}|[a-z]\w*:[a-z]\w*)\s*/?>"
    rf"|<(?:{'|'.join(name for name in _ELEMENTS if len(name) > 1)}|[a-z]\w*:[a-z]\w*)[\s/][^<>]*>"
    rf"|<(?:{'|'.join(name for name in _ELEMENTS if len(name) == 1)})\s[^<>]*=[^<>]*>"
    r"|<!(?:DOCTYPE|\[)[^<>]*>|<\?(?:xml|php)[^<>]*>",
    re.IGNORECASE,
)
# Sizes stand in such brackets as well: a capital alone is a tag only where its closing tag follows or its opening one
# goes before.
_CAPITAL = re.compile(r"</?([ABIPQSU])>")
_SPACE = re.compile(r"\s+")
# Texts escaped again and again by careless exports; real ones are escaped at most twice.
_MAX_PASSES = 5
_ENTITY = re.compile(r"&(?:#(?:\d{1,7}|[xX][0-9a-fA-F]{1,6});?|[A-Za-z][A-Za-z0-9]{1,31};?)")
# Names that are no words, so that "Salt&amp Pepper" can't be meant as it stands.
_NO_WORDS = {"amp", "lt", "gt", "quot", "nbsp"}
# Capitals before a capital with an accent, and a sign behind it that may well end a word: "MAÇÃ»", "ROMÃ®". As damaged
# text it would be a word of capitals that ends in a small letter or in Ò, Ó, Ô, Ù. Not Â, with which damaged signs
# begin ("Â»").
_CAPITALS = re.compile(
    "([A-ZÀÁÃ-ÖØ-Þ][A-ZÀ-ÖØ-Þ]+[ÀÁÃ-ÖØ-Þ](?=[»«”“’‘®™©°ºª…–—•·¹²³\u00a0](?![^\\W\\d_]))|[A-Z][ÀÁÃ-ÖØ-Þ](?=[»”’®™](?![^\\W\\d_])))"
)


def repair(text: str) -> str:
    """Return a text without mojibake, HTML, entities, invisible characters and superfluous white space, in NFC.

    What is right stays: joiners that belong to the spelling, "&" and "<" that begin no entity and no tag, and capitals
    with accents beside signs. Repeated until nothing changes (at most 5 times), so that repairing a repaired text
    changes nothing.

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
    text = _ENTITY.sub(_decoded, text)
    text = _without_tags(_HIDDEN_BLOCK.sub(" ", text))
    text = "".join(ftfy.fix_text(piece, _FTFY) for piece in _CAPITALS.sub("\\1\0", text).split("\0"))
    text = _CONTROL.sub(" ", _JOINER.sub(r"\1", _INVISIBLE.sub("", text)))
    return _SPACE.sub(" ", text).strip()


def _decoded(found: re.Match[str]) -> str:
    """Return what an entity stands for; what only looks like one stays.

    With a semicolon, HTML's list decides. Without, HTML allows the names of Latin-1, where no letter, digit or "="
    follows; inside a word or an address only those that are letters, or no words themselves.
    """
    entity = found.group()
    name = entity[1:].removesuffix(";")
    if entity.endswith(";"):
        return html.unescape(entity) if entity[1] == "#" or name + ";" in html.entities.html5 else entity
    following = found.string[found.end() : found.end() + 1]
    if entity[1] == "#":
        is_whole = len(name) > 2 and not following.isalnum() if "x" in name.lower() else len(name) > 2
        return html.unescape(entity) if is_whole else entity
    if name not in html.entities.html5 or following == "=":
        return entity
    decoded = html.entities.html5[name]
    begun = found.string[: found.start()].rpartition(" ")[2]
    is_word = name not in _NO_WORDS and not decoded.isalpha()
    return entity if (is_word and begun[-1:].isalnum()) or "://" in begun else decoded


def _without_tags(text: str) -> str:
    if "<" not in text:
        return text
    once = {name for name in _CAPITAL.findall(text) if f"<{name}>" not in text or f"</{name}>" not in text}
    return _TAG.sub(lambda tag: tag.group() if tag.group().strip("</>") in once else " ", text)


def _repair_batch(texts: pd.Series) -> pd.Series:
    return texts.map(repair, na_action="ignore")


@functools.cache
def _repair_udf():  # type: ignore[no-untyped-def]
    # Made at first use, so that importing this module asks for no Spark session.
    return F.pandas_udf(_repair_batch, "string")  # type: ignore[call-overload]


def clean_texts(frame: DataFrame, columns: Iterable[str], **further: Column) -> DataFrame:
    """Return the frame with these text columns repaired and tidied; blank text becomes NULL.

    A text that shows no damage never leaves the JVM: Python sees NULL in its place. Each step is a projection of its
    own, because Spark would copy an expression into every place that uses it.

    Parameters
    ----------
    further
        Columns to add by name: what Python is to make on the same trip.
    """
    columns = list(columns)
    others = [name for name in frame.columns if name not in columns]
    added = [column.alias(name) for name, column in further.items()]
    damaged = [F.when(F.col(name).rlike(_SUSPECT), F.col(name)).alias(f"damaged:{name}") for name in columns]
    marked = frame.select("*", *damaged)
    repaired = marked.select(
        *others,
        *added,
        *[F.coalesce(_repair_udf()(F.col(f"`damaged:{name}`")), F.col(name)).alias(name) for name in columns],
    )
    others += further
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
