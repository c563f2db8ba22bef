"""What hits don't tell of lists: how unknown, how varied and how popular the products on them are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

_USERS_PER_BLOCK = 1024


@dataclass(frozen=True)
class Background:
    """What is known of products and users as of the cut. Item i is row i.

    Attributes
    ----------
    product_ids
        (n_items,) ids.
    buyers
        (n_items,) int: customers who had bought each product.
    n_users
        Customers in all.
    vectors
        (n_groups, d) float32, unit norm or zero.
    groups
        (n_items,) int: row of `vectors` of each product, beyond its end where there is none.
    n_orders
        By user id: orders before the cut.
    """

    product_ids: pd.Index
    buyers: np.ndarray
    n_users: int
    vectors: np.ndarray
    groups: np.ndarray
    n_orders: pd.Series


def novelty(items: np.ndarray, background: Background) -> float:
    """Return the mean self-information of the products shown, in bits (Zhou et al. 2010).

    A product that a share p of the customers had bought says -log2(p); as if one more customer had bought each.

    Parameters
    ----------
    items
        (n_users, k) item numbers, -1 past a list's end.
    background
        As of the cut.
    """
    shown = items[items >= 0]
    share = (background.buyers[shown] + 1) / (background.n_users + 1)
    return float(-np.log2(share).mean()) if len(shown) else 0.0


def diversity(items: np.ndarray, background: Background) -> float:
    """Return the mean over lists of the mean of 1 - cosine over all pairs of a list (Ziegler et al. 2005).

    Products without a vector don't count; nor do lists with fewer than two that have one. (Arguments as in `novelty`.)
    """
    row = np.where(items >= 0, background.groups[items], -1)
    known = (row >= 0) & (row < len(background.vectors))
    total, n_lists = 0.0, 0
    for start in range(0, len(items), _USERS_PER_BLOCK):
        block = slice(start, start + _USERS_PER_BLOCK)
        has = known[block]
        vectors = background.vectors[np.where(has, row[block], 0)] * has[..., None] if has.any() else None
        if vectors is None:
            continue
        n = has.sum(axis=1)
        # The sum over pairs of a list is (|sum|^2 - n) / 2 for unit vectors.
        norms = np.square(vectors.sum(axis=1, dtype=np.float64)).sum(axis=1)
        own = np.square(vectors, dtype=np.float64).sum(axis=(1, 2))
        counted = n >= 2
        cosines = (norms - own)[counted] / (n * (n - 1))[counted]
        total += float((1 - cosines).sum())
        n_lists += int(counted.sum())
    return total / n_lists if n_lists else 0.0


def popularity_lift(items: np.ndarray, wanted_buyers: np.ndarray, background: Background) -> float:
    """Return how much more popular listed products are than those that the same users went on to buy.

    Group average popularity (Abdollahpouri et al. 2019) of the lists over that of the truth, less 1: 0 is no bias,
    1 is twice as popular.

    Parameters
    ----------
    items, background
        As in `novelty`.
    wanted_buyers
        (n_users,) each user's mean number of earlier customers over the wanted products.
    """
    shown = items >= 0
    counted = shown.any(axis=1)
    if not counted.any() or wanted_buyers[counted].mean() == 0:
        return 0.0
    listed = np.where(shown, background.buyers[items], 0).sum(axis=1)[counted] / shown.sum(axis=1)[counted]
    return float(listed.mean() / wanted_buyers[counted].mean() - 1)
