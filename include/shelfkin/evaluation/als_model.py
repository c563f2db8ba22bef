"""Implicit ALS as a baseline: lists by its scores alone, made on the driver."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812
from threadpoolctl import threadpool_limits

from shelfkin.recommending.als import Als
from shelfkin.recommending.interactions import HISTORY_COLUMNS
from shelfkin.recommending.item_model import ItemModel
from shelfkin.recommending.ordering import best_first, first_of_groups
from shelfkin.recommending.repurchase import RepurchasePolicy
from shelfkin.recommending.user_block import UserBlock

# 256 MB of scores at a time.
_SCORES_PER_BLOCK = 2**25
# Variants and past purchases are dropped from this many times the list's length.
_LOOKED_AT = 8


@dataclass(frozen=True)
class AlsModel:
    """Lists of `recommending.als.Als`.

    Attributes
    ----------
    name
        As in ``recommender_metrics.model``.
    items
        The products; only ids, groups and what may be shown are used.
    histories
        Result of `interactions.user_histories`.
    als
        As of the same moment.
    """

    name: str
    items: ItemModel
    histories: DataFrame
    als: Als

    def lists(self, users: DataFrame, policies: Sequence[RepurchasePolicy]) -> list[pd.DataFrame]:
        """Return lists under each policy: ``user_id``, ``rank`` (from 1), ``product_id``; unknown users have none."""
        asking = self.histories.join(F.broadcast(users), "user_id", how="left_semi").select(*HISTORY_COLUMNS)
        asked = asking.toArrow().sort_by("user_id").combine_chunks()
        # What hardly anybody bought has no factors, and no score.
        candidates = np.flatnonzero(self.items.allowed & self.als.factors.any(axis=1))
        n_users = max(1, _SCORES_PER_BLOCK // max(1, len(candidates)))
        blocks = (UserBlock.from_arrow(batch) for batch in asked.to_batches(max_chunksize=n_users))
        lists = [best for block in blocks for best in self._block(block, candidates, policies)]
        user_ids = asked["user_id"].to_numpy()
        return [self._table(user_ids, [best[n] for best in lists]) for n in range(len(policies))]

    def _block(
        self, block: UserBlock, candidates: np.ndarray, policies: Sequence[RepurchasePolicy]
    ) -> Iterator[list[np.ndarray]]:
        """Yield the items of each user's lists, best first, one list for each policy."""
        # One user's equations are small: threads of BLAS would spend more time on waiting for each other.
        with threadpool_limits(1, "blas"):
            users = self.als.users(block.matrix(block.strengths, self.items.n_items))
        scores = users @ self.als.factors[candidates].astype(np.float64).T
        for user in range(block.n_users):
            past = block.items[block.of(user)]
            shown = [policy.eligible(self.items.allowed, block, user)[candidates] for policy in policies]
            yield [
                self._best(candidates[eligible], scores[user, eligible], past, policy.list_length)
                for policy, eligible in zip(policies, shown, strict=True)
            ]

    def _best(self, items: np.ndarray, scores: np.ndarray, past: np.ndarray, length: int) -> np.ndarray:
        """Return the items of one list, best first."""
        order = items[best_first(scores, items, _LOOKED_AT * length)]
        return order[first_of_groups(self.items.groups[order], np.isin(order, past))][:length]

    def _table(self, user_ids: np.ndarray, best: Sequence[np.ndarray]) -> pd.DataFrame:
        items = np.concatenate([np.empty(0, np.int64), *best])
        users = np.repeat(user_ids, [len(one) for one in best])
        table = pd.DataFrame({"user_id": users, "product_id": self.items.product_ids[items]})
        return table.assign(rank=table.groupby("user_id").cumcount() + 1)
