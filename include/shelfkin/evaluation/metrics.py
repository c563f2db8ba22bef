"""Ranking metrics over many users at once: hits in, means out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def discounts(k: int) -> np.ndarray:
    """Return DCG's discounts ``1 / log2(rank + 1)`` for ranks 1 to `k` (Järvelin & Kekäläinen 2002): (k,) float64."""
    return 1.0 / np.log2(np.arange(2, k + 2))


def recall(hits: np.ndarray, n_wanted: np.ndarray, k: int) -> np.ndarray:
    """Return each user's share of wanted products within the first `k`.

    Parameters
    ----------
    hits
        (n_users, n_ranks) bool: whether the product at each rank was wanted; False past a list's end.
    n_wanted
        (n_users,) int, at least 1: how many products the user wanted.
    k
        Ranks that count, at most n_ranks.
    """
    return np.divide(hits[:, :k].sum(axis=1), n_wanted)


def ndcg(hits: np.ndarray, n_wanted: np.ndarray, k: int) -> np.ndarray:
    """Return each user's DCG over that of an ideal list cut at `k`, with binary gains (arguments as in `recall`)."""
    gains = np.asarray(hits[:, :k] @ discounts(k))
    ideal = np.asarray(np.cumsum(discounts(k))[np.minimum(n_wanted, k) - 1])
    return np.divide(gains, ideal)


def hit(hits: np.ndarray, n_wanted: np.ndarray, k: int) -> np.ndarray:
    """Return 1 for each user with a hit within the first `k`, else 0 (arguments as in `recall`)."""
    return np.asarray(hits[:, :k].any(axis=1), dtype=np.float64)


def reciprocal_rank(hits: np.ndarray, n_wanted: np.ndarray, k: int) -> np.ndarray:
    """Return 1 / rank of each user's first hit within the first `k`, else 0 (arguments as in `recall`)."""
    head = hits[:, :k]
    return np.where(head.any(axis=1), 1.0 / (head.argmax(axis=1) + 1), 0.0)


PER_USER = {"recall": recall, "ndcg": ndcg, "hit": hit, "mrr": reciprocal_rank}


def mean_metrics(
    hits: np.ndarray, items: np.ndarray, n_wanted: np.ndarray, ks: Sequence[int]
) -> list[tuple[str, int, float]]:
    """Return the mean of every metric at every k, and coverage.

    Coverage counts the distinct products within the first k of all lists.

    Parameters
    ----------
    hits, n_wanted
        As in `recall`, with at least one user.
    items
        (n_users, n_ranks) int: the products shown, -1 past a list's end.
    ks
        Cuts of the lists, each at most n_ranks.

    Returns
    -------
    list of (metric, k, value)
    """
    rows: list[tuple[str, int, float]] = []
    for k in ks:
        rows += [(name, k, float(per_user(hits, n_wanted, k).mean())) for name, per_user in PER_USER.items()]
        shown = items[:, :k]
        rows.append(("coverage", k, float(len(np.unique(shown[shown >= 0])))))
    return rows
