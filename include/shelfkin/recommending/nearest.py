"""The nearest of some unit vectors: products in float32 find who may be near, float64 decides."""

from __future__ import annotations

import numpy as np

# Cosines of one text with itself differ in the seventh digit with the shape of the matrix product.
COSINE_DECIMALS = 5
# What may round to the same cosine, and the error of a float32 product on top.
_FLOAT32_SLACK = 2e-5
# Rows that are multiplied at a time; tiles of 16,384 took a fifth longer.
ASKING_ROWS, TILE_ROWS = 512, 8192
# Candidates held per place wanted before the worst are dropped: sorting now and then costs less than each time.
_HELD_PER_PLACE = 4


class Nearest:
    """Collects who may be among the nearest of some asking rows, tile by tile.

    Parameters
    ----------
    n_asking
        Rows that ask.
    n
        Answers per row.
    """

    def __init__(self, n_asking: int, n: int) -> None:
        self._n = n
        # One more than wanted: a row meets itself among the answers.
        self._n_held = n + 1
        self._threshold: np.ndarray = np.full(n_asking, -np.inf, dtype=np.float32)
        self._parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def add(self, cosines: np.ndarray, numbers: np.ndarray) -> None:
        """Take in a tile of float32 cosines.

        Parameters
        ----------
        cosines
            (n_asking, b) float32.
        numbers
            (b,): which rows these are of all; none comes twice.
        """
        if not self._parts and cosines.shape[1] >= self._n_held:
            self._threshold = np.partition(cosines, -self._n_held, axis=1)[:, -self._n_held] - _FLOAT32_SLACK
        near = np.flatnonzero(cosines >= self._threshold[:, None])
        rows, columns = np.divmod(near, max(cosines.shape[1], 1))
        self._parts.append((rows, numbers[columns], cosines.ravel()[near]))
        if sum(len(part[0]) for part in self._parts) > _HELD_PER_PLACE * self._n_held * len(self._threshold):
            self._drop()

    def _drop(self) -> None:
        """Sort candidates by row and falling cosine, and drop those that nothing can bring into the list any more."""
        rows, numbers, cosines = (np.concatenate([part[i] for part in self._parts]) for i in range(3))
        order = np.lexsort((-cosines, rows))
        rows, numbers, cosines = rows[order], numbers[order], cosines[order]
        starts = np.searchsorted(rows, np.arange(len(self._threshold) + 1))
        full = np.flatnonzero(np.diff(starts) >= self._n_held)
        # By threshold: everything that may tie with the last place stays in the running.
        self._threshold[full] = cosines[starts[full] + self._n_held - 1] - _FLOAT32_SLACK
        keep = cosines >= self._threshold[rows]
        self._parts = [(rows[keep], numbers[keep], cosines[keep])]

    def answers(self, vectors: np.ndarray, asking: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the nearest of each asking row.

        Parameters
        ----------
        vectors
            (n_rows, d) float32, unit norm: all rows.
        asking
            (n_asking,): which of them ask. A row never answers itself.

        Returns
        -------
        neighbours, cosines
            (n_asking, n) int32 and float32, by falling cosine, then rising number; -1 and 0 for none.
        """
        neighbours = np.full((len(asking), self._n), -1, dtype=np.int32)
        found = np.zeros((len(asking), self._n), dtype=np.float32)
        if not self._parts:
            return neighbours, found
        self._drop()
        rows, numbers, _ = self._parts[0]
        starts = np.searchsorted(rows, np.arange(len(asking) + 1))
        for row, number in enumerate(asking):
            near = numbers[starts[row] : starts[row + 1]]
            near = near[near != number]
            exact = exact_cosines(vectors, near, vectors[number])
            order = np.lexsort((near, -exact))[: self._n]
            neighbours[row, : len(order)], found[row, : len(order)] = near[order], exact[order]
        return neighbours, found


def exact_cosines(vectors: np.ndarray, numbers: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """Return rounded cosines of some rows with one vector, (n,) float64.

    The last digits of a float32 product differ between processors, and with them what a cosine near a rounding edge is
    rounded to; float64 is far from that.
    """
    return np.round(vectors[numbers].astype(np.float64) @ vector.astype(np.float64), COSINE_DECIMALS)


def exact_nearest(
    vectors: np.ndarray, asking: np.ndarray, eligible: np.ndarray, n: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the nearest of some rows by comparing them with all.

    Parameters
    ----------
    vectors
        (n_rows, d) float32, unit norm.
    asking
        (n_asking,) numbers of the rows that ask.
    eligible
        (n_rows,) bool: rows that may be an answer.
    n
        Answers per row.

    Returns
    -------
    neighbours, cosines
        See `Nearest.answers`.
    """
    found = Nearest(len(asking), n)
    questions = vectors[asking]
    for start in range(0, len(vectors), TILE_ROWS):
        tile = slice(start, start + TILE_ROWS)
        numbers = start + np.flatnonzero(eligible[tile])
        # A copy only where something is left out.
        rows = vectors[tile] if len(numbers) == len(eligible[tile]) else vectors[numbers]
        found.add(questions @ rows.T, numbers)
    return found.answers(vectors, asking)
