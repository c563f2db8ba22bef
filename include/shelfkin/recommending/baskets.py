"""What is bought in one order, and what in the next: relations that a whole history can't show."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import scipy.sparse as sp
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812

from shelfkin.recommending.co_purchase import strongest_entries
from shelfkin.recommending.sampling import sampled
from shelfkin.recommending.time_decay import DECIMALS
from shelfkin.recommending.timelines import USER, entries_before, flattened, microseconds

# Added to the root of both products' order counts, so that two rare products don't follow each other by chance.
SEQUENCE_SHRINKAGE = 5.0

# Of a customer with more orders the newest count, three a day for a year: nobody but a bot has so many.
MAX_ORDERS = 1_000


@dataclass(frozen=True)
class Baskets:
    """The orders of known users, by user and time.

    Attributes
    ----------
    items
        (n_orders, n_items) sparse float64 of ones.
    users
        (n_orders,) int64: number of each order's user; an order's next one is the row below, if the user is the same.
    days
        (n_orders,) float64: days from the order to the run's date.
    """

    items: sp.csr_array
    users: np.ndarray
    days: np.ndarray


def collect_baskets(timelines: DataFrame, bought: int, as_of: datetime, n_items: int, max_pairs: int) -> Baskets:
    """Bring the orders of known users to the driver: 16 bytes per order and product.

    Parameters
    ----------
    timelines
        Result of `timelines.timelines`.
    bought
        Number of the event type that counts as buying.
    as_of
        Moment that ages are counted from (UTC); only what was there before it counts.
    n_items
        Number of columns.
    max_pairs
        Above so many pairs of an order and a product, users are sampled by a hash of their id: a share of the shop's
        customers shows what goes with what, and half of a customer's orders would show a wrong next one.
    """
    known = timelines.filter(F.col("kind") == USER)
    n_pairs = known.agg(F.sum(_n_pairs(bought, as_of))).first()[0] or 0  # type: ignore[index]
    known = sampled(known, "id", n_pairs, max_pairs, "baskets")
    rows = known.mapInArrow(
        lambda batches: (_orders(batch, bought, as_of) for batch in batches),
        "user_id string, number int, days double, items array<int>",
    )
    table = rows.toArrow().sort_by([("user_id", "ascending"), ("days", "descending"), ("number", "ascending")])
    indptr, items = flattened(table["items"])
    return Baskets(
        items=sp.csr_array((np.ones(len(items)), items, indptr), shape=(len(table), n_items), copy=True),
        users=pd.factorize(table["user_id"].to_numpy())[0],
        days=table["days"].to_numpy(),
    )


def _n_pairs(bought: int, as_of: datetime) -> Column:
    """Return how many purchases a timeline held at a moment."""
    before = F.filter(
        "started_at", lambda at, place: (at < microseconds(as_of)) & (F.get("types", place) == F.lit(bought))
    )
    return F.size(before)


def _orders(batch: pa.RecordBatch, bought: int, as_of: datetime) -> pa.RecordBatch:
    """Return one row per order of a batch of timelines."""
    entries = entries_before(batch, as_of)
    entries = entries.only(entries.types == bought)
    entries = entries.only(np.lexsort((entries.items, entries.orders, entries.rows)))
    first = entries.firsts(entries.rows, entries.orders)
    offsets = pa.array(np.append(first, len(entries.rows)), pa.int32())
    ages = np.minimum.reduceat(entries.ages, first)
    orders = pa.RecordBatch.from_arrays(
        [
            batch.column("id").take(pa.array(entries.rows[first])),
            pa.array(entries.orders[first]),
            pa.array(np.round(ages, DECIMALS)),
            pa.ListArray.from_arrays(offsets, pa.array(entries.items)),
        ],
        names=["user_id", "number", "days", "items"],
    )
    return orders.filter(pa.array(_newest(entries.rows[first], ages)))


def _newest(rows: np.ndarray, ages: np.ndarray) -> np.ndarray:
    """Return which orders are among the newest `MAX_ORDERS` of their customer; `rows` rise."""
    by_age = np.lexsort((ages, rows))
    place = np.empty(len(rows), dtype=np.int64)
    place[by_age] = np.arange(len(rows)) - np.searchsorted(rows, rows)
    return place < MAX_ORDERS


def decayed_baskets(baskets: Baskets, half_life_days: float) -> sp.csr_array:
    """Return the baskets with each order's ones faded by its age: (n_orders, n_items) sparse float64."""
    weights = np.round(0.5 ** (baskets.days / half_life_days), DECIMALS)
    return sp.csr_array(sp.diags_array(weights) @ baskets.items)


def next_order(baskets: Baskets, half_life_days: float, n_neighbours: int) -> sp.csr_array:
    """Return how strongly one product is followed by another in the same user's next order.

    ``S_ij = sum over pairs of orders of w / sqrt(|a| |b|) / sqrt((n_i + 5) (n_j + 5))``: i is in order a, j in the next
    order b but not in a; w fades with the age of b; ``|a|`` is the number of products of an order, so that a
    wholesaler's hundred lines don't drown the rest; n counts faded orders.

    Parameters
    ----------
    baskets
        The orders.
    half_life_days
        Of w and n.
    n_neighbours
        Entries kept per row.

    Returns
    -------
    scipy.sparse.csr_array
        (n_items, n_items) float32; row: what was bought, column: what came next.
    """
    n_items = baskets.items.shape[1]
    first = np.flatnonzero(baskets.users[1:] == baskets.users[:-1]) if len(baskets.users) else np.empty(0, np.int64)
    if len(first) == 0:
        return sp.csr_array((n_items, n_items), dtype=np.float32)
    fade = np.round(0.5 ** (baskets.days / half_life_days), DECIMALS)
    size = np.sqrt(np.asarray(baskets.items.sum(axis=1)).ravel())
    earlier, later = baskets.items[first], baskets.items[first + 1]
    added = sp.csr_array(later - later.multiply(earlier))
    before = sp.csr_array(sp.diags_array(fade[first + 1] / size[first]) @ earlier)
    after = sp.csr_array(sp.diags_array(1.0 / size[first + 1]) @ added)
    counts = np.sqrt(np.asarray((sp.diags_array(fade) @ baskets.items).sum(axis=0)).ravel() + SEQUENCE_SHRINKAGE)
    follows = sp.csr_array(before.T @ after)
    follows = sp.csr_array(sp.diags_array(1.0 / counts) @ follows @ sp.diags_array(1.0 / counts))
    return strongest_entries(follows, n_neighbours).astype(np.float32)
