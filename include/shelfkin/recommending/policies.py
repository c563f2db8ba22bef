"""What a list may hold: only products on sale, and past purchases only where the shop wants them back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from shelfkin.errors import OptionError
from shelfkin.profile import Recommending
from shelfkin.recommending.candidates import UserBlock

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
    repurchase_after_days
        Where they may: not before so many days after the last time.
    """

    list_length: int
    repurchase: Repurchase
    repurchase_after_days: int | None = None

    def __post_init__(self) -> None:
        if self.list_length < 1:
            raise OptionError(f"list_length={self.list_length} is below 1.", next_step="Ask for at least 1 product.")
        if self.repurchase not in ("allow", "exclude"):
            raise OptionError(f"repurchase={self.repurchase!r} is neither allow nor exclude.")
        if self.repurchase_after_days is not None and self.repurchase_after_days < 1:
            raise OptionError(f"repurchase_after_days={self.repurchase_after_days} is below 1.")

    @classmethod
    def of(
        cls,
        settings: Recommending,
        list_length: int | None,
        repurchase: Repurchase | None,
        repurchase_after_days: int | None = None,
    ) -> Policy:
        """Return a run's policy: what the run says, and where it says nothing (None) what the profile says.

        Judging and building lists both start here, so that the lists that are judged are the lists that are built.
        """
        return cls(
            settings.list_length if list_length is None else list_length,
            repurchase or settings.repurchase,
            settings.repurchase_after_days if repurchase_after_days is None else repurchase_after_days,
        )

    @property
    def task(self) -> str:
        """The task of the backtest that judges such lists: all (past purchases may come back) or new."""
        return "all" if self.repurchase == "allow" else "new"

    def barred(self, items: np.ndarray, n_bought: np.ndarray, last_days: np.ndarray) -> np.ndarray:
        """Return which of a user's past `items` must not be recommended to that user."""
        if self.repurchase == "exclude":
            return items[n_bought > 0]
        if self.repurchase_after_days is not None:
            return items[(n_bought > 0) & (last_days < self.repurchase_after_days)]
        return items[:0]

    def eligible(self, allowed: np.ndarray, block: UserBlock, user: int) -> np.ndarray:
        """Return what a user may be shown, (n_items,) bool: what is `allowed` at all, less what is barred."""
        entries = block.of(user)
        eligible = allowed.copy()
        eligible[self.barred(block.items[entries], block.n_bought[entries], block.last_days[entries])] = False
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
