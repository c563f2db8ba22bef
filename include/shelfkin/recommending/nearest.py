"""Each text's nearest texts: float32 products find who may be near, float64 decides.

All texts are compared with each other while that is quick; beyond, each with those of nearby lists (`inverted_lists`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import faiss
import numpy as np

from shelfkin.recommending.blocks import ByBlock, block_threads
from shelfkin.recommending.inverted_lists import InvertedLists, spread

log = logging.getLogger("shelfkin")

# Cosines of one text with itself differ in the seventh digit with the shape of the matrix product.
COSINE_DECIMALS = 5
# What may round to the same cosine, and the error of a float32 product on top.
_FLOAT32_SLACK = 2e-5
# Candidates beyond those wanted: the text itself, and what ties with the last place.
_N_SPARE = 8
# Texts whose candidates' vectors are copied at a time.
_EXACT_ROWS = 64
# Texts whose true neighbours tell how many lists to read.
_N_SAMPLE = 2048

# From numbers of texts to their neighbours and cosines, as in `TextNeighbours`.
_Search = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class TextNeighbours:
    """Each text's nearest texts.

    Attributes
    ----------
    neighbours, cosines
        (n_texts, n) int32 and float32, by falling cosine, then rising number; -1 and 0 for none.
    metrics
        For the manifest: ``search`` (exact or lists) and, beyond `exact_up_to`, how many lists there are and a text
        reads, what share of the true neighbours they hold, and with what share of the texts a text is compared.
    """

    neighbours: np.ndarray
    cosines: np.ndarray
    metrics: dict[str, Any] = field(default_factory=dict)


def nearest_texts(
    vectors: np.ndarray,
    eligible: np.ndarray,
    n: int,
    *,
    exact_up_to: int,
    recall: float,
    n_threads: int | None = None,
) -> TextNeighbours:
    """Return every text's `n` nearest texts.

    Up to `exact_up_to` texts, each is compared with all of them: the time grows with the square of their number.
    Beyond, each is compared with the texts of nearby lists. Where these hold too few of the true neighbours, or most of
    the texts, all are compared after all, and the log says so.

    The search runs in threads of this process. The result doesn't depend on their number; that of an exact search
    doesn't depend on the processor either.

    Parameters
    ----------
    vectors
        (n_vectors, d) float32, unit norm, in an order that says nothing, such as that of text hashes.
    eligible
        (n_texts,) bool, n_texts >= n_vectors: texts that may be an answer. A text never answers itself; those beyond
        `vectors` neither answer nor find anything.
    n
        Answers per text.
    exact_up_to
        Largest number of vectors for an exact search.
    recall
        Share of the true nearest that a search in lists must find.
    n_threads
        By default what OpenMP takes: the cores that this process may use, or ``OMP_NUM_THREADS``.

    Examples
    --------
    >>> import numpy as np
    >>> vectors = np.array([[1, 0], [0.8, 0.6], [0.6, 0.8]], dtype=np.float32)
    >>> found = nearest_texts(vectors, np.array([True, True, False]), n=1, exact_up_to=50_000, recall=0.98)
    >>> found.neighbours.ravel().tolist()
    [1, 0, 1]
    >>> found.cosines.ravel().astype(float).round(2).tolist()
    [0.8, 0.8, 0.96]
    """
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    answering = np.flatnonzero(eligible[: len(vectors)])
    neighbours = np.full((len(eligible), n), -1, dtype=np.int32)
    cosines = np.zeros((len(eligible), n), dtype=np.float32)
    metrics: dict[str, Any] = {"search": "exact"}
    if not len(answering):
        return TextNeighbours(neighbours, cosines, metrics)
    with block_threads(n_threads) as by_block:
        # A copy of the vectors only where some are left out.
        answers = vectors if len(answering) == len(vectors) else vectors[answering]
        search: _Search = partial(_compared_with_all, vectors, answering, answers, n, n + _N_SPARE)
        order = np.arange(len(vectors))
        if len(vectors) > exact_up_to:
            lists = InvertedLists.fit(vectors, answering, by_block)
            n_probes, metrics = _calibrated(lists, search, recall, by_block)
            if metrics["search"] == "lists":
                search, order = partial(_compared_in_lists, lists, n_probes, n), lists.order
        for rows, answer in by_block(search, order):
            neighbours[rows], cosines[rows] = answer
    return TextNeighbours(neighbours, cosines, metrics)


def _calibrated(lists: InvertedLists, exact: _Search, recall: float, by_block: ByBlock) -> tuple[int, dict[str, Any]]:
    """Return how many lists a text reads, and the metrics, which say whether that is better than comparing all."""
    sample, began = spread(len(lists.vectors), _N_SAMPLE), time.monotonic()
    truth = np.concatenate([near for _, (near, _) in by_block(exact, sample)])
    all_min = (time.monotonic() - began) * len(lists.vectors) / len(sample) / 60
    chosen = lists.calibrate(sample, truth, recall)
    if not chosen.enough:
        log.warning(
            f"WARNING: the vectors hardly form groups. The nearest {chosen.n_probes} of {lists.n_lists:,} lists hold "
            f"{chosen.recall:.0%} of the true neighbours (wanted: {recall:.0%}) and {chosen.scanned_share:.0%} of the "
            f"texts. So all {len(lists.vectors):,} texts are compared with each other, in about {all_min:.0f} min."
        )
    return chosen.n_probes, {
        "search": "lists" if chosen.enough else "exact",
        "search_lists": lists.n_lists,
        "search_probes": chosen.n_probes,
        "search_recall": round(chosen.recall, 4),
        "search_scanned_share": round(chosen.scanned_share, 4),
    }


def _compared_with_all(
    vectors: np.ndarray, answering: np.ndarray, answers: np.ndarray, n: int, n_candidates: int, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the nearest of some texts among all that may answer, whose vectors are `answers`: see `best_of`."""
    n_candidates = min(n_candidates, len(answers))
    float32, places = faiss.knn(vectors[rows], answers, n_candidates, metric=faiss.METRIC_INNER_PRODUCT)
    near, exact = best_of(vectors, rows, answering[places], n)
    if n_candidates < len(answers):
        # What may tie with the last place, one further where a text finds itself, can be beyond the candidates.
        cut = np.flatnonzero(float32[:, -1] >= float32[:, n] - _FLOAT32_SLACK)
        if len(cut):
            near[cut], exact[cut] = _compared_with_all(vectors, answering, answers, n, 4 * n_candidates, rows[cut])
    return near, exact


