"""Histories of some users as arrays, and what of them speaks for a user's taste."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import scipy.sparse as sp

from shelfkin.recommending.co_purchase import clipped, strongest_entries
from shelfkin.recommending.interactions import HISTORY_ARRAYS
from shelfkin.recommending.timelines import flattened

# The strongest past products that relations start from: beyond some hundreds they add time, not taste.
MAX_HISTORY = 200


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

    @classmethod
    def from_arrow(cls, batch: pa.RecordBatch) -> UserBlock:
        """Return the histories of a batch's users (`interactions.HISTORY_COLUMNS`), in its order."""
        indptr, _ = flattened(batch.column("items"))
        arrays = {name: flattened(batch.column(name))[1] for name in HISTORY_ARRAYS}
        return cls(indptr=indptr, n_orders=np.asarray(batch.column("n_orders")), **arrays)

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


def tastes(block: UserBlock, values: np.ndarray, n_items: int) -> sp.csr_array:
    """Return what speaks for a user's taste: the strongest past products, each counted once at most, as in training.

    Parameters
    ----------
    block
        The users.
    values
        One of the block's per-entry arrays, at least 0.
    n_items
        Number of columns.
    """
    return strongest_entries(clipped(block.matrix(values, n_items)), MAX_HISTORY)
