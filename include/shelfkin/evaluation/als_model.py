"""Implicit ALS as a baseline: lists by its scores alone, made on the driver."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.sparse as sp
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812

from shelfkin.evaluation.backtest_models import BacktestModel
from shelfkin.recommending.als import Als
from shelfkin.recommending.item_model import ItemModel
from shelfkin.recommending.ordering import first_of_groups
from shelfkin.recommending.repurchase import RepurchasePolicy

# 256 MB of scores at a time.
_SCORES_PER_BLOCK = 2**25
# Variants and past purchases are dropped from this many times the list's length.
_LOOKED_AT = 8


@dataclass(frozen=True)
class AlsModel(BacktestModel):
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

    def lists_each(self, users: DataFrame, policies: Sequence[RepurchasePolicy]) -> list[pd.DataFrame]:
        """Return the lists of the users whose histories are there: ``user_id``, ``rank``, ``product_id``."""
        asking = self.histories.join(F.broadcast(users), "user_id", how="left_semi")
        columns = ["user_id", "items", "strengths", "n_bought", "last_days"]
        asked = asking.select(*columns).toPandas().sort_values("user_id")
        # What hardly anybody bought has no factors, and no score.
        candidates = np.flatnonzero(self.items.allowed & self.als.factors.any(axis=1))
        if len(candidates) == 0:
            return [self._table([], []) for _ in policies]
        factors = self.als.factors[candidates].astype(np.float64).T
        n_users = max(1, _SCORES_PER_BLOCK // len(candidates))
        blocks = (asked.iloc[start : start + n_users] for start in range(0, len(asked), n_users))
        lists = [best for block in blocks for best in self._block(block, candidates, factors, policies)]
        return [self._table(asked["user_id"].tolist(), [best[n] for best in lists]) for n in range(len(policies))]

    def _block(
        self, asked: pd.DataFrame, candidates: np.ndarray, factors: np.ndarray, policies: Sequence[RepurchasePolicy]
    ) -> Iterator[list[np.ndarray]]:
        """Yield the items of each user's lists, best first, one list for each policy."""
        scores = self.als.users(self._strengths(asked)) @ factors
        place = np.full(self.items.n_items, -1)
        place[candidates] = np.arange(len(candidates))
        rows = zip(asked["items"], asked["n_bought"], asked["last_days"], scores, strict=True)
        for items, n_bought, last_days, row in rows:
            past, had = np.asarray(items), (np.asarray(n_bought), np.asarray(last_days))
            yield [
                self._best(row, candidates, place[policy.excluded_items(past, *had)], past, policy.list_length)
                for policy in policies
            ]

    def _best(
        self, scores: np.ndarray, candidates: np.ndarray, excluded: np.ndarray, past: np.ndarray, length: int
    ) -> np.ndarray:
        """Return the best items of one list; `excluded` are places among the candidates, -1 for what is none."""
        scores = scores.copy()
        scores[excluded[excluded >= 0]] = -np.inf
        n = min(_LOOKED_AT * length, len(scores))
        head = np.argpartition(-scores, n - 1)[:n]
        places = head[np.lexsort((head, -scores[head]))]
        order = candidates[places[np.isfinite(scores[places])]]
        return order[first_of_groups(self.items.groups[order], np.isin(order, past))][:length]

    def _table(self, user_ids: Sequence[str], best: Sequence[np.ndarray]) -> pd.DataFrame:
        users = np.repeat(np.asarray(user_ids, dtype=object), [len(items) for items in best])
        items = np.concatenate([np.empty(0, np.int64), *best])
        table = pd.DataFrame({"user_id": users, "product_id": self.items.product_ids[items]})
        return table.assign(rank=table.groupby("user_id").cumcount() + 1)

    def _strengths(self, asked: pd.DataFrame) -> sp.csr_array:
        indptr = np.concatenate([[0], np.cumsum(asked["items"].map(len))])
        items, strengths = (np.concatenate(asked[name].tolist()) for name in ("items", "strengths"))
        return sp.csr_array((strengths, items, indptr), shape=(len(asked), self.items.n_items))
