"""Implicit ALS: the products' factors by the `implicit` package, users folded in by one solve each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from implicit.cpu.als import AlternatingLeastSquares
from threadpoolctl import threadpool_limits

from shelfkin.recommending.co_purchase import active_items
from shelfkin.recommending.interactions import DECIMALS

N_FACTORS = 64


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
        regularisation: float,
        alpha: float = 1.0,
        n_factors: int = N_FACTORS,
        seed: int = 0,
    ) -> Als:
        """Factorise strengths.

        Parameters
        ----------
        strengths
            Sparse (n_users, n_items), at least 0.
        regularisation
            Above 0. The penalty is so many times the mean number of entries of a user or product: a fixed one that is
            right for thousands of customers would leave nothing but zeros of dozens.
        alpha
            As in the class, at least 0.
        n_factors, seed
            Of the factors; the same seed gives the same ones.
        """
        active = active_items(strengths)
        counted = strengths[:, active]
        penalty = (
            regularisation * max(counted.nnz, 1) / (np.count_nonzero(np.diff(counted.indptr)) + max(len(active), 1))
        )
        factors = np.zeros((strengths.shape[1], n_factors), dtype=np.float32)
        if len(active):
            # It takes what it is given for the confidence itself, and knows only the older sparse class.
            confidence = sp.csr_matrix(counted, dtype=np.float32, copy=True)
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
        found = np.zeros((strengths.shape[0], len(fixed)))
        for user in np.flatnonzero(np.diff(strengths.indptr)):
            entries = slice(strengths.indptr[user], strengths.indptr[user + 1])
            had = self.factors[strengths.indices[entries]].astype(np.float64)
            more = self.alpha * strengths.data[entries]
            found[user] = np.linalg.solve(fixed + (had.T * more) @ had, (1 + more) @ had)
        return found
