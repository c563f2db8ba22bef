"""How sure a difference between two recommenders is: paired bootstrap over users."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

N_DRAWS = 2000
LEVEL = 0.95
_DRAWS_PER_BLOCK = 100


def paired_interval(
    differences: Sequence[np.ndarray], *, n_draws: int = N_DRAWS, level: float = LEVEL, seed: int = 0
) -> tuple[float, float]:
    """Return the bootstrap interval of a mean difference (percentile method, Efron & Tibshirani 1993, chapter 13).

    Users are drawn with replacement within each window, and the mean over windows is taken of each draw's window
    means: the figure that is reported is the mean over windows too.

    Parameters
    ----------
    differences
        One array per window: each user's metric of ours less that of the other.
    n_draws, level, seed
        Draws; share of them within the interval; of the generator.

    Returns
    -------
    low, high
        The ``(1 - level) / 2`` and ``(1 + level) / 2`` quantiles.
    """
    rng = np.random.default_rng(seed)
    means = np.zeros(n_draws)
    for values in differences:
        for start in range(0, n_draws, _DRAWS_PER_BLOCK):
            stop = min(start + _DRAWS_PER_BLOCK, n_draws)
            drawn = rng.integers(0, len(values), size=(stop - start, len(values)))
            means[start:stop] += values[drawn].mean(axis=1) / len(differences)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
