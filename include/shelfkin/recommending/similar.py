"""Similar products: nearest texts by exact cosine, twins collapsed, re-ranked with co-purchase."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import scipy.sparse as sp
from pyspark.sql import DataFrame, SparkSession
from threadpoolctl import threadpool_limits

from shelfkin.recommending.candidates import text_representatives

# Cosines of one text with itself differ in the seventh digit with the shape of the matrix product.
COSINE_DECIMALS = 5
# What may round to the same cosine, and the error of a float32 product on top.
_FLOAT32_SLACK = 2e-5
_TEXTS_PER_BLOCK = 512
_PRODUCTS_PER_BLOCK = 4096

_SIMILAR_SCHEMA = (
    "product_id string, rank int, similar_product_id string, score float, content_score float, co_purchase_score float"
)


@dataclass(frozen=True)
class SimilarModel:
    """What similar products are made from. Item i is row i of every per-item array.

    Attributes
    ----------
    product_ids, texts, allowed, rank
        As in `candidates.ItemModel`.
    neighbours, cosines
        (n_texts, m): each text's nearest texts by falling cosine, -1 for none.
    co_purchase
        (n_items, n_items) sparse float32 cosine of shared customers (`co_purchase.item_knn`).
    content_share
        Weight of content in the score, in [0, 1].
    """

    product_ids: np.ndarray
    texts: np.ndarray
    allowed: np.ndarray
    rank: np.ndarray
    neighbours: np.ndarray
    cosines: np.ndarray
    co_purchase: sp.csr_array
    content_share: float


def block_nearest(
    vectors: np.ndarray, start: int, stop: int, eligible: np.ndarray, n: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the nearest texts of texts ``start:stop`` by exact search.

    Parameters
    ----------
    vectors
        (n_texts, d) float32, unit norm.
    start, stop
        The block of texts that ask.
    eligible
        (n_texts,) bool: texts that may be an answer. A text never answers itself.
    n
        Answers per text.

    Returns
    -------
    neighbours, cosines
        (stop - start, n) int32 and float32, by falling cosine, then rising text number; -1 and 0 for none.
    """
    cosines = vectors[start:stop] @ vectors.T
    cosines[:, ~eligible] = -np.inf
    cosines[np.arange(stop - start), np.arange(start, stop)] = -np.inf
    width = min(n, cosines.shape[1])
    # By threshold: everything that may tie with the last place stays in the running.
    threshold = -np.partition(-cosines, width - 1, axis=1)[:, width - 1] - _FLOAT32_SLACK
    neighbours = np.full((stop - start, n), -1, dtype=np.int32)
    found = np.zeros((stop - start, n), dtype=np.float32)
    for row in range(stop - start):
        near = np.flatnonzero((cosines[row] >= threshold[row]) & np.isfinite(cosines[row]))
        # Again in float64: the last digits of a float32 product differ between processors, and with them what a cosine
        # near a rounding edge is rounded to.
        exact = vectors[near].astype(np.float64) @ vectors[start + row].astype(np.float64)
        exact = np.round(exact, COSINE_DECIMALS)
        order = np.argsort(-exact, kind="stable")[:n]
        neighbours[row, : len(order)] = near[order]
        found[row, : len(order)] = exact[order]
    return neighbours, found


