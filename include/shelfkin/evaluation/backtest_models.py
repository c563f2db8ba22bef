"""Recommenders of the backtest, asked for their lists together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812

from shelfkin.evaluation.als_model import AlsModel
from shelfkin.profile import BlendWeights
from shelfkin.recommending.item_model import ItemModel
from shelfkin.recommending.ranker import FittedRanker
from shelfkin.recommending.recommend_users import recommend_users
from shelfkin.recommending.recommender import Recommender
from shelfkin.recommending.repurchase import RepurchasePolicy

K = TypeVar("K")

# Rows of lists that come to the driver at once, some 50 bytes each: beyond, recommenders are asked in several jobs.
MAX_ROWS = 5_000_000

_SILENT = BlendWeights(own=0, co_purchase=0, content=0, popular=0, trending=0)


@dataclass(frozen=True)
class SignalModel:
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
    learned: FittedRanker | None = None
    faded: bool = True

    @classmethod
    def of_one_signal(
        cls, name: str, items: ItemModel, histories: DataFrame, *, faded: bool = True, **weight: float
    ) -> SignalModel:
        """Return a model that goes by one signal of `settings.BlendWeights` only."""
        return cls(name, items, histories, _SILENT.model_copy(update=weight), faded=faded)

    def recommender(self, policy: RepurchasePolicy) -> Recommender:
        """Return what makes its lists."""
        return Recommender(
            self.items, self.weights, policy, learned=self.learned, explain=False, by_orders=not self.faded
        )


BacktestModel = SignalModel | AlsModel


def lists_of(asked: Mapping[K, tuple[BacktestModel, RepurchasePolicy]], users: DataFrame) -> dict[K, pd.DataFrame]:
    """Return everybody's lists, those of the signals' models by as few jobs as their number of rows allows.

    Parameters
    ----------
    asked
        Models as of one moment, and what their lists may hold.
    users
        ``user_id``.
    """
    users = users.persist()
    by_signals = {key: (one, policy) for key, (one, policy) in asked.items() if isinstance(one, SignalModel)}
    lists: dict[K, pd.DataFrame] = {}
    for one in {id(one): one for one, _ in asked.values() if isinstance(one, AlsModel)}.values():
        of_one = {key: policy for key, (other, policy) in asked.items() if other is one}
        lists |= zip(of_one, one.lists(users, list(of_one.values())), strict=True)
    longest = max((policy.list_length for _, policy in asked.values()), default=1)
    n_together = max(1, MAX_ROWS // max(1, users.count() * longest))
    keys = list(by_signals)
    for start in range(0, len(keys), n_together):
        lists |= _by_one_job({key: by_signals[key] for key in keys[start : start + n_together]}, users)
    users.unpersist()
    return lists


def _by_one_job(asked: Mapping[K, tuple[SignalModel, RepurchasePolicy]], users: DataFrame) -> dict[K, pd.DataFrame]:
    histories = next(iter(asked.values()))[0].histories
    known = histories.join(F.broadcast(users), "user_id", how="left_semi")
    recommenders = [model.recommender(policy) for model, policy in asked.values()]
    with recommend_users(known, recommenders) as recommended:
        lists = recommended.select("recommender", "user_id", "rank", "product_id").toPandas()
    return {
        key: lists.loc[lists["recommender"] == number, ["user_id", "rank", "product_id"]]
        for number, key in enumerate(asked)
    }
