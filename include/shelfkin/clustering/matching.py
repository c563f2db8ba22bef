"""How alike two days' clusters are, and how much overlap makes them the same: an optimal assignment.

Centroids and members count. `identity` gives the ids that follow from the pairs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from shelfkin.clustering.vectors import FloatArray, IntArray

# Two clusters whose common products agree by half or more of all that either holds are the same cluster. Above a half,
# neither can be so close to a third one.
MATCH_OVERLAP = 0.5

# Centroids of different clusters of one day reach a cosine of 0.87 at most (bundled model: Complete Journey with 44
# clusters, Online Retail with 33), so that above 0.9 it is the same cluster.
MATCH_COSINE = 0.9

# Products outweigh centroids: below this overlap they say that a close centroid is a stranger.
LEAST_OVERLAP = 0.1


def overlaps(common: IntArray) -> FloatArray:
    """Return the Jaccard index of each pair of clusters over the common products; 0 where there are none.

    Parameters
    ----------
    common
        Shape (k_old, k_new): products that are in both.
    """
    union = common.sum(axis=1, keepdims=True) + common.sum(axis=0, keepdims=True) - common
    return np.divide(common, union, out=np.zeros(common.shape), where=union > 0)


def match(cosines: FloatArray | None, common: IntArray | None) -> dict[int, int]:
    """Pair old clusters with new ones.

    The similarity of a pair is the mean of the cosine of the centroids and the Jaccard index of the common products.
    Among the pairs that may be one cluster (`_may_be_same`), those with the greatest sum of similarities are taken
    (Kuhn, 1955, as scipy's linear_sum_assignment).

    Parameters
    ----------
    cosines
        Shape (k_old, k_new), or None where centroids can't be compared.
    common
        Shape (k_old, k_new): products that are in both, or None where they aren't known.

    Returns
    -------
    dict
        New index to old index. Empty without cosines and counts.
    """
    jaccard = None if common is None else overlaps(common)
    # Rounded, so that the order of sums in BLAS can't choose between equal pairs.
    known = [np.round(values, 6) for values in (cosines, jaccard) if values is not None]
    if not known:
        return {}
    similarity = np.mean([np.maximum(values, 0) for values in known], axis=0)
    same = _may_be_same(None if cosines is None else known[0], jaccard, common)
    old, new = linear_sum_assignment(-np.where(same, similarity, 0))
    return {int(column): int(row) for row, column in zip(old, new, strict=True) if same[row, column]}


def _may_be_same(cosines: FloatArray | None, jaccard: FloatArray | None, common: IntArray | None) -> NDArray[np.bool_]:
    """Tell for each pair whether it counts as the same cluster.

    By members it does from `MATCH_OVERLAP` on. Where they name nobody for either of the two, it does by centroids from
    `MATCH_COSINE` on, unless both have common products and hardly any of them together.
    """
    close = None if cosines is None else cosines >= MATCH_COSINE
    if jaccard is None or common is None:
        return close if close is not None else np.zeros((0, 0), dtype=np.bool_)
    agree = jaccard >= MATCH_OVERLAP
    if close is None:
        return agree
    decided = agree.any(axis=1, keepdims=True) | agree.any(axis=0, keepdims=True)
    silent = (common.sum(axis=1, keepdims=True) == 0) | (common.sum(axis=0, keepdims=True) == 0)
    return agree | (close & ~decided & (silent | (jaccard >= LEAST_OVERLAP)))
