"""Implicit ALS: the products' factors by the `implicit` package, users folded in by one solve each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from implicit.cpu.als import AlternatingLeastSquares
from threadpoolctl import threadpool_limits

from shelfkin.recommending.co_purchase import active_items
from shelfkin.recommending.time_decay import DECIMALS

# On Complete Journey, task new, the ranker has .0445 with 64 and .0433 with 128 (windows of decision 0027, one seed).
N_FACTORS = 64
# What tuning starts from (decision 0026).
REGULARISATION, ALPHA = 1.0, 1.0
# Users and anonymous orders that are fitted on, 600 bytes each; beyond, every so many of them.
MAX_ROWS = 2_000_000


@dataclass(frozen=True)
class Als:
    """Implicit ALS (Hu, Koren & Volinsky 2008, "Collaborative Filtering for Implicit Feedback Datasets").

    A user with factors x scores product j as ``x @ factors[j]``.

    Attributes
    ----------
    factors
        (n_items, n_factors) float32; zero for products that fewer than two users have.
    gram
        (n_factors, n_factors) float64: ``factors.T @ factors``.
    penalty
        On the squares of all factors, the same for every user and product.
    alpha
        A confidence is 1 + alpha * strength.
    """

    factors: np.ndarray
    gram: np.ndarray
    penalty: float
    alpha: float

    @classmethod
    def fit(
        cls,
        strengths: sp.csr_array,
        *,
        regularisation: float = REGULARISATION,
        alpha: float = ALPHA,
        n_factors: int = N_FACTORS,
        seed: int = 0,
    ) -> Als:
        """Factorise strengths.

        Parameters
        ----------
        strengths
            Sparse (n_users, n_items), at least 0; what has faded to 0 counts as not bought.
        regularisation
            Above 0. The penalty is so many times the number of entries over that of users and products together: a
            fixed one that is right for thousands of customers would leave nothing but zeros of dozens.
        alpha
            As in the class, at least 0.
        n_factors, seed
            Of the factors; the same seed gives the same ones.
        """
        # A copy: zeros are dropped in place.
        counted = strengths.copy()
        counted.eliminate_zeros()
        if counted.shape[0] > MAX_ROWS:
            counted = counted[np.linspace(0, counted.shape[0] - 1, MAX_ROWS).astype(np.int64)]
        active = active_items(counted)
        counted = counted[:, active]
        penalty = (
            regularisation * max(counted.nnz, 1) / (np.count_nonzero(np.diff(counted.indptr)) + max(len(active), 1))
        )
        factors = np.zeros((strengths.shape[1], n_factors), dtype=np.float32)
        if len(active):
            # It takes what it is given for the confidence itself, and knows only the older sparse class.
            confidence = sp.csr_matrix(counted, dtype=np.float32)
            confidence.data = 1 + alpha * confidence.data
            # Its own threads split the users; a BLAS that splits each small product again only gets in their way.
            with threadpool_limits(1, "blas"):
                model = AlternatingLeastSquares(factors=n_factors, regularization=penalty, random_state=seed)
                model.fit(confidence, show_progress=False)
            factors[active] = np.round(model.item_factors, DECIMALS)
        known = factors[active].astype(np.float64)
        return cls(factors, known.T @ known, penalty, alpha)

    def users(self, strengths: sp.csr_array) -> np.ndarray:
        """Return users' factors, (n_users, n_factors) float64; zero for a user without products.

        ``(Y'CY + penalty I) x = Y'C1`` over all products, with C the confidences and 1 for each that the user has: what
        the user doesn't have has confidence 1 as well, which is the part that is the same for all, `gram`.

        Parameters
        ----------
        strengths
            Sparse (n_users, n_items), as in `fit`; the users need not be those of the fit.
        """
        fixed = self.gram + self.penalty * np.eye(len(self.gram))
        factors = np.zeros((strengths.shape[0], len(fixed)))
        counted = strengths.copy()
        counted.eliminate_zeros()
        for user in np.flatnonzero(np.diff(counted.indptr)):
            entries = slice(counted.indptr[user], counted.indptr[user + 1])
            had = self.factors[counted.indices[entries]].astype(np.float64)
            more = self.alpha * counted.data[entries]
            factors[user] = np.linalg.solve(fixed + (had.T * more) @ had, (1 + more) @ had)
        return factors
