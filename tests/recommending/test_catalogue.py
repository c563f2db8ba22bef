"""Vectors on the driver: in the order of their hashes, however the table is cut into files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from shelfkin.errors import DataQualityError
from shelfkin.recommending.catalogue import read_vectors


def write(folder: Path, *files: dict[str, list[float]]) -> ds.Dataset:
    for number, content in enumerate(files):
        table = pa.table({"text_hash": list(content), "vector": pa.array(content.values(), pa.list_(pa.float32()))})
        pq.write_table(table, folder / f"part-{number}.parquet", row_group_size=1)
    return ds.dataset(folder, format="parquet")


def test_vectors_of_products_come_in_the_order_of_hashes(tmp_path: Path) -> None:
    table = write(tmp_path, {"c": [3, 0], "x": [9, 9], "a": [1, 0]}, {}, {"b": [2, 0]})
    hashes, vectors = read_vectors(table, pd.Series(["b", "a", "c", "a", "not embedded"]))
    assert hashes.tolist() == ["a", "b", "c"]
    assert vectors.dtype == np.float32
    assert vectors.tolist() == [[1, 0], [2, 0], [3, 0]]


def test_without_vectors_of_these_products_there_are_none(tmp_path: Path) -> None:
    for vectors in (None, write(tmp_path, {"x": [9, 9]})):
        hashes, matrix = read_vectors(vectors, pd.Series(["a"]))
        assert (hashes.shape, matrix.shape) == ((0,), (0, 0))


def test_vectors_of_two_lengths_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataQualityError, match="3 numbers beside vectors of 2"):
        read_vectors(write(tmp_path, {"a": [1, 0]}, {"b": [1, 0, 0]}), pd.Series(["a", "b"]))
