"""Similar products: the nearest variant groups, one product of each, ranked by content and co-purchase."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import numpy as np
import pyarrow as pa
import scipy.sparse as sp
from pyspark import SparkFiles
from pyspark.sql import DataFrame, SparkSession

from shelfkin.recommending.item_model import group_representatives
from shelfkin.recommending.nearest import exact_cosines
from shelfkin.spark import contract_columns
from shelfkin.tables import SIMILAR_PRODUCTS

_PRODUCTS_PER_BLOCK, _PAIRS_PER_BLOCK = 4096, 4096


@dataclass(frozen=True)
class SimilarModel:
    """What similar products are made from. Item i is row i of every per-item array.

    Attributes
    ----------
    product_ids, texts, allowed, rank
        As in `item_model.ItemModel`.
    groups
        (n_items,) int64: each product's group of variants; products of one text are in one group.
    neighbours
        (n_groups, m): each group's nearest groups, -1 for none.
    co_purchase
        (n_items, n_items) sparse float32 cosine of shared customers (`co_purchase.item_knn`).
    content_share
        Weight of content in the score, in [0, 1].
    """

    product_ids: np.ndarray
    texts: np.ndarray
    groups: np.ndarray
    allowed: np.ndarray
    rank: np.ndarray
    neighbours: np.ndarray
    co_purchase: sp.csr_array
    content_share: float


def similar_rows(
    model: SimilarModel, vectors: np.ndarray, default: np.ndarray, start: int, stop: int, length: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the similar products of products ``start:stop``.

    A product's candidates are the groups nearest to its own, one product of each: among variants and twins the one
    with the highest co-purchase with the asking product, then the most popular, then the lowest id. The score is
    ``share * content + (1 - share) * co_purchase / max co_purchase of the list``, both cosines, content that of the two
    products' own texts.

    Parameters
    ----------
    model
        What to choose from.
    vectors
        (n_vectors, d) float32, unit norm, of the texts; those of asking and chosen products are read.
    default
        (n_groups,) the most popular product of each group that may be shown, -1 for none
        (`item_model.group_representatives`).
    start, stop
        Products that ask.
    length
        Rows per product, at most.

    Returns
    -------
    item, rank, similar, score, content, co_purchase
        Six arrays of one length, by rising item and rank (from 1).
    """
    near = model.neighbours[model.groups[start:stop]]
    asking = np.broadcast_to(np.arange(stop - start)[:, None], near.shape)
    found = (near >= 0) & (default[near] >= 0)
    asking, near = asking[found], near[found].astype(np.int64)
    similar, co_purchase = _members(model, default, start, stop, asking, near)
    content = pair_cosines(vectors, model.texts[asking + start], model.texts[similar])

    highest = np.zeros(stop - start)
    np.maximum.at(highest, asking, co_purchase)
    relative = co_purchase / np.where(highest[asking] > 0, highest[asking], 1.0)
    score = np.round(model.content_share * content + (1 - model.content_share) * relative, 6)
    order = np.lexsort((model.rank[similar], -score, asking))
    asking = asking[order]
    rank = np.arange(len(asking)) - np.searchsorted(asking, np.arange(stop - start))[asking] + 1
    order, kept = order[rank <= length], rank <= length
    return asking[kept] + start, rank[kept], similar[order], score[order], content[order], co_purchase[order]


def _members(
    model: SimilarModel, default: np.ndarray, start: int, stop: int, asking: np.ndarray, near: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Choose a product of each candidate group; return products and their co-purchase with the asking one."""
    n_groups = len(default)
    similar, co_purchase = default[near], np.zeros(len(near))
    bought = model.co_purchase[np.arange(start, stop)].tocoo()
    rows, others, values = bought.row.astype(np.int64), bought.col, np.round(bought.data.astype(np.float64), 6)
    keep = model.allowed[others]
    rows, others, values = rows[keep], others[keep], values[keep]
    order = np.lexsort((model.rank[others], -values, model.groups[others], rows))
    keys, first = np.unique((rows * n_groups + model.groups[others])[order], return_index=True)
    if len(keys):
        wanted = asking * n_groups + near
        place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        met = keys[place] == wanted
        best = order[first[place[met]]]
        similar[met], co_purchase[met] = others[best], values[best]
    return similar, co_purchase


def pair_cosines(vectors: np.ndarray, ones: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the rounded cosines of pairs of texts, (n_pairs,) float64; repeated pairs cost nothing."""
    pairs, place = np.unique(ones * len(vectors) + others, return_inverse=True)
    left, right = np.divmod(pairs, max(len(vectors), 1))
    cosines = np.empty(len(pairs))
    for start in range(0, len(pairs), _PAIRS_PER_BLOCK):
        block = slice(start, start + _PAIRS_PER_BLOCK)
        cosines[block] = exact_cosines(vectors, right[block, None], vectors[left[block]])[:, 0]
    return cosines[place]


@contextmanager
def similar_products(
    session: SparkSession, model: SimilarModel, vectors: np.ndarray, length: int
) -> Iterator[DataFrame]:
    """Give the table ``similar_products``, to be used up within the ``with`` block.

    Products are worked on in Spark tasks; the model is broadcast, and released at the end of the block.

    Parameters
    ----------
    session
        The Spark session.
    model
        What to choose from.
    vectors
        (n_vectors, d) float32, unit norm, of the texts.
    length
        Rows per product, at most.
    """
    default = group_representatives(model.groups, model.allowed, model.rank, len(model.neighbours))
    shared = session.sparkContext.broadcast((model, default))
    file_name, schema = shipped(session, vectors), contract_columns(SIMILAR_PRODUCTS)

    def work(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        relations, representatives = shared.value
        ids, mapped = relations.product_ids, np.load(SparkFiles.get(file_name), mmap_mode="r")
        for batch in batches:
            for block in batch.column("id").to_pylist():
                start = block * _PRODUCTS_PER_BLOCK
                stop = min(start + _PRODUCTS_PER_BLOCK, len(ids))
                item, rank, similar, *scores = similar_rows(relations, mapped, representatives, start, stop, length)
                arrays = [pa.array(ids[item], pa.string()), pa.array(rank.astype(np.int32))]
                arrays += [pa.array(ids[similar], pa.string())]
                arrays += [pa.array(score.astype(np.float32)) for score in scores]
                yield pa.RecordBatch.from_arrays(arrays, names=schema.names)

    n_blocks = max(1, -(-len(model.product_ids) // _PRODUCTS_PER_BLOCK))
    try:
        yield session.range(0, n_blocks, 1, numPartitions=n_blocks).mapInArrow(work, schema)
    finally:
        shared.destroy()


def shipped(session: SparkSession, array: np.ndarray) -> str:
    """Give an array to every task, and return the name of its file: ``np.load(SparkFiles.get(name), mmap_mode="r")``.

    A machine's workers then share one copy; of a broadcast, each Python worker would unpickle its own. The file lies in
    Spark's temporary folder until the session ends, since executors that start later fetch it too.
    """
    path = Path(session.sparkContext._temp_dir) / f"{uuid4().hex}.npy"
    np.save(path, array)
    session.sparkContext.addFile(str(path))
    return path.name
