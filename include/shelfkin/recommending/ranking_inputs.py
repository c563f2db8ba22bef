"""What the ranker uses of products beyond the item model, as of one moment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from shelfkin.recommending.popularity import MONTH_HALF_LIFE_DAYS, TREND_HALF_LIFE_DAYS, USUAL_HALF_LIFE_DAYS
from shelfkin.recommending.relations import Relations
from shelfkin.recommending.time_decay import DECIMALS

ITEM_FEATURES = (
    "item_recent_orders",
    "item_trend_orders",
    "item_month_orders",
    "item_usual_orders",
    "item_trend",
    "item_month_trend",
    "item_buyers",
    "item_repeat_rate",
    "item_new_buyers_week",
    "item_new_buyers_month",
    "item_new_buyer_share",
    "item_first_days",
    "item_last_days",
    "item_log_price",
    "cluster_trend",
)


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
    return np.stack([np.lexsort((rank, -features[:, ITEM_FEATURES.index(name)])) for name in by])


def item_features(popularity: pd.DataFrame, clusters: np.ndarray, log_prices: np.ndarray) -> np.ndarray:
    """Return the columns `ITEM_FEATURES`: (n_items, n) float32.

    Parameters
    ----------
    popularity
        Result of `popularity.item_popularity`.
    clusters, log_prices
        As in `RankingInputs`.
    """
    count = {name: popularity[name].to_numpy(dtype=np.float64) for name in popularity.columns}
    month_share = MONTH_HALF_LIFE_DAYS / USUAL_HALF_LIFE_DAYS
    # From 0, which is no cluster: what has none must not count for another one.
    of_cluster = clusters + 1
    trend, usual = (np.bincount(of_cluster, count[name])[of_cluster] for name in ("trend", "usual"))
    columns = (
        count["recent"],
        count["trend"],
        count["month"],
        count["usual"],
        np.log((count["trend"] + 1) / (count["usual"] * TREND_HALF_LIFE_DAYS / USUAL_HALF_LIFE_DAYS + 1)),
        np.log((count["month"] + 1) / (count["usual"] * month_share + 1)),
        count["buyers"],
        # As if three more users had bought it once: one loyal buyer is no repeat rate of 1.
        count["repeat_buyers"] / (count["buyers"] + 3),
        count["new_buyers_week"],
        count["new_buyers_month"],
        count["new_buyers_month"] / (count["month"] + 1),
        count["first_days"],
        count["last_days"],
        log_prices,
        np.where(clusters >= 0, trend / np.maximum(usual, 1e-9), 0.0),
    )
    return np.column_stack([np.round(column, DECIMALS) for column in columns]).astype(np.float32)
