"""Implicit ALS as a baseline: Spark's own, scored on the driver."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from pyspark.ml.recommendation import ALS
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812

from shelfkin.mapped import Scratch
from shelfkin.recommending.candidates import ItemModel
from shelfkin.recommending.policies import Policy, first_of_twins

# 256 MB of scores at a time.
_SCORES_PER_BLOCK = 2**26
_CHECKPOINT_INTERVAL = 2
# Twins and past purchases are dropped from this many times the list's length.
_LOOKED_AT = 8


@dataclass(frozen=True)
class AlsContestant:
    """Lists of implicit ALS (Hu, Koren & Volinsky 2008).

    Attributes
    ----------
    name
        As in ``recommender_metrics.model``.
    items
        The products; only ids, texts and what may be shown are used.
    histories
        Result of `interactions.user_histories`.
    user_factors
        Factors by user id, one row of (rank,) float32 each.
    item_factors
        (n_items, rank) float32; zero for products that nobody bought.
    """

    name: str
    items: ItemModel
    histories: DataFrame
    user_factors: pd.DataFrame
    item_factors: np.ndarray

    @classmethod
    def fit(
        cls,
        name: str,
        items: ItemModel,
        histories: DataFrame,
        scratch: Scratch,
        *,
        rank: int = 64,
        regularisation: float = 0.1,
        alpha: float = 1.0,
        seed: int = 0,
    ) -> AlsContestant:
        """Factorise the histories; strengths are the confidence's r, so that recent orders weigh more.

        Parameters
        ----------
        name, items, histories
            As in the class.
        scratch
            Takes checkpoints.
        rank, regularisation, alpha, seed
            Of `pyspark.ml.recommendation.ALS`; the defaults were best of nine on Online Retail, window of 2011-08-01,
            in both tasks (`make bench-quality`). Factors agree to float32 rounding for the same seed and partitions.
        """
        users = histories.select("user_id").distinct().toPandas()["user_id"].sort_values().to_numpy()
        numbers = histories.sparkSession.createDataFrame(
            pd.DataFrame({"user_id": users, "user": np.arange(len(users))}), "user_id string, user int"
        )
        ratings = histories.join(F.broadcast(numbers), "user_id", how="inner").select(
            "user", F.explode(F.arrays_zip("items", "strengths")).alias("entry")
        )
        ratings = ratings.select("user", F.col("entry.items").alias("item"), F.col("entry.strengths").alias("rating"))
        # In an order of their own: sums of floats depend on it, and events may come in any.
        ratings = ratings.repartition("user").sortWithinPartitions("user", "item")
        # Each iteration nests two shuffles deeper; without checkpoints, ten of them on top of all that histories are
        # made from are more than the stack of a task's thread can read.
        ratings.sparkSession.sparkContext.setCheckpointDir(scratch.uri)
        model = ALS(
            rank=rank,
            regParam=regularisation,
            alpha=alpha,
            implicitPrefs=True,
            checkpointInterval=_CHECKPOINT_INTERVAL,
            seed=seed,
            userCol="user",
            itemCol="item",
        ).fit(ratings.checkpoint())
        known = _factors(model.userFactors, len(users), rank)
        return cls(
            name, items, histories, pd.DataFrame(known, index=users), _factors(model.itemFactors, items.n_items, rank)
        )

    def lists(self, users: DataFrame, policy: Policy) -> pd.DataFrame:
        """Return the lists of the users that the model knows: ``user_id``, ``rank``, ``product_id``."""
        asking = self.histories.join(F.broadcast(users), "user_id", how="left_semi")
        known = asking.select("user_id", "items", "n_bought", "last_days").toPandas().sort_values("user_id")
        # What nobody bought has no factors, and no score.
        candidates = np.flatnonzero(self.items.allowed & self.item_factors.any(axis=1))
        n_users = max(1, _SCORES_PER_BLOCK // max(len(candidates), 1))
        found = [pd.DataFrame({"user_id": [], "rank": np.empty(0, dtype=np.int64), "product_id": []})]
        for start in range(0, len(known) if len(candidates) else 0, n_users):
            found += self._block(known.iloc[start : start + n_users], candidates, policy)
        return pd.concat(found, ignore_index=True)

    def _block(self, known: pd.DataFrame, candidates: np.ndarray, policy: Policy) -> Iterator[pd.DataFrame]:
        scores = self.user_factors.loc[known["user_id"]].to_numpy() @ self.item_factors[candidates].T
        rows = zip(known["user_id"], known["items"], known["n_bought"], known["last_days"], scores, strict=True)
        for user, items, n_bought, last_days, row in rows:
            past = np.asarray(items)
            barred = policy.barred(past, np.asarray(n_bought), np.asarray(last_days))
            row[np.isin(candidates, barred)] = -np.inf
            n = min(_LOOKED_AT * policy.list_length, len(row))
            head = np.argpartition(-row, n - 1)[:n]
            places = head[np.lexsort((head, -row[head]))]
            order = candidates[places[np.isfinite(row[places])]]
            best = order[first_of_twins(self.items.texts[order], np.isin(order, past))][: policy.list_length]
            yield pd.DataFrame(
                {"user_id": user, "rank": np.arange(1, len(best) + 1), "product_id": self.items.product_ids[best]}
            )


def _factors(frame: DataFrame, n_rows: int, rank: int) -> np.ndarray:
    table = frame.toPandas()
    dense = np.zeros((n_rows, rank), dtype=np.float32)
    if len(table):
        dense[table["id"].to_numpy()] = np.stack(table["features"].tolist())
    return dense
