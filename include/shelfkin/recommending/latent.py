"""What few dimensions say of a shop's customers: the taste that a thin history shares with many others'.

Pairs of products that were never bought together still get a score, which no item-item relation of raw counts gives.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from sklearn.utils.extmath import randomized_svd

from shelfkin.recommending.co_purchase import active_items, clipped
from shelfkin.recommending.interactions import DECIMALS

# Chosen on Complete Journey, task new, mean of the 14-day windows of 2017-08-01 and 2017-07-18: NDCG@10 of the ranker
# is .0408 without, .0423, .0445 and .0425 with 32, 64 and 128 (decision 0024).
N_FACTORS = 64
# Power iterations: with four the subspace no longer depends on the random start where singular values fall slowly.
_N_ITERATIONS = 4


def latent_factors(strengths: sp.csr_array, n_factors: int = N_FACTORS, *, seed: int = 0) -> np.ndarray:
    """Return the products' factors: a user with strengths x scores product j as ``(x @ V) @ V[j]``.

    V are the leading right singular vectors of the users' strengths (PureSVD; Cremonesi, Koren & Turrin 2010,
    "Performance of Recommender Algorithms on Top-N Recommendation Tasks", section 4.2), so new users need no fit.

    Parameters
    ----------
    strengths
        Sparse (n_users, n_items), the faded weights of `interactions.user_histories`; clipped at 1 as in
        `co_purchase.fit`.
    n_factors
        Dimensions, fewer where the store is smaller than that.
    seed
        Of the randomised decomposition (Halko, Martinsson & Tropp 2011); the same seed gives the same factors.

    Returns
    -------
    numpy.ndarray
        (n_items, n_factors) float32, zero for products that fewer than two users have; (n_items, 0) if nothing is
        shared.
    """
    counted = clipped(strengths)
    active = active_items(counted)
    n = min(n_factors, counted.shape[0], len(active))
    factors = np.zeros((counted.shape[1], n), dtype=np.float32)
    if n:
        _, _, found = randomized_svd(counted[:, active], n, n_iter=_N_ITERATIONS, random_state=seed)
        factors[active] = np.round(found.T, DECIMALS)
    return factors
