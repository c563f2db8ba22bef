"""Recommendations for a session: a handful of recently viewed products, answered from the session index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shelfkin.errors import OptionError
from shelfkin.recommending.recent import Suggestion, fill_up, recommend_from_recent
from shelfkin.serving.session_index import MAX_LENGTH, MAX_RECENT, Product, SessionLookups


@dataclass(frozen=True)
class SessionItem:
    """One recommended product.

    Attributes
    ----------
    score
        Sum over the recent products of similarity times weight; 0 for what only fills the list up.
    strategy
        Why it is there, a word of `recommending.recent`.
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


def recommend_for_session(index: SessionLookups, recent_ids: Sequence[str], n: int) -> SessionList:
    """Return `n` products for someone who has just looked at `recent_ids`, also for someone never seen before.

    Similar products of the recent ones come first; what is popular in their clusters, then in the store, fills up what
    is missing, so that a list is shorter than `n` only if the store has no more. Never one of `recent_ids`, nor an
    exact twin of one or of each other, nor a product that is sold out. The same question has the same answer.

    Parameters
    ----------
    index
        A run's session index. Several threads may ask one at the same time.
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
    found = _suggestions(index, recent, n)
    products = {product.number: product for product in index.numbered([one.product for one in found])}
    products |= {product.number: product for product in recent}
    return SessionList(
        recent=tuple((product.product_id, product.title) for product in recent),
        unknown_ids=tuple(product_id for product_id in counted if product_id not in by_id),
        n_ignored=len(asked) - len(counted),
        items=tuple(_item(rank, one, products) for rank, one in enumerate(found, start=1)),
    )


def _suggestions(index: SessionLookups, recent: Sequence[Product], n: int) -> list[Suggestion[int]]:
    numbers = [product.number for product in recent]
    rows = index.similar(numbers)
    texts = {product.number: product.text for product in recent} | {other: text for _, other, text, _ in rows}
    scored = [(product, other, score) for product, other, _, score in rows]
    found = recommend_from_recent(scored, numbers, n, texts)
    if len(found) == n:
        return found
    taken = {one.product for one in found}
    shown = {texts[number] for number in (*numbers, *taken)}
    clusters = {product.number: product.cluster for product in recent}
    scopes = sorted({cluster for cluster in clusters.values() if cluster is not None})
    # Each text that is shown already can cost a scope one filler.
    fillers = index.fillers(scopes, n + len(recent))
    return found + fill_up(fillers, numbers, clusters, taken, shown, n - len(found))


def _item(rank: int, one: Suggestion[int], products: dict[int, Product]) -> SessionItem:
    product = products[one.product]
    because = products.get(one.because) if one.because is not None else None
    return SessionItem(
        rank=rank,
        product_id=product.product_id,
        title=product.title,
        score=one.score,
        strategy=one.strategy,
        because_id=because.product_id if because else None,
        because_title=because.title if because else None,
    )