def nearest_texts(
    session: SparkSession, vectors: np.ndarray, eligible: np.ndarray, n: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return every text's `n` nearest texts: exact search, BLAS blocks in Spark tasks.

    The matrix is broadcast (``4 * n_texts * d`` bytes: 32 MB for 20,770 x 384) and the work grows with the square of
    the number of texts: seconds at 20,000, minutes at 100,000. 1,000,000 texts would need hours and 1.5 GB on each
    executor; that is the limit of the exact search.

    Parameters
    ----------
    session
        The Spark session.
    vectors, eligible, n
        As in `block_nearest`.

    Returns
    -------
    neighbours, cosines
        (n_texts, n) int32 and float32 on the driver: ``8 * n * n_texts`` bytes.
    """
    if len(vectors) == 0:
        return np.empty((0, n), dtype=np.int32), np.empty((0, n), dtype=np.float32)
    shared = session.sparkContext.broadcast((np.ascontiguousarray(vectors, dtype=np.float32), eligible))

    def search(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        matrix, may_answer = shared.value
        # Spark runs one task per core; a BLAS that takes all cores in each of them only makes them wait.
        with threadpool_limits(1):
            for batch in batches:
                for block in batch.column("id").to_pylist():
                    start = block * _TEXTS_PER_BLOCK
                    stop = min(start + _TEXTS_PER_BLOCK, len(matrix))
                    near, cosines = block_nearest(matrix, start, stop, may_answer, n)
                    yield pa.RecordBatch.from_arrays(
                        [
                            pa.array([block]),
                            pa.array([near.tobytes()], pa.binary()),
                            pa.array([cosines.tobytes()], pa.binary()),
                        ],
                        names=["block", "near", "cosines"],
                    )

    n_blocks = -(-len(vectors) // _TEXTS_PER_BLOCK)
    blocks = session.range(0, n_blocks, 1, numPartitions=min(n_blocks, 4 * session.sparkContext.defaultParallelism))
    try:
        rows = sorted(blocks.mapInArrow(search, "block long, near binary, cosines binary").collect())
    finally:
        shared.destroy()
    neighbours = np.concatenate([np.frombuffer(row["near"], np.int32) for row in rows]).reshape(-1, n)
    cosines = np.concatenate([np.frombuffer(row["cosines"], np.float32) for row in rows]).reshape(-1, n)
    return neighbours, cosines


def similar_rows(
    model: SimilarModel, default: np.ndarray, start: int, stop: int, length: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the similar products of products ``start:stop``.

    A product's candidates are the nearest texts to its own, one product for each: among a text's twins the one with
    the highest co-purchase with the asking product, then the most popular, then the lowest id. The score is
    ``share * content + (1 - share) * co_purchase / max co_purchase of the list``, both cosines.

    Parameters
    ----------
    model
        What to choose from.
    default
        (n_texts,) `candidates.text_representatives`.
    start, stop
        Products that ask.
    length
        Rows per product, at most.

    Returns
    -------
    item, rank, similar, score, content, co_purchase
        Six arrays of one length, by rising item and rank (from 1).
    """
    texts = model.texts[start:stop]
    n_texts = len(default)
    near, content = model.neighbours[texts], model.cosines[texts].astype(np.float64)
    asking = np.broadcast_to(np.arange(stop - start)[:, None], near.shape)
    found = (near >= 0) & (default[near] >= 0)
    asking, near, content = asking[found], near[found].astype(np.int64), content[found]
    similar, co_purchase = default[near], np.zeros(len(near))

    bought = model.co_purchase[np.arange(start, stop)].tocoo()
    rows, others, values = bought.row.astype(np.int64), bought.col, np.round(bought.data.astype(np.float64), 6)
    keep = model.allowed[others]
    rows, others, values = rows[keep], others[keep], values[keep]
    order = np.lexsort((model.rank[others], -values, model.texts[others], rows))
    keys, first = np.unique((rows * n_texts + model.texts[others])[order], return_index=True)
    if len(keys):
        wanted = asking * n_texts + near
        place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        met = keys[place] == wanted
        best = order[first[place[met]]]
        similar[met], co_purchase[met] = others[best], values[best]

    highest = np.zeros(stop - start)
    np.maximum.at(highest, asking, co_purchase)
    relative = co_purchase / np.where(highest[asking] > 0, highest[asking], 1.0)
    score = np.round(model.content_share * content + (1 - model.content_share) * relative, 6)
    order = np.lexsort((model.rank[similar], -score, asking))
    asking = asking[order]
    rank = np.arange(len(asking)) - np.searchsorted(asking, np.arange(stop - start))[asking] + 1
    order, kept = order[rank <= length], rank <= length
    return asking[kept] + start, rank[kept], similar[order], score[order], content[order], co_purchase[order]


@contextmanager
def similar_products(session: SparkSession, model: SimilarModel, length: int) -> Iterator[DataFrame]:
    """Give the table ``similar_products``, to be used up within the ``with`` block.

    Products are worked on in Spark tasks; the model is broadcast, and released at the end of the block.
    """
    default = text_representatives(model.texts, model.allowed, model.rank, len(model.neighbours))
    shared = session.sparkContext.broadcast((model, default))

    def work(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        relations, representatives = shared.value
        ids = relations.product_ids
        for batch in batches:
            for block in batch.column("id").to_pylist():
                start = block * _PRODUCTS_PER_BLOCK
                stop = min(start + _PRODUCTS_PER_BLOCK, len(ids))
                item, rank, similar, *scores = similar_rows(relations, representatives, start, stop, length)
                yield pa.RecordBatch.from_arrays(
                    [
                        pa.array(ids[item], pa.string()),
                        pa.array(rank.astype(np.int32)),
                        pa.array(ids[similar], pa.string()),
                        *(pa.array(score.astype(np.float32)) for score in scores),
                    ],
                    names=[
                        "product_id",
                        "rank",
                        "similar_product_id",
                        "score",
                        "content_score",
                        "co_purchase_score",
                    ],
                )

    n_blocks = max(1, -(-len(model.product_ids) // _PRODUCTS_PER_BLOCK))
    try:
        yield session.range(0, n_blocks, 1, numPartitions=n_blocks).mapInArrow(work, _SIMILAR_SCHEMA)
    finally:
        shared.destroy()
