"""Names for clusters, readable as an aisle sign, from the counts of `terms`.

Class-based TF-IDF finds what a cluster is about; four rules make a sign of it:

- What a term is used for weighs in. Words that end phrases ("photo frame") are things, words that begin them describe;
  words of the category path were chosen by people to be read; notes, participles and makers' names stand back.
- A word takes along the neighbour without which it is hardly ever written: "greeting card", "hot water bottle".
- A second or third part must cover products that those before it leave out.
- No two clusters share a name; the larger one has the first choice.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from shelfkin.clustering.terms import Term
from shelfkin.clustering.words import fold, is_participle

N_TOP_TERMS = 10
MAX_NAME_CHARS = 48
# Longer signs lose a third part.
LONG_NAME_CHARS = 34
MAX_PARTS = 3

# A describing word takes its noun along when half of its products have it so: "greeting card" for "greeting". A noun
# takes a describing word along only when hardly any product has it otherwise, since that narrows what it says.
NOUN_FOLLOWS = 0.5
NOUN_NEEDS = 0.75
PAIR_NEEDS = 0.85
INSEPARABLE = 0.9
BROADER_SHARE = 1.75
BROADER_WEIGHT = 0.6

# A part joins a name only if it comes near the first one in weight, and covers so much that isn't covered yet.
JOIN_WEIGHT = 0.3
JOIN_COVERS = 0.06
# In a cluster of many kinds, of which the first covers little, a fraction of that is enough.
JOIN_COVERS_OF_FIRST = 0.3
JOIN_SHARE = 0.12
# What is covered so well needs no further part.
ENOUGH_COVERED = 0.75

# Who leads titles and describes what follows is a maker ("bosch", "samsung galaxy"), and no name unless four in five
# products of the cluster are of that maker, and the maker is hardly anywhere else.
MAKER_LEADS = 0.6
MAKER_SHARE = 0.8
MAKER_WEIGHT = 0.15

# Words that end so are mostly the work of a till ("sherbts", "crystl"), though "Herbst" and "Dirndl" are words.
UNSPEAKABLE_WEIGHT = 0.3
_UNSPEAKABLE = re.compile(r"[bcdfghjklmnpqrstvwxz]{4}( |$)|[bcdfgkpstz][lr]( |$)")

MIN_PREFIX = 4

_ACRONYM = re.compile(r"^[b-df-hj-np-tv-xzBCDFGHJKLMNPQRSTVWXZ]{2,3}?(?=s?$)|^[Cc]pu(?=s?$)")


@dataclass(frozen=True)
class Part:
    """One part of a name.

    Attributes
    ----------
    words
        Folded words, in order.
    surface
        As shown, in lower case.
    weight
        Class-based TF-IDF, weighted by what the term is used for.
    term
        The term that it was made from.
    """

    words: tuple[str, ...]
    surface: str
    weight: float
    term: Term


def top_terms(terms: Sequence[Term]) -> list[str]:
    """Return the forms of the best terms, at most `N_TOP_TERMS`, without words that a better one already holds."""
    return [part.surface for part in parts(terms)[:N_TOP_TERMS]]


def name_clusters(
    terms: Mapping[int, Sequence[Term]], order: Sequence[int], kept_names: Mapping[int, str] | None = None
) -> dict[int, str]:
    """Name clusters, no two alike.

    Parameters
    ----------
    terms
        Best terms of each cluster; a cluster without letters in its titles may have none.
    order
        Cluster ids, those first that should get their first choice: the largest.
    kept_names
        Names that stay from the day before.

    Returns
    -------
    dict
        Name of each cluster of `order`.
    """
    kept = dict(kept_names or {})
    names = {cluster: kept[cluster] for cluster in order if cluster in kept}
    taken = {name.casefold() for name in names.values()}
    for cluster in order:
        if cluster in names:
            continue
        name = next(name for name in _candidates(terms.get(cluster, ())) if name.casefold() not in taken)
        names[cluster] = name
        taken.add(name.casefold())
    return names


def weight(term: Term) -> float:
    """Return a term's class-based TF-IDF, weighted by how it is used; 0 for what can't be a name."""
    if is_participle(term.surface.split()[-1]):
        return 0.0
    if is_maker(term):
        return term.score * (1.0 if _defines(term) else MAKER_WEIGHT)
    # Set by reading the names of two shops and ten kinds of electric goods: a word that only describes keeps 0.6 of its
    # score ("Christmas" is a fine sign), one that only stands in notes 0.05, one from the category path gets half more.
    used = (0.6 + 0.4 * term.last) * (0.05 + 0.95 * term.plain) * (1 + 0.5 * term.category)
    if _UNSPEAKABLE.search(term.surface):
        used *= UNSPEAKABLE_WEIGHT
    return term.score * used


def is_maker(term: Term) -> bool:
    """Whether a term is the maker's name: it is in the brand column, or leads titles and describes what follows."""
    return term.brand >= 0.5 or (term.leads >= MAKER_LEADS and term.last <= 0.35 and not term.category)


def _defines(term: Term) -> bool:
    return term.share >= MAKER_SHARE and term.share >= 0.8 * term.everywhere


def parts(terms: Sequence[Term]) -> list[Part]:
    """Return possible parts of a name, best first, in which no word comes twice."""
    by_key = {term.key: term for term in terms}
    ranked = sorted(((weight(term), term) for term in terms), key=lambda pair: (-pair[0], pair[1].key))
    ranked = _broader_first(ranked, by_key)
    chosen: list[Part] = []
    for value, term in ranked:
        if not value:
            continue
        surface = " ".join(_widened(term, by_key))
        words = tuple(fold(word) for word in re.split(r"[\s-]+", surface))
        if not any(_alike(word, other) for word in words for part in chosen for other in part.words):
            chosen.append(Part(words, surface, value, term))
    return chosen


