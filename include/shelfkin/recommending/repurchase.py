"""Whether past purchases may come back on a list, and when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from shelfkin.errors import OptionError
from shelfkin.recommending.user_block import UserBlock

Repurchase = Literal["allow", "exclude"]


@dataclass(frozen=True)
class RepurchasePolicy:
    """The length of one run's lists, and which past purchases they may hold.

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

    @property
    def task(self) -> str:
        """The task of the backtest that judges such lists: all (past purchases may come back) or new."""
        return "all" if self.repurchase == "allow" else "new"

    def eligible(self, allowed: np.ndarray, block: UserBlock, user: int) -> np.ndarray:
        """Return what a user may be shown, (n_items,) bool: what is `allowed` at all, less what is excluded."""
        entries = block.of(user)
        eligible = allowed.copy()
        # Where past purchases never come back, that is after so many days as there are.
        after_days = np.inf if self.repurchase == "exclude" else self.repurchase_after_days or 0
        excluded = (block.n_bought[entries] > 0) & (block.last_days[entries] < after_days)
        eligible[block.items[entries][excluded]] = False
        return eligible
