"""Implicit ALS as a baseline: Spark's own, scored on the driver."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from pyspark.ml.recommendation import ALS
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812

from shelfkin.recommending.policies import Policy, first_of_twins

_USERS_PER_BLOCK = 512


def als_lists(
    histories: DataFrame,
    asking: Sequence[str],
    texts: np.ndarray,
    allowed: np.ndarray,
    policy: Policy,
    *,
    rank: int = 64,
    regularisation: float = 0.1,
    alpha: float = 10.0,
    seed: int = 0,
) -> pd.DataFrame:
    """Return the lists of implicit ALS (Hu, Koren & Volinsky 2008): ``user_id``, ``rank``, ``item``.

    Parameters
    ----------
    histories
        Result of `interactions.user_histories`; strengths are the confidence's r, so that recent orders weigh more.
    asking
        Users who get a list.
    texts, allowed
        As in `candidates.ItemModel`.
    policy
        What a list may hold.
    rank, regularisation, alpha, seed
        Of `pyspark.ml.recommendation.ALS`.
    """
    users = histories.select("user_id").distinct().toPandas()["user_id"].sort_values().to_numpy()
    numbers = histories.sparkSession.createDataFrame(
        pd.DataFrame({"user_id": users, "user": np.arange(len(users))}), "user_id string, user int"
    )
    entries = histories.join(F.broadcast(numbers), "user_id", how="inner").select(
        "user", F.explode(F.arrays_zip("items", "strengths", "n_bought")).alias("entry")
    )
    ratings = entries.select("user", F.col("entry.items").alias("item"), F.col("entry.strengths").alias("rating"))
    model = ALS(
        rank=rank,
        regParam=regularisation,
        alpha=alpha,
        implicitPrefs=True,
        userCol="user",
        itemCol="item",
        seed=seed,
    ).fit(ratings)
    item_factors = _factors(model.itemFactors, len(texts))
    user_factors = _factors(model.userFactors, len(users))
    known = histories.select("user_id", "items", "n_bought", "last_days").toPandas().set_index("user_id")
    row_of = {user: row for row, user in enumerate(users)}
    found = []
    for start in range(0, len(asking), _USERS_PER_BLOCK):
        block = asking[start : start + _USERS_PER_BLOCK]
        scores = user_factors[[row_of[user] for user in block]] @ item_factors.T
        for user, row in zip(block, scores, strict=True):
            past, n_bought, last_days = (np.asarray(known.at[user, name]) for name in known.columns)
            eligible = allowed.copy()
            eligible[policy.barred(past, n_bought, last_days)] = False
            order = np.argsort(-np.where(eligible, row, -np.inf), kind="stable")[: 8 * policy.list_length]
            order = order[eligible[order]]
            best = order[first_of_twins(texts[order], np.isin(order, past))][: policy.list_length]
            found.append(pd.DataFrame({"user_id": user, "rank": np.arange(1, len(best) + 1), "item": best}))
    return pd.concat(found, ignore_index=True)


def _factors(frame: DataFrame, n_rows: int) -> np.ndarray:
    table = frame.toPandas()
    dense = np.zeros((n_rows, len(table["features"].iloc[0])), dtype=np.float32)
    dense[table["id"].to_numpy()] = np.stack(table["features"].tolist())
    return dense
