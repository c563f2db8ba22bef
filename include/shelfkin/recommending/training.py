"""What the ranker learns from: candidates of users as of a past moment, and what they bought after it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812

from shelfkin.recommending.candidates import ItemModel
from shelfkin.recommending.features import FEATURES, BlockSignals, Evidence
from shelfkin.recommending.interactions import HISTORY_COLUMNS
from shelfkin.recommending.lists import candidate_rows, user_block
from shelfkin.recommending.policies import Policy
from shelfkin.recommending.ranker import TrainingRows

# Users of one window that are learned from, drawn by a hash of their id: some 400 rows of 50 features, 80 kB a user,
# on the driver. Training takes half a minute of one core for each half million rows, four times in every run.
MAX_USERS = 1_000
_USERS_PER_TASK = 256
_SCHEMA = "user_id string, features binary, bought binary"


def training_rows(
    histories: DataFrame, wanted: DataFrame, model: ItemModel, evidence: Evidence, policy: Policy
) -> TrainingRows:
    """Return the candidates of the users who bought something that counts, with what of them they bought.

    Parameters
    ----------
    histories
        Result of `interactions.known_users` as of the window's cut.
    wanted
        ``user_id`` string, ``items`` array<int>: what each user bought within the window, and counts.
    model, evidence
        As of the window's cut.
    policy
        Of the lists that the ranker will order.
    """
    session = histories.sparkSession
    n_users = wanted.count()
    if n_users > MAX_USERS:
        wanted = wanted.filter(F.pmod(F.xxhash64("user_id"), F.lit(10_000)) < int(MAX_USERS / n_users * 10_000))
    asking = histories.select(*HISTORY_COLUMNS).join(
        wanted.select("user_id", F.col("items").alias("wanted")), "user_id", how="inner"
    )
    shared = session.sparkContext.broadcast((model, evidence, policy))

    def work(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            products, known, rules = shared.value
            signals = BlockSignals(products, known, user_block(batch))
            rows = [candidate_rows(signals, rules, user) for user in range(batch.num_rows)]
            bought = batch.column("wanted").to_pylist()
            yield pa.RecordBatch.from_arrays(
                [
                    batch.column("user_id"),
                    pa.array([features.tobytes() for _, features in rows], pa.binary()),
                    pa.array([np.isin(items, bought[user]).tobytes() for user, (items, _) in enumerate(rows)]),
                ],
                names=["user_id", "features", "bought"],
            )

    n_tasks = max(1, -(-min(n_users, MAX_USERS) // _USERS_PER_TASK))
    try:
        table = asking.repartition(n_tasks, "user_id").mapInArrow(work, _SCHEMA).toPandas().sort_values("user_id")
    finally:
        shared.destroy()
    bought = [np.frombuffer(row, dtype=bool) for row in table["bought"]]
    features = [np.frombuffer(row, dtype=np.float32) for row in table["features"]]
    return TrainingRows(
        features=np.concatenate([*features, np.empty(0, np.float32)]).reshape(-1, len(FEATURES)),
        bought=np.concatenate([*bought, np.empty(0, bool)]),
        group_sizes=np.array([len(row) for row in bought], dtype=np.int64),
    )
