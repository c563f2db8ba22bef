"""Personal lists: the one path by which users are scored, in the nightly tables and in the backtest alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame

from shelfkin.profile import BlendWeights
from shelfkin.recommending.blend import POPULAR, STRATEGIES, Scored, Signal, blend, item_scores, normalised
from shelfkin.recommending.candidates import ItemModel, UserBlock
from shelfkin.recommending.features import CANDIDATES_PER_SOURCE, BlockSignals
from shelfkin.recommending.interactions import HISTORY_ARRAYS, HISTORY_COLUMNS
from shelfkin.recommending.ordering import among, best_first
from shelfkin.recommending.policies import Policy, first_of_twins
from shelfkin.recommending.ranker import Learned
from shelfkin.recommending.reasons import contributions, shares
from shelfkin.recommending.shelf_rules import PINNED, ShelfRules

_USERS_PER_BLOCK = 256
_USERS_PER_TASK = 512

_LISTS_SCHEMA = (
    "recommender int, user_id string, rank int, product_id string, score float, strategy string, "
    "reasons array<struct<product_id: string, share: float>>"
)


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
        policy: Policy,
        *,
        learned: Learned | None = None,
        rules: ShelfRules | None = None,
        explain: bool = True,
        by_orders: bool = False,
    ) -> None:
        self.model, self.weights, self.policy = model, weights, policy
        self.explain, self.by_orders = explain, by_orders
        self.learned, self.rules = learned, rules or ShelfRules.none(model.n_items)
        common = np.round(item_scores(model, weights), 6)
        leaders = np.lexsort((model.rank, -common))
        self._leaders = leaders[model.allowed[leaders]]

    def signals(self, block: UserBlock) -> BlockSignals:
        """Return what the users of a block are scored by."""
        if self.by_orders:
            block = replace(block, strengths=block.n_bought.astype(np.float64))
        return BlockSignals(self.model, self.learned.evidence if self.learned else None, block)

    def recommend(self, block: UserBlock, signals: BlockSignals | None = None) -> Iterator[list[Entry]]:
        """Yield each user's list, in the block's order.

        Lists have the policy's length unless the store holds too few products that the user may be shown.

        Parameters
        ----------
        block
            The users.
        signals
            Result of `signals` of a recommender of the same products, with evidence if this one has learned; None: they
            are worked out here.
        """
        signals = self.signals(block) if signals is None else signals
        ranked = self._ranked(signals)
        for user in range(block.n_users):
            past = block.items[block.of(user)]
            eligible = self.policy.eligible(self.model.allowed, block, user)
            if ranked is None:
                scored, places = self._rank(self._parts(signals, user, eligible), eligible, past)
            else:
                items, scores, places = ranked[user]
                # The ranker has the scores; what is personal about them is only wanted to explain them.
                parts = self._parts(signals, user, eligible) if self.explain else ()
                scored = Scored(items, np.array([signal.at(items) for signal in parts]), scores)
            yield self._pinned(eligible, self._entries(scored, places, signals.taste_of(user), past))

    def _parts(self, signals: BlockSignals, user: int, eligible: np.ndarray) -> tuple[Signal, Signal, Signal]:
        """Return what is personal about a user: own products, co-purchase and content, weighted."""
        entries = signals.block.of(user)
        own = Signal(signals.block.items[entries], np.log1p(signals.block.strengths[entries]))
        return (
            normalised(own, eligible, self.weights.own),
            normalised(signals.relation("co_purchase", user), eligible, self.weights.co_purchase),
            normalised(signals.relation("content", user), eligible, self.weights.content),
        )

    def _ranked(self, signals: BlockSignals) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]] | None:
        """Return each user's candidates, their learned scores and the places of the best; None without a ranker."""
        if self.learned is None:
            return None
        rows = [candidate_rows(signals, self.policy, user) for user in range(signals.block.n_users)]
        # One call for all users: a prediction costs more to start than to make.
        scores = self.learned.ranker.scores(np.concatenate([features for _, features in rows]))
        bounds = np.cumsum([0, *(len(items) for items, _ in rows)])
        ranked = []
        for user, (items, _) in enumerate(rows):
            past = signals.block.items[signals.block.of(user)]
            found = self.rules.boosted(items, scores[bounds[user] : bounds[user + 1]])
            n = CANDIDATES_PER_SOURCE
            places = self._best(items, found, past)
            while len(places) < self.policy.list_length and n < 2 * self.model.n_items:
                n *= 4
                items, features = candidate_rows(signals, self.policy, user, n)
                found = self.rules.boosted(items, self.learned.ranker.scores(features))
                places = self._best(items, found, past)
            ranked.append((items, found, places))
        return ranked

    def _best(self, items: np.ndarray, scores: np.ndarray, past: np.ndarray) -> np.ndarray:
        """Return the places of a list's products among its candidates, best first."""
        # Twins and rules rarely take more than a few places, so the head of the ranking usually fills the list.
        for n in (8 * self.policy.list_length, len(items)):
            head = best_first(scores, self.model.rank[items], n)
            kept = head[first_of_twins(self.model.texts[items[head]], among(items[head], past))]
            if len(kept) >= self.policy.list_length:
                break
        return kept[self.rules.choose(items[kept], scores[kept], self.model.content, self.policy.list_length)]

    def _pinned(self, eligible: np.ndarray, entries: list[Entry]) -> list[Entry]:
        """Put the shop's pins that this user may be shown before everything else, and twins of pins last."""
        pins = [int(item) for item in self.rules.pins if eligible[item]]
        if not pins:
            return entries
        top = entries[0].score if entries else 0.0
        rest = [entry for entry in entries if entry.item not in pins]
        texts = self.model.texts[pins]
        # Sorting is stable: the others keep their order, and where nothing else is left a twin fills the list.
        rest.sort(key=lambda entry: bool(np.isin(self.model.texts[entry.item], texts)))
        return [*(Entry(item, top, PINNED, ()) for item in pins), *rest][: self.policy.list_length]

    def _rank(
        self, parts: tuple[Signal, Signal, Signal], eligible: np.ndarray, past: np.ndarray
    ) -> tuple[Scored, np.ndarray]:
        """Return the scored candidates and the places of the best of them, best first."""
        n_leaders = 2 * self.policy.list_length + len(past)
        while True:
            leaders = self._leaders[:n_leaders]
            scored = blend(*parts, leaders[eligible[leaders]], self.model, self.weights)
            scored = replace(scored, scores=self.rules.boosted(scored.items, scored.scores))
            places = self._best(scored.items, scored.scores, past)
            if len(places) == self.policy.list_length or n_leaders >= len(self._leaders):
                return scored, places
            n_leaders *= 4

    def _entries(
        self, scored: Scored, places: np.ndarray, taste: tuple[np.ndarray, np.ndarray], past: np.ndarray
    ) -> list[Entry]:
        """Return the list that the places make, with strategies and reasons if they are wanted."""
        liked, tastes = taste
        if not self.explain:
            return [Entry(int(scored.items[place]), float(scored.scores[place]), "", ()) for place in places]
        chosen, parts = scored.items[places], scored.personal[:, places]
        terms = contributions(self.model.co_purchase, liked, tastes, chosen, parts[1])
        terms += contributions(self.model.content, liked, tastes, chosen, parts[2])
        result = []
        for place, item in enumerate(chosen):
            behind, amounts = liked, terms[:, place]
            if parts[0, place] > 0:
                behind = np.concatenate([[item], liked[liked != item]])
                same = float(amounts[liked == item].sum())
                amounts = np.concatenate([[parts[0, place] + same], amounts[liked != item]])
            reasons = tuple(zip(*(array.tolist() for array in shares(amounts, behind)), strict=True))
            strategy = STRATEGIES[int(np.argmax(parts[:, place]))] if reasons else POPULAR
            result.append(Entry(int(item), float(scored.scores[places[place]]), strategy, reasons))
        return result


