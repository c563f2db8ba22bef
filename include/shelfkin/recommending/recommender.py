"""Personal lists from signals, ranked by a learned ranker or a blend: the one path of nightly tables and backtest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from shelfkin.profile import BlendWeights
from shelfkin.recommending.blend import POPULAR, STRATEGIES, Signal, blend, item_scores, normalised
from shelfkin.recommending.features import CANDIDATES_PER_SOURCE, BlockSignals
from shelfkin.recommending.item_model import ItemModel
from shelfkin.recommending.merchandising import PINNED, MerchandisingRules
from shelfkin.recommending.ordering import best_first, first_of_groups
from shelfkin.recommending.ranker import FittedRanker
from shelfkin.recommending.reasons import contributions, shares
from shelfkin.recommending.repurchase import RepurchasePolicy
from shelfkin.recommending.user_block import UserBlock

# Item numbers, rising, and their scores.
Candidates = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Entry:
    """One place on one list.

    Attributes
    ----------
    item
        Item number.
    score
        The blend's score.
    strategy
        The signal that adds most of what is personal: repurchase, co_purchase or similar; popular if none does;
        pinned where the shop put it there.
    reasons
        Past items and their shares, which sum to 1; none for a popular product.
    """

    item: int
    score: float
    strategy: str
    reasons: tuple[tuple[int, float], ...]


class Recommender:
    """Scores users with one model, one ranker or blend, and one policy.

    Parameters
    ----------
    model
        The products' signals.
    weights
        The blend: it ranks where nothing was learned, and weighs what explains a list.
    policy
        What a list may hold.
    learned
        The ranker that orders the lists, if there is one.
    rules
        What the shop wants of its lists beyond their order.
    explain
        Whether to work out strategies and reasons; the backtest needs neither, and leaves them empty.
    by_orders
        Whether a user's products count by the orders that bought them, and not by their faded strengths.
    """

    def __init__(
        self,
        model: ItemModel,
        weights: BlendWeights,
        policy: RepurchasePolicy,
        *,
        learned: FittedRanker | None = None,
        rules: MerchandisingRules | None = None,
        explain: bool = True,
        by_orders: bool = False,
    ) -> None:
        self.model, self.weights, self.policy = model, weights, policy
        self.explain, self.by_orders = explain, by_orders
        self.learned, self.rules = learned, rules or MerchandisingRules.none(model.n_items)
        common = np.round(item_scores(model, weights), 6)
        top_items = np.lexsort((model.rank, -common))
        self._top_items = top_items[model.allowed[top_items]]

    def signals(self, block: UserBlock) -> BlockSignals:
        """Return what the users of a block are scored by."""
        if self.by_orders:
            block = replace(block, strengths=block.n_bought.astype(np.float64))
        return BlockSignals(self.model, self.learned.ranking_inputs if self.learned else None, block)

    def recommend(self, block: UserBlock, signals: BlockSignals | None = None) -> Iterator[list[Entry]]:
        """Yield each user's list, in the block's order.

        Lists have the policy's length unless the store holds too few products that the user may be shown.

        Parameters
        ----------
        block
            The users.
        signals
            Result of `signals` of a recommender of the same products, with ranking inputs if this one has learned;
            None: they are worked out here.
        """
        signals = self.signals(block) if signals is None else signals
        for user, first in enumerate(self._first_candidates(signals)):
            yield self._list(signals, user, first)

    def _first_candidates(self, signals: BlockSignals) -> Iterable[Candidates | None]:
        """Yield each user's first candidates by the ranker; None where the blend ranks."""
        n_users = signals.block.n_users
        if self.learned is None:
            return [None] * n_users
        rows = [candidate_rows(signals, self.policy, user) for user in range(n_users)]
        # One call for all users: a prediction costs more to start than to make.
        scores = self.learned.ranker.scores(np.concatenate([features for _, features in rows]))
        bounds = np.cumsum([len(items) for items, _ in rows])[:-1]
        return zip([items for items, _ in rows], np.split(scores, bounds), strict=True)

    def _list(self, signals: BlockSignals, user: int, first: Candidates | None) -> list[Entry]:
        """Return one user's list; where candidates don't fill it, more of them are looked at."""
        past = signals.block.items[signals.block.of(user)]
        eligible = self.policy.eligible(self.model.allowed, signals.block, user)
        # A ranker has the scores; what is personal about them is only wanted to explain them.
        parts = self._parts(signals, user, eligible) if self.explain or self.learned is None else ()
        if self.learned is None:
            n, n_most = 2 * self.policy.list_length + len(past), len(self._top_items)
        else:
            n, n_most = CANDIDATES_PER_SOURCE, 2 * self.model.n_items
        items, scores = first or self._candidates(signals, user, parts, eligible, n)
        while True:
            scores = self.rules.boosted(items, scores)
            places = self._best(items, scores, past)
            if len(places) == self.policy.list_length or n >= n_most:
                break
            n *= 4
            items, scores = self._candidates(signals, user, parts, eligible, n)
        entries = self._entries(items[places], scores[places], parts, *signals.taste_of(user))
        return self._pinned(eligible, entries)

    def _candidates(
        self, signals: BlockSignals, user: int, parts: Sequence[Signal], eligible: np.ndarray, n: int
    ) -> Candidates:
        """Return one user's candidates and their scores, by the ranker or the blend."""
        if self.learned is not None:
            items, features = candidate_rows(signals, self.policy, user, n)
            return items, self.learned.ranker.scores(features)
        top_items = self._top_items[:n]
        return blend(parts, top_items[eligible[top_items]], self.model, self.weights)

    def _parts(self, signals: BlockSignals, user: int, eligible: np.ndarray) -> tuple[Signal, Signal, Signal]:
        """Return what is personal about a user: own products, co-purchase and content, weighted."""
        entries = signals.block.of(user)
        own = Signal(signals.block.items[entries], np.log1p(signals.block.strengths[entries]))
        return (
            normalised(own, eligible, self.weights.own),
            normalised(signals.relation("co_purchase", user), eligible, self.weights.co_purchase),
            normalised(signals.relation("content", user), eligible, self.weights.content),
        )

    def _best(self, items: np.ndarray, scores: np.ndarray, past: np.ndarray) -> np.ndarray:
        """Return the places of a list's products among its candidates, best first."""
        # Variants and rules rarely take more than a few places, so the head of the ranking usually fills the list.
        for n in (8 * self.policy.list_length, len(items)):
            head = best_first(scores, self.model.rank[items], n)
            kept = head[first_of_groups(self.model.groups[items[head]], np.isin(items[head], past))]
            if len(kept) >= self.policy.list_length:
                break
        return kept[self.rules.shown_places(items[kept], scores[kept], self.model.content, self.policy.list_length)]

    def _pinned(self, eligible: np.ndarray, entries: list[Entry]) -> list[Entry]:
        """Put the shop's pins that this user may be shown before everything else, and their variants last."""
        pins = [int(item) for item in self.rules.pins if eligible[item]]
        if not pins:
            return entries
        top = entries[0].score if entries else 0.0
        rest = [entry for entry in entries if entry.item not in pins]
        groups = self.model.groups[pins]
        # Sorting is stable: the others keep their order, and where nothing else is left a variant fills the list.
        rest.sort(key=lambda entry: bool(np.isin(self.model.groups[entry.item], groups)))
        return [*(Entry(item, top, PINNED, ()) for item in pins), *rest][: self.policy.list_length]

    def _entries(
        self, items: np.ndarray, scores: np.ndarray, parts: Sequence[Signal], liked: np.ndarray, tastes: np.ndarray
    ) -> list[Entry]:
        """Return the list of some items, best first, with strategies and reasons if they are wanted."""
        if not self.explain:
            return [Entry(int(item), float(score), "", ()) for item, score in zip(items, scores, strict=True)]
        own, co_purchase, content = personal = np.stack([part.at(items) for part in parts])
        terms = contributions(self.model.co_purchase, liked, tastes, items, co_purchase)
        terms += contributions(self.model.content, liked, tastes, items, content)
        result = []
        for place, item in enumerate(items):
            behind, amounts = liked, terms[:, place]
            if own[place] > 0:
                behind = np.concatenate([[item], liked[liked != item]])
                same = float(amounts[liked == item].sum())
                amounts = np.concatenate([[own[place] + same], amounts[liked != item]])
            reasons = tuple(zip(*(array.tolist() for array in shares(amounts, behind)), strict=True))
            strategy = STRATEGIES[int(np.argmax(personal[:, place]))] if reasons else POPULAR
            result.append(Entry(int(item), float(scores[place]), strategy, reasons))
        return result


def candidate_rows(
    signals: BlockSignals, policy: RepurchasePolicy, user: int, n: int = CANDIDATES_PER_SOURCE
) -> tuple[np.ndarray, np.ndarray]:
    """Return one user's candidates and their features.

    Parameters
    ----------
    signals
        Of a block of users, with ranking_inputs.
    policy
        What may be shown.
    user
        Row of the block.
    n
        Candidates of each source; a long list needs more, see `RepurchasePolicy.list_length`.

    Returns
    -------
    items, features
        (n_candidates,) and (n_candidates, len(features.FEATURES)).
    """
    items, eligible = candidate_items(signals, policy, user, n)
    return items, signals.features(user, items, eligible)


def candidate_items(
    signals: BlockSignals, policy: RepurchasePolicy, user: int, n: int = CANDIDATES_PER_SOURCE
) -> tuple[np.ndarray, np.ndarray]:
    """Return one user's candidates, rising, and what the user may be shown at all, (n_items,) bool."""
    eligible = policy.eligible(signals.model.allowed, signals.block, user)
    return signals.candidates(user, eligible, max(n, 2 * policy.list_length)), eligible
