"""What a list must beat: three plain recommenders, made by the same code path as ours."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812

from shelfkin.recommending.candidates import ItemModel
from shelfkin.recommending.model import Fitted
from shelfkin.recommending.ranker import Learned, Ranker
from shelfkin.settings import BlendWeights

OURS = "shelfkin"

_SILENT = BlendWeights(own=0, co_purchase=0, content=0, popular=0, trending=0)


@dataclass(frozen=True)
class Contestant:
    """One recommender of the backtest.

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


def contestants(fitted: Fitted, ours: BlendWeights, ranker: Ranker | None = None) -> list[Contestant]:
    """Return our lists and the baselines; each fills its lists with popular products.

    With a ranker ours are its lists, and the blend is a baseline. The others:

    - ``popularity``: the orders of the last days.
    - ``own_purchases``: the user's own products by number of orders, ties by popularity.
    - ``item_knn``: cosine of shared customers, recent orders weigh more (`co_purchase.item_knn`).
    """
    nothing = sp.csr_array((fitted.items.n_items, fitted.items.n_items), dtype=np.float32)
    silent = replace(fitted.items, co_purchase=nothing, content=nothing)
    knn = replace(fitted.items, co_purchase=fitted.item_knn, content=nothing)
    counted = fitted.histories.withColumn("strengths", F.col("n_bought").cast("array<double>"))
    blend = Contestant(OURS, fitted.items, fitted.histories, ours)
    first = [blend]
    if ranker is not None:
        learned = replace(blend, learned=Learned(ranker, fitted.evidence))
        first = [learned, replace(blend, name="blend")]
    return [
        *first,
        Contestant("popularity", silent, fitted.histories, _SILENT.model_copy(update={"popular": 1.0})),
        Contestant("own_purchases", silent, counted, _SILENT.model_copy(update={"own": 1.0})),
        Contestant("item_knn", knn, fitted.histories, _SILENT.model_copy(update={"co_purchase": 1.0})),
    ]
