"""k-means through executors gives what one process gives, however the table is cut."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shelfkin.artifacts import Root
from shelfkin.clustering import kmeans, shards
from shelfkin.clustering.passes import Rows
from shelfkin.clustering.vectors import FloatArray, sample, unit_vectors
from shelfkin.errors import ArtifactError, DataQualityError

pytestmark = pytest.mark.spark

DDL = "text_hash string, n_products bigint, vector array<float>"
N, DIMENSIONS, K = 3_000, 8, 9


@pytest.fixture(scope="module")
def catalogue() -> tuple[np.ndarray, FloatArray, np.ndarray]:
    """Hashes in order, vectors around nine directions as a model gives them, and products per text."""
    random = np.random.default_rng(3)
    hashes = np.sort([hashlib.sha256(str(number).encode()).hexdigest() for number in range(N)])
    centres = random.normal(size=(K, DIMENSIONS))
    vectors = centres[random.integers(0, K, size=N)] + 0.4 * random.normal(size=(N, DIMENSIONS))
    return hashes, vectors.astype(np.float32), random.integers(1, 50, size=N).astype(float)


@pytest.fixture(scope="module")
def tables(
    spark: Any, catalogue: tuple[np.ndarray, FloatArray, np.ndarray], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """The catalogue in one file, in seven files, and in row groups of less than 1,000 rows."""
    hashes, vectors, weights = catalogue
    rows = [
        (str(hashes[row]), int(weights[row]), [float(value) for value in vectors[row]])
        for row in np.random.default_rng(0).permutation(N)
    ]
    table, root = spark.createDataFrame(rows, DDL), tmp_path_factory.mktemp("tables")
    table.coalesce(1).write.parquet(str(root / "one"))
    table.repartition(7).write.parquet(str(root / "many"))
    table.coalesce(2).write.option("parquet.block.row.count.limit", 900).parquet(str(root / "groups"))
    return {name: root / name for name in ("one", "many", "groups")}


@pytest.fixture
def opened(spark: Any) -> Iterator[Any]:
    """What opens the shards of a table, and closes them in the end."""
    found = []

    def of(table: Path, dimensions: int = DIMENSIONS) -> shards.SparkShards:
        found.append(shards.SparkShards(spark.sparkContext, Root.at(str(table.parent)), str(table), K, dimensions))
        return found[-1]

    yield of
    for over in found:
        over.close()


def copies_on_executors(spark: Any) -> list[str]:
    """Return the files that shards are copied to."""

    def listed(_: int) -> list[str]:
        return [str(path) for path in Path(os.environ["SPARK_LOCAL_DIRS"]).glob("shards-*/*")]

    return spark.sparkContext.parallelize([0], 1).flatMap(listed).collect()


def test_shards_are_the_row_groups_of_all_files(tables: dict[str, Path], opened: Any) -> None:
    # As Spark does, names that start with an underscore are left out.
    (tables["many"] / "_part.parquet").write_bytes(b"no parquet")
    assert opened(tables["many"]).n_rows == N
    found = shards.list_shards(Root.at(str(tables["groups"])), str(tables["groups"]))
    assert len(found) >= 4 and sum(shard.n_rows for shard in found) == N
    assert len({(shard.path, shard.row_group) for shard in found}) == len({shard.number for shard in found})


def test_passes_through_executors_are_those_in_memory_bit_for_bit(
    tables: dict[str, Path], catalogue: tuple[np.ndarray, FloatArray, np.ndarray], opened: Any
) -> None:
    _, vectors, weights = catalogue
    for table in tables.values():
        over, in_memory = opened(table), Rows(unit_vectors(vectors), weights, 2)
        centroids = unit_vectors(vectors[:K]).astype(np.float64)
        for _ in range(3):
            expected, found = in_memory(centroids), over(centroids)
            np.testing.assert_array_equal(found.sums, expected.sums)
            np.testing.assert_array_equal(found.mass, expected.mass)
            assert found.misfit == expected.misfit
            assert over.spares(centroids, 5) == in_memory.spares(centroids, 5)
            centroids = kmeans.updated(found)


def test_a_fit_through_executors_is_the_fit_of_one_process(
    tables: dict[str, Path], catalogue: tuple[np.ndarray, FloatArray, np.ndarray], opened: Any
) -> None:
    _, vectors, weights = catalogue
    over = opened(tables["many"])
    head_vectors, head_weights = over.head(kmeans.n_start_rows(K))
    np.testing.assert_array_equal(head_vectors, unit_vectors(vectors))
    model = kmeans.fit_passes(over, kmeans.start(head_vectors, head_weights, K))
    alone = kmeans.fit(unit_vectors(vectors), weights, K)
    np.testing.assert_array_equal(model.centroids, alone.centroids)
    assert (model.n_iterations, model.inertia) == (alone.n_iterations, alone.inertia)


def test_the_head_is_the_sample_that_a_driver_would_draw(spark: Any, tables: dict[str, Path], opened: Any) -> None:
    _, vectors, weights = sample(spark.read.parquet(str(tables["one"])), 500)
    for table in tables.values():
        head_vectors, head_weights = opened(table).head(500)
        np.testing.assert_array_equal(head_vectors, vectors)
        np.testing.assert_array_equal(head_weights, weights)


def test_a_lost_executor_costs_time_but_changes_nothing(spark: Any, tables: dict[str, Path], opened: Any) -> None:
    over, centroids = opened(tables["many"]), np.eye(DIMENSIONS)
    before = over(centroids)
    lost = copies_on_executors(spark)
    assert lost
    for path in lost:
        Path(path).unlink()
    moved = unit_vectors(np.eye(DIMENSIONS) + 0.1)
    np.testing.assert_array_equal(over(moved).sums, opened(tables["many"])(moved).sums)
    np.testing.assert_array_equal(over(centroids).sums, before.sums)


def test_copies_are_gone_after_the_fit(spark: Any, tables: dict[str, Path], opened: Any) -> None:
    over = opened(tables["one"])
    over(np.eye(DIMENSIONS))
    assert copies_on_executors(spark)
    over.close()
    assert not copies_on_executors(spark)


def test_an_empty_cluster_is_filled_from_the_shard_with_the_worst_misfit(tables: dict[str, Path], opened: Any) -> None:
    over = opened(tables["many"])
    twice = over.head(2)[0][[0, 1, 1]].astype(np.float64)  # rows go to the first of two equal centroids
    assert over(twice).mass[2] == 0
    worst = over.spares(twice, 1)[0]
    centroids, found, _ = kmeans.lloyd(over, twice, 1, -1.0)
    np.testing.assert_allclose(centroids[2], worst.vector, atol=1e-6)
    assert found.mass[2] > 0


def test_vectors_without_direction_are_refused_with_their_number(spark: Any, tmp_path: Path, opened: Any) -> None:
    rows = [("0" * 64, 1, [1.0, 0.0]), ("8" * 64, 1, [0.0, 0.0]), ("f" * 64, 1, [float("nan"), 0.0])]
    spark.createDataFrame(rows, DDL).write.parquet(str(tmp_path / "bad"))
    with pytest.raises(DataQualityError, match="2 of 3 product vectors"):
        opened(tmp_path / "bad", 2).head(10)


def test_a_copy_that_was_cut_short_is_not_read(
    tables: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPARK_LOCAL_DIRS", f"{tmp_path},/elsewhere")
    root = Root.at(str(tables["one"]))
    shard = shards.list_shards(root, root.uri)[0]
    copies = shards.Copies(root, "copies", DIMENSIONS)
    assert len(copies.open(shard).vectors) == N
    (tmp_path / "copies/0.vectors").write_bytes(b"short")
    with pytest.raises(ArtifactError, match="has 5 bytes, not 96,000"):
        copies.open(shard)
