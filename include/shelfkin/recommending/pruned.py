"""Search in a part of the vectors: texts lie in lists by their nearest centroid, and only lists nearby are looked at.

This is the inverted file of Jégou, Douze & Schmid (2011), "Product quantization for nearest neighbor search", section
IV, without the quantised codes. Since every text asks, texts of one list ask together: they look at all lists that one
of them would look at, so that the work is matrix products, and each finds what its neighbours' lists hold besides.

How many lists a text looks at is not a guess: on a sample of texts whose true neighbours are known, the share found is
counted for every number of lists, and the least number that reaches the recall wanted is taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from threadpoolctl import threadpool_limits

from shelfkin.clustering import kmeans
from shelfkin.clustering.passes import Rows
from shelfkin.clustering.vectors import unit_vectors
from shelfkin.recommending.nearest import TILE_ROWS, Nearest

# Lists per square root of the number of texts. More leave less to compare, but take longer to make, and texts of one
# list have less in common: with 2, 4 and 8, comparing 100,000 vectors took 12.6, 9.9 and 13.0 s of one core.
LISTS_PER_ROOT = 4
TRAINING_ROWS_PER_LIST, TRAINING_ITERATIONS = 16, 4
# Lists that one text may ask for at most; where these don't hold its neighbours, looking at all texts is cheaper.
MAX_PROBES = 32
# Texts that ask together, at most: more make better use of a product, but look at more lists.
GROUP_ROWS = 256
# Above this share of texts compared, the detour costs more than it saves.
MAX_SCANNED_SHARE = 0.5


def centroids(vectors: np.ndarray) -> np.ndarray:
    """Return the centroids of the lists: a few iterations of k-means on a sample of `vectors`.

    Passes are exact (`clustering.passes`), so that which list a text lies in doesn't depend on the processor.

    Parameters
    ----------
    vectors
        (n, d), unit norm, in an order that says nothing, such as that of text hashes.

    Returns
    -------
    numpy.ndarray
        (n_lists, d) float64, n_lists about `LISTS_PER_ROOT` times the square root of n.
    """
    n_lists = max(1, min(int(LISTS_PER_ROOT * len(vectors) ** 0.5), len(vectors)))
    sample = unit_vectors(vectors[spread(len(vectors), TRAINING_ROWS_PER_LIST * n_lists)])
    first = sample[spread(len(sample), n_lists)].astype(np.float64)
    with threadpool_limits(1):
        found, _, _ = kmeans.lloyd(Rows(sample, np.ones(len(sample))), first, TRAINING_ITERATIONS, 0.0)
    return np.round(found, kmeans.CENTROID_DECIMALS)


def spread(n: int, n_wanted: int) -> np.ndarray:
    """Return `n_wanted` of n row numbers, evenly spread."""
    return np.unique(np.linspace(0, n - 1, min(n, n_wanted)).astype(np.int64))


def nearest_lists(vectors: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Return the `MAX_PROBES` nearest lists of each vector, nearest first: (n, p) int32."""
    cosines = vectors.astype(np.float64) @ centres.T
    n = min(MAX_PROBES, cosines.shape[1])
    near = np.sort(np.argpartition(-cosines, n - 1, axis=1)[:, :n], axis=1)
    order = np.argsort(-np.take_along_axis(cosines, near, axis=1), axis=1, kind="stable")
    return np.take_along_axis(near, order, axis=1).astype(np.int32)


@dataclass(frozen=True)
class Lists:
    """Which texts lie in which list, and who asks together.

    Attributes
    ----------
    nearest
        (n_texts, p) int32: result of `nearest_lists`.
    members, bounds
        Texts that may answer, list by list; list i is ``members[bounds[i]:bounds[i + 1]]``.
    asking, group_bounds
        Texts that ask, group by group, likewise. A group lies within one list.
    """

    nearest: np.ndarray
    members: np.ndarray
    bounds: np.ndarray
    asking: np.ndarray
    group_bounds: np.ndarray

    @classmethod
    def of(cls, nearest: np.ndarray, n_lists: int, eligible: np.ndarray, asking: np.ndarray) -> Lists:
        """Sort texts into lists, and those that ask into groups.

        Parameters
        ----------
        nearest, n_lists
            Nearest lists of each text, and how many lists there are.
        eligible
            (n_texts,) bool: texts that may answer.
        asking
            Numbers of the texts that ask.
        """
        own = nearest[:, 0]
        members = np.flatnonzero(eligible)
        members = members[np.argsort(own[members], kind="stable")]
        bounds = np.searchsorted(own[members], np.arange(n_lists + 1))
        # By second list too: where a list is cut into groups, each then has fewer lists to look at.
        second = nearest[:, min(1, nearest.shape[1] - 1)]
        asking = asking[np.lexsort((asking, second[asking], own[asking]))]
        starts = np.flatnonzero(np.diff(own[asking], prepend=-1))
        cuts = [np.arange(a, b, GROUP_ROWS) for a, b in pairwise([*starts, len(asking)])]
        return cls(nearest, members, bounds, asking, np.concatenate([*cuts, [len(asking)]]).astype(np.int64))

    @property
    def n_groups(self) -> int:
        """Number of groups."""
        return len(self.group_bounds) - 1

    @property
    def sizes(self) -> np.ndarray:
        """Texts that may answer in each list."""
        return np.diff(self.bounds)

    def group(self, number: int) -> np.ndarray:
        """Return the texts of a group."""
        return self.asking[self.group_bounds[number] : self.group_bounds[number + 1]]

    def probed(self, number: int, n_probes: int) -> np.ndarray:
        """Return the lists that a group looks at: the `n_probes` nearest of each of its texts, rising."""
        return np.unique(self.nearest[self.group(number), :n_probes])

    def first_probe(self, number: int) -> np.ndarray:
        """Return, for each list, the least number of probes with which a group looks at it: (n_lists,).

        `MAX_PROBES` + 1 for lists that it never looks at.
        """
        least = np.full(len(self.bounds) - 1, MAX_PROBES + 1, dtype=np.int64)
        near = self.nearest[self.group(number)]
        for probes in range(near.shape[1], 0, -1):
            least[near[:, probes - 1]] = probes
        return least


