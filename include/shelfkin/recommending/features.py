"""What the ranker knows of a user, a product and the two together, all as of one moment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.sparse as sp

from shelfkin.recommending.als import Als
from shelfkin.recommending.blend import Signal
from shelfkin.recommending.candidates import ItemModel, UserBlock, tastes
from shelfkin.recommending.fading import DECIMALS
from shelfkin.recommending.popularity import MONTH_HALF_LIFE_DAYS, TREND_HALF_LIFE_DAYS, USUAL_HALF_LIFE_DAYS

# The strongest past products that relations start from: beyond some hundreds they add time, not taste.
MAX_HISTORY = 200
# Events within a day of a user's last one count as the user's last order: visits, not lines, matter here.
LAST_ORDER_DAYS = 1.0

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

# Relations whose best products are candidates; the others only judge.
CANDIDATE_RELATIONS = (
    "co_purchase",
    "co_purchase_recent",
    "item_knn",
    "same_order",
    "same_order_last",
    "next_order_recent",
    "content",
)
# Products of each source that the ranker looks at, and half as many of what leads in the whole store.
CANDIDATES_PER_SOURCE = 100
# Factors score every product; their best are looked for among the so many most popular, which they lean to anyway, so
# that a user costs the same in a store of a million products.
FACTOR_HEAD = 20_000


@dataclass(frozen=True)
class Evidence:
    """What the ranker uses beyond `ItemModel`. Item i is row i of every array.

    Factors take 512 bytes a product on the driver and in every Python worker, relations up to 4 kB.

    Attributes
    ----------
    co_purchase_recent, item_knn, same_order, next_order
        (n_items, n_items) sparse float32, row: what the user has, column: what it speaks for. Trained on strengths
        that fade fast, on shared customers, on orders, and on pairs of orders (`baskets.next_order`).
    als, als_recent
        Trained on strengths, and on those that fade fast.
    clusters
        (n_items,) int64: number of the product's cluster from 0, -1 for none.
    shelves
        (n_items, 3) int64: numbers of the product's department, category, and category and brand together
        (`model.shelf_numbers`), -1 for none.
    features
        (n_items, len(ITEM_FEATURES)) float32.
    log_prices
        (n_items,) float64, NaN where no price is known.
    leaders
        (n_orders, n_items) int64: orders of all items, best first, that hold for the whole store.
    """

    co_purchase_recent: sp.csr_array
    item_knn: sp.csr_array
    same_order: sp.csr_array
    next_order: sp.csr_array
    als: Als
    als_recent: Als
    clusters: np.ndarray
    shelves: np.ndarray
    features: np.ndarray
    log_prices: np.ndarray
    leaders: np.ndarray


def store_leaders(features: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """Return `Evidence.leaders`: by recent orders, by trend, and by customers who bought it for the first time.

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
        As in `Evidence`.
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


