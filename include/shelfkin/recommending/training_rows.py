"""What the ranker learns from: candidates of users as of a past moment, and what they bought after it."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import pandas as pd
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812

from shelfkin.recommending.features import FEATURES, BlockSignals
from shelfkin.recommending.interactions import HISTORY_COLUMNS
from shelfkin.recommending.item_model import ItemModel
from shelfkin.recommending.ranker import TrainingRows
from shelfkin.recommending.ranking_inputs import RankingInputs
from shelfkin.recommending.recommender import candidate_items
from shelfkin.recommending.repurchase import Repurchase, RepurchasePolicy
from shelfkin.recommending.sampling import sampled
from shelfkin.recommending.user_block import UserBlock

# Of the candidates that a user didn't buy, the share that is learned from. What isn't costs neither features nor
# training, and isn't missed: on Online Retail, window of 2011-08-01, NDCG@10 of new products is .1502 with all of them,
# .1516 with .3 and .1539 with .15; of all products, mean of that window and the one before, .4058, .4070 and .4077 with
# .15, .3 and .5.
KEPT_SHARES: Mapping[Repurchase, float] = {"allow": 0.3, "exclude": 0.15}
# Users of one window that are learned from, drawn by a hash of their id: some 60 to 120 rows of 62 features, 20 kB a
# user and task, on the driver.
MAX_USERS = 5_000
_USERS_PER_TASK = 256
_SCHEMA = "user_id string, task string, features binary, bought binary"


def training_rows(
    histories: DataFrame,
    wanted: DataFrame,
    model: ItemModel,
    ranking_inputs: RankingInputs,
    policies: Mapping[str, RepurchasePolicy],
) -> dict[str, TrainingRows]:
    """Return, by task, candidates of the users who bought something, with what of them they bought.

    All that a user bought of the candidates is there, and one of `KEPT_SHARES` of the rest, drawn by the user's id.

    Parameters
    ----------
    histories
        Result of `interactions.user_histories` as of the window's cut.
    wanted
        ``user_id`` string, and one array<int> for each task: what each user bought within the window, and counts.
    model, ranking_inputs
        As of the window's cut.
    policies
        By task: of the lists that its ranker will order.
    """
    session = histories.sparkSession
    n_users = wanted.count()
    bought = sampled(wanted, "user_id", n_users, MAX_USERS, "training rows").select(
        "user_id", *(F.col(task).alias(f"bought_{task}") for task in policies)
    )
    # Some thousand users at most: without the hint Spark may sort and send all histories instead.
    asking = histories.select(*HISTORY_COLUMNS).join(F.broadcast(bought), "user_id", how="inner")
    shared = session.sparkContext.broadcast((model, ranking_inputs, dict(policies)))

    def work(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            products, known, rules = shared.value
            signals = BlockSignals(products, known, UserBlock.from_arrow(batch))
            users = batch.column("user_id").to_pylist()
            for task, policy in rules.items():
                bought = batch.column(f"bought_{task}").to_pylist()
                rows = [user_examples(signals, policy, row, user, bought[row]) for row, user in enumerate(users)]
                columns = {
                    "user_id": users,
                    "task": [task] * len(rows),
                    "features": [features.tobytes() for features, _ in rows],
                    "bought": [hits.tobytes() for _, hits in rows],
                }
                yield pa.RecordBatch.from_pydict(columns)

    n_tasks = max(1, -(-min(n_users, MAX_USERS) // _USERS_PER_TASK))
    try:
        table = asking.repartition(n_tasks, "user_id").mapInArrow(work, _SCHEMA).toPandas().sort_values("user_id")
    finally:
        shared.destroy()
    return {task: _together(table[table["task"] == task]) for task in policies}


def user_examples(
    signals: BlockSignals, policy: RepurchasePolicy, row: int, user_id: str, bought: list[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return one user's features, (n, len(FEATURES)) float32, and whether each was bought, (n,) bool.

    Parameters
    ----------
    signals
        Of a block of users.
    policy
        What may be shown.
    row, user_id
        The user's row of the block, and id.
    bought
        Item numbers.
    """
    items, eligible = candidate_items(signals, policy, row)
    hits = np.isin(items, bought)
    # By the id, so that neither the order of users nor other users change what is drawn.
    drawn = np.random.default_rng(zlib.crc32(user_id.encode())).random(len(items))
    kept = hits | (drawn < KEPT_SHARES[policy.repurchase])
    return signals.features(row, items[kept], eligible), hits[kept]


def _together(table: pd.DataFrame) -> TrainingRows:
    bought = [np.frombuffer(row, dtype=bool) for row in table["bought"]]
    features = [np.frombuffer(row, dtype=np.float32) for row in table["features"]]
    return TrainingRows(
        features=np.concatenate([*features, np.empty(0, np.float32)]).reshape(-1, len(FEATURES)),
        bought=np.concatenate([*bought, np.empty(0, bool)]),
        group_sizes=np.array([len(row) for row in bought], dtype=np.int64),
    )
