"""The fixed blend: five signals, each brought to [0, 1] for its user, and added with documented weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shelfkin.profile import BlendWeights
from shelfkin.recommending.item_model import ItemModel
from shelfkin.recommending.ordering import union

SCORE_DECIMALS = 6

# The strategy word of a list entry is the personal signal that adds most to its score; with none, it is popular.
STRATEGIES = ("repurchase", "co_purchase", "similar")
POPULAR = "popular"


@dataclass(frozen=True)
class Signal:
    """One personal signal of one user: the items it speaks for, and how strongly.

    Attributes
    ----------
    items
        (n,) item numbers, rising.
    values
        (n,) float64, at least 0.
    """

    items: np.ndarray
    values: np.ndarray

    def at(self, items: np.ndarray, missing: float = 0.0) -> np.ndarray:
        """Return the values at `items`, `missing` where the signal is silent."""
        if len(self.items) == 0:
            return np.full(len(items), missing)
        place = np.minimum(np.searchsorted(self.items, items), len(self.items) - 1)
        return np.where(self.items[place] == items, self.values[place], missing)


def normalised(signal: Signal, eligible: np.ndarray, weight: float) -> Signal:
    """Return a signal over eligible items only, divided by its maximum and times `weight`.

    Parameters
    ----------
    signal
        Raw values; negative ones (EASE^R may speak against a product) count as silence.
    eligible
        (n_items,) bool.
    weight
        The blend's weight; 0 silences the signal.
    """
    keep = eligible[signal.items] & (signal.values > 0)
    items, values = signal.items[keep], signal.values[keep]
    if weight == 0 or len(values) == 0:
        return Signal(items[:0], values[:0])
    return Signal(items, values * (weight / values.max()))


def blend(
    parts: Sequence[Signal], popular_items: np.ndarray, model: ItemModel, weights: BlendWeights
) -> tuple[np.ndarray, np.ndarray]:
    """Add up the signals over all items that any of them names.

    Parameters
    ----------
    parts
        The user's personal signals, normalised and weighted.
    popular_items
        Eligible items that lead by popularity and trend, so that a list can always be filled.
    model
        Popularity and trend of each item.
    weights
        The blend.

    Returns
    -------
    items, scores
        (n,) item numbers, rising, and (n,) float64, rounded: personal parts plus popularity and trend.
    """
    items = union(*(part.items for part in parts), np.sort(popular_items))
    personal = np.stack([part.at(items) for part in parts])
    return items, np.round(personal.sum(axis=0) + item_scores(model, weights, items), SCORE_DECIMALS)


def item_scores(model: ItemModel, weights: BlendWeights, items: np.ndarray | slice = slice(None)) -> np.ndarray:
    """Return the part of the score of `items` (all by default) that is the same for every user, as float64."""
    return np.asarray(weights.popular * model.popular[items] + weights.trending * model.trending[items])
