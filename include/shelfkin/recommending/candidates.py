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
    texts
        (n_items,) int64: number of the product's text; exact twins share one.
    allowed
        (n_items,) bool: may be recommended.
    popular, trending
        (n_items,) float64 in [0, 1], see `popularity`.
    rank
        (n_items,) int64: place by popularity, 0 first; breaks ties between equal scores.
    co_purchase
        (n_items, n_items) sparse float32: what row's product says about column's, from shared customers.
    content
        (n_items, n_items) sparse float32: cosine of texts, for the nearest texts only; empty without vectors.
    """

    product_ids: np.ndarray
    texts: np.ndarray
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


@dataclass(frozen=True)
class UserBlock:
    """Histories of some users, laid end to end.

    Attributes
    ----------
    indptr
        (n_users + 1,): user u's entries are ``indptr[u]:indptr[u + 1]``.
    n_orders
        (n_users,): orders of each user.
    items, strengths, n_bought, recent, first_days, last_days
        Per entry, see `interactions.user_histories`. Items rise within a user.
    """

    indptr: np.ndarray
    n_orders: np.ndarray
    items: np.ndarray
    strengths: np.ndarray
    n_bought: np.ndarray
    recent: np.ndarray
    first_days: np.ndarray
    last_days: np.ndarray

    @property
    def n_users(self) -> int:
        """Number of users."""
        return len(self.indptr) - 1

    def of(self, user: int) -> slice:
        """Return where a user's entries stand."""
        return slice(int(self.indptr[user]), int(self.indptr[user + 1]))

    def matrix(self, values: np.ndarray, n_items: int) -> sp.csr_array:
        """Return one of the per-entry arrays as a sparse (n_users, n_items) float64 matrix."""
        # A copy: dropping zeros from the matrix works in place, and must not shift the histories themselves.
        return sp.csr_array((values.astype(np.float64), self.items, self.indptr), (self.n_users, n_items), copy=True)


def tastes(block: UserBlock, values: np.ndarray, n_items: int, max_history: int) -> sp.csr_array:
    """Return what speaks for a user's taste: the `max_history` strongest past products, each counted once at most.

    Values are clipped at 1, as in training. The cap bounds the work for wholesalers with thousands of products;
    of equal values the lower item number stays.

    Parameters
    ----------
    block
        The users.
    values
        One of the block's per-entry arrays, at least 0.
    n_items, max_history
        Number of columns; entries kept per user.
    """
    taste = block.matrix(values, n_items)
    taste.data = np.minimum(taste.data, 1.0)
    for user in np.flatnonzero(np.diff(block.indptr) > max_history):
        entries = taste.data[block.of(int(user))]
        entries[np.argsort(-entries, kind="stable")[max_history:]] = 0.0
    taste.eliminate_zeros()
    return taste


def content_relations(
    texts: np.ndarray, allowed: np.ndarray, rank: np.ndarray, neighbours: np.ndarray, cosines: np.ndarray, n: int
) -> sp.csr_array:
    """Return product-to-product cosines over each product's `n` nearest texts.

    A text is represented by its most popular product that may be recommended.

    Parameters
    ----------
    texts, allowed, rank
        As in `ItemModel`.
    neighbours, cosines
        (n_texts, m): numbers and cosines of each text's nearest texts, -1 for none (`nearest.nearest_texts`).
    n
        Neighbours used per product.
    """
    n_items, n_texts = len(texts), len(neighbours)
    representative = text_representatives(texts, allowed, rank, n_texts)
    near, cosine = neighbours[:, :n][texts], cosines[:, :n][texts]
    target = np.where(near >= 0, representative[near], -1)
    keep = (target >= 0) & (cosine > 0)
    rows = np.broadcast_to(np.arange(n_items)[:, None], near.shape)
    return sp.csr_array((cosine[keep].astype(np.float32), (rows[keep], target[keep])), shape=(n_items, n_items))


def text_representatives(texts: np.ndarray, allowed: np.ndarray, rank: np.ndarray, n_texts: int) -> np.ndarray:
    """Return each text's most popular product that may be shown, -1 where there is none: (n_texts,) int64."""
    best = np.full(n_texts, -1, dtype=np.int64)
    by_rank = np.argsort(-rank, kind="stable")
    by_rank = by_rank[allowed[by_rank]]
    best[texts[by_rank]] = by_rank  # the last one written, the most popular, stays
    return best
