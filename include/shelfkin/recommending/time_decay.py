"""Weights that halve with age, and sums of them that are the same in any order. Half-lives are their users' own."""

from __future__ import annotations

import numpy as np

# Finer than any signal; what is stored and compared has so many decimals.
DECIMALS = 6

_PER_UNIT = 1e9


def decay(ages: np.ndarray, half_lives: np.ndarray | float) -> np.ndarray:
    """Return ``0.5 ** (age / half_life)``: 1 today, one half after one half-life.

    Parameters
    ----------
    ages, half_lives
        Days.
    """
    return np.power(0.5, ages / half_lives)


def exact(values: np.ndarray) -> np.ndarray:
    """Return values as whole numbers of billionths, int64, whose sums are the same in any order.

    A sum of doubles depends in its last digit on the order in which partitions arrive, and rounding only makes it rare
    that this shows. Sums stay below 9e9.
    """
    return np.floor(values * _PER_UNIT + 0.5).astype(np.int64)


def rounded(sums: np.ndarray) -> np.ndarray:
    """Return sums of `exact` values as float64, rounded to `DECIMALS`, a half upwards."""
    return np.floor(sums / (_PER_UNIT / 10**DECIMALS) + 0.5) / 10.0**DECIMALS