def candidate_rows(
    signals: BlockSignals, policy: Policy, user: int, n: int = CANDIDATES_PER_SOURCE
) -> tuple[np.ndarray, np.ndarray]:
    """Return one user's candidates and their features.

    Parameters
    ----------
    signals
        Of a block of users, with evidence.
    policy
        What may be shown.
    user
        Row of the block.
    n
        Candidates of each source; a long list needs more, see `Policy.list_length`.

    Returns
    -------
    items, features
        (n_candidates,) and (n_candidates, len(features.FEATURES)).
    """
    items, eligible = candidate_items(signals, policy, user, n)
    return items, signals.features(user, items, eligible)


def candidate_items(
    signals: BlockSignals, policy: Policy, user: int, n: int = CANDIDATES_PER_SOURCE
) -> tuple[np.ndarray, np.ndarray]:
    """Return one user's candidates, rising, and what the user may be shown at all, (n_items,) bool."""
    eligible = policy.eligible(signals.model.allowed, signals.block, user)
    return signals.candidates(user, eligible, max(n, 2 * policy.list_length)), eligible


@contextmanager
def recommend_users(histories: DataFrame, recommender: Recommender) -> Iterator[DataFrame]:
    """Give ``user_recommendations`` for the users of `histories`, to be used up within the ``with`` block.

    Parameters
    ----------
    histories
        Result of `interactions.user_histories`; item numbers are those of the recommender's model.
    recommender
        What makes a list of a history.
    """
    with recommend_each(histories, [recommender]) as lists:
        yield lists.drop("recommender")


