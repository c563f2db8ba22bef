"""Each text's nearest texts, in Spark tasks: all texts compared while that is quick, a chosen part of them beyond."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import SparkSession
from threadpoolctl import threadpool_limits

from shelfkin.mapped import MappedArray, Scratch
from shelfkin.profile import Recommending
from shelfkin.recommending import pruned
from shelfkin.recommending.model import Catalogue, TextNeighbours, padded
from shelfkin.recommending.nearest import ASKING_ROWS, exact_nearest

# Texts whose true neighbours tell how much of them a pruned search finds.
CALIBRATION_TEXTS = 2048
# Rows of a task's answer are of a few MB; tasks are small enough to share out evenly, and to be done again.
_LISTED_ROWS = 1024
_TASKS_PER_CORE = 4
_BLOCKS_PER_TASK = 4

EXACT_UP_TO: int = Recommending.model_fields["search_exact_up_to"].default
RECALL: float = Recommending.model_fields["search_recall"].default

# What a task works out for one block: arrays of one number of rows.
_Block = Callable[[int], tuple[np.ndarray, ...]]


@dataclass(frozen=True)
class Found:
    """Neighbours, and how they were found.

    Attributes
    ----------
    neighbours, cosines
        (n_texts, n) int32 and float32 on the driver: ``8 * n * n_texts`` bytes. By falling cosine, then rising number;
        -1 and 0 for none.
    figures
        For the manifest: ``search`` (exact or pruned) and, of a pruned search, lists, probes, recall on a sample and
        the share of the texts that a text was compared with.
    """

    neighbours: np.ndarray
    cosines: np.ndarray
    figures: dict[str, Any]


def catalogue_neighbours(
    session: SparkSession, catalogue: Catalogue, allowed: np.ndarray, n: int, scratch: Scratch, settings: Recommending
) -> tuple[TextNeighbours, dict[str, Any]]:
    """Return the nearest texts of every text of a catalogue, and figures for the manifest (`Found.figures`).

    Parameters
    ----------
    session, n, scratch
        As for `nearest_texts`.
    catalogue
        The products; of a collapsed catalogue (`variants.Variants.collapsed`), texts are groups.
    allowed
        (n_items,) bool: products that may be an answer; a text may be one if one of its products may.
    settings
        Of the profile: how to search.
    """
    eligible = np.zeros(catalogue.n_texts, dtype=bool)
    eligible[catalogue.texts[allowed]] = True
    found = nearest_texts(
        session,
        catalogue.vectors,
        eligible[: len(catalogue.vectors)],
        n,
        scratch,
        exact_up_to=settings.search_exact_up_to,
        recall=settings.search_recall,
    )
    return padded(TextNeighbours(found.neighbours, found.cosines), catalogue.n_texts), found.figures


def nearest_texts(
    session: SparkSession,
    vectors: np.ndarray,
    eligible: np.ndarray,
    n: int,
    scratch: Scratch,
    *,
    exact_up_to: int = EXACT_UP_TO,
    recall: float = RECALL,
) -> Found:
    """Return every text's `n` nearest texts.

    Up to `exact_up_to` texts, each is compared with all of them: the time grows with the square of their number.
    Beyond, the search is pruned (`pruned`), and the work grows with the power of 1.5 as long as texts find their
    neighbours in the same number of lists; where lists would save nothing, the search is exact after all.

    The result doesn't depend on the number of tasks or executors. The vectors lie in files that all tasks of a machine
    share; the driver holds them too, and that is the limit: 1.5 GB for 1,000,000 texts of 384 dimensions.

    Parameters
    ----------
    session
        The Spark session.
    vectors
        (n_texts, d) float32, unit norm, in the order of text hashes.
    eligible
        (n_texts,) bool: texts that may be an answer. A text never answers itself.
    n
        Answers per text.
    scratch
        Where files lie meanwhile: once or twice the size of the vectors.
    exact_up_to
        Largest number of texts for an exact search.
    recall
        Share of the true nearest that a pruned search must find.
    """
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    if len(vectors) == 0:
        return Found(np.empty((0, n), dtype=np.int32), np.empty((0, n), dtype=np.float32), {"search": "exact"})
    stored = scratch.put("vectors", vectors)
    everything = np.arange(len(vectors))
    if len(vectors) > exact_up_to:
        found = _pruned(session, vectors, stored, eligible, n, scratch, recall)
        if found is not None:
            return found
    return Found(*_exact(session, stored, eligible, everything, n), {"search": "exact"})


def _exact(
    session: SparkSession, stored: MappedArray, eligible: np.ndarray, asking: np.ndarray, n: int
) -> tuple[np.ndarray, np.ndarray]:
    shared = session.sparkContext.broadcast((eligible, asking))

    def one(block: int) -> tuple[np.ndarray, ...]:
        may_answer, rows = shared.value
        return exact_nearest(stored.open(), rows[block * ASKING_ROWS : (block + 1) * ASKING_ROWS], may_answer, n)

    try:
        near, cosines = _by_block(session, -(-len(asking) // ASKING_ROWS), one)
    finally:
        shared.destroy()
    return near, cosines


def _pruned(
    session: SparkSession,
    vectors: np.ndarray,
    stored: MappedArray,
    eligible: np.ndarray,
    n: int,
    scratch: Scratch,
    recall: float,
) -> Found | None:
    """Search in lists; None where that finds too little, or saves nothing."""
    centres = pruned.centroids(vectors)
    nearest = _nearest_lists(session, stored, centres)
    lists = pruned.Lists.of(nearest, len(centres), eligible, np.arange(len(vectors)))
    sample = pruned.spread(len(vectors), CALIBRATION_TEXTS)
    truth, _ = _exact(session, stored, eligible, sample, n)
    chosen = pruned.calibrate(lists, sample, truth, recall)
    if chosen is None:
        return None
    by_list = scratch.put("by_list", vectors, lists.members)
    probed = replace(lists, nearest=np.ascontiguousarray(nearest[:, : chosen.n_probes]))
    near, cosines = _in_lists(session, probed, chosen.n_probes, stored, by_list, n)
    figures = {
        "search": "pruned",
        "search_lists": len(centres),
        "search_probes": chosen.n_probes,
        "search_recall": round(chosen.recall, 4),
        "search_scanned_share": round(chosen.scanned_share, 4),
    }
    return Found(near, cosines, figures)


def _nearest_lists(session: SparkSession, stored: MappedArray, centres: np.ndarray) -> np.ndarray:
    shared = session.sparkContext.broadcast(centres)

    def one(block: int) -> tuple[np.ndarray, ...]:
        rows = stored.open()[block * _LISTED_ROWS : (block + 1) * _LISTED_ROWS]
        return (pruned.nearest_lists(rows, shared.value),)

    try:
        (nearest,) = _by_block(session, -(-stored.shape[0] // _LISTED_ROWS), one)
    finally:
        shared.destroy()
    return nearest


def _in_lists(
    session: SparkSession, lists: pruned.Lists, n_probes: int, stored: MappedArray, by_list: MappedArray, n: int
) -> tuple[np.ndarray, np.ndarray]:
    shared = session.sparkContext.broadcast(lists)
    n_blocks = min(lists.n_groups, _BLOCKS_PER_TASK * _n_tasks(session))
    # Blocks of about the same number of texts: dense lists are longer, and their texts look at longer lists.
    wanted = np.arange(n_blocks + 1) * len(lists.asking) / n_blocks
    ends = np.maximum.accumulate(np.searchsorted(lists.group_bounds, wanted))

    def one(block: int) -> tuple[np.ndarray, ...]:
        groups = range(ends[block], ends[block + 1])
        vectors, pieces = stored.open(), by_list.open()
        found = [pruned.search_group(shared.value, group, n_probes, vectors, pieces, n) for group in groups]
        empty = np.empty((0, n), dtype=np.int32), np.empty((0, n), dtype=np.float32)
        near, cosines = zip(empty, *found, strict=True)
        return np.concatenate(near), np.concatenate(cosines)

    try:
        near, cosines = _by_block(session, n_blocks, one)
    finally:
        shared.destroy()
    # From the order of groups back to that of texts.
    back = np.argsort(lists.asking)
    return near[back], cosines[back]


def _n_tasks(session: SparkSession) -> int:
    return _TASKS_PER_CORE * session.sparkContext.defaultParallelism


def _by_block(session: SparkSession, n_blocks: int, one: _Block) -> list[np.ndarray]:
    """Work blocks out in Spark tasks, and return their arrays joined in the order of blocks."""

    def work(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        # Spark runs one task per core; a BLAS that takes all cores in each of them only makes them wait.
        with threadpool_limits(1):
            for batch in batches:
                for block in batch.column("id").to_pylist():
                    yield from (
                        pa.RecordBatch.from_pydict(
                            {
                                "block": [block],
                                "part": [part],
                                "dtype": [array.dtype.name],
                                "width": [array.shape[1]],
                                "rows": [array.tobytes()],
                            }
                        )
                        for part, array in enumerate(one(block))
                    )

    blocks = session.range(0, n_blocks, 1, numPartitions=min(n_blocks, _n_tasks(session)))
    table = blocks.mapInArrow(work, "block long, part long, dtype string, width long, rows binary")
    parts: dict[int, list[np.ndarray]] = {}
    for row in sorted(table.collect(), key=lambda row: (row["block"], row["part"])):
        array = np.frombuffer(row["rows"], row["dtype"]).reshape(-1, row["width"])
        parts.setdefault(row["part"], []).append(array)
    return [np.concatenate(arrays) for _, arrays in sorted(parts.items())]