def _compared_in_lists(lists: InvertedLists, n_probes: int, n: int, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return best_of(lists.vectors, rows, lists.candidates(rows, n_probes, n + _N_SPARE), n)


def best_of(vectors: np.ndarray, rows: np.ndarray, candidates: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the nearest of each text among its candidates, by exact cosine.

    Parameters
    ----------
    vectors
        (n_texts, d) float32, unit norm.
    rows
        Numbers of the texts that ask. A text never answers itself.
    candidates
        (len(rows), k) numbers of texts, none twice in a row; -1 for none.
    n
        Answers per text.

    Returns
    -------
    neighbours, cosines
        (len(rows), n) int32 and float32, by falling cosine, then rising number; -1 and 0 for none.
    """
    neighbours = np.full((len(rows), n), -1, dtype=np.int32)
    cosines = np.zeros((len(rows), n), dtype=np.float32)
    for start in range(0, len(rows), _EXACT_ROWS):
        block = slice(start, start + _EXACT_ROWS)
        near, own = candidates[block], rows[block]
        exact = exact_cosines(vectors, near, vectors[own])
        exact[(near < 0) | (near == own[:, None])] = -np.inf
        order = np.lexsort((near, -exact))[:, :n]
        near, exact = np.take_along_axis(near, order, axis=1), np.take_along_axis(exact, order, axis=1)
        none, width = np.isneginf(exact), order.shape[1]
        neighbours[block, :width], cosines[block, :width] = np.where(none, -1, near), np.where(none, 0, exact)
    return neighbours, cosines


def exact_cosines(vectors: np.ndarray, numbers: np.ndarray, asking: np.ndarray) -> np.ndarray:
    """Return rounded float64 cosines of some rows with one vector, or of each row of numbers with its own vector.

    The last digits of a float32 product differ between processors, and with them what a cosine near a rounding edge is
    rounded to; float64 is far from that.

    Parameters
    ----------
    vectors
        (n_rows, d) float32, unit norm.
    numbers
        (..., k) numbers of rows.
    asking
        (..., d): whom they are compared with.

    Returns
    -------
    numpy.ndarray
        (..., k) float64.
    """
    return np.round(np.einsum("...kd,...d->...k", vectors[numbers], asking, dtype=np.float64), COSINE_DECIMALS)
