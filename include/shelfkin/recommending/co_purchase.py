"""Which products go to the same customers: EASE^R on a small active catalogue, item-kNN beyond.

Both give one sparse matrix W, and a user's scores are ``x @ W`` with the user's strengths x.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.sparse as sp
from scipy.linalg import lapack

from shelfkin.errors import OptionError

_KNN_ITEMS = 256  # rows of one sparse product: few enough for the processor's cache; no matter to the result
_ROUNDING = 2e-6  # two values that round to the same six decimals lie at most half of it apart

# Shared customers are counted over each user's strongest products: the work grows with the square of a history's
# length, and what a wholesaler bought once in a thousand products says little about which two belong together.
MAX_TRAINING_HISTORY = 300


def method_for(strengths: sp.csr_array, ease_max_items: int) -> str:
    """Return ``ease`` or ``item_knn``, as the size of the active catalogue allows; ``none`` where it holds no pair."""
    n_active = len(active_items(strengths))
    if n_active < 2:
        return "none"
    return "ease" if n_active <= ease_max_items else "item_knn"


def fit(
    strengths: sp.csr_array, *, ease_max_items: int, l2: float, shrinkage: float, n_neighbours: int
) -> sp.csr_array:
    """Fit the item-item model that the size of the active catalogue allows.

    Active are the products that at least two users have. Up to `ease_max_items` of them, EASE^R: one dense Gram
    matrix and its inverse on the driver, three times ``8 * n_active**2`` bytes at the peak (600 MB at 5,000), and
    a time that grows with the cube (6 s at 5,000 on two cores). Beyond, item-kNN with sparse products.

    Parameters
    ----------
    strengths
        Sparse (n_users, n_items), the faded weights of `interactions.user_histories`; they are `clipped` here.
    ease_max_items
        Largest active catalogue for EASE^R.
    l2
        Ridge penalty of EASE^R.
    shrinkage
        Added to the denominator of item-kNN's cosine.
    n_neighbours
        Weights kept per product.

    Returns
    -------
    scipy.sparse.csr_array
        (n_items, n_items) float32; row: the product a user has, column: the product it speaks for.
    """
    if len(active_items(strengths)) <= ease_max_items:
        return fit_ease(strengths, l2=l2, n_neighbours=n_neighbours)
    return fit_knn(strengths, shrinkage=shrinkage, n_neighbours=n_neighbours)


def fit_ease(strengths: sp.csr_array, *, l2: float, n_neighbours: int) -> sp.csr_array:
    """Fit EASE^R over the active products, see `fit`."""
    return _fit_active(strengths, lambda dense: keep_strongest(ease(dense, l2), n_neighbours))


def fit_knn(strengths: sp.csr_array, *, shrinkage: float, n_neighbours: int) -> sp.csr_array:
    """Fit item-kNN over the active products, see `fit`."""

    def weights_of(active: sp.csr_array) -> sp.csr_array:
        bounded = strongest_entries(active, MAX_TRAINING_HISTORY)
        return item_knn(bounded, shrinkage=shrinkage, n_neighbours=n_neighbours)

    return _fit_active(strengths, weights_of)


def _fit_active(strengths: sp.csr_array, weights_of: Callable[[sp.csr_array], sp.csr_array]) -> sp.csr_array:
    """Fit the active products, and put the weights back into the numbering of all."""
    counted = clipped(strengths)
    n_items = counted.shape[1]
    active = active_items(counted)
    if len(active) < 2:
        return sp.csr_array((n_items, n_items), dtype=np.float32)
    weights = weights_of(counted[:, active]).tocoo()
    # In 4 bytes each: what is sent to the workers, and read for every user, is a third smaller than with 8.
    places = active[weights.row].astype(np.int32), active[weights.col].astype(np.int32)
    return sp.csr_array((weights.data.astype(np.float32), places), shape=(n_items, n_items))


def active_items(strengths: sp.csr_array) -> np.ndarray:
    """Return the numbers of the items that at least two users have, rising."""
    return np.flatnonzero(np.bincount(strengths.indices, minlength=strengths.shape[1]) >= 2)


def clipped(strengths: sp.csr_array) -> sp.csr_array:
    """Return a copy of strengths with 1 as the most: buying every week says little about what else a user likes."""
    counted = strengths.astype(np.float64)
    counted.data = np.minimum(counted.data, 1.0)
    return counted


def ease(strengths: sp.csr_array, l2: float) -> np.ndarray:
    """Return the item-item weights of EASE^R.

    With ``P = (X'X + l2 I)^-1``, ``B_ij = -P_ij / P_jj`` and a zero diagonal (Steck 2019, "Embarrassingly Shallow
    Autoencoders for Sparse Data", equation 8).

    Parameters
    ----------
    strengths
        X, sparse (n_users, n_items).
    l2
        Ridge penalty, above 0.

    Returns
    -------
    numpy.ndarray
        (n_items, n_items) float64.
    """
    gram = (strengths.T @ strengths).toarray().astype(np.float64)
    diagonal = np.diag_indices(len(gram))
    gram[diagonal] += l2
    # By Cholesky, the matrix being symmetric positive definite: n^3 operations in place, less than half of what solving
    # for the columns of the identity takes.
    factor, failed = lapack.dpotrf(gram, lower=1, overwrite_a=1)
    if failed:
        raise OptionError(f"ease_l2={l2} is too small to invert a matrix of {len(gram)} products: raise it.")
    lower, _ = lapack.dpotri(factor, lower=1, overwrite_c=1)
    precision = np.tril(lower) + np.tril(lower, -1).T
    weights = precision / -np.diag(precision)
    weights[diagonal] = 0.0
    return weights


def item_knn(strengths: sp.csr_array, *, shrinkage: float, n_neighbours: int) -> sp.csr_array:
    """Return the shrunk cosine between products, each product's strongest neighbours only.

    ``S_ij = x_i . x_j / (|x_i| |x_j| + shrinkage)`` over the columns of X. Shrinkage keeps two products that one
    user bought from looking like twins.

    Parameters
    ----------
    strengths
        X, sparse (n_users, n_items).
    shrinkage
        At least 0.
    n_neighbours
        Entries kept per row; ties go to the lower item number.
    """
    users, items = sp.csr_array(strengths), sp.csr_array(strengths.T)
    norms = np.sqrt(np.asarray(users.multiply(users).sum(axis=0)).ravel())
    blocks = []
    for start in range(0, items.shape[0], _KNN_ITEMS):
        shared = sp.csr_array(items[start : start + _KNN_ITEMS] @ users)
        rows = np.repeat(np.arange(start, start + shared.shape[0]), np.diff(shared.indptr))
        shared.data /= norms[rows] * norms[shared.indices] + shrinkage
        shared.data[rows == shared.indices] = 0.0
        blocks.append(strongest_entries(shared, n_neighbours).astype(np.float32))
    return sp.csr_array(sp.vstack(blocks, format="csr"))


def keep_strongest(weights: np.ndarray, n: int) -> sp.csr_array:
    """Return each row's `n` entries of largest magnitude as a sparse matrix, rounded to six decimals."""
    rounded = np.round(weights, 6)
    if n < rounded.shape[1]:
        magnitude = np.abs(rounded)
        last = np.partition(magnitude, -n, axis=1)[:, [-n]]
        above, tied = magnitude > last, magnitude == last
        # Of those tied with the last one the lower columns stay: equal weights fall out the same way every time.
        room = n - above.sum(axis=1, keepdims=True)
        rounded[~(above | (tied & (np.cumsum(tied, axis=1) <= room)))] = 0.0
    return sp.csr_array(rounded.astype(np.float32))


def strongest_entries(matrix: sp.csr_array, n: int) -> sp.csr_array:
    """Keep each row's `n` largest positive entries, rounded to six decimals; ties go to the lower column.

    Columns of `matrix` may stand in any order; those of the result rise.
    """
    least, near = np.zeros(matrix.shape[0]), np.ones(matrix.nnz, dtype=bool)
    for row in np.flatnonzero(np.diff(matrix.indptr) > n):
        entries = slice(matrix.indptr[row], matrix.indptr[row + 1])
        values = matrix.data[entries]
        least[row] = np.partition(values, len(values) - n)[len(values) - n]
        near[entries] = values >= least[row] - _ROUNDING
    # Rounding keeps the order, so the n-th largest stays that; what is just below may round to the same.
    threshold = np.round(least, 6)
    close = _entries(matrix, matrix.data, near)
    values, rows = np.round(close.data, 6), _rows(close)
    close = _entries(close, values, (values > 0) & (values >= threshold[rows]))
    close.sort_indices()
    rows = _rows(close)
    tied = close.data == threshold[rows]
    n_above = np.bincount(rows[~tied], minlength=matrix.shape[0])
    ties_before = np.concatenate([[0], np.cumsum(tied)])
    place = ties_before[:-1] - ties_before[close.indptr[rows]]
    return _entries(close, close.data, ~tied | (n_above[rows] + place < n))


def _rows(matrix: sp.csr_array) -> np.ndarray:
    """Return the row of each of a matrix's entries."""
    return np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))


def _entries(matrix: sp.csr_array, values: np.ndarray, kept: np.ndarray) -> sp.csr_array:
    """Return some of a matrix's entries, with other values."""
    indptr = np.concatenate([[0], np.cumsum(kept)])[matrix.indptr].astype(matrix.indptr.dtype)
    return sp.csr_array((values[kept], matrix.indices[kept], indptr), shape=matrix.shape)
