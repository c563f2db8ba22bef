"""The ranker's features of a product by itself, and the arrays that all features are made from, as of one moment.

`features` holds those of a user, and of a user and a product together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from shelfkin.recommending.popularity import MONTH_HALF_LIFE_DAYS, TREND_HALF_LIFE_DAYS, log_trend
from shelfkin.recommending.relations import Relations
from shelfkin.recommending.time_decay import DECIMALS

# Each feature of a product, from its row of `popularity.item_popularity` and what `item_features` adds to it.
ITEM_FEATURES: dict[str, Callable[[Mapping[str, np.ndarray]], np.ndarray]] = {
    "item_recent_orders": lambda item: item["recent"],
    "item_trend_orders": lambda item: item["trend"],
    "item_month_orders": lambda item: item["month"],
    "item_usual_orders": lambda item: item["usual"],
    "item_trend": lambda item: log_trend(item["trend"], item["usual"], TREND_HALF_LIFE_DAYS),
    "item_month_trend": lambda item: log_trend(item["month"], item["usual"], MONTH_HALF_LIFE_DAYS),
    "item_buyers": lambda item: item["buyers"],
    # As if three more users had bought it once: one loyal buyer is no repeat rate of 1.
    "item_repeat_rate": lambda item: item["repeat_buyers"] / (item["buyers"] + 3),
    "item_new_buyers_week": lambda item: item["new_buyers_week"],
    "item_new_buyers_month": lambda item: item["new_buyers_month"],
    "item_new_buyer_share": lambda item: item["new_buyers_month"] / (item["month"] + 1),
    "item_first_days": lambda item: item["first_days"],
    "item_last_days": lambda item: item["last_days"],
    "item_log_price": lambda item: item["log_price"],
    "cluster_trend": lambda item: item["cluster_trend"] / np.maximum(item["cluster_usual"], 1e-9),
}


@dataclass(frozen=True)
class RankingInputs:
    """What the ranker uses beyond `ItemModel`. Item i is row i of every array.

    Attributes
    ----------
    relations
        Relations and factors; they lie on the driver and in every Python worker.
    clusters
        (n_items,) int64: number of the product's cluster from 0, -1 for none.
    shelves
        (n_items, 3) int64: numbers of the product's department, category, and category and brand together
        (`catalogue.shelf_numbers`), -1 for none.
    features
        (n_items, len(ITEM_FEATURES)) float32.
    log_prices
        (n_items,) float64, NaN where no price is known.
    top_items
        (n_orders, n_items) int64: orders of all items, best first, that hold for the whole store.
    """

    relations: Relations
    clusters: np.ndarray
    shelves: np.ndarray
    features: np.ndarray
    log_prices: np.ndarray
    top_items: np.ndarray


def top_item_orders(features: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """Return `RankingInputs.top_items`: by recent orders, by trend, and by customers who bought it for the first time.

    Parameters
    ----------
    features
        Result of `item_features`.
    rank
        Place by popularity, breaks ties.
    """
    by = ("item_recent_orders", "item_trend", "item_new_buyers_month")
    names = list(ITEM_FEATURES)
    return np.stack([np.lexsort((rank, -features[:, names.index(name)])) for name in by])


def item_features(popularity: pd.DataFrame, clusters: np.ndarray, log_prices: np.ndarray) -> np.ndarray:
    """Return the columns `ITEM_FEATURES`: (n_items, n) float32.

    Parameters
    ----------
    popularity
        Result of `popularity.item_popularity`.
    clusters, log_prices
        As in `RankingInputs`.
    """
    item = {name: popularity[name].to_numpy(dtype=np.float64) for name in popularity.columns}
    for name in ("trend", "usual"):
        # From 0, which is no cluster: what has none must not count for another one.
        of_cluster = np.bincount(clusters + 1, item[name], minlength=1)
        of_cluster[0] = 0.0
        item[f"cluster_{name}"] = of_cluster[clusters + 1]
    item["log_price"] = log_prices
    return np.column_stack([np.round(feature(item), DECIMALS) for feature in ITEM_FEATURES.values()]).astype(np.float32)
