"""What a list must beat: plain recommenders, judged beside ours."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import pandas as pd
import scipy.sparse as sp
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812

from shelfkin.evaluation.als import AlsContestant
from shelfkin.recommending.candidates import ItemModel
from shelfkin.recommending.lists import Recommender, recommend_users
from shelfkin.recommending.model import Fitted
from shelfkin.recommending.policies import Policy
from shelfkin.recommending.ranker import Learned, Ranker
from shelfkin.settings import BlendWeights

OURS = "shelfkin"

_SILENT = BlendWeights(own=0, co_purchase=0, content=0, popular=0, trending=0)


class Contestant(Protocol):
    """One recommender of the backtest."""

    @property
    def name(self) -> str:
        """As in ``recommender_metrics.model``."""

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
    """

    name: str
    items: ItemModel
    histories: DataFrame
    weights: BlendWeights
    learned: Learned | None = None

    @classmethod
    def of_one_signal(cls, name: str, items: ItemModel, histories: DataFrame, **weight: float) -> SignalContestant:
        """Return a contestant that goes by one signal of `settings.BlendWeights` only."""
        return cls(name, items, histories, _SILENT.model_copy(update=weight))

    def lists(self, users: DataFrame, policy: Policy) -> pd.DataFrame:
        """Return the lists of known users; a list is filled up with popular products."""
        asking = self.histories.join(F.broadcast(users), "user_id", how="left_semi")
        recommender = Recommender(self.items, self.weights, policy, learned=self.learned, explain=False)
        with recommend_users(asking, recommender) as recommended:
            return recommended.select("user_id", "rank", "product_id").toPandas()


def contestants(
    fitted: Fitted, ours: BlendWeights, ranker: Ranker | None = None, als: AlsContestant | None = None
) -> list[Contestant]:
    """Return our lists and the baselines; all but ALS fill their lists with popular products.

    With a ranker ours are its lists, and the blend is a baseline. The others:

    - ``popularity``: the orders of the last days.
    - ``own_purchases``: the user's own products by number of orders, ties by popularity.
    - ``item_knn``: cosine of shared customers, recent orders weigh more (`co_purchase.item_knn`).
    - ``ease``: EASE^R of the same strengths, where the store is small enough for it (`co_purchase.fit`).
    - ``content``: nearest texts of past products, where there are vectors.
    - ``als``: implicit ALS, where one is given.
    """
    items, histories = fitted.items, fitted.histories
    nothing = sp.csr_array((items.n_items, items.n_items), dtype=items.co_purchase.dtype)
    plain = replace(items, co_purchase=nothing, content=nothing)
    counted = histories.withColumn("strengths", F.col("n_bought").cast("array<double>"))
    blend = SignalContestant(OURS, items, histories, ours)
    found: list[Contestant] = [blend]
    if ranker is not None:
        found = [replace(blend, learned=Learned(ranker, fitted.evidence)), replace(blend, name="blend")]
    one = SignalContestant.of_one_signal
    found += [
        one("popularity", plain, histories, popular=1.0),
        one("own_purchases", plain, counted, own=1.0),
        one("item_knn", replace(plain, co_purchase=fitted.item_knn), histories, co_purchase=1.0),
    ]
    if fitted.method == "ease":
        found.append(one("ease", replace(plain, co_purchase=items.co_purchase), histories, co_purchase=1.0))
    if items.content.nnz:
        found.append(one("content", replace(plain, content=items.content), histories, content=1.0))
    return [*found, *([als] if als is not None else [])]
