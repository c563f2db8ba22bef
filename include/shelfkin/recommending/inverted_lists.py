"""Candidates from a part of the vectors: texts lie in lists by their nearest centroid, and only lists nearby are read.

This is the inverted file of Jégou, Douze & Schmid (2011), "Product quantization for nearest neighbor search", section
IV, without the quantised codes. FAISS gives k-means, the nearest lists and the heaps. Its own search of an inverted
file goes text by text; here all texts ask, so a list is multiplied with all that ask for it at once, as in FAISS's
`contrib.big_batch_search`, but without a copy of the vectors.
"""

from __future__ import annotations

from dataclasses import dataclass

import faiss
import numpy as np

from shelfkin.recommending.blocks import ByBlock

# Lists per square root of the number of texts.
LISTS_PER_ROOT = 4
_TRAINING_TEXTS_PER_LIST, _TRAINING_ITERATIONS = 16, 4
# Lists that a text may read at most, and the share of the texts in them above which comparing all is about as quick.
MAX_PROBES, MAX_SCANNED_SHARE = 512, 0.25
# Texts of a list that are multiplied with a block of texts at a time.
_TILE_ROWS = 4096


def spread(n: int, n_wanted: int) -> np.ndarray:
    """Return `n_wanted` of n row numbers, evenly spread."""
    return np.unique(np.linspace(0, n - 1, min(n, n_wanted)).astype(np.int64))


@dataclass(frozen=True)
class Calibration:
    """How many lists to read, and what that finds.

    Attributes
    ----------
    n_probes
        Lists that each text reads.
    recall
        Share of the true nearest that they hold, on texts that had no say in `n_probes`.
    scanned_share
        Share of the texts that a text is compared with, on average.
    enough
        Whether that finds what was wanted, in less time than comparing all texts would take.
    """

    n_probes: int
    recall: float
    scanned_share: float
    enough: bool


@dataclass(frozen=True)
class InvertedLists:
    """Which texts lie in which list.

    Attributes
    ----------
    vectors
        (n_texts, d) float32, unit norm.
    centroids
        (n_lists, d) float32, unit norm.
    list_of
        (n_texts,) int32: the list of each text, that of its nearest centroid.
    members, bounds
        Texts that may answer, list by list; list i is ``members[bounds[i]:bounds[i + 1]]``.
    """

    vectors: np.ndarray
    centroids: np.ndarray
    list_of: np.ndarray
    members: np.ndarray
    bounds: np.ndarray

    @classmethod
    def fit(cls, vectors: np.ndarray, answering: np.ndarray, by_block: ByBlock) -> InvertedLists:
        """Sort texts into lists around centroids: a few iterations of k-means on a sample.

        Parameters
        ----------
        vectors
            (n_texts, d) float32, unit norm, in an order that says nothing, such as that of text hashes.
        answering
            Numbers of the texts that may answer.
        by_block
            Of `blocks.block_threads`.
        """
        n_lists = max(1, min(int(LISTS_PER_ROOT * len(vectors) ** 0.5), len(vectors)))
        kmeans = faiss.Kmeans(
            vectors.shape[1],
            n_lists,
            niter=_TRAINING_ITERATIONS,
            spherical=True,
            min_points_per_centroid=1,
            max_points_per_centroid=_TRAINING_TEXTS_PER_LIST,
        )
        kmeans.train(vectors[spread(len(vectors), _TRAINING_TEXTS_PER_LIST * n_lists)])
        centroids = np.asarray(kmeans.centroids)
        list_of = np.empty(len(vectors), dtype=np.int32)
        for rows, near in by_block(lambda rows: nearest_lists(vectors[rows], centroids, 1), np.arange(len(vectors))):
            list_of[rows] = near[:, 0]
        members = answering[np.argsort(list_of[answering], kind="stable")]
        bounds = np.searchsorted(list_of[members], np.arange(n_lists + 1))
        return cls(vectors, centroids, list_of, members, bounds)

    @property
    def n_lists(self) -> int:
        """Number of lists."""
        return len(self.centroids)

    @property
    def order(self) -> np.ndarray:
        """All texts, those of one list together: a block of them reads few lists."""
        return np.argsort(self.list_of, kind="stable")

    def calibrate(self, sample: np.ndarray, truth: np.ndarray, target: float) -> Calibration:
        """Choose the number of lists to read on one half of a sample, and measure on the other.

        The least number is taken whose mean recall, less two standard errors, reaches the target; where none does,
        the largest.

        Parameters
        ----------
        sample
            Numbers of some texts, in an order that says nothing.
        truth
            (len(sample), n): their true nearest texts, -1 for none.
        target
            Recall wanted.
        """
        answered = (truth >= 0).any(axis=1)
        sample, truth = sample[answered], truth[answered]
        n_probes, exists = min(MAX_PROBES, self.n_lists), truth >= 0
        near = nearest_lists(self.vectors[sample], self.centroids, n_probes)
        # Where each list stands among those nearest to a text, and so how many it has to read for each neighbour.
        place = np.full((len(sample), self.n_lists), n_probes, dtype=np.int32)
        np.put_along_axis(place, near, np.arange(n_probes, dtype=np.int32)[None, :], axis=1)
        needed = np.where(exists, np.take_along_axis(place, self.list_of[truth], axis=1), n_probes)
        met = np.zeros((len(sample), n_probes + 1))
        np.add.at(met, (np.arange(len(sample))[:, None], needed), 1)
        found = met[:, :n_probes].cumsum(axis=1) / exists.sum(axis=1, keepdims=True)
        choosing, judging = found[::2], found[1::2]
        reached = choosing.mean(axis=0) - 2 * choosing.std(axis=0) / len(choosing) ** 0.5 >= target
        chosen = int(reached.argmax()) if reached.any() else n_probes - 1
        compared = np.diff(self.bounds)[near[:, : chosen + 1]].sum(axis=1).mean()
        share = float(compared / len(self.members))
        enough = bool(reached.any()) and share <= MAX_SCANNED_SHARE
        return Calibration(chosen + 1, float(judging[:, chosen].mean()), share, enough)

    def candidates(self, rows: np.ndarray, n_probes: int, n: int) -> np.ndarray:
        """Return the `n` texts with the highest float32 cosines in the lists that some texts read.

        Parameters
        ----------
        rows
            Numbers of the texts that ask.
        n_probes
            Lists that each of them reads.
        n
            Candidates per text.

        Returns
        -------
        numpy.ndarray
            (len(rows), n) int64, -1 for none.
        """
        asked = nearest_lists(self.vectors[rows], self.centroids, n_probes).ravel()
        by_list = np.argsort(asked, kind="stable")
        lists, starts = np.unique(asked[by_list], return_index=True)
        heap = faiss.ResultHeap(len(rows), n, keep_max=True)
        for number, asking in zip(lists, np.split(by_list // n_probes, starts[1:]), strict=True):
            questions = self.vectors[rows[asking]]
            for start in range(self.bounds[number], self.bounds[number + 1], _TILE_ROWS):
                members = self.members[start : min(start + _TILE_ROWS, self.bounds[number + 1])]
                heap.add_result_subset(asking, questions @ self.vectors[members].T, members)
        heap.finalize()
        return heap.I


def nearest_lists(vectors: np.ndarray, centroids: np.ndarray, n: int) -> np.ndarray:
    """Return the `n` lists whose centroids are nearest to each vector, nearest first: (n_vectors, n) int64."""
    return faiss.knn(vectors, centroids, n, metric=faiss.METRIC_INNER_PRODUCT)[1]
