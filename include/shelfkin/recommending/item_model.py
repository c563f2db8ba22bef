"""The signals that lists are made from: everything about products that doesn't depend on who is asking."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp


@dataclass(frozen=True)
class ItemModel:
    """Products and their relations, as one run knows them. Item i is row i of every array.

    It is built on the driver and broadcast: about 1 kB per product, so up to some millions of products.

    Attributes
    ----------
    product_ids
        (n_items,) str, sorted.
    groups
        (n_items,) int64: number of the product's group of variants; exact twins share one.
    allowed
        (n_items,) bool: may be recommended.
    popular, trending
        (n_items,) float64 in [0, 1], see `popularity`.
    rank
        (n_items,) int64: place by popularity, 0 first; breaks ties between equal scores.
    co_purchase
        (n_items, n_items) sparse float32: what row's product says about column's, from shared customers.
    content
        (n_items, n_items) sparse float32: cosine of groups, for the nearest only; empty without vectors.
    """

    product_ids: np.ndarray
    groups: np.ndarray
    allowed: np.ndarray
    popular: np.ndarray
    trending: np.ndarray
    rank: np.ndarray
    co_purchase: sp.csr_array
    content: sp.csr_array

    @property
    def n_items(self) -> int:
        """Number of products."""
        return len(self.product_ids)


def content_relations(
    groups: np.ndarray, allowed: np.ndarray, rank: np.ndarray, neighbours: np.ndarray, cosines: np.ndarray, n: int
) -> sp.csr_array:
    """Return product-to-product cosines over each product's `n` nearest groups.

    A group is represented by its most popular product that may be recommended.

    Parameters
    ----------
    groups, allowed, rank
        As in `ItemModel`.
    neighbours, cosines
        (n_groups, m): numbers and cosines of each group's nearest groups, -1 for none (`nearest.nearest_texts`).
    n
        Neighbours used per product.
    """
    n_items, n_groups = len(groups), len(neighbours)
    representative = group_representatives(groups, allowed, rank, n_groups)
    near, cosine = neighbours[:, :n][groups], cosines[:, :n][groups]
    target = np.where(near >= 0, representative[near], -1)
    keep = (target >= 0) & (cosine > 0)
    rows = np.broadcast_to(np.arange(n_items)[:, None], near.shape)
    places = rows[keep].astype(np.int32), target[keep].astype(np.int32)
    return sp.csr_array((cosine[keep].astype(np.float32), places), shape=(n_items, n_items))


def group_representatives(groups: np.ndarray, allowed: np.ndarray, rank: np.ndarray, n_groups: int) -> np.ndarray:
    """Return each group's most popular product that may be shown, -1 where there is none: (n_groups,) int64."""
    best = np.full(n_groups, -1, dtype=np.int64)
    by_rank = np.argsort(-rank, kind="stable")
    by_rank = by_rank[allowed[by_rank]]
    best[groups[by_rank]] = by_rank  # the last one written, the most popular, stays
    return best