def _broader_first(ranked: list[tuple[float, Term]], terms: Mapping[str, Term]) -> list[tuple[float, Term]]:
    """Put the noun of the best pair before it where that covers much more: not "Christmas seasonal" but "Seasonal"."""
    if not ranked or " " not in ranked[0][1].key:
        return ranked
    value, pair = ranked[0]
    noun = terms.get(pair.key.split()[1])
    if noun is None or noun.share < BROADER_SHARE * pair.share or weight(noun) < BROADER_WEIGHT * value:
        return ranked
    return [(value, noun), *(found for found in ranked if found[1] is not noun)]


def _candidates(terms: Sequence[Term]) -> Iterator[str]:
    """Yield ever longer names, ending with numbered ones that can't all be taken."""
    found = parts(terms)
    if not found:
        yield from (f"Assorted {number}" for number in range(1, 10_001))
        return
    chosen = _chosen(found)
    yield sign(chosen)
    # Two clusters of the same words: the second says what it has besides.
    others = [part for part in found if part not in chosen]
    yield from (sign([*chosen[:2], other]) for other in others)
    yield from (f"{sign(chosen)} {number}" for number in range(2, 10_001))


def _chosen(found: Sequence[Part]) -> list[Part]:
    """Return the parts of a name: the best, then those that add most, at most `MAX_PARTS`."""
    chosen = [found[0]]
    least_gain = min(JOIN_COVERS, JOIN_COVERS_OF_FIRST * found[0].term.share)
    covered = found[0].term.share
    while len(chosen) < MAX_PARTS and covered < ENOUGH_COVERED:
        gains = [(_gain(part, chosen), part) for part in found if part not in chosen]
        able = [
            (part.weight * gain / part.term.share, part)
            for gain, part in gains
            if gain >= least_gain
            and part.weight >= JOIN_WEIGHT * found[0].weight
            and part.term.share >= JOIN_SHARE * found[0].term.share
            and (not is_maker(part.term) or _defines(part.term))
        ]
        if not able:
            break
        best = max(able, key=lambda pair: (pair[0], pair[1].surface))[1]
        if len(chosen) == 2 and len(sign([*chosen, best])) > LONG_NAME_CHARS:
            break
        covered += _gain(best, chosen)
        chosen.append(best)
    return chosen


def _gain(part: Part, chosen: Sequence[Part]) -> float:
    """Return the share of products that carry this part and, as far as pairs of terms tell, none of the others."""
    shared = [part.term.together.get(other.term.key, 0.0) for other in chosen]
    return max(0.0, part.term.share - max(shared))


def _widened(term: Term, terms: Mapping[str, Term]) -> list[str]:
    """Return a term's words with the neighbours that it is hardly ever without, at most three words."""
    keys, shown = term.key.split(), term.surface.split()
    if is_maker(term):
        return shown
    pairs = [other for key, other in terms.items() if " " in key and key != term.key]
    while len(keys) < 3:
        after = [pair for pair in pairs if pair.key.split()[0] == keys[-1] and pair.key.split()[1] not in keys]
        before = [pair for pair in pairs if pair.key.split()[1] == keys[0] and _describes(pair, keys, terms)]
        noun = _covering(after, term, NOUN_FOLLOWS) if term.last < 0.5 else None
        description = _covering(before, term, NOUN_NEEDS if len(keys) == 1 else PAIR_NEEDS)
        if noun is not None:
            keys, shown = [*keys, noun.key.split()[1]], [*shown, noun.surface.split()[1]]
        elif description is not None:
            keys, shown = [description.key.split()[0], *keys], [description.surface.split()[0], *shown]
        else:
            break
    return shown


def _describes(pair: Term, keys: Sequence[str], terms: Mapping[str, Term]) -> bool:
    """Whether a pair's first word describes its second: "number tile" isn't a kind of tile, "bosch" none of anything.

    A word that is hardly ever without its noun is no maker, though it may lead titles: "greeting card".
    """
    word = pair.key.split()[0]
    alone = terms.get(word)
    if word in keys or is_maker(pair):
        return False
    if alone is None or pair.share >= INSEPARABLE * alone.share:
        return True
    return alone.last <= 0.5 and not is_maker(alone)


def _covering(pairs: Iterable[Term], term: Term, least: float) -> Term | None:
    """Return the pair that stands on most of the products that carry `term`, if on the least share of them."""
    able = [(term.together.get(pair.key, 0.0), pair.key, pair) for pair in pairs]
    able = [found for found in able if found[0] >= least * term.share]
    return max(able, key=lambda found: found[:2])[2] if able else None


def _alike(word: str, other: str) -> bool:
    """Whether one word is the other or an abbreviation of it: fem, feminine; mirror, mirrored."""
    shorter, longer = sorted((word, other), key=len)
    return shorter == longer or (len(shorter) >= MIN_PREFIX and longer.startswith(shorter))


def sign(found: Sequence[Part]) -> str:
    """Return parts as a name: "Coffee, Teas & Milk"."""
    words = [_title_case(part.surface) for part in found]
    name = words[0] if len(words) == 1 else f"{', '.join(words[:-1])} & {words[-1]}"
    return name if len(name) <= MAX_NAME_CHARS else name[: MAX_NAME_CHARS - 1].rstrip() + "…"


def _title_case(text: str) -> str:
    # str.title() would make "Men'S" and "T-Light"; only the first letter of each word changes here.
    # What has no vowel is spelt out: TV, TVs, DVD.
    return " ".join(_ACRONYM.sub(lambda found: found[0].upper(), word[:1].upper() + word[1:]) for word in text.split())
