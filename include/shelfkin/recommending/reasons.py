"""Why a product is on a list: the past products whose signals add up to its score, with their shares."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

MAX_REASONS = 3


def contributions(
    relations: sp.csr_array, past: np.ndarray, tastes: np.ndarray, chosen: np.ndarray, parts: np.ndarray
) -> np.ndarray:
    """Share out one signal's part of each chosen product's score over the past products behind it.

    A relation signal is ``sum_h taste_h * relation_hi``, so each past product's term is its own; terms that speak
    against the product (EASE^R has them) give no reason, and the others share the part in proportion.

    Parameters
    ----------
    relations
        (n_items, n_items) sparse.
    past, tastes
        (n_past,): the user's past items and strengths.
    chosen, parts
        (n_chosen,): recommended items and the weighted part of their score that this signal gave.

    Returns
    -------
    numpy.ndarray
        (n_past, n_chosen) float64, at least 0; column j sums to ``parts[j]``, or to 0 if nothing speaks for it.
    """
    if len(past) == 0 or not parts.any():
        return np.zeros((len(past), len(chosen)))
    terms = np.maximum(relations[past][:, chosen].toarray() * tastes[:, None], 0.0)
    totals = terms.sum(axis=0)
    return terms * np.divide(parts, totals, out=np.zeros(len(chosen)), where=totals > 0)


def shares(terms: np.ndarray, past: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the past items that speak most for one product, and their shares, which sum to 1.

    Parameters
    ----------
    terms
        (n_past,) contributions, at least 0.
    past
        (n_past,) item numbers; of equal terms the lower number comes first.

    Returns
    -------
    items, shares
        At most `MAX_REASONS` of each, largest first; both empty if nothing personal speaks for the product.
    """
    rounded = np.round(terms, 9)
    order = np.lexsort((past, -rounded))[:MAX_REASONS]
    order = order[rounded[order] > 0]
    if len(order) == 0:
        return past[:0], terms[:0]
    return past[order], rounded[order] / rounded[order].sum()
