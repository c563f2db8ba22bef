"""Do the events name products of the catalogue? Asked before anything is paid for, on all rows."""

from __future__ import annotations

import duckdb

from shelfkin.artifacts import Manifest
from shelfkin.checking.likely_cause import likely_cause
from shelfkin.errors import DataQualityError, without_controls
from shelfkin.tables import EVENTS, PRODUCTS

# Ids that the likely cause is looked for in.
_N_IDS = 10_000

_SHARE = """
    SELECT count(*), count(*) FILTER (WHERE product_id IN (SELECT product_id FROM products)) FROM events
"""
_STRANGERS = """
    SELECT product_id FROM events WHERE product_id NOT IN (SELECT product_id FROM products)
    GROUP BY product_id ORDER BY count(*) DESC, product_id LIMIT ?
"""


def check_joined(catalog: Manifest, events: Manifest, min_share: float) -> float | None:
    """Return the share of events that name a product of the catalogue; None without events.

    Parameters
    ----------
    catalog, events
        Manifests of the cleaning stages.
    min_share
        The profile's events.min_joined_share.

    Raises
    ------
    DataQualityError
        It is lower than that. The message has two ids of each side, and what explains the difference.
    """
    with duckdb.connect() as db:
        db.register("products", catalog.dataset(PRODUCTS))
        db.register("events", events.dataset(EVENTS))
        ((n_events, n_joined),) = db.execute(_SHARE).fetchall()
        if n_events == 0:
            return None
        if n_joined >= min_share * n_events:
            return float(n_joined / n_events)
        strangers = [product_id for (product_id,) in db.execute(_STRANGERS, [_N_IDS]).fetchall()]
        known = [
            product_id
            for (product_id,) in db.execute(
                "SELECT product_id FROM products ORDER BY product_id LIMIT ?", [_N_IDS]
            ).fetchall()
        ]
    cause = likely_cause(strangers, known)
    raise DataQualityError(
        f"{n_joined:,} of {n_events:,} events name a product of the catalogue; events.min_joined_share asks for "
        f"{min_share:.0%}. Events name {_two(strangers)}; the catalogue has {_two(known)}.",
        next_step=(
            f"{cause[0].upper()}{cause[1:]}."
            if cause
            else "Compare events.fields.product_id and catalog.fields.product_id."
        )
        + " `make check` shows more. Lower the limit only if most events are of other products.",
    )


def _two(ids: list[str]) -> str:
    return " and ".join(repr(without_controls(product_id[:60])) for product_id in ids[:2]) or "nothing"
