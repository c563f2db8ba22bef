"""What goes with what: every relation between products, fitted on what customers bought before a moment."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import scipy.sparse as sp
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812

from shelfkin.profile import Recommending
from shelfkin.recommending import co_purchase
from shelfkin.recommending.als import Als
from shelfkin.recommending.baskets import Baskets, decayed_baskets, next_order
from shelfkin.recommending.sampling import sampled
from shelfkin.recommending.timelines import flattened

# Shared customers alone make item-kNN and the twins' choice; neighbours kept per product.
KNN_NEIGHBOURS = 100
KNN_SHRINKAGE = 5.0
# Above this many weights per product EASE^R's remaining ones are noise of the order of 1e-3.
EASE_NEIGHBOURS = 500
# Pairs of a user, or an anonymous order, with a product that item-item models and factors are trained on: 16 bytes each
# on the driver. Beyond, users and orders are sampled.
MAX_TRAINING_PAIRS = 20_000_000


@dataclass(frozen=True)
class Relations:
    """Relations between products, and factors.

    Relations are (n_items, n_items) sparse float32, row: what the user has, column: what it speaks for; up to 4 kB a
    product. Factors take 512 bytes a product.

    Attributes
    ----------
    co_purchase
        The model of shared customers that fits the store's size.
    co_purchase_recent
        The same of strengths that fade fast.
    item_knn
        Cosine of shared customers; the same object as `co_purchase` where that is item-kNN.
    same_order
        The model of shared orders.
    next_order
        Of pairs of orders (`baskets.next_order`).
    als, als_recent
        Factors of both strengths.
    """

    co_purchase: sp.csr_array
    co_purchase_recent: sp.csr_array
    item_knn: sp.csr_array
    same_order: sp.csr_array
    next_order: sp.csr_array
    als: Als
    als_recent: Als


def fit_relations(
    strengths: sp.csr_array, recent: sp.csr_array, baskets: Baskets, half_life_days: float, settings: Recommending
) -> Relations:
    """Fit every relation between products.

    Parameters
    ----------
    strengths, recent
        Result of `training_matrices`.
    baskets
        Result of `baskets.collect_baskets`.
    half_life_days
        Of orders.
    settings
        Of the profile.
    """
    small = len(co_purchase.active_items(strengths)) <= settings.ease_max_items
    of_size = {"ease_max_items": settings.ease_max_items, "n_neighbours": EASE_NEIGHBOURS if small else KNN_NEIGHBOURS}
    fit = partial(co_purchase.fit, shrinkage=KNN_SHRINKAGE, **of_size)
    # EASE^R keeps all cores busy by itself, and two inverses at once would take twice the memory; sparse products use
    # one core each, and leave Python's lock alone.
    with ThreadPoolExecutor(max_workers=1 if small else 2) as pool:
        knn = pool.submit(co_purchase.fit_knn, strengths, shrinkage=KNN_SHRINKAGE, n_neighbours=KNN_NEIGHBOURS)
        lately = pool.submit(fit, recent, l2=settings.ease_l2 / 2)
        same_order = pool.submit(fit, decayed_baskets(baskets, half_life_days), l2=settings.ease_l2)
        following = pool.submit(next_order, baskets, half_life_days, KNN_NEIGHBOURS)
        # Beyond EASE^R's size the store's co-purchase model is that very item-kNN.
        store = pool.submit(fit, strengths, l2=settings.ease_l2) if small else knn
    return Relations(
        co_purchase=store.result(),
        co_purchase_recent=lately.result(),
        item_knn=knn.result(),
        same_order=same_order.result(),
        next_order=following.result(),
        # Not in the pool: they use all cores, and keep BLAS to one thread meanwhile, which holds for the whole process.
        als=Als.fit(strengths),
        als_recent=Als.fit(recent),
    )


def training_matrices(
    histories: DataFrame, baskets: DataFrame, n_items: int, max_pairs: int = MAX_TRAINING_PAIRS
) -> tuple[sp.csr_array, sp.csr_array]:
    """Bring the strengths, and those that fade fast, to the driver: sparse (n_users + n_baskets, n_items) float64.

    At most about `max_pairs` entries: above, a sample of the rows, which is enough for item-item statistics.

    Parameters
    ----------
    histories
        Result of `interactions.user_histories`; users without products are left out.
    baskets
        Result of `interactions.anonymous_baskets`: each counts like a user of its own.
    n_items
        Number of columns.
    max_pairs
        Entries before sampling.
    """
    customers = histories.filter(F.size("items") > 0)
    known, anonymous = (
        table.select(F.lit(kind).alias("kind"), F.col(key).alias("id"), "items", "strengths", "recent")
        for kind, table, key in ((0, customers, "user_id"), (1, baskets, "order_id"))
    )
    rows = known.unionByName(anonymous)
    n_pairs = rows.agg(F.sum(F.size("items"))).first()[0] or 0  # type: ignore[index]
    # In the order of ids: sums of floats, and so the last digits of weights, depend on the order of rows.
    table = sampled(rows, "id", n_pairs, max_pairs, "training matrices").toArrow()
    table = table.sort_by([("kind", "ascending"), ("id", "ascending")])
    indptr, items = flattened(table["items"])
    # Arrays of its own for each: what sorts or clips one must not change the other.
    strengths, recent = (
        sp.csr_array((flattened(table[name])[1], items, indptr), shape=(len(table), n_items), copy=True)
        for name in ("strengths", "recent")
    )
    return strengths, recent
