"""Heads of rankings and sets of item numbers, without sorting what nobody looks at."""

from __future__ import annotations

import numpy as np


def best_first(scores: np.ndarray, ties: np.ndarray, n: int) -> np.ndarray:
    """Return the places of the `n` largest scores, best first; of equal ones the lower of `ties` comes first."""
    if n >= len(scores):
        return np.lexsort((ties, -scores))
    near = np.flatnonzero(scores >= np.partition(scores, len(scores) - n)[len(scores) - n])
    return near[np.lexsort((ties[near], -scores[near]))][:n]


def union(*rising: np.ndarray) -> np.ndarray:
    """Return the distinct numbers of some rising arrays, rising."""
    # A stable sort merges runs that are in order already; `numpy.unique` makes a hash table first.
    merged = np.sort(np.concatenate(rising), kind="stable")
    return merged[np.diff(merged, prepend=-1) != 0]


def first_of_groups(groups: np.ndarray, had_before: np.ndarray) -> np.ndarray:
    """Return which entries of a ranked list stay when variants collapse.

    Of one group's products only the best placed stays; what the user has had before always stays, because a person
    who buys two flavours means both.

    Parameters
    ----------
    groups
        Group number of each entry, best entry first.
    had_before
        Whether the user's history holds the entry.
    """
    first = np.zeros(len(groups), dtype=bool)
    first[np.unique(groups, return_index=True)[1]] = True
    return first | had_before
