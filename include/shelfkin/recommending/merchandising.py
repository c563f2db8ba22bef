"""What a shop wants of its lists beyond their order: bands, caps, variety, pins, boosts and blocks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.sparse as sp

from shelfkin.profile import ListRules
from shelfkin.recommending.blend import SCORE_DECIMALS, Signal

PINNED = "pinned"


@dataclass(frozen=True)
class MerchandisingRules:
    """A profile's `settings.ListRules` with products as numbers.

    Attributes
    ----------
    allowed
        (n_items,) bool: neither blocked nor outside the price band.
    boosts
        (n_items,) float64: standard deviations of a list's scores that a product is moved by.
    pins
        (n_pins,) int64: items that lead every list.
    caps
        Pairs of (n_items,) int64 groups, -1 for none, and how many of a group a list may hold.
    diversity
        Share of dissimilarity in the choice, in [0, 1].
    """

    allowed: np.ndarray
    boosts: np.ndarray
    pins: np.ndarray
    caps: tuple[tuple[np.ndarray, int], ...]
    diversity: float

    @classmethod
    def none(cls, n_items: int) -> MerchandisingRules:
        """Return the rules of a shop that has none."""
        return cls(np.ones(n_items, dtype=bool), np.zeros(n_items), np.empty(0, dtype=np.int64), (), 0.0)

    def boosted(self, items: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Return the scores of one user's candidates with boosts added; the same array where nothing is boosted."""
        boosts = self.boosts[items]
        if not boosts.any():
            return scores
        return np.round(scores + boosts * scores.std(), SCORE_DECIMALS)

    def shown_places(self, items: np.ndarray, scores: np.ndarray, content: sp.csr_array, length: int) -> np.ndarray:
        """Return which of a ranked list's candidates it shows, in order.

        Each place goes to the candidate with the largest ``(1 - d) * relevance - d * nearest``: relevance is the score
        brought to [0, 1], nearest the largest cosine to what stands above (maximal marginal relevance, Carbonell &
        Goldstein 1998). A candidate whose group is full must wait; if only such are left, the list is filled with them
        all the same, because a short list is worse than a full group.

        Parameters
        ----------
        items, scores
            (n,) candidates, best first.
        content
            (n_items, n_items) sparse cosines; 0 for what isn't near.
        length
            Places of the list.

        Returns
        -------
        numpy.ndarray
            (min(n, length),) places within `items`.
        """
        if not self.caps and self.diversity == 0:
            return np.arange(min(len(items), length))
        spread = float(np.ptp(scores)) if len(scores) else 0.0
        relevance = (scores - scores.min(initial=np.inf)) / (spread or 1.0)
        groups = [groups[items] for groups, _ in self.caps]
        left = [
            np.full(int(group_of.max(initial=-1)) + 2, cap)
            for group_of, (_, cap) in zip(groups, self.caps, strict=True)
        ]
        nearest, open_places = np.zeros(len(items)), np.ones(len(items), dtype=bool)
        chosen: list[int] = []
        while len(chosen) < min(length, len(items)):
            has_room = open_places.copy()
            for group_of, room in zip(groups, left, strict=True):
                has_room &= (group_of < 0) | (room[group_of] > 0)
            possible = has_room if has_room.any() else open_places
            value = np.where(possible, (1 - self.diversity) * relevance - self.diversity * nearest, -np.inf)
            place = int(np.argmax(np.round(value, SCORE_DECIMALS)))
            chosen.append(place)
            open_places[place] = False
            for group_of, room in zip(groups, left, strict=True):
                room[group_of[place]] -= 1
            row = slice(content.indptr[items[place]], content.indptr[items[place] + 1])
            near = np.argsort(content.indices[row], kind="stable")
            nearest = np.maximum(nearest, Signal(content.indices[row][near], content.data[row][near]).at(items))
        return np.array(chosen, dtype=np.int64)


def resolve_rules(
    rules: ListRules, products: pd.DataFrame, clusters: np.ndarray
) -> tuple[MerchandisingRules, list[str]]:
    """Turn the profile's rules into numbers, and name what they mention and the catalogue lacks.

    Parameters
    ----------
    rules
        Of the profile.
    products, clusters
        Rows and clusters of `catalogue.Catalogue`.

    Returns
    -------
    rules, unknown
        The rules, and the ids and brands that no product has; they have no effect.
    """
    number = pd.Index(products["product_id"])
    prices, brands = products["price"].to_numpy(dtype=np.float64), products["brand"].to_numpy(dtype=object)
    unknown: list[str] = []

    def numbers(ids: list[str]) -> np.ndarray:
        places = number.get_indexer(pd.Index(ids, dtype=object))
        unknown.extend(one for one, place in zip(ids, places, strict=True) if place < 0)
        return places[places >= 0].astype(np.int64)

    lowest = -np.inf if rules.min_price is None else rules.min_price
    highest = np.inf if rules.max_price is None else rules.max_price
    # An unknown price is NaN, and neither.
    allowed = ~((prices < lowest) | (prices > highest))
    allowed[numbers(rules.blocked)] = False
    boosts = np.zeros(len(products))
    for key, boost in rules.boosts.items():
        if key.startswith("brand:"):
            boosted = np.flatnonzero(brands == key.removeprefix("brand:"))
            unknown += [] if len(boosted) else [key]
        else:
            boosted = numbers([key])
        boosts[boosted] += boost
    caps = []
    if rules.max_per_cluster is not None:
        caps.append((clusters, rules.max_per_cluster))
    if rules.max_per_brand is not None:
        codes = pd.factorize(brands, sort=True)[0].astype(np.int64)
        caps.append((np.where(brands == "", -1, codes), rules.max_per_brand))
    pins = numbers(rules.pinned)
    return MerchandisingRules(allowed, boosts, pins, tuple(caps), rules.diversity), unknown
