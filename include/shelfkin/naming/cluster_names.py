"""Names for clusters, readable as an aisle sign, from the candidates of `name_candidates`.

A name is the one, two or three candidates that find the cluster best: who follows the sign should meet most of the
cluster and little else. What counts is the F measure (van Rijsbergen, 1979, "Information Retrieval", chapter 7), from
the share of the cluster's products that carry a candidate, and the shares of other clusters' products that do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from shelfkin.naming.ctfidf import Term
from shelfkin.naming.name_candidates import NameCandidate, name_candidates

N_TOP_TERMS = 10
MAX_NAME_CHARS = 48
MAX_PARTS = 3
# Longer signs have two parts at most.
LONG_NAME_CHARS = 40

# So many candidates, those that find the cluster best alone, are weighed in all combinations: 696 of 16.
N_COMBINED = 16
# Notes, makers and a till's words name a cluster only where nothing else does.
LEAST_QUALITY = 0.25
# A further part must raise the F measure by so much of it.
WORTH_A_PART = 0.04
# Side by side, "Frozen Meat & Pickles" look like halves.
LEAST_OF_FIRST = 0.15
# What a word finds elsewhere counts less: soft drinks stay soft drinks where a shop has two clusters of them.
ELSEWHERE = 0.4

# What has no vowel is spelt out: TV, TVs, DVD.
_ACRONYM = re.compile(r"^[b-df-hj-np-tv-xzBCDFGHJKLMNPQRSTVWXZ]{2,3}?(?=s?$)|^[Cc]pu(?=s?$)")


@dataclass(frozen=True)
class NameChoice:
    """What names a cluster.

    Attributes
    ----------
    parts
        The one that covers most first; none where titles have no words.
    fit
        F measure of the parts.
    """

    parts: tuple[NameCandidate, ...]
    fit: float

    @property
    def sign(self) -> str:
        """The name as shown, "Coffee, Teas & Milk"; empty where there is no part."""
        shown = [part.surface for part in self.parts]
        if len(shown) > 1 and self.parts[-2].is_same_thing(self.parts[-1]):
            shown[-2] = shown[-2].rsplit(" ", 1)[0]
        words = [_title_case(text) for text in shown]
        name = " & ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
        return name if len(name) <= MAX_NAME_CHARS else name[: MAX_NAME_CHARS - 1].rstrip() + "…"


def top_terms(terms: Sequence[Term]) -> list[str]:
    """Return the forms of the best terms, at most `N_TOP_TERMS`, without words that a better one already holds."""
    best: list[NameCandidate] = []
    for candidate in name_candidates(terms):
        if all(candidate.differs(other) for other in best):
            best.append(candidate)
    return [candidate.surface for candidate in best[:N_TOP_TERMS]]


def name_clusters(
    terms: Mapping[int, Sequence[Term]], order: Sequence[int], kept_names: Mapping[int, str] | None = None
) -> dict[int, str]:
    """Name clusters, no two alike.

    Parameters
    ----------
    terms
        Best terms of each cluster; a cluster without letters in its titles may have none.
    order
        Cluster ids, the largest first. Of clusters with the same first choice, the one that it fits best gets it; where
        it fits them alike, the first one.
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
    candidates = {cluster: name_candidates(terms.get(cluster, ())) for cluster in order if cluster not in names}
    choices = {cluster: best_combination(of_cluster) for cluster, of_cluster in candidates.items()}
    for cluster, choice in sorted(choices.items(), key=lambda item: -round(item[1].fit, 9)):
        possible = _possible_names(choice, candidates[cluster])
        names[cluster] = next(name for name in possible if name.casefold() not in taken)
        taken.add(names[cluster].casefold())
    return {cluster: names[cluster] for cluster in order}


def best_combination(candidates: Sequence[NameCandidate]) -> NameChoice:
    """Return the candidates that find a cluster best; see the module's head."""
    able = [candidate for candidate in candidates if candidate.quality >= LEAST_QUALITY] or candidates
    alone = sorted((_choice([one]) for one in able), key=lambda choice: (-choice.fit, choice.sign))
    best = [choice.parts[0] for choice in alone[:N_COMBINED]]
    weighed = [
        (choice.fit * (1 - WORTH_A_PART) ** (len(choice.parts) - 1), choice)
        for n_parts in range(1, MAX_PARTS + 1)
        for choice in (_choice(combination) for combination in combinations(best, n_parts))
        if _reads_well(choice)
    ]
    # Equal fits go by the alphabet.
    return min(weighed, key=lambda pair: (-round(pair[0], 9), pair[1].sign), default=(0.0, NameChoice((), 0.0)))[1]


def _choice(candidates: Sequence[NameCandidate]) -> NameChoice:
    """Return candidates in order, with their F measure: 2 hits / (2 hits + misses + hits elsewhere)."""
    ordered = sorted(candidates, key=lambda part: (-part.term.share, part.surface))
    hits = elsewhere = 0.0
    for place, part in enumerate(ordered):
        hits += part.quality * _gain(part, ordered[:place])
        elsewhere += ELSEWHERE * max(0.0, part.term.everywhere - part.term.share)
    hits = min(1.0, hits)
    return NameChoice(tuple(ordered), 2 * hits / (2 * hits + (1 - hits) + elsewhere))


def _gain(part: NameCandidate, before: Sequence[NameCandidate]) -> float:
    """Return the share of products that carry this part and, as far as pairs of terms tell, none of the others."""
    shared = [part.term.together.get(other.term.key, 0.0) for other in before]
    return max(0.0, part.term.share - max(shared, default=0.0))


def _reads_well(choice: NameChoice) -> bool:
    """Whether no word comes twice, all parts are big enough to stand side by side, and three fit a sign."""
    if not all(first.differs(second) for first, second in combinations(choice.parts, 2)):
        return False
    if choice.parts[-1].term.share < LEAST_OF_FIRST * choice.parts[0].term.share:
        return False
    return len(choice.parts) < MAX_PARTS or len(choice.sign) <= LONG_NAME_CHARS


def _possible_names(choice: NameChoice, candidates: Sequence[NameCandidate]) -> Iterator[str]:
    """Yield ever longer names, ending with numbered ones that can't all be taken."""
    if not choice.sign:
        yield from (f"Assorted {number}" for number in range(1, 10_001))
        return
    yield choice.sign
    # Two clusters of the same words: the second says what it has besides.
    kept = choice.parts[: MAX_PARTS - 1]
    longer = [_choice([*kept, other]) for other in candidates if all(other.differs(part) for part in kept)]
    yield from (other.sign for other in sorted(longer, key=lambda other: (-round(other.fit, 9), other.sign)))
    yield from (f"{choice.sign} {number}" for number in range(2, 10_001))


def _title_case(text: str) -> str:
    # str.title() would make "Men'S" and "T-Light"; only the first letter of each word changes here.
    return " ".join(
        _ACRONYM.sub(lambda letters: letters[0].upper(), word[:1].upper() + word[1:]) for word in text.split()
    )
