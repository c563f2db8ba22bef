"""The ranker's features of a user, and of a user and a product together, as of one moment.

`ranking_inputs` holds those of a product by itself. Start here to add one: `FEATURES` names all.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from shelfkin.recommending.blend import Signal
from shelfkin.recommending.item_model import ItemModel
from shelfkin.recommending.ranking_inputs import ITEM_FEATURES, RankingInputs
from shelfkin.recommending.time_decay import DECIMALS
from shelfkin.recommending.user_block import UserBlock, tastes

# Events within a day of a user's last one count as the user's last order: visits, not lines, matter here.
LAST_ORDER_DAYS = 1.0

USER_FEATURES = (
    "user_orders",
    "user_products",
    "user_lines_per_order",
    "user_repeat_share",
    "user_last_days",
    "user_first_days",
)
# Relations are scored from three starts: the whole taste, what the user wanted lately, and the last order.
RELATION_FEATURES = (
    "co_purchase",
    "co_purchase_recent",
    "item_knn",
    "same_order",
    "same_order_last",
    "next_order_last",
    "next_order_recent",
    "content",
)
# What a user does with a product, beside what the user does with the one that leads.
OWN_OF_BEST = ("own_strength", "own_recent", "own_orders")
# Of all that the user did, and with more weight on what the user did lately.
FACTOR_FEATURES = ("als", "als_recent")
SCORES = (*RELATION_FEATURES, *FACTOR_FEATURES)
PAIR_FEATURES = (
    *OWN_OF_BEST,
    *(f"{name}_of_best" for name in OWN_OF_BEST),
    "own_frequency",
    "own_last_days",
    "own_first_days",
    "own_gap_days",
    "own_due",
    "own_in_last_order",
    "cluster_share",
    "department_share",
    "category_share",
    "category_share_recent",
    "category_brand_share",
    "category_products",
    "price_distance",
    *SCORES,
    *(f"{name}_of_best" for name in SCORES),
    "content_nearest",
    "content_nearest_last",
)
FEATURES = (*ITEM_FEATURES, *USER_FEATURES, *PAIR_FEATURES)

_PLACES = ("cluster", "department", "category", "category_brand")

# Relations whose best products are candidates; the other one only judges.
CANDIDATE_RELATIONS = tuple(name for name in RELATION_FEATURES if name != "next_order_last")
# Products of each source that the ranker looks at, and half as many of what leads in the whole store.
CANDIDATES_PER_SOURCE = 100
# Factors score every product; their best are looked for among the so many most popular, which they lean to anyway, so
# that a user costs the same in a store of a million products.
FACTOR_HEAD = 20_000


class BlockSignals:
    """Everything that relations say about the users of a block, each user's row made once.

    Parameters
    ----------
    model, ranking_inputs
        The products. Without ranking inputs only the blend's relations are there, and neither candidates nor features.
    block
        The users.
    """

    def __init__(self, model: ItemModel, ranking_inputs: RankingInputs | None, block: UserBlock) -> None:
        self.model, self.block = model, block
        n_items = model.n_items
        self.taste = tastes(block, block.strengths, n_items)
        self.relations = {"co_purchase": self.taste @ model.co_purchase, "content": self.taste @ model.content}
        if ranking_inputs is not None:
            self._add(ranking_inputs)
        self._rising: dict[str, sp.csr_array] = {}
        # Values of one row at a time: the rows of a sparse product are in no order, and sorting them costs more.
        self._row_values = np.zeros(n_items)

    def _add(self, ranking_inputs: RankingInputs) -> None:
        block, n_items = self.block, self.model.n_items
        self.ranking_inputs = ranking_inputs
        self.top_items = [order[self.model.allowed[order]] for order in ranking_inputs.top_items]
        owners = np.repeat(np.arange(block.n_users), np.diff(block.indptr))
        latest = np.full(block.n_users, np.inf)
        np.minimum.at(latest, owners, block.last_days)
        self.in_last_order = block.last_days <= latest[owners] + LAST_ORDER_DAYS
        recent = tastes(block, block.recent, n_items)
        last = tastes(block, self.in_last_order.astype(np.float64), n_items)
        of_store = ranking_inputs.relations
        # Where item-kNN is the store's co-purchase model too, it is looked at once.
        same = of_store.item_knn is self.model.co_purchase
        self.relations |= {
            "co_purchase_recent": recent @ of_store.co_purchase_recent,
            "item_knn": self.relations["co_purchase"] if same else self.taste @ of_store.item_knn,
            "same_order": self.taste @ of_store.same_order,
            "same_order_last": last @ of_store.same_order,
            "next_order_last": last @ of_store.next_order,
            "next_order_recent": recent @ of_store.next_order,
        }
        self.nearest = {
            "content_nearest": _largest(self.model.content, self.taste),
            "content_nearest_last": _largest(self.model.content, last),
        }
        self.factors = {"als": of_store.als.factors, "als_recent": of_store.als_recent.factors}
        self.user_factors = {
            "als": of_store.als.users(block.matrix(block.strengths, n_items)),
            "als_recent": of_store.als_recent.users(block.matrix(block.recent, n_items)),
        }
        self.head = np.flatnonzero(self.model.allowed & (self.model.rank < FACTOR_HEAD))
        # Of the factors only the rows that are needed are widened: a large store's hold a gigabyte.
        self.head_scores = {
            name: self.user_factors[name] @ self.factors[name][self.head].astype(np.float64).T
            for name in FACTOR_FEATURES
        }
        # From 0, which is nowhere: what has no place must not count for another one.
        numbers = (ranking_inputs.clusters, *ranking_inputs.shelves.T)
        self.places = {name: codes + 1 for name, codes in zip(_PLACES, numbers, strict=True)}
        self.n_places = {name: int(codes.max(initial=0)) + 1 for name, codes in self.places.items()}

    def taste_of(self, user: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the past items that speak for a user's taste, and how much."""
        entries = slice(self.taste.indptr[user], self.taste.indptr[user + 1])
        return self.taste.indices[entries], self.taste.data[entries]

    def relation(self, name: str, user: int) -> Signal:
        """Return one relation's scores of one user, by rising item."""
        if name not in self._rising:
            # There and back sorts each row in one pass over the entries, where sorting rows takes twice as long.
            self._rising[name] = self.relations[name].tocsc().tocsr()
        return _row(self._rising[name], user)

    def by_factors(self, name: str, user: int) -> Signal:
        """Return the scores that factors give one user for the most popular products."""
        return Signal(self.head, self.head_scores[name][user])

    def candidates(self, user: int, eligible: np.ndarray, n: int) -> np.ndarray:
        """Return the products that the ranker looks at for one user: (n_candidates,) item numbers, rising.

        Parameters
        ----------
        user
            Row of the block.
        eligible
            (n_items,) bool: what the user may be shown: what the model allows, less some of the user's own.
        n
            Products taken of each relation and of the user's own; of each order of top items half as many.
        """
        entries = self.block.of(user)
        own = Signal(self.block.items[entries], self.block.strengths[entries])
        personal = [own, *(_row(self.relations[name], user) for name in CANDIDATE_RELATIONS)]
        personal += [self.by_factors(name, user) for name in FACTOR_FEATURES]
        candidates = [_strongest(signal, eligible, n) for signal in personal]
        for order in self.top_items:
            # Of what may be shown at all, at most the user's own are excluded.
            head = order[: n // 2 + len(own.items)]
            candidates.append(head[eligible[head]][: n // 2])
        return np.unique(np.concatenate(candidates))

    def features(self, user: int, items: np.ndarray, eligible: np.ndarray) -> np.ndarray:
        """Return the columns `FEATURES` of one user's candidates: (n, len(FEATURES)) float32.

        Parameters
        ----------
        user
            Row of the block.
        items
            (n,) item numbers, rising.
        eligible
            (n_items,) bool: what the user may be shown; a relation's best is the best of these.
        """
        relations = {name: _row(self.relations[name], user) for name in RELATION_FEATURES}
        at = {name: self._at(signal, items) for name, signal in relations.items()}
        for name in FACTOR_FEATURES:
            at[name] = self.factors[name][items].astype(np.float64) @ self.user_factors[name][user]
            relations[name] = self.by_factors(name, user)
        best = {
            f"{name}_of_best": at[name] / _most(signal.values[eligible[signal.items]])
            for name, signal in relations.items()
        }
        pair = self._own(user, items) | at | best | self._content(user, items)
        columns = np.column_stack(
            [
                self.ranking_inputs.features[items],
                np.broadcast_to(self._user(user), (len(items), len(USER_FEATURES))),
                *(pair[name] for name in PAIR_FEATURES),
            ]
        )
        return np.round(columns, DECIMALS).astype(np.float32)

    def _at(self, signal: Signal, items: np.ndarray) -> np.ndarray:
        """Return a signal's values at `items`, 0 where it is silent; its own items may be in any order."""
        self._row_values[signal.items] = signal.values
        values = self._row_values[items]
        self._row_values[signal.items] = 0.0
        return values

    def _user(self, user: int) -> np.ndarray:
        entries = self.block.of(user)
        n_products, n_lines = entries.stop - entries.start, float(self.block.n_bought[entries].sum())
        n_orders = float(self.block.n_orders[user])
        return np.array(
            [
                n_orders,
                n_products,
                n_lines / max(n_orders, 1.0),
                1.0 - n_products / max(n_lines, 1.0),
                self.block.last_days[entries].min(initial=np.inf) if n_products else np.nan,
                self.block.first_days[entries].max(initial=0.0) if n_products else np.nan,
            ]
        )

    def _own(self, user: int, items: np.ndarray) -> dict[str, np.ndarray]:
        """What the user did with each product itself; NaN where a figure makes no sense."""
        block, entries = self.block, self.block.of(user)
        past = block.items[entries]

        most = {"own_strength": block.strengths, "own_recent": block.recent, "own_orders": block.n_bought}

        def own(values: np.ndarray, missing: float = 0.0) -> np.ndarray:
            return Signal(past, values[entries].astype(np.float64)).at(items, missing)

        n_bought, first, last = own(block.n_bought), own(block.first_days, np.nan), own(block.last_days, np.nan)
        gap = np.where(n_bought > 1, (first - last) / np.maximum(n_bought - 1, 1), np.nan)
        prices = self.ranking_inputs.log_prices
        known = past[~np.isnan(prices[past])]
        usual_price = prices[known].mean() if len(known) else np.nan
        return {
            **{name: own(values) for name, values in most.items()},
            **{f"{name}_of_best": own(values) / _most(values[entries]) for name, values in most.items()},
            "own_frequency": n_bought / max(float(block.n_orders[user]), 1.0),
            "own_last_days": last,
            "own_first_days": first,
            "own_gap_days": gap,
            "own_due": last / np.maximum(gap, 1.0),
            "own_in_last_order": own(self.in_last_order),
            **self._shares(entries, items),
            "price_distance": np.abs(prices[items] - usual_price),
        }

    def _shares(self, entries: slice, items: np.ndarray) -> dict[str, np.ndarray]:
        """How much of what the user did, by strength, lies where each product lies; 0 for one that lies nowhere."""
        past = self.block.items[entries]

        def within(place: str, values: np.ndarray) -> np.ndarray:
            sums = np.bincount(self.places[place][past], values, minlength=self.n_places[place])
            sums[0] = 0.0
            return sums[self.places[place][items]]

        strengths, recent = self.block.strengths[entries], self.block.recent[entries]
        total, lately = max(float(strengths.sum()), 1e-9), max(float(recent.sum()), 1e-9)
        return {
            **{f"{place}_share": within(place, strengths) / total for place in self.places},
            "category_share_recent": within("category", recent) / lately,
            "category_products": within("category", np.ones(len(past))),
        }

    def _content(self, user: int, items: np.ndarray) -> dict[str, np.ndarray]:
        """Cosine to the nearest product of the whole history, and of the last order."""
        return {name: _row(nearest, user).at(items) for name, nearest in self.nearest.items()}


def _most(values: np.ndarray) -> float:
    """Return the largest value, as a divisor."""
    return max(float(values.max(initial=0.0)), 1e-9)


def _strongest(signal: Signal, eligible: np.ndarray, n: int) -> np.ndarray:
    """Return the `n` eligible items that a signal speaks for most; ties go to the lower item number."""
    keep = eligible[signal.items] & (signal.values > 0)
    items, values = signal.items[keep], signal.values[keep]
    if len(values) > n:
        # Rounding and sorting all would cost most of what candidates cost. What is just below may round to the same.
        keep = values >= np.partition(values, len(values) - n)[len(values) - n] - 10.0**-DECIMALS
        items, values = items[keep], values[keep]
    return items[np.lexsort((items, -np.round(values, DECIMALS)))[:n]]


def _row(matrix: sp.csr_array, row: int) -> Signal:
    entries = slice(matrix.indptr[row], matrix.indptr[row + 1])
    return Signal(matrix.indices[entries], matrix.data[entries])


def _largest(relations: sp.csr_array, had: sp.csr_array) -> sp.csr_array:
    """Return the largest entry of each column over the rows that each user has: (n_users, n_items) float64, sorted.

    Parameters
    ----------
    relations
        (n_items, n_items), entries above 0.
    had
        (n_users, n_items): whose entries stand for the rows.
    """
    chosen = relations[had.indices]
    n_users, n_items = had.shape
    owners = np.repeat(np.repeat(np.arange(n_users), np.diff(had.indptr)), np.diff(chosen.indptr))
    keys = owners * n_items + chosen.indices
    order = np.argsort(keys, kind="stable")
    keys, values = keys[order], chosen.data[order].astype(np.float64)
    first = np.flatnonzero(np.diff(keys, prepend=-1))
    largest = np.maximum.reduceat(values, first) if len(first) else values
    indptr = np.searchsorted(keys[first], np.arange(n_users + 1) * n_items)
    return sp.csr_array((largest, keys[first] % n_items, indptr), shape=had.shape)
