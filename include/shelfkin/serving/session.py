"""A list for a session: a handful of products looked at, answered from the serving index alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from shelfkin.errors import OptionError
from shelfkin.serving.index import MAX_LENGTH, MAX_RECENT, Filler, Product, ServingIndex, SimilarProduct

# Each step back in the session counts this much less.
STEP_DECAY = 0.8
SCORE_DECIMALS = 6

SIMILAR = "similar"
POPULAR_IN_CLUSTER = "popular_in_cluster"
POPULAR = "popular"
TYPICAL_OF_CLUSTER = "typical_of_cluster"
TYPICAL = "typical"


@dataclass(frozen=True)
class SessionItem:
    """One recommended product.

    Attributes
    ----------
    score
        Sum over the recent products of similarity times weight; 0 for what only fills the list up.
    strategy
        Why it is there: SIMILAR, POPULAR_IN_CLUSTER, POPULAR, TYPICAL_OF_CLUSTER or TYPICAL.
    because_id, because_title
        The recent product that speaks most for it, or whose cluster it is from; None where none does.
    """

    rank: int
    product_id: str
    title: str | None
    score: float
    strategy: str
    because_id: str | None
    because_title: str | None


@dataclass(frozen=True)
class SessionList:
    """What was asked and what is recommended.

    Attributes
    ----------
    recent
        Id and title of the recent products that count, oldest first.
    unknown_ids
        Ids that the store doesn't have.
    n_ignored
        Older ids beyond the newest 50, which weigh nothing.
    """

    recent: tuple[tuple[str, str | None], ...]
    unknown_ids: tuple[str, ...]
    n_ignored: int
    items: tuple[SessionItem, ...]


class Suggestion(NamedTuple):
    """A `SessionItem` to be: products are numbers of the index, and equal texts are exact twins."""

    number: int
    text: int
    score: float
    strategy: str
    because: int | None


def recommend_for_session(index: ServingIndex, recent_ids: Sequence[str], n: int) -> SessionList:
    """Return `n` products for someone who has just looked at `recent_ids`, also for someone never seen before.

    Similar products of the recent ones come first; what is popular in their clusters, then in the store, fills up what
    is missing, so that a list is shorter than `n` only if the store has no more. Never one of `recent_ids`, nor an
    exact twin of one or of each other, nor a product that is sold out. The same question has the same answer.

    Parameters
    ----------
    index
        A run's serving index. Several threads may ask one at the same time.
    recent_ids
        Product ids, oldest first; of a repeated id the last place counts. Unknown ones are reported and otherwise
        ignored; if all are unknown, or there are none, the list is what is popular in the store.
    n
        Length of the list, 1 to 100.

    Raises
    ------
    OptionError
        `n` is out of its range.
    """
    if not 1 <= n <= MAX_LENGTH:
        raise OptionError(f"n={n} is not a length from 1 to {MAX_LENGTH}.", next_step="Ask for fewer products.")
    asked = list(dict.fromkeys(reversed(recent_ids)))[::-1]
    counted = asked[-MAX_RECENT:]
    by_id = {product.product_id: product for product in index.products(counted)}
    recent = [by_id[product_id] for product_id in counted if product_id in by_id]
    suggestions = most_similar(index.similar([product.number for product in recent]), recent, n)
    if len(suggestions) < n:
        clusters = sorted({product.cluster for product in recent if product.cluster is not None})
        # Each text that is shown already can cost a scope one filler.
        suggestions += fill_up(index.fillers(clusters, n + len(recent)), recent, suggestions, n - len(suggestions))
    products = {product.number: product for product in index.numbered([one.number for one in suggestions])}
    products |= {product.number: product for product in recent}
    return SessionList(
        recent=tuple((product.product_id, product.title) for product in recent),
        unknown_ids=tuple(product_id for product_id in counted if product_id not in by_id),
        n_ignored=len(asked) - len(counted),
        items=tuple(_item(rank, one, products) for rank, one in enumerate(suggestions, start=1)),
    )


def most_similar(
    similar: Mapping[int, Sequence[SimilarProduct]], recent: Sequence[Product], n: int
) -> list[Suggestion]:
    """Return up to `n` products that are similar to the recent ones, best first; of equals the more popular first.

    A product's score adds up over the recent products: similarity times ``0.8 ** steps_back``.

    Parameters
    ----------
    similar
        Similar products by number of a recent one.
    recent
        Distinct products, oldest first.
    """
    weights = _step_weights(recent)
    contributions: dict[tuple[int, int], list[tuple[float, float, int]]] = {}
    for product, weight in weights.items():
        for other in similar.get(product, ()):
            if other.sellable and other.number not in weights:
                contribution = (weight * other.score, weight, product)
                contributions.setdefault((other.number, other.text), []).append(contribution)
    # Sums in a fixed order. Of equal contributions the newer product's is named.
    suggestions = [
        Suggestion(*other, round(sum(term for term, _, _ in sorted(terms)), SCORE_DECIMALS), SIMILAR, max(terms)[2])
        for other, terms in contributions.items()
    ]
    suggestions.sort(key=lambda one: (-one.score, one.number))
    return _first_of_each_text(suggestions, {product.text for product in recent}, n)


def fill_up(
    fillers: Iterable[Filler], recent: Sequence[Product], listed: Sequence[Suggestion], n: int
) -> list[Suggestion]:
    """Return up to `n` products for the end of a list that is too short.

    Popular products of the recent products' clusters come first, then popular ones of the whole store, then what is
    typical of those clusters, then of the store. Clusters take turns; the one that the session is about comes first.

    Parameters
    ----------
    recent
        Distinct products, oldest first.
    listed
        What the list holds already.
    """
    weights = _step_weights(recent)
    cluster_weights: dict[int | None, float] = {}
    newest_of_cluster: dict[int | None, int] = {}
    for product in reversed(recent):
        if product.cluster is not None:
            weight = cluster_weights.get(product.cluster, 0.0) + weights[product.number]
            cluster_weights[product.cluster] = weight
            newest_of_cluster.setdefault(product.cluster, product.number)

    def turn(filler: Filler) -> tuple[bool, bool, int, float, int]:
        cluster = -1 if filler.cluster is None else filler.cluster
        weight = cluster_weights.get(filler.cluster, 0.0)
        return not filler.is_popular, filler.cluster is None, filler.rank, -weight, cluster

    suggestions = (
        Suggestion(one.number, one.text, 0.0, _strategy(one), newest_of_cluster.get(one.cluster))
        for one in sorted(fillers, key=turn)
    )
    shown = {product.text for product in recent} | {one.text for one in listed}
    return _first_of_each_text(suggestions, shown, n)


def _step_weights(recent: Sequence[Product]) -> dict[int, float]:
    """Return how much each recent product counts, by number, newest first."""
    return {product.number: STEP_DECAY**step for step, product in enumerate(reversed(recent))}


def _strategy(filler: Filler) -> str:
    if filler.cluster is None:
        return POPULAR if filler.is_popular else TYPICAL
    return POPULAR_IN_CLUSTER if filler.is_popular else TYPICAL_OF_CLUSTER


def _first_of_each_text(suggestions: Iterable[Suggestion], shown: set[int], n: int) -> list[Suggestion]:
    """Return the first `n` whose texts are neither in `shown` nor that of one before."""
    first: dict[int, Suggestion] = {}
    for one in suggestions:
        if len(first) == n:
            break
        if one.text not in shown:
            first.setdefault(one.text, one)
    return list(first.values())


def _item(rank: int, one: Suggestion, products: Mapping[int, Product]) -> SessionItem:
    product = products[one.number]
    because = products[one.because] if one.because is not None else None
    return SessionItem(
        rank=rank,
        product_id=product.product_id,
        title=product.title,
        score=one.score,
        strategy=one.strategy,
        because_id=because.product_id if because else None,
        because_title=because.title if because else None,
    )
