"""Lists of all users by Spark tasks, from any number of recommenders at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame

from shelfkin.recommending.features import BlockSignals
from shelfkin.recommending.interactions import HISTORY_COLUMNS
from shelfkin.recommending.recommender import Entry, Recommender
from shelfkin.recommending.user_block import UserBlock

# A task is one block: small enough to keep all cores busy to the end, and 100 MB of signals.
_USERS_PER_TASK, _MAX_USERS_PER_BLOCK = 256, 512
_SCHEMA = (
    "recommender int, user_id string, rank int, product_id string, score float, strategy string, "
    "reasons array<struct<product_id: string, share: float>>"
)


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
    the same `ItemModel` share their signals, and must not have learned with different ranking inputs. A task scores
    about 256 users.

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
            for start in range(0, batch.num_rows, _MAX_USERS_PER_BLOCK):
                yield from _score(batch.slice(start, _MAX_USERS_PER_BLOCK), shared.value)

    n_tasks = max(1, -(-histories.count() // _USERS_PER_TASK))
    columns = histories.select(*HISTORY_COLUMNS)
    try:
        yield columns.repartition(n_tasks, "user_id").mapInArrow(score, _SCHEMA)
    finally:
        shared.destroy()


def _score(batch: pa.RecordBatch, recommenders: Sequence[Recommender]) -> Iterator[pa.RecordBatch]:
    """Yield one batch of lists for each recommender."""
    block = UserBlock.from_arrow(batch)
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
