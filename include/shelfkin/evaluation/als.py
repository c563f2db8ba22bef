"""Implicit ALS as a baseline: lists by its scores alone, made on the driver."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.sparse as sp
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812

from shelfkin.recommending.als import Als
from shelfkin.recommending.candidates import ItemModel
from shelfkin.recommending.policies import Policy, first_of_twins

# 256 MB of scores at a time.
_SCORES_PER_BLOCK = 2**25
# Twins and past purchases are dropped from this many times the list's length.
_LOOKED_AT = 8


@dataclass(frozen=True)
class AlsContestant:
    """Lists of `recommending.als.Als`.

    Attributes
    ----------
    name
        As in ``recommender_metrics.model``.
    items
        The products; only ids, texts and what may be shown are used.
    histories
        Result of `interactions.user_histories`.
    als
        As of the same moment.
    """

    name: str
    items: ItemModel
    histories: DataFrame
    als: Als

    def lists(self, users: DataFrame, policy: Policy) -> pd.DataFrame:
        """Return the lists of the users whose histories are there: ``user_id``, ``rank``, ``product_id``."""
        asking = self.histories.join(F.broadcast(users), "user_id", how="left_semi")
        columns = ["user_id", "items", "strengths", "n_bought", "last_days"]
        asked = asking.select(*columns).toPandas().sort_values("user_id")
        # What hardly anybody bought has no factors, and no score.
        candidates = np.flatnonzero(self.items.allowed & self.als.factors.any(axis=1))
        factors = self.als.factors[candidates].astype(np.float64).T
        n_users = max(1, _SCORES_PER_BLOCK // max(len(candidates), 1))
        found = [pd.DataFrame({"user_id": [], "rank": np.empty(0, dtype=np.int64), "product_id": []})]
        for start in range(0, len(asked) if len(candidates) else 0, n_users):
            found += self._block(asked.iloc[start : start + n_users], candidates, factors, policy)
        return pd.concat(found, ignore_index=True)

    def _block(
        self, asked: pd.DataFrame, candidates: np.ndarray, factors: np.ndarray, policy: Policy
    ) -> Iterator[pd.DataFrame]:
        scores = self.als.users(self._strengths(asked)) @ factors
        place = np.full(self.items.n_items, -1)
        place[candidates] = np.arange(len(candidates))
        rows = zip(asked["user_id"], asked["items"], asked["n_bought"], asked["last_days"], scores, strict=True)
        for user, items, n_bought, last_days, row in rows:
            past = np.asarray(items)
            barred = place[policy.barred(past, np.asarray(n_bought), np.asarray(last_days))]
            row[barred[barred >= 0]] = -np.inf
            n = min(_LOOKED_AT * policy.list_length, len(row))
            head = np.argpartition(-row, n - 1)[:n]
            places = head[np.lexsort((head, -row[head]))]
            order = candidates[places[np.isfinite(row[places])]]
            best = order[first_of_twins(self.items.texts[order], np.isin(order, past))][: policy.list_length]
            yield pd.DataFrame(
                {"user_id": user, "rank": np.arange(1, len(best) + 1), "product_id": self.items.product_ids[best]}
            )

    def _strengths(self, asked: pd.DataFrame) -> sp.csr_array:
        indptr = np.concatenate([[0], np.cumsum(asked["items"].map(len))])
        items, strengths = (np.concatenate(asked[name].tolist()) for name in ("items", "strengths"))
        return sp.csr_array((strengths, items, indptr), shape=(len(asked), self.items.n_items))
