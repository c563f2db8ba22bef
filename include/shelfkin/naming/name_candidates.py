"""From the terms of a cluster to what may be part of its name.

How a term's words are used says whether a sign can carry it. Words that end phrases ("photo frame") are things, words
that begin them describe; words of the category path were chosen by people to be read; notes ("Fruit - shelf stable")
and makers stand back.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from shelfkin.language import english
from shelfkin.naming.ctfidf import Term

# How much of what a term covers counts for a name. Set by reading the names of two shops and ten kinds of electric
# goods, at several numbers of clusters.
NEVER_LAST = 0.5  # a word that never ends a phrase; one that does in half of its uses counts in full
NOTE = 0.05  # a term that only stands in notes
NO_CATEGORY = 0.6  # a term that no category path holds, where the products have one
MAKER = 0.15

# Most of a cluster's products have a category path if some term from there is on so many of them.
MIN_CATEGORY_SHARE = 0.5

# A noun takes a describing word along only when hardly any product has it otherwise, since that narrows what it says.
NOUN_NEEDS = 0.75
MAX_WORDS = 3

# Who leads titles and describes what follows is a maker ("bosch", "samsung galaxy"), if he numbers his models.
MAKER_LEADS = 0.6
MAKER_LAST = 0.35
MAKER_MODEL = 0.1

MIN_PREFIX = 4


@dataclass(frozen=True)
class NameCandidate:
    """What may be one part of a name.

    Attributes
    ----------
    words
        Folded words, in order.
    surface
        As shown, in lower case.
    quality
        How much of what it covers counts, in (0, 1].
    term
        The term that it was made from.
    """

    words: tuple[str, ...]
    surface: str
    quality: float
    term: Term

    def is_same_thing(self, other: NameCandidate) -> bool:
        """Whether both are kinds of the same thing: dog food, cat food."""
        return len(self.words) > 1 and len(other.words) > 1 and self.words[-1] == other.words[-1]

    def differs(self, other: NameCandidate) -> bool:
        """Whether both have no word in common, but the thing in two kinds of it."""
        first, second = self.words, other.words
        if self.is_same_thing(other):
            first, second = first[:-1], second[:-1]
        return not any(_is_alike(word, another) for word in first for another in second)


def name_candidates(terms: Sequence[Term]) -> list[NameCandidate]:
    """Return possible parts of a name, best first: class-based TF-IDF, weighted by how a term is used."""
    by_key = {term.key: term for term in terms}
    has_categories = any(term.category * term.share >= MIN_CATEGORY_SHARE for term in terms)
    by_words: dict[tuple[str, ...], NameCandidate] = {}
    for term in terms:
        shown = " ".join(_with_description(term, by_key))
        words = tuple(english.fold(word) for word in re.split(r"[\s-]+", shown))
        quality = MAKER if is_maker(term) else _quality(term, has_categories=has_categories)
        candidate = NameCandidate(words, shown, quality, term)
        by_words[words] = max(candidate, by_words.get(words, candidate), key=_rank)
    return sorted(by_words.values(), key=_rank, reverse=True)


def _rank(candidate: NameCandidate) -> tuple[float, str]:
    return candidate.term.score * candidate.quality, candidate.term.key


def _quality(term: Term, *, has_categories: bool) -> float:
    """Return how much of what a term covers counts, by how it is used."""
    quality = min(1.0, NEVER_LAST + (1 - NEVER_LAST) * 2 * term.last) * _between(NOTE, term.plain)
    return quality * (_between(NO_CATEGORY, term.category) if has_categories else 1.0)


def _between(least: float, share: float) -> float:
    return least + (1 - least) * share


def is_maker(term: Term) -> bool:
    """Whether a term is a maker's name: it is in the brand column, or leads titles and stands before models' numbers.

    What leads titles without them is the thing: "Doormat welcome home".
    """
    if term.brand >= 0.5:
        return True
    numbered = term.leads >= MAKER_LEADS and term.last <= MAKER_LAST and term.model > MAKER_MODEL
    return numbered and not term.category


def _is_alike(word: str, other: str) -> bool:
    """Whether one word is the other or an abbreviation of it: fem, feminine; mirror, mirrored."""
    shorter, longer = sorted((word, other), key=len)
    return shorter == longer or (len(shorter) >= MIN_PREFIX and longer.startswith(shorter))


def _with_description(term: Term, terms: Mapping[str, Term]) -> list[str]:
    """Return a term's words with the describing ones that it is hardly ever without, at most `MAX_WORDS`."""
    keys, shown = term.key.split(), term.surface.split()
    pairs = [other for key, other in terms.items() if " " in key and key != term.key]
    while len(keys) < MAX_WORDS and not is_maker(term):
        before = [pair for pair in pairs if pair.key.split()[1] == keys[0] and _describes(pair, keys, terms)]
        description = _covering(before, term)
        if description is None:
            break
        keys, shown = [description.key.split()[0], *keys], [description.surface.split()[0], *shown]
    return shown


def _describes(pair: Term, keys: Sequence[str], terms: Mapping[str, Term]) -> bool:
    """Whether a pair's first word describes its second: a photo frame is a frame, "bosch" is no kind of anything."""
    word = pair.key.split()[0]
    alone = terms.get(word)
    if word in keys or is_maker(pair):
        return False
    return alone is None or (alone.last <= 0.5 and not is_maker(alone))


def _covering(pairs: Iterable[Term], term: Term) -> Term | None:
    """Return the pair that stands on most of the products that carry `term`, if on `NOUN_NEEDS` of them."""
    shares = [(term.together.get(pair.key, 0.0), pair.key, pair) for pair in pairs]
    able = [one for one in shares if one[0] >= NOUN_NEEDS * term.share]
    return max(able, key=lambda one: one[:2])[2] if able else None
