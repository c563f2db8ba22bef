"""From timelines to everything that lists are made with, as of one moment: for the nightly tables and the backtest."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd
import scipy.sparse as sp
from pyspark.sql import DataFrame

from shelfkin.profile import purchase_type
from shelfkin.recommending.baskets import collect_baskets
from shelfkin.recommending.catalogue import SHELVES
from shelfkin.recommending.co_purchase import method_for
from shelfkin.recommending.interactions import anonymous_baskets, user_histories
from shelfkin.recommending.item_model import ItemModel, content_relations
from shelfkin.recommending.nearest import TextNeighbours
from shelfkin.recommending.popularity import popular_scores, popularity_rank, trending_scores
from shelfkin.recommending.preparation import Preparation
from shelfkin.recommending.ranking_inputs import RankingInputs, item_features, top_item_orders
from shelfkin.recommending.relations import fit_relations, training_matrices
from shelfkin.recommending.timelines import purchase_number

CONTENT_NEIGHBOURS = 10
# Pairs of an order and a product that same-order and next-order relations are made from; beyond, users are sampled.
MAX_BASKET_PAIRS = 5_000_000


@dataclass(frozen=True)
class Fitted:
    """A store as of one moment.

    Attributes
    ----------
    items
        The products' signals, with the co-purchase model that fits the store's size.
    method
        ``ease``, ``item_knn`` or ``none``.
    strengths
        What relations were trained on (`relations.training_matrices`).
    popularity
        Result of `popularity.item_popularity`.
    histories
        Histories of every known user (`interactions.user_histories`), persisted.
    ranking_inputs
        What the ranker uses beyond `items`.
    """

    items: ItemModel
    method: str
    strengths: sp.csr_array
    popularity: pd.DataFrame
    histories: DataFrame
    ranking_inputs: RankingInputs


def fit_store(
    prepared: Preparation,
    near: TextNeighbours,
    as_of: datetime,
    *,
    popularity: pd.DataFrame | None = None,
    backtest: bool = False,
) -> Fitted:
    """Fit everything that lists are made from, on the events before `as_of` and nothing else.

    Parameters
    ----------
    prepared
        Products and timelines; the timelines are gone over several times.
    near
        Nearest groups of variants.
    as_of
        Only events strictly before this moment (UTC) are used.
    popularity
        Result of `Preparation.popularity` as of the moment; None: it is counted here.
    backtest
        Whether `as_of` lies before the catalogue's own date. Then stock as known today is ignored, and products not
        yet sold at `as_of` are masked: today's catalogue may hold them only because of what came later.
    """
    catalogue, timelines, event_types = prepared.catalogue, prepared.timelines, prepared.event_types
    n_items, buying = catalogue.n_items, purchase_type(event_types)
    popularity = prepared.popularity(as_of) if popularity is None else popularity
    rank = popularity_rank(popularity["total"].to_numpy(), popularity["usual"].to_numpy())
    allowed = popularity["total"].to_numpy() > 0 if backtest else catalogue.on_sale
    histories = user_histories(timelines, event_types, as_of).persist()
    strengths, recent = training_matrices(histories, anonymous_baskets(timelines, event_types, as_of), n_items)
    baskets = collect_baskets(timelines, purchase_number(event_types), as_of, n_items, MAX_BASKET_PAIRS)
    half_life = event_types[buying].half_life_days if buying in event_types else 1.0
    relations = fit_relations(strengths, recent, baskets, half_life, prepared.settings)
    prices = catalogue.rows["price"].to_numpy(dtype=np.float64)
    log_prices = np.log(np.where(prices > 0, prices, np.nan))
    features = item_features(popularity, catalogue.clusters, log_prices)
    ranking_inputs = RankingInputs(
        relations=relations,
        clusters=catalogue.clusters,
        shelves=catalogue.rows[list(SHELVES)].to_numpy(dtype=np.int64),
        features=features,
        log_prices=log_prices,
        top_items=top_item_orders(features, rank),
    )
    items = ItemModel(
        product_ids=catalogue.product_ids,
        groups=catalogue.groups,
        allowed=allowed,
        popular=popular_scores(popularity["recent"].to_numpy()),
        trending=trending_scores(popularity["trend"].to_numpy(), popularity["usual"].to_numpy()),
        rank=rank,
        co_purchase=relations.co_purchase,
        content=content_relations(catalogue.groups, allowed, rank, near.neighbours, near.cosines, CONTENT_NEIGHBOURS),
    )
    method = method_for(strengths, prepared.settings.ease_max_items)
    return Fitted(items, method, strengths, popularity, histories, ranking_inputs)
