"""k-means through executors gives what one process gives, however the table is cut."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import functions as F  # noqa: N812 - the name every PySpark reader knows

from shelfkin.artifacts import Root
from shelfkin.clustering import kmeans, shards
from shelfkin.clustering.vectors import FloatArray, unit_vectors
from shelfkin.errors import ArtifactError, DataQualityError

pytestmark = pytest.mark.spark

DDL = "text_hash string, n_products bigint, vector array<float>"
N, DIMENSIONS, N_SHARDS = 3_000, 8, 4


@pytest.fixture(scope="module")
def catalogue() -> tuple[np.ndarray, FloatArray, np.ndarray]:
    """Hashes in order, vectors around nine directions as a model gives them, and products per text."""
    random = np.random.default_rng(3)
    hashes = np.sort([hashlib.sha256(str(number).encode()).hexdigest() for number in range(N)])
    centres = random.normal(size=(9, DIMENSIONS))
    vectors = centres[random.integers(0, 9, size=N)] + 0.4 * random.normal(size=(N, DIMENSIONS))
    return hashes, vectors.astype(np.float32), random.integers(1, 50, size=N).astype(float)


@pytest.fixture
def table(spark: Any, catalogue: tuple[np.ndarray, FloatArray, np.ndarray]) -> Any:
    hashes, vectors, weights = catalogue
    rows = [
        (str(hashes[row]), int(weights[row]), [float(value) for value in vectors[row]])
        for row in np.random.default_rng(0).permutation(N)
    ]
    return spark.createDataFrame(rows, DDL)


def written(table: Any, folder: Path, name: str = "shards") -> shards.SparkShards:
    return shards.SparkShards.write(table, Root.at(str(folder)), f"{folder}/{name}", N_SHARDS, DIMENSIONS)


def test_a_pass_through_executors_is_the_pass_in_memory_bit_for_bit(
    table: Any, catalogue: tuple[np.ndarray, FloatArray, np.ndarray], tmp_path: Path
) -> None:
    hashes, vectors, weights = catalogue
    ends = shards.shard_ends(hashes, N_SHARDS)
    in_memory = kmeans.pass_in_memory(unit_vectors(vectors), weights, ends, 2)
    centroids = unit_vectors(vectors[:9]).astype(np.float64)
    expected = in_memory(centroids)
    for name, cut in {"one": table.coalesce(1), "many": table.repartition(7)}.items():
        over = written(cut, tmp_path, name)
        assert over.rows == tuple(np.diff([0, *ends]))
        found = over(centroids)
        np.testing.assert_array_equal(found.sums, expected.sums)
        np.testing.assert_array_equal(found.mass, expected.mass)
        assert found.misfit == expected.misfit
        assert [spare.place for spare in found.spares] == [spare.place for spare in expected.spares]


def test_a_fit_through_executors_is_the_fit_of_one_process(
    table: Any, catalogue: tuple[np.ndarray, FloatArray, np.ndarray], tmp_path: Path
) -> None:
    hashes, vectors, weights = catalogue
    over = written(table, tmp_path)
    head_vectors, head_weights = over.head(kmeans.n_start_rows(9))
    np.testing.assert_array_equal(head_vectors, unit_vectors(vectors))
    model = kmeans.fit_passes(over, kmeans.start(head_vectors, head_weights, 9))
    alone = kmeans.fit(unit_vectors(vectors), weights, 9, shard_ends=shards.shard_ends(hashes, N_SHARDS))
    np.testing.assert_array_equal(model.centroids, alone.centroids)
    assert model.n_iterations == alone.n_iterations
    assert model.inertia == pytest.approx(alone.inertia, rel=1e-9)
    over.remove()
    assert not (tmp_path / "shards").exists()


def test_an_empty_cluster_is_filled_from_the_shard_with_the_worst_misfit(tmp_path: Path, table: Any) -> None:
    over = written(table, tmp_path)
    twice = over.head(2)[0][[0, 1, 1]].astype(np.float64)  # rows go to the first of two equal centroids
    found = over(twice)
    centroids, n_filled = kmeans.updated(found)
    assert found.mass[2] == 0 and n_filled == 1
    np.testing.assert_allclose(centroids[2], found.spares[0].vector, atol=1e-6)


def test_vectors_without_direction_are_refused_with_their_number(spark: Any, tmp_path: Path) -> None:
    rows = [("0" * 64, 1, [1.0, 0.0]), ("8" * 64, 1, [0.0, 0.0]), ("f" * 64, 1, [float("nan"), 0.0])]
    with pytest.raises(DataQualityError, match="2 of 3 product vectors"):
        shards.SparkShards.write(spark.createDataFrame(rows, DDL), Root.at(str(tmp_path)), str(tmp_path / "s"), 2, 2)


def test_a_shard_that_was_cut_short_is_not_read(table: Any, tmp_path: Path) -> None:
    over = written(table, tmp_path)
    (tmp_path / "shards/00001.vectors").write_bytes(b"short")
    with pytest.raises(ArtifactError, match="not of"):
        shards.open_shard(over.root, over.folder, 1, over.rows[1], DIMENSIONS)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=50, unique=True), st.sampled_from([1, 2, 8, 64]))
def test_the_driver_and_the_executors_agree_on_a_texts_shard(spark: Any, places: list[int], n: int) -> None:
    hashes = sorted(f"{place:08x}" + "0" * 56 for place in places)
    ends = shards.shard_ends(hashes, n)
    expected = [int(np.searchsorted(ends, row, side="right")) for row in range(len(hashes))]
    frame = spark.createDataFrame([(text_hash,) for text_hash in hashes], "text_hash string")
    found = [row["shard"] for row in frame.select(shards.shard_of(F.col("text_hash"), n).alias("shard")).collect()]
    assert found == expected


def test_the_number_of_shards_follows_from_the_size_of_the_data_only() -> None:
    assert shards.n_shards(1_000, 60, 384) == 1
    assert shards.n_shards(1_000_000, 200, 384) == 16
    # 100 million rows would make 2,048 shards of 600 KB of totals each: more than the driver is to hold.
    assert shards.n_shards(100_000_000, 200, 384) == 512
