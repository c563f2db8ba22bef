"""Recommendations for a session: a handful of recently viewed products, answered from the serving index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb

from shelfkin.errors import OptionError
from shelfkin.recommending.recent import recommend_from_recent


@dataclass(frozen=True)
class SessionItem:
    """One recommended product; `because_title` names the recent product that speaks most for it, if one does."""

    rank: int
    product_id: str
    title: str | None
    score: float
    because_title: str | None


@dataclass(frozen=True)
class SessionList:
    """What was asked and what is recommended."""

    recent: tuple[tuple[str, str | None], ...]
    unknown_ids: tuple[str, ...]
    items: tuple[SessionItem, ...]


def recommend_for_session(db: duckdb.DuckDBPyConnection, recent_ids: Sequence[str], n: int) -> SessionList:
    """Return up to `n` products for someone who has just looked at `recent_ids`.

    Similar products of the recent ones come first; popular ones fill up what is missing. Never one of `recent_ids`,
    nor an exact twin of one.

    Parameters
    ----------
    db
        A run's serving index.
    recent_ids
        Product ids, oldest first. Unknown ones are reported and otherwise ignored.
    n
        Length of the list, at least 1.

    Raises
    ------
    OptionError
        None of the ids is in the catalogue, or `n` is less than 1.
    """
    if n < 1:
        raise OptionError(f"n={n} asks for no products.", next_step="Ask for at least one.")
    titles = dict(
        db.execute("SELECT product_id, title FROM products WHERE product_id IN ?", [list(recent_ids)]).fetchall()
    )
    known = [product_id for product_id in recent_ids if product_id in titles]
    unknown = tuple(dict.fromkeys(product_id for product_id in recent_ids if product_id not in titles))
    if not known:
        raise OptionError(
            f"None of these ids is in this store's catalogue: {', '.join(unknown)[:200]}.",
            next_step="Use ids of its products table (`make show STORE=...` prints some), or name the store: STORE=...",
        )
    rows = db.execute(
        "SELECT product_id, similar_product_id, score FROM similar_products WHERE product_id IN ?", [known]
    ).fetchall()
    candidates = sorted({row[1] for row in rows} | set(known))
    hashes = dict(
        db.execute("SELECT product_id, text_hash FROM products WHERE product_id IN ?", [candidates]).fetchall()
    )
    found = recommend_from_recent(rows, known, n, hashes)
    strongest = _strongest_reason(rows)
    scored = [(product_id, score, titles.get(strongest.get(product_id, ""))) for product_id, score in found]
    if len(scored) < n:
        scored += _popular(db, known, [product_id for product_id, _ in found], n - len(scored))
    names = dict(
        db.execute(
            "SELECT product_id, title FROM products WHERE product_id IN ?", [[row[0] for row in scored]]
        ).fetchall()
    )
    return SessionList(
        recent=tuple((product_id, titles[product_id]) for product_id in known),
        unknown_ids=unknown,
        items=tuple(
            SessionItem(rank, product_id, names.get(product_id), score, because)
            for rank, (product_id, score, because) in enumerate(scored, start=1)
        ),
    )


def _strongest_reason(rows: Sequence[tuple[str, str, float]]) -> dict[str, str]:
    """Return, for each similar product, the recent product it is most similar to."""
    best: dict[str, tuple[float, str]] = {}
    for product_id, similar, score in rows:
        best[similar] = max(best.get(similar, (float("-inf"), "")), (score, product_id))
    return {similar: product_id for similar, (_, product_id) in best.items()}


def _popular(
    db: duckdb.DuckDBPyConnection, recent: Sequence[str], taken: Sequence[str], n: int
) -> list[tuple[str, float, str | None]]:
    rows = db.execute(
        """
        SELECT product_id, score FROM popular_products
        WHERE scope = 'all' AND product_id NOT IN ? AND product_id NOT IN (
            SELECT product_id FROM products WHERE text_hash IN (SELECT text_hash FROM products WHERE product_id IN ?)
        )
        ORDER BY rank LIMIT ?
        """,
        [[*recent, *taken], list(recent), n],
    ).fetchall()
    return [(product_id, float(score), None) for product_id, score in rows]
