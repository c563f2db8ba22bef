"""What evaluation and building start from, once a run: catalogue, groups of variants, timelines.

``evaluate_recommenders`` makes it and writes it as tables, and ``build_recommendations`` reads them. Benchmarks make it
by the same functions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

import numpy as np
import pandas as pd
import pyarrow.dataset as ds
from pyspark.sql import DataFrame

from shelfkin.profile import EventType, Recommending
from shelfkin.recommending.catalogue import Catalogue, item_numbers, product_rows
from shelfkin.recommending.nearest import TextNeighbours, nearest_texts
from shelfkin.recommending.popularity import item_popularity
from shelfkin.recommending.timelines import purchase_number, timelines
from shelfkin.recommending.variants import find_variants, grouped


@dataclass(frozen=True)
class Preparation:
    """A store's products and its customers' timelines, for any moment that is looked back on.

    Attributes
    ----------
    catalogue
        The products, in groups of variants.
    timelines
        Result of `timelines.timelines`; each moment goes over it several times.
    event_types, settings
        Of the profile.
    """

    catalogue: Catalogue
    timelines: DataFrame
    event_types: Mapping[str, EventType]
    settings: Recommending

    @cached_property
    def items(self) -> DataFrame:
        """``product_id`` and its ``item`` number."""
        return item_numbers(self.timelines.sparkSession, self.catalogue.product_ids)

    def popularity(self, as_of: datetime) -> pd.DataFrame:
        """Return `popularity.item_popularity` as of a moment."""
        bought, half_life = purchase_number(self.event_types), self.settings.popular_half_life_days
        return item_popularity(self.timelines, bought, as_of, half_life, self.catalogue.n_items)

    def nearest(self, allowed: np.ndarray, n: int) -> TextNeighbours:
        """Return each group's `n` nearest groups of which a product is `allowed`, (n_items,) bool."""
        eligible = np.zeros(self.catalogue.n_groups, dtype=bool)
        eligible[self.catalogue.groups[allowed]] = True
        return nearest_texts(
            self.catalogue.group_vectors,
            eligible,
            n,
            exact_up_to=self.settings.search_exact_up_to,
            recall=self.settings.search_recall,
        )


def prepare(
    products: DataFrame,
    vectors: ds.Dataset | None,
    clusters: DataFrame | None,
    events: DataFrame,
    event_types: Mapping[str, EventType],
    settings: Recommending,
) -> Preparation:
    """Read the products, find their variants, and lay out what every customer did.

    Parameters
    ----------
    products, vectors, clusters, events
        The contract tables; None for what isn't there.
    event_types, settings
        Of the profile.
    """
    catalogue = Catalogue.of(product_rows(products, clusters), vectors)
    catalogue = grouped(catalogue, find_variants(products, catalogue, settings))
    items = item_numbers(events.sparkSession, catalogue.product_ids)
    return Preparation(catalogue, timelines(events, items, event_types), event_types, settings)
