"""What a list may hold: only products on sale, and past purchases only where the shop wants them back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from shelfkin.errors import OptionError
from shelfkin.settings import Recommending

Repurchase = Literal["allow", "exclude"]


@dataclass(frozen=True)
class Policy:
    """The rules of one run's lists.

    Attributes
    ----------
    list_length
        Products per list, from 1.
    repurchase
        Whether products that the user has bought may come back.
    """

    list_length: int
    repurchase: Repurchase

    def __post_init__(self) -> None:
        if self.list_length < 1:
            raise OptionError(f"list_length={self.list_length} is below 1.", next_step="Ask for at least 1 product.")
        if self.repurchase not in ("allow", "exclude"):
            raise OptionError(f"repurchase={self.repurchase!r} is neither allow nor exclude.")

    @classmethod
    def of(cls, settings: Recommending, list_length: int | None, repurchase: Repurchase | None) -> Policy:
        """Return a run's policy: what the run says, and where it says nothing (None) what the profile says.

        Judging and building lists both start here, so that the lists that are judged are the lists that are built.
        """
        return cls(settings.list_length if list_length is None else list_length, repurchase or settings.repurchase)

    @property
    def task(self) -> str:
        """The task of the backtest that judges such lists: all (past purchases may come back) or new."""
        return "all" if self.repurchase == "allow" else "new"

    def barred(self, items: np.ndarray, n_bought: np.ndarray) -> np.ndarray:
        """Return which of a user's past `items` must not be recommended to that user."""
        return items[n_bought > 0] if self.repurchase == "exclude" else items[:0]

    def eligible(self, allowed: np.ndarray, items: np.ndarray, n_bought: np.ndarray) -> np.ndarray:
        """Return what a user may be shown, (n_items,) bool: what is `allowed` at all, less what is barred."""
        eligible = allowed.copy()
        eligible[self.barred(items, n_bought)] = False
        return eligible


def on_sale(in_stock: np.ndarray) -> np.ndarray:
    """Return which products may be shown: all that aren't known to be out of stock.

    Parameters
    ----------
    in_stock
        Object array of True, False and None (unknown).
    """
    return np.array([value is None or value != value or bool(value) for value in in_stock], dtype=bool)


def first_of_twins(texts: np.ndarray, had_before: np.ndarray) -> np.ndarray:
    """Return which entries of a ranked list stay when exact twins collapse.

    Of products with one text only the best placed stays; what the user has had before always stays, because a person
    who buys two flavours with one shelf name means both.

    Parameters
    ----------
    texts
        Text number of each entry, best entry first.
    had_before
        Whether the user's history holds the entry.
    """
    first = np.zeros(len(texts), dtype=bool)
    first[np.unique(texts, return_index=True)[1]] = True
    return first | had_before
