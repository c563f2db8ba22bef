"""A list for a session: from the last few products looked at, and the published similar products alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

# Each step back in the session counts this much less.
STEP_DECAY = 0.8


def recommend_from_recent(
    similar_rows: Iterable[tuple[str, str, float]],
    recent_ids: Sequence[str],
    n: int,
    text_hashes: Mapping[str, str] | None = None,
) -> list[tuple[str, float]]:
    """Return up to `n` products for someone who has just seen `recent_ids`.

    Scores of similar products are added over the recent ids, ``0.8 ** steps_back`` each.

    Parameters
    ----------
    similar_rows
        ``(product_id, similar_product_id, score)`` of the table ``similar_products``; rows of other products are
        ignored.
    recent_ids
        Product ids, oldest first; of a repeated id the last place counts.
    n
        Length of the list.
    text_hashes
        text_hash by product id, as far as known: products with the text of a recent one are left out, and of products
        with one text only the best stays.

    Returns
    -------
    list of (str, float)
        Product ids and scores, best first; ties by id. Never one of `recent_ids`.
    """
    weights = {product: STEP_DECAY**step for step, product in reversed(list(enumerate(reversed(recent_ids))))}
    scores: dict[str, list[float]] = {}
    for product, similar, score in similar_rows:
        if product in weights and similar not in weights:
            scores.setdefault(similar, []).append(weights[product] * float(score))
    # Sums in a fixed order, whatever the order of the rows.
    totals = {product: round(sum(sorted(terms)), 6) for product, terms in scores.items()}
    texts = text_hashes or {}
    shown = {texts[product] for product in recent_ids if product in texts}
    result: list[tuple[str, float]] = []
    for product, score in sorted(totals.items(), key=lambda entry: (-entry[1], entry[0])):
        text = texts.get(product)
        if text is not None and text in shown:
            continue
        if text is not None:
            shown.add(text)
        result.append((product, score))
        if len(result) == n:
            break
    return result