@contextmanager
def recommend_each(histories: DataFrame, recommenders: Sequence[Recommender]) -> Iterator[DataFrame]:
    """Give the lists of several recommenders, as `recommend_users` does, by one job.

    The recommenders are broadcast, and released at the end of the block; what they share is sent once. Recommenders of
    the same `ItemModel` share their signals, and must not have learned with different evidence. Users are scored in
    tasks of about 512, each with vectors of its own candidates only.

    Parameters
    ----------
    histories
        As in `recommend_users`.
    recommenders
        All of the same item numbers.

    Yields
    ------
    DataFrame
        ``recommender`` int (place in `recommenders`), then the columns of ``user_recommendations``.
    """
    shared = histories.sparkSession.sparkContext.broadcast(list(recommenders))

    def score(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for start in range(0, batch.num_rows, _USERS_PER_BLOCK):
                yield from _score(batch.slice(start, _USERS_PER_BLOCK), shared.value)

    n_tasks = max(1, -(-histories.count() // _USERS_PER_TASK))
    columns = histories.select(*HISTORY_COLUMNS)
    try:
        yield columns.repartition(n_tasks, "user_id").mapInArrow(score, _LISTS_SCHEMA)
    finally:
        shared.destroy()


def _score(batch: pa.RecordBatch, recommenders: Sequence[Recommender]) -> Iterator[pa.RecordBatch]:
    """Yield one batch of lists for each recommender."""
    block = user_block(batch)
    # First those that have learned: their signals hold what the others of the same products look at.
    made: dict[tuple[int, bool], BlockSignals] = {}
    for number, one in sorted(enumerate(recommenders), key=lambda entry: entry[1].learned is None):
        key = id(one.model), one.by_orders
        if key not in made:
            made[key] = one.signals(block)
        yield _to_arrow(number, batch, list(one.recommend(block, made[key])), one.model.product_ids)


def _to_arrow(number: int, batch: pa.RecordBatch, lists: list[list[Entry]], product_ids: np.ndarray) -> pa.RecordBatch:
    user_ids = batch.column("user_id").to_pylist()
    entries = [entry for one in lists for entry in one]
    reasons = [reason for entry in entries for reason in entry.reasons]
    offsets = np.cumsum([0, *(len(entry.reasons) for entry in entries)])
    named = pa.StructArray.from_arrays(
        [
            pa.array([product_ids[item] for item, _ in reasons], pa.string()),
            pa.array([share for _, share in reasons], pa.float32()),
        ],
        names=["product_id", "share"],
    )
    return pa.RecordBatch.from_arrays(
        [
            pa.array([number] * len(entries), pa.int32()),
            pa.array([user for user, one in zip(user_ids, lists, strict=True) for _ in one], pa.string()),
            pa.array([rank for one in lists for rank in range(1, len(one) + 1)], pa.int32()),
            pa.array([product_ids[entry.item] for entry in entries], pa.string()),
            pa.array([entry.score for entry in entries], pa.float32()),
            pa.array([entry.strategy for entry in entries], pa.string()),
            pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), named),
        ],
        names=["recommender", "user_id", "rank", "product_id", "score", "strategy", "reasons"],
    )


def user_block(batch: pa.RecordBatch) -> UserBlock:
    """Return the histories of a batch's users, in its order."""
    lengths = np.asarray(batch.column("items").value_lengths())
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    arrays = {name: np.asarray(batch.column(name).flatten()) for name in HISTORY_ARRAYS}
    return UserBlock(indptr=indptr, n_orders=np.asarray(batch.column("n_orders")), **arrays)
