"""Compaction of the vector store: what readers see stays the same, and nothing that somebody may read is lost."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from shelfkin.artifacts import Root
from shelfkin.embedding.compaction import compact
from shelfkin.embedding.provider import Provider
from shelfkin.embedding.texts import stored_vectors
from shelfkin.embedding.vector_store import VectorStore

pytestmark = pytest.mark.spark


@pytest.fixture
def store(tmp_path: Path) -> VectorStore:
    store = VectorStore.of(Root.at(str(tmp_path)), Provider("local", "", "some-model", 4, False))
    for number in range(12):
        hashes = [f"{value:02d}" for value in range(number, 36, 12)]
        vectors = np.full((3, 4), number, np.float32)
        store.write_shard(f"run-{number % 3}", f"r{number}", hashes, vectors)
    # A text that two runs paid for; one that a run was refused and another wasn't; one that stays refused.
    store.write_shard("run-9", "r1", ["00", "90"], np.full((2, 4), -1, np.float32))
    store.write_refused("run-9", {"90": "rude", "91": "rude"})
    store.adopt_orphans()
    return store


def rows_of(spark: Any, store: VectorStore, number: int | None = None) -> dict[str, set[Any]]:
    generation = store.latest() if number is None else store.generation(number)
    found: dict[str, set[Any]] = {}
    for row in stored_vectors(spark, store, generation).collect():
        found.setdefault(row["text_hash"], set()).add(tuple(row["vector"]) if row["vector"] else row["refused"])
    return found


def test_few_sorted_files_with_the_row_that_readers_take(spark: Any, store: VectorStore) -> None:
    before = rows_of(spark, store)
    old = store.latest()
    # About 1 KB a shard: 14 of them into files of 4 KB.
    new = compact(spark, store, old, max_small=4, target_bytes=4096)
    assert new.number == old.number + 1 and len(new.shards) < 7
    ranges = []
    for shard in new.shards:
        hashes = pq.read_table(store.join(shard.path))["text_hash"].to_pylist()
        assert hashes == sorted(set(hashes)) and len(hashes) == shard.rows
        ranges.append((hashes[0], hashes[-1]))
    ranges.sort()
    assert all(left[1] < right[0] for left, right in itertools.pairwise(ranges))  # they don't overlap
    after = rows_of(spark, store)
    assert {key: values for key, values in after.items() if key not in ("00", "90")} == {
        key: values for key, values in before.items() if key not in ("00", "90")
    }
    assert after["00"] == {(-1.0,) * 4}  # of two vectors the smaller, as every reader takes it
    assert after["90"] == {(-1.0,) * 4}  # a vector goes before a refusal
    assert after["91"] == {"rude"}


def test_older_generations_stay_readable_and_nothing_comes_back(spark: Any, store: VectorStore) -> None:
    old = store.latest()
    before = rows_of(spark, store)
    new = compact(spark, store, old, max_small=4)
    assert rows_of(spark, store, old.number) == before
    # The replaced files still lie there; they are no orphans.
    assert store.adopt_orphans() == new
    assert store.collect_garbage(datetime.now(UTC) - timedelta(days=30)) == 0
    assert store.collect_garbage(datetime.now(UTC) + timedelta(seconds=1)) == 14
    files = list(Path(store.uri).glob("shards/*/*.parquet"))
    assert [path.name.startswith("compact-") for path in files] == [True]
    assert store.latest().retired == {} and set(rows_of(spark, store)) == set(before)


def test_a_compaction_that_was_killed_leaves_nothing_behind_that_is_read(spark: Any, store: VectorStore) -> None:
    old = store.latest()
    table = pq.read_table(store.join(old.shards[0].path))
    store.write_rows("compact-killed", "compact-0", table)
    assert store.adopt_orphans() == old


def test_few_small_files_are_left_alone(spark: Any, store: VectorStore) -> None:
    generation = store.latest()
    assert compact(spark, store, generation, max_small=14) == generation
    assert compact(spark, store, generation, max_small=4, target_bytes=100) == generation  # none of them is small


def test_a_shard_that_was_torn_after_it_was_listed_is_set_aside(
    spark: Any, store: VectorStore, caplog: pytest.LogCaptureFixture
) -> None:
    listed = store.latest()
    torn, gone = listed.shards[0], listed.shards[1]
    Path(store.join(torn.path)).write_bytes(b"PAR1")
    Path(store.join(gone.path)).unlink()
    whole = store.set_damaged_aside()
    assert set(listed.shards) - set(whole.shards) == {torn, gone}
    assert "instead of" in caplog.text and "is gone" in caplog.text
    assert store.set_damaged_aside() == whole
    assert rows_of(spark, store)  # readable again
