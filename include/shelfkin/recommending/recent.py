"""A list for a session: from the last few products looked at, and the published tables alone.

Products are named by anything that can be compared, such as ids or row numbers; ``K`` stands for it.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar

K = TypeVar("K", int, str)

# Each step back in the session counts this much less.
STEP_DECAY = 0.8
SCORE_DECIMALS = 6

SIMILAR = "similar"
POPULAR_IN_CLUSTER = "popular_in_cluster"
POPULAR = "popular"
TYPICAL_OF_CLUSTER = "typical_of_cluster"
TYPICAL = "typical"


class Suggestion(NamedTuple, Generic[K]):
    """One product of a list.

    Attributes
    ----------
    score
        Sum over the recent products of similarity times weight; 0 for what only fills the list up.
    strategy
        Why it is there: SIMILAR, POPULAR_IN_CLUSTER, POPULAR, TYPICAL_OF_CLUSTER or TYPICAL.
    because
        The recent product that speaks most for it; None where none does.
    """

    product: K
    score: float
    strategy: str
    because: K | None


class Filler(NamedTuple, Generic[K]):
    """A product that may fill up a list.

    Attributes
    ----------
    cluster
        The cluster that it fills for, or None: the whole store.
    rank
        Place within that, from 1.
    text
        What exact twins have in common.
    is_popular
        Whether it was ordered lately; otherwise it is there because it is typical.
    """

    cluster: int | None
    rank: int
    product: K
    text: Hashable
    is_popular: bool


def step_weights(recent: Sequence[K]) -> dict[K, float]:
    """Return how much each recent product counts: ``0.8 ** steps_back``, newest first; a repeat counts once, as newest.

    Parameters
    ----------
    recent
        Oldest first.
    """
    return {product: STEP_DECAY**step for step, product in enumerate(dict.fromkeys(reversed(recent)))}


def recommend_from_recent(
    similar_rows: Iterable[tuple[K, K, float]],
    recent: Sequence[K],
    n: int,
    texts: Mapping[K, Hashable],
) -> list[Suggestion[K]]:
    """Return up to `n` products that are similar to the recent ones, best first; ties by rising id.

    Parameters
    ----------
    similar_rows
        ``(product_id, similar_product_id, score)`` of the table ``similar_products``; rows of other products are
        ignored.
    recent
        Oldest first.
    n
        Length of the list.
    texts
        Text by product, as far as known: products with the text of a recent one are left out, and of products with one
        text only the best stays.
    """
    weights = step_weights(recent)
    terms: dict[K, list[tuple[float, float, K]]] = {}
    for product, similar, score in similar_rows:
        if product in weights and similar not in weights:
            terms.setdefault(similar, []).append((weights[product] * float(score), weights[product], product))
    # Sums in a fixed order, whatever the order of the rows. Of equal contributions the newer product's is named.
    found = [
        Suggestion(product, round(sum(term for term, _, _ in sorted(parts)), SCORE_DECIMALS), SIMILAR, max(parts)[2])
        for product, parts in terms.items()
    ]
    found.sort(key=lambda one: (-one.score, one.product))
    shown = {texts[product] for product in recent if product in texts}
    return _first_of_each_text(found, n, texts, shown)


def fill_up(
    fillers: Iterable[Filler[K]],
    recent: Sequence[K],
    clusters: Mapping[K, int | None],
    taken: Collection[K],
    shown: Collection[Hashable],
    n: int,
) -> list[Suggestion[K]]:
    """Return up to `n` products for the end of a list that is too short.

    Popular products of the recent products' clusters come first, then popular ones of the whole store, then what is
    typical of those clusters, then of the store. Clusters take turns; the one that the session is about comes first.

    Parameters
    ----------
    recent
        Oldest first.
    clusters
        Cluster of each recent product, if it has one.
    taken, shown
        Products and texts that the list or the session has already.
    """
    weights = step_weights(recent)
    cluster_weights: dict[int | None, float] = {}
    speaker: dict[int | None, K] = {}
    for product, weight in weights.items():
        cluster = clusters.get(product)
        if cluster is not None:
            cluster_weights[cluster] = cluster_weights.get(cluster, 0.0) + weight
            speaker.setdefault(cluster, product)

    def turn(filler: Filler[K]) -> tuple[bool, bool, int, float, int]:
        cluster = -1 if filler.cluster is None else filler.cluster
        weight = cluster_weights.get(filler.cluster, 0.0)
        return not filler.is_popular, filler.cluster is None, filler.rank, -weight, cluster

    ordered = [one for one in sorted(fillers, key=turn) if one.product not in weights and one.product not in taken]
    found = [Suggestion(one.product, 0.0, _why(one), speaker.get(one.cluster)) for one in ordered]
    return _first_of_each_text(found, n, {one.product: one.text for one in ordered}, set(shown))


def _why(filler: Filler[K]) -> str:
    if filler.cluster is None:
        return POPULAR if filler.is_popular else TYPICAL
    return POPULAR_IN_CLUSTER if filler.is_popular else TYPICAL_OF_CLUSTER


def _first_of_each_text(
    found: Iterable[Suggestion[K]], n: int, texts: Mapping[K, Hashable], shown: set[Hashable]
) -> list[Suggestion[K]]:
    result: list[Suggestion[K]] = []
    for one in found:
        if len(result) == n:
            break
        # Without a text it is a twin of itself alone.
        text = texts.get(one.product, (one.product,))
        if text not in shown:
            shown.add(text)
            result.append(one)
    return result