class BlockSignals:
    """Everything that relations say about the users of a block, each user's row made once.

    Parameters
    ----------
    model, evidence
        The products. Without evidence only the blend's relations are there, and neither candidates nor features.
    block
        The users.
    """

    def __init__(self, model: ItemModel, evidence: Evidence | None, block: UserBlock) -> None:
        self.model, self.block = model, block
        n_items = model.n_items
        self.taste = tastes(block, block.strengths, n_items, MAX_HISTORY)
        self.relations = {"co_purchase": self.taste @ model.co_purchase, "content": self.taste @ model.content}
        if evidence is not None:
            self._add(evidence)
        # There and back sorts each row by item in one pass over the entries, where sorting rows takes twice as long.
        rising = {id(relation): relation.tocsc().tocsr() for relation in self.relations.values()}
        self.relations = {name: rising[id(relation)] for name, relation in self.relations.items()}

    def _add(self, evidence: Evidence) -> None:
        block, n_items = self.block, self.model.n_items
        self.evidence = evidence
        self.leaders = [order[self.model.allowed[order]] for order in evidence.leaders]
        owners = np.repeat(np.arange(block.n_users), np.diff(block.indptr))
        latest = np.full(block.n_users, np.inf)
        np.minimum.at(latest, owners, block.last_days)
        self.in_last_order = block.last_days <= latest[owners] + LAST_ORDER_DAYS
        recent = tastes(block, block.recent, n_items, MAX_HISTORY)
        last = tastes(block, self.in_last_order.astype(np.float64), n_items, MAX_HISTORY)
        # Where item-kNN is the store's co-purchase model too, it is looked at once.
        same = evidence.item_knn is self.model.co_purchase
        self.relations |= {
            "co_purchase_recent": recent @ evidence.co_purchase_recent,
            "item_knn": self.relations["co_purchase"] if same else self.taste @ evidence.item_knn,
            "same_order": self.taste @ evidence.same_order,
            "same_order_last": last @ evidence.same_order,
            "next_order_last": last @ evidence.next_order,
            "next_order_recent": recent @ evidence.next_order,
        }
        self.nearest = {
            "content_nearest": _largest(self.model.content, self.taste),
            "content_nearest_last": _largest(self.model.content, last),
        }
        self.factors = {"als": evidence.als.factors, "als_recent": evidence.als_recent.factors}
        self.wishes = {
            "als": evidence.als.users(block.matrix(block.strengths, n_items)),
            "als_recent": evidence.als_recent.users(block.matrix(block.recent, n_items)),
        }
        self.head = np.flatnonzero(self.model.allowed & (self.model.rank < FACTOR_HEAD))
        # Of the factors only the rows that are needed are widened: a large store's hold a gigabyte.
        self.head_scores = {
            name: self.wishes[name] @ self.factors[name][self.head].astype(np.float64).T for name in FACTOR_FEATURES
        }
        # From 0, which is nowhere: what has no place must not count for another one.
        numbers = (evidence.clusters, *evidence.shelves.T)
        self.places = {name: codes + 1 for name, codes in zip(_PLACES, numbers, strict=True)}
        self.n_places = {name: int(codes.max(initial=0)) + 1 for name, codes in self.places.items()}

    def taste_of(self, user: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the past items that speak for a user's taste, and how much."""
        entries = slice(self.taste.indptr[user], self.taste.indptr[user + 1])
        return self.taste.indices[entries], self.taste.data[entries]

    def relation(self, name: str, user: int) -> Signal:
        """Return one relation's scores of one user."""
        return _row(self.relations[name], user)

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
            Products taken of each relation and of the user's own; of each order of leaders half as many.
        """
        entries = self.block.of(user)
        own = Signal(self.block.items[entries], self.block.strengths[entries])
        personal = [own, *(self.relation(name, user) for name in CANDIDATE_RELATIONS)]
        personal += [self.by_factors(name, user) for name in FACTOR_FEATURES]
        found = [_strongest(signal, eligible, n) for signal in personal]
        for order in self.leaders:
            # At most the user's own are barred of what may be shown at all.
            head = order[: n // 2 + len(own.items)]
            found.append(head[eligible[head]][: n // 2])
        return np.unique(np.concatenate(found))

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
        relations = {name: self.relation(name, user) for name in RELATION_FEATURES}
        at = {name: signal.at(items) for name, signal in relations.items()}
        for name in FACTOR_FEATURES:
            at[name] = self.factors[name][items].astype(np.float64) @ self.wishes[name][user]
            relations[name] = self.by_factors(name, user)
        best = {
            f"{name}_of_best": at[name] / _most(signal.values[eligible[signal.items]])
            for name, signal in relations.items()
        }
        pair = self._own(user, items) | at | best | self._content(user, items)
        columns = np.column_stack(
            [
                self.evidence.features[items],
                np.broadcast_to(self._user(user), (len(items), len(USER_FEATURES))),
                *(pair[name] for name in PAIR_FEATURES),
            ]
        )
        return np.round(columns, DECIMALS).astype(np.float32)

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
            if len(past) == 0:
                return np.full(len(items), missing)
            place = np.minimum(np.searchsorted(past, items), len(past) - 1)
            return np.where(past[place] == items, values[entries][place].astype(np.float64), missing)

        n_bought, first, last = own(block.n_bought), own(block.first_days, np.nan), own(block.last_days, np.nan)
        gap = np.where(n_bought > 1, (first - last) / np.maximum(n_bought - 1, 1), np.nan)
        prices = self.evidence.log_prices
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
    values = np.round(values, DECIMALS)
    return items[np.argsort(-values, kind="stable")[:n]]


def _row(matrix: sp.csr_array, row: int) -> Signal:
    entries = slice(matrix.indptr[row], matrix.indptr[row + 1])
    return Signal(matrix.indices[entries], matrix.data[entries])


def _largest(relations: sp.csr_array, had: sp.csr_array) -> sp.csr_array:
    """Return the largest entry of each column over the rows that each user has: (n_users, n_items) float64.

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
