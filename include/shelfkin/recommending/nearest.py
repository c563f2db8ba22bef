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

from shelfkin.profile import Recommending
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

EXACT_UP_TO: int = Recommending.model_fields["search_exact_up_to"].default
RECALL: float = Recommending.model_fields["search_recall"].default

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
    exact_up_to: int = EXACT_UP_TO,
    recall: float = RECALL,
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
    >>> vectors = np.array([[1, 0], [0.8, 0.6], [0.6, 0.8]], dtype=np.float32)
    >>> found = nearest_texts(vectors, np.array([True, True, False]), n=1)
    >>> found.neighbours.ravel().tolist()
    [1, 0, 1]
    >>> found.cosines.ravel().round(2).tolist()
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
        search: _Search = ExactSearch(vectors, answering, n).search
        order = np.arange(len(vectors))
        if len(vectors) > exact_up_to:
            lists = InvertedLists.fit(vectors, answering, by_block)
            n_probes, metrics = _calibrated(lists, search, recall, by_block)
            if n_probes:
                search, order = partial(_search_lists, lists, n_probes, n), lists.order
        for rows, answer in by_block(search, order):
            neighbours[rows], cosines[rows] = answer
    return TextNeighbours(neighbours, cosines, metrics)


def _calibrated(
    lists: InvertedLists, exact: _Search, recall: float, by_block: ByBlock
) -> tuple[int | None, dict[str, Any]]:
    """Return how many lists a text has to read, None where comparing all is better, and the metrics."""
    sample, began = spread(len(lists.vectors), _N_SAMPLE), time.monotonic()
    truth = np.concatenate([near for _, (near, _) in by_block(exact, sample)])
    all_min = (time.monotonic() - began) * len(lists.vectors) / len(sample) / 60
    chosen = lists.calibrate(sample, truth, recall)
    metrics = {
        "search": "lists" if chosen.enough else "exact",
        "search_lists": lists.n_lists,
        "search_probes": chosen.n_probes,
        "search_recall": round(chosen.recall, 4),
        "search_scanned_share": round(chosen.scanned_share, 4),
    }
    if chosen.enough:
        return chosen.n_probes, metrics
    log.warning(
        "WARNING: the vectors hardly form groups. The nearest %d of %s lists hold %.0f%% of the true neighbours "
        "(wanted: %.0f%%) and %.0f%% of the texts. So all %s texts are compared with each other, in about %.0f min.",
        chosen.n_probes,
        f"{lists.n_lists:,}",
        100 * chosen.recall,
        100 * recall,
        100 * chosen.scanned_share,
        f"{len(lists.vectors):,}",
        all_min,
    )
    return None, metrics


class ExactSearch:
    """Compares texts with all that may answer.

    Parameters
    ----------
    vectors
        (n_texts, d) float32, unit norm.
    answering
        Numbers of the texts that may answer, rising.
    n
        Answers per text.
    """

    def __init__(self, vectors: np.ndarray, answering: np.ndarray, n: int) -> None:
        self._vectors, self._answering, self._n = vectors, answering, n
        # A copy only where something is left out.
        self._answers = vectors if len(answering) == len(vectors) else vectors[answering]

    def search(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the nearest of some texts, as `best_of` does."""
        return self._among(rows, self._n + _N_SPARE)

    def _among(self, rows: np.ndarray, n_candidates: int) -> tuple[np.ndarray, np.ndarray]:
        n_candidates = min(n_candidates, len(self._answering))
        cosines, places = faiss.knn(self._vectors[rows], self._answers, n_candidates, metric=faiss.METRIC_INNER_PRODUCT)
        near, exact = best_of(self._vectors, rows, self._answering[places], self._n)
        if n_candidates < len(self._answering):
            # What may tie with the last place, one further where a text finds itself, can be beyond the candidates.
            cut = np.flatnonzero(cosines[:, -1] >= cosines[:, self._n] - _FLOAT32_SLACK)
            if len(cut):
                near[cut], exact[cut] = self._among(rows[cut], 4 * n_candidates)
        return near, exact


def _search_lists(lists: InvertedLists, n_probes: int, n: int, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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
