"""From a product's texts to the words and pairs of words that may name a cluster.

Every text is cut into phrases: at punctuation, numbers, units and function words. Terms are the words of a phrase and
its pairs of neighbours, with case and simple plurals folded. How a term stands in its phrase says whether it names a
thing or describes one: the last word is the thing ("photo frame"), what follows a spaced dash, a colon or a bracket is
a note ("Fruit - shelf stable"), and a title's first word is often its maker.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from shelfkin.language import english
from shelfkin.language.english import CONTAINERS, FUNCTION_WORDS, NAMELESS, ONLY_LAST, SIZES
from shelfkin.naming.product_texts import ProductText

_LETTERS = re.compile(r"[^\W\d_](?:[^\W\d_]|[-\u0300-\u036f])*[^\W\d_]")
_TOKEN = re.compile(r"\s+[-–—]+\s+|[-–—]+\s|\s[-–—]+|[:()\[\]]|[^\W_]+(?:[-.][^\W_]+)*|[^\w\s]")
_NOTE = re.compile(r"\s*[-–—]+\s+|\s+[-–—]+\s*|[:(\[]")
_NOTHING: Mapping[str, str] = {}


@dataclass(frozen=True)
class Mention:
    """A term in one product.

    Attributes
    ----------
    key
        Folded form, one or two words.
    surface
        The form as written, in lower case.
    uses
        How it is used somewhere in the product: it ends a phrase (``last``), stands outside notes (``plain``), begins
        the title (``leads``), stands before a model's number (``model``) or in the category path (``category``).
    """

    key: str
    surface: str
    uses: frozenset[str]


def letter_words(text: ProductText) -> set[str]:
    """Return the words of a product as they are written, in lower case, stop words and abbreviations among them."""
    return {
        token for part in (text.title, *text.category_path) for token in tokens_of(part) if _LETTERS.fullmatch(token)
    }


def folded_words(text: ProductText, spelt: Mapping[str, str] = _NOTHING) -> set[str]:
    """Return the words of a product, folded and in their full form, without function words."""
    words = {spelt.get(word, word) for word in letter_words(text)}
    return {english.fold(word) for word in words if word not in FUNCTION_WORDS}


def mentions(text: ProductText, spelt: Mapping[str, str] = _NOTHING) -> list[Mention]:
    """Return every term of a product once, with the words in `spelt` in their full form."""
    by_key: dict[str, Mention] = {}
    for level, part in enumerate((text.title, *text.category_path)):
        tokens = [spelt.get(token, token) for token in tokens_of(part)]
        for mention in _mentions_of(tokens, in_category=level > 0):
            before = by_key.get(mention.key)
            by_key[mention.key] = mention if before is None else replace(before, uses=before.uses | mention.uses)
    return list(by_key.values())


def tokens_of(text: str) -> list[str]:
    """Return words, numbers and punctuation of a text, in lower case."""
    # Apostrophes join: "men's" is one word.
    return _TOKEN.findall(re.sub("['’`´]", "", text.lower()))


def _mentions_of(tokens: Sequence[str], *, in_category: bool) -> Iterator[Mention]:
    in_note = False
    for place, token in enumerate(tokens):
        if _NOTE.fullmatch(token):
            in_note = True
        if (_is_word(token) or _is_container(tokens, place)) and not _is_lacking(tokens, place):
            # A word in a note may end its phrase, but "Fruit - shelf stable" is no kind of stable.
            yield _mention(tokens, place, place, plain=not in_note, in_category=in_category)
            if _makes_pair(tokens, place):
                yield _mention(tokens, place, place + 1, plain=not in_note, in_category=in_category)


def _mention(tokens: Sequence[str], begin: int, end: int, *, plain: bool, in_category: bool) -> Mention:
    shown = tokens[begin : end + 1]
    leads = begin == 0 and not in_category
    uses = {
        "last": _ends_phrase(tokens, end, leads=leads),
        "plain": plain,
        "leads": leads,
        "model": _precedes_model(tokens, end, leads=leads),
        "category": in_category,
    }
    key = " ".join(english.fold(word) for word in shown)
    return Mention(key, " ".join(shown), frozenset(use for use, is_so in uses.items() if is_so))


def _is_word(token: str) -> bool:
    """Whether a token may be part of a name: two letters or more, no digit, no stop word, no till abbreviation.

    A part in Latin letters without a vowel is an abbreviation such as "frzn" or "sft drnk", which no sign would carry.
    """
    return _LETTERS.fullmatch(token) is not None and token not in NAMELESS and not english.is_vowelless(token)


def _is_container(tokens: Sequence[str], place: int) -> bool:
    """Whether a container is the thing itself, "pink bag", and no measure, "2 bags" or "bag of"."""
    if tokens[place] not in CONTAINERS or not place:
        return False
    before = tokens[place - 1]
    return _LETTERS.fullmatch(before) is not None and before not in FUNCTION_WORDS


def _is_lacking(tokens: Sequence[str], place: int) -> bool:
    """Whether a product has no such thing: "sim free"."""
    return tokens[place + 1 : place + 2] == ["free"]


def _makes_pair(tokens: Sequence[str], place: int) -> bool:
    """Whether a word and the next one are a term."""
    if tokens[place] in ONLY_LAST or place + 1 == len(tokens) or _is_lacking(tokens, place + 1):
        return False
    following = tokens[place + 1]
    return (_is_word(following) or following in ONLY_LAST) and english.fold(following) != english.fold(tokens[place])


def _ends_phrase(tokens: Sequence[str], place: int, *, leads: bool) -> bool:
    """Whether no word follows, nor a till's abbreviation of one."""
    if _precedes_model(tokens, place, leads=leads):
        return False
    following = tokens[place + 1] if place + 1 < len(tokens) else ""
    is_abbreviation = english.is_vowelless(following) and following not in NAMELESS
    return not (_is_word(following) or following in ONLY_LAST or is_abbreviation)


def _precedes_model(tokens: Sequence[str], place: int, *, leads: bool) -> bool:
    """Whether a model's number follows, such as 80d, or 8 at a title's beginning ("nokia 8"), and no size such as 125g.

    The word is the name of a series then, not of a thing.
    """
    number = tokens[place + 1] if place + 1 < len(tokens) else ""
    letters = re.sub(r"[\d.]+", "", number)
    if letters == number:
        return False
    if letters:
        return letters not in SIZES
    return leads and tokens[place + 2 : place + 3] != [] and tokens[place + 2] not in SIZES