@dataclass(frozen=True)
class Calibration:
    """How many probes, and what they find.

    Attributes
    ----------
    n_probes
        Lists that each text asks for.
    recall
        Share of the true nearest that is found, on texts that had no say in `n_probes`.
    scanned_share
        Share of the texts that a text is compared with, on average.
    """

    n_probes: int
    recall: float
    scanned_share: float


def calibrate(lists: Lists, sample: np.ndarray, truth: np.ndarray, target: float) -> Calibration | None:
    """Choose the number of probes on one half of a sample, and measure on the other.

    The least number is taken whose mean recall, less two standard errors, reaches the target.

    Parameters
    ----------
    lists
        The texts in lists.
    sample
        Numbers of some texts that ask, in an order that says nothing.
    truth
        (len(sample), n): their true nearest texts, -1 for none.
    target
        Recall wanted.

    Returns
    -------
    Calibration or None
        None where no number of probes reaches the target, or where it means to look at more than half of the texts.
    """
    group_of = np.empty(len(lists.nearest), dtype=np.int64)
    group_of[lists.asking] = np.repeat(np.arange(lists.n_groups), np.diff(lists.group_bounds))
    needed = np.empty(truth.shape, dtype=np.int64)
    scanned = np.zeros((len(sample), MAX_PROBES + 1))
    for group in np.unique(group_of[sample]):
        rows = np.flatnonzero(group_of[sample] == group)
        least = lists.first_probe(group)
        needed[rows] = least[lists.nearest[truth[rows], 0]]
        by_probes = np.bincount(least, weights=lists.sizes, minlength=MAX_PROBES + 2)
        scanned[rows] = np.cumsum(by_probes)[: MAX_PROBES + 1]
    exists = truth >= 0
    choosing = np.arange(len(sample)) % 2 == 0
    for n_probes in range(1, min(MAX_PROBES, lists.nearest.shape[1]) + 1):
        found = ((needed <= n_probes) & exists).sum(axis=1) / np.maximum(exists.sum(axis=1), 1)
        mean, error = found[choosing].mean(), found[choosing].std() / np.sqrt(choosing.sum())
        if mean - 2 * error >= target:
            share = float(scanned[:, n_probes].mean() / max(len(lists.members), 1))
            reached = Calibration(n_probes, float(found[~choosing].mean()), share)
            return reached if share <= MAX_SCANNED_SHARE else None
    return None


def search_group(
    lists: Lists, group: int, n_probes: int, vectors: np.ndarray, by_list: np.ndarray, n: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the nearest of a group's texts among the lists that it looks at.

    Parameters
    ----------
    lists, group, n_probes
        Who asks, and where.
    vectors
        (n_texts, d) float32, unit norm.
    by_list
        ``vectors[lists.members]``: each list in one piece.
    n
        Answers per text.

    Returns
    -------
    neighbours, cosines
        See `nearest.Nearest.answers`.
    """
    asking = lists.group(group)
    questions = vectors[asking]
    found = Nearest(len(asking), n)
    for pieces in _tiles(lists.bounds, lists.probed(group, n_probes)):
        cosines = np.empty((len(asking), sum(stop - start for start, stop in pieces)), dtype=np.float32)
        place = 0
        for start, stop in pieces:
            np.matmul(questions, by_list[start:stop].T, out=cosines[:, place : place + stop - start])
            place += stop - start
        found.add(cosines, np.concatenate([lists.members[start:stop] for start, stop in pieces]))
    return found.answers(vectors, asking)


def _tiles(bounds: np.ndarray, probed: np.ndarray) -> Iterator[list[tuple[int, int]]]:
    """Yield the ranges of some lists, as many at a time as make a tile; long lists are cut."""
    pieces: list[tuple[int, int]] = []
    for number in probed:
        for start in range(bounds[number], bounds[number + 1], TILE_ROWS):
            pieces.append((start, min(start + TILE_ROWS, int(bounds[number + 1]))))
            if sum(b - a for a, b in pieces) >= TILE_ROWS:
                yield pieces
                pieces = []
    if pieces:
        yield pieces
