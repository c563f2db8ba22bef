"""Product vectors as arrays: checked, of unit norm, and sampled without regard to how the table is cut."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shelfkin.errors import DataQualityError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

FloatArray = NDArray[np.floating]
IntArray = NDArray[np.integer]

# A sample is cut from the lowest hashes; how many lie below a bound varies by the square root of their number.
_SAFE_DEVIATIONS = 6


# Numbers are multiples of this: coarse enough that float64 adds up half a billion of them exactly, and of no
# consequence beside float32's own rounding, 2^-24 of a number near one.
GRID = 2.0**-24


def on_grid(values: FloatArray) -> FloatArray:
    """Return numbers between -1 and 1 rounded to multiples of `GRID`, as float32, which holds them exactly."""
    # Doubles near this number are multiples of GRID apart: adding it rounds, to even where two are as near. It takes a
    # third of the time that np.rint takes, and never leaves a -0.0: equal vectors have equal bytes.
    shift = 1.5 * 2.0**52 * GRID
    shifted = np.add(values, shift, dtype=np.float64)
    shifted -= shift
    return shifted.astype(np.float32)


def unit_vectors(vectors: FloatArray) -> FloatArray:
    """Return `vectors` scaled to unit norm, as float32 on the grid (`on_grid`).

    Parameters
    ----------
    vectors
        Shape (n, d).

    Raises
    ------
    DataQualityError
        A vector holds NaN or infinity, or is all zero: it has no direction and belongs to no cluster.
    """
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
    n_bad = int((~(np.isfinite(norms) & (norms > 0))).sum())
    if n_bad:
        raise DataQualityError(
            f"{n_bad:,} of {len(vectors):,} product vectors hold NaN or infinity, or are all zero; a vector needs a "
            "direction.",
            next_step="Check the embedding model's answers, and embed these texts again.",
        )
    return on_grid(vectors / norms[:, None])


def n_distinct(vectors: FloatArray) -> int:
    """Return the number of different rows: two texts that differ in case only may share a vector."""
    return len({row.tobytes() for row in vectors})


def vectors_of(column: pa.Array | pa.ChunkedArray, dimensions: int | None = None) -> FloatArray:
    """Return a list<float> column as an array of shape (n, d), float32.

    Raises
    ------
    DataQualityError
        A vector is null, or lengths differ.
    """
    chunk = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    lengths = np.asarray(chunk.value_lengths().fill_null(0))
    width = dimensions or int(lengths.max(initial=0))
    odd = lengths[lengths != width]
    if len(odd):
        raise DataQualityError(
            f"product_vectors holds a vector of {odd[0]} numbers beside vectors of {width}; all must have one length.",
            next_step="Embed all texts with one model and one --dimensions.",
        )
    return np.asarray(chunk.flatten()).reshape(len(lengths), width).astype(np.float32, copy=False)


def hash_bound(n_rows: int, n_all: int) -> str:
    """Return a text hash below which at least n_rows of n_all texts lie, or all of them if there are fewer."""
    n_enough = n_rows + _SAFE_DEVIATIONS * n_rows**0.5
    # A hash is of hex digits, which all stand before "g".
    return f"{int(n_enough / n_all * 16**8):08x}" if n_all > n_enough else "g"


def sample(product_vectors: DataFrame, n_rows: int) -> tuple[NDArray[np.str_], FloatArray, FloatArray]:
    """Return a deterministic uniform sample of the distinct texts, sorted by text hash, on the driver.

    A text is in the sample when its SHA-256 is low enough, which no partitioning, row order or other text changes:
    tomorrow's sample of nearly the same catalogue is nearly the same sample.

    Parameters
    ----------
    product_vectors
        Columns text_hash (64 hex digits), n_products and vector.
    n_rows
        So many rows, or all if there are fewer; the driver holds n_rows x d x 4 bytes, twice while they arrive.

    Returns
    -------
    hashes, vectors, weights
        Shapes (n,), (n, d) float32 of unit norm, (n,) float64.
    """
    n_all = product_vectors.count()
    chosen = product_vectors.select("text_hash", "n_products", "vector")
    table = chosen.where(chosen.text_hash < hash_bound(n_rows, n_all)).toArrow()
    hashes = np.asarray(table.column("text_hash").to_pylist(), dtype=np.str_)
    order = np.argsort(hashes, kind="stable")[:n_rows]
    vectors = vectors_of(table.column("vector"))[order]
    weights = np.asarray(table.column("n_products"), dtype=np.float64)[order]
    return hashes[order], unit_vectors(vectors), weights
