"""Work on blocks of rows in threads, with the same result for any number of threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Protocol, TypeVar

import faiss
import numpy as np
from threadpoolctl import threadpool_limits

BLOCK_ROWS = 4096

T = TypeVar("T")


class ByBlock(Protocol):
    """Runs a function on blocks of row numbers; gives each block with what came out, in order."""

    def __call__(self, work: Callable[[np.ndarray], T], rows: np.ndarray) -> Iterable[tuple[np.ndarray, T]]: ...


@contextmanager
def block_threads(n_threads: int | None = None) -> Iterator[ByBlock]:
    """Give a `ByBlock` that works in threads for as long as the ``with`` block lasts.

    A block is one thread's work from end to end: BLAS and FAISS, whose own threads would cut products in other ways,
    take no more than that one.

    Parameters
    ----------
    n_threads
        By default what OpenMP takes: the cores that this process may use, or ``OMP_NUM_THREADS``.
    """
    # OpenMP keeps its number of threads for each thread that starts some.
    pool = ThreadPoolExecutor(
        n_threads or faiss.omp_get_max_threads(), initializer=faiss.omp_set_num_threads, initargs=(1,)
    )

    def by_block(work: Callable[[np.ndarray], T], rows: np.ndarray) -> Iterable[tuple[np.ndarray, T]]:
        blocks = [rows[start : start + BLOCK_ROWS] for start in range(0, len(rows), BLOCK_ROWS)]
        return zip(blocks, pool.map(work, blocks), strict=True)

    with threadpool_limits(1), pool:
        yield by_block
