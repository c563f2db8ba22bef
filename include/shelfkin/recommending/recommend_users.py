"""Lists of all users by Spark tasks, from any number of recommenders at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import IntegerType, StructField, StructType

from shelfkin.recommending.features import BlockSignals
from shelfkin.recommending.interactions import HISTORY_COLUMNS
from shelfkin.recommending.item_model import ItemModel
from shelfkin.recommending.recommender import Entry, Recommender
from shelfkin.recommending.user_block import UserBlock
from shelfkin.spark import contract_columns
from shelfkin.tables import USER_RECOMMENDATIONS

# A task is one block: small enough to keep all cores busy to the end, and 100 MB of signals.
_USERS_PER_TASK, _MAX_USERS_PER_BLOCK = 256, 512


@contextmanager
def recommend_users(histories: DataFrame, recommenders: Sequence[Recommender]) -> Iterator[DataFrame]:
    """Give the lists of some recommenders by one job, to be used up within the ``with`` block.

    The recommenders are broadcast, and released at the end of the block; what they share is sent once. Recommenders of
    the same `ItemModel` share their signals, and must not have learned with different ranking inputs. A task scores
    about 256 users.

    Parameters
    ----------
    histories
        Result of `interactions.user_histories`; item numbers are those of the recommenders' models.
    recommenders
        All of the same item numbers.

    Yields
    ------
    DataFrame
        ``recommender`` int (place in `recommenders`), then the columns of ``user_recommendations``.
    """
    schema = StructType([StructField("recommender", IntegerType()), *contract_columns(USER_RECOMMENDATIONS)])
    arrow_schema = to_arrow_schema(schema)
    shared = histories.sparkSession.sparkContext.broadcast(list(recommenders))

    def score(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for start in range(0, batch.num_rows, _MAX_USERS_PER_BLOCK):
                yield from _score(batch.slice(start, _MAX_USERS_PER_BLOCK), shared.value, arrow_schema)

    n_tasks = max(1, -(-histories.count() // _USERS_PER_TASK))
    columns = histories.select(*HISTORY_COLUMNS)
    try:
        yield columns.repartition(n_tasks, "user_id").mapInArrow(score, schema)
    finally:
        shared.destroy()


def _score(batch: pa.RecordBatch, recommenders: Sequence[Recommender], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Yield one batch of lists for each recommender."""
    block = UserBlock.from_arrow(batch)
    # First those that have learned: their signals hold what the others of the same products look at.
    made: dict[tuple[int, bool], BlockSignals] = {}
    for number, one in sorted(enumerate(recommenders), key=lambda entry: entry[1].learned is None):
        key = id(one.model), one.by_orders
        if key not in made:
            made[key] = one.signals(block)
        yield _to_arrow(number, batch.column("user_id").to_pylist(), one.recommend(block, made[key]), one.model, schema)


def _to_arrow(
    number: int, user_ids: Iterable[str], lists: Iterable[list[Entry]], model: ItemModel, schema: pa.Schema
) -> pa.RecordBatch:
    ids = model.product_ids
    rows = [
        {
            "recommender": number,
            "user_id": user_id,
            "rank": rank,
            "product_id": ids[entry.item],
            "score": entry.score,
            "strategy": entry.strategy,
            "reasons": [{"product_id": ids[item], "share": share} for item, share in entry.reasons],
        }
        for user_id, entries in zip(user_ids, lists, strict=True)
        for rank, entry in enumerate(entries, 1)
    ]
    return pa.RecordBatch.from_pylist(rows, schema=schema)
