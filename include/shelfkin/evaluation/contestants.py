"""Recommenders of the backtest, asked for their lists together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812

from shelfkin.recommending.candidates import ItemModel
from shelfkin.recommending.lists import Recommender, recommend_each
from shelfkin.recommending.policies import Policy
from shelfkin.recommending.ranker import Learned
from shelfkin.settings import BlendWeights

K = TypeVar("K")

# Rows of lists that come to the driver at once, some 50 bytes each: beyond, recommenders are asked in several jobs.
MAX_ROWS = 5_000_000

_SILENT = BlendWeights(own=0, co_purchase=0, content=0, popular=0, trending=0)


class Contestant(Protocol):
    """One recommender of the backtest."""

    @property
    def name(self) -> str:
        """As in ``recommender_metrics.model``."""

    @property
    def histories(self) -> DataFrame:
        """The histories of the users that it knows."""

    def lists(self, users: DataFrame, policy: Policy) -> pd.DataFrame:
        """Return lists, ``user_id``, ``rank`` (from 1), ``product_id``, for those of `users` (``user_id``) it knows."""


@dataclass(frozen=True)
class SignalContestant:
    """Lists by the path that makes the nightly ones: from the products' signals, a blend of them and maybe a ranker.

    Attributes
    ----------
    name
        As in ``recommender_metrics.model``.
    items
        The products' signals.
    histories
        The users' histories.
    weights
        The blend.
    learned
        The ranker, if one orders the lists.
    faded
        Whether a user's products count by their faded strengths, or by their orders.
    """

    name: str
    items: ItemModel
    histories: DataFrame
    weights: BlendWeights
    learned: Learned | None = None
    faded: bool = True

    @classmethod
    def of_one_signal(
        cls, name: str, items: ItemModel, histories: DataFrame, *, faded: bool = True, **weight: float
    ) -> SignalContestant:
        """Return a contestant that goes by one signal of `settings.BlendWeights` only."""
        return cls(name, items, histories, _SILENT.model_copy(update=weight), faded=faded)

    def recommender(self, policy: Policy) -> Recommender:
        """Return what makes its lists."""
        return Recommender(
            self.items, self.weights, policy, learned=self.learned, explain=False, by_orders=not self.faded
        )

    def lists(self, users: DataFrame, policy: Policy) -> pd.DataFrame:
        """Return the lists of known users; a list is filled up with popular products."""
        return lists_of({self.name: (self, policy)}, users)[self.name]


def lists_of(asked: Mapping[K, tuple[Contestant, Policy]], users: DataFrame) -> dict[K, pd.DataFrame]:
    """Return everybody's lists, those of the signals' contestants by as few jobs as their number of rows allows.

    Parameters
    ----------
    asked
        Contestants as of one moment, and what their lists may hold.
    users
        ``user_id``.
    """
    users = users.persist()
    by_signals = {key: (one, policy) for key, (one, policy) in asked.items() if isinstance(one, SignalContestant)}
    found = {key: one.lists(users, policy) for key, (one, policy) in asked.items() if key not in by_signals}
    longest = max((policy.list_length for _, policy in asked.values()), default=1)
    n_together = max(1, MAX_ROWS // max(1, users.count() * longest))
    keys = list(by_signals)
    for start in range(0, len(keys), n_together):
        found |= _by_one_job({key: by_signals[key] for key in keys[start : start + n_together]}, users)
    users.unpersist()
    return found


def _by_one_job(asked: Mapping[K, tuple[SignalContestant, Policy]], users: DataFrame) -> dict[K, pd.DataFrame]:
    histories = next(iter(asked.values()))[0].histories
    known = histories.join(F.broadcast(users), "user_id", how="left_semi")
    recommenders = [contestant.recommender(policy) for contestant, policy in asked.values()]
    with recommend_each(known, recommenders) as recommended:
        lists = recommended.select("recommender", "user_id", "rank", "product_id").toPandas()
    return {
        key: lists.loc[lists["recommender"] == number, ["user_id", "rank", "product_id"]]
        for number, key in enumerate(asked)
    }
