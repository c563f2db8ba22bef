"""The vector store: what a reader sees while others write, race, crash and tear files."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from shelfkin.artifacts import Root
from shelfkin.embedding.provider import Provider
from shelfkin.embedding.store import VectorStore
from shelfkin.errors import ArtifactError

PROVIDER = Provider("local", "", "some-model", 4, False)


@pytest.fixture
def store(tmp_path: Path) -> VectorStore:
    return VectorStore.of(Root.at(str(tmp_path)), PROVIDER)


def vectors(n: int, start: float = 0.0) -> np.ndarray:
    return np.arange(n * 4, dtype=np.float32).reshape(n, 4) + np.float32(start)


def test_an_empty_store_has_generation_0(store: VectorStore) -> None:
    assert (store.latest().number, store.latest().shards) == (0, ())
    assert store.adopt_orphans().number == 0


def test_a_shard_is_sorted_exact_and_visible_only_when_committed(store: VectorStore) -> None:
    shard = store.write_shard("run-a", ["cc", "aa", "bb"], vectors(3))
    assert store.latest().shards == ()
    assert store.listed_rows("run-a") == 3
    generation = store.commit([shard])
    assert generation.number == 1
    table = pq.read_table(store.shard_uris(generation)[0])
    assert table["text_hash"].to_pylist() == ["aa", "bb", "cc"]
    np.testing.assert_array_equal(np.stack(table["vector"].to_numpy()), vectors(3)[[1, 2, 0]])


def test_a_generation_never_changes(store: VectorStore) -> None:
    first = store.commit([store.write_shard("run-a", ["aa"], vectors(1))])
    second = store.commit([store.write_shard("run-b", ["bb"], vectors(1))])
    assert (first.number, second.number) == (1, 2)
    assert store.generation(1) == first and set(first.shards) < set(second.shards)
    assert store.commit(second.shards) == second  # nothing new: no new generation
    with pytest.raises(ArtifactError):
        store.generation(9)


def test_racing_writers_all_arrive(store: VectorStore) -> None:
    shards = [store.write_shard(f"run-{i}", [f"{i:02d}"], vectors(1, i)) for i in range(8)]
    barrier = threading.Barrier(8)

    def commit(index: int) -> None:
        barrier.wait()
        store.commit([shards[index]])

    threads = [threading.Thread(target=commit, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    newest = store.latest()
    assert newest.number == 8  # each writer found a number of its own
    assert set(newest.shards) == set(shards)
    sizes = [len(store.generation(number).shards) for number in range(1, 9)]
    assert sizes == list(range(1, 9))


def test_shards_of_a_killed_run_are_adopted_and_torn_ones_are_not(
    store: VectorStore, caplog: pytest.LogCaptureFixture
) -> None:
    whole = store.write_shard("killed", ["aa", "bb"], vectors(2))
    torn = store.write_shard("killed", ["cc", "dd"], vectors(2))
    flipped = store.write_shard("killed", ["ee", "ff"], vectors(2))
    path = Path(store.join(torn.path))
    path.write_bytes(path.read_bytes()[:-20])
    path = Path(store.join(flipped.path))
    data = bytearray(path.read_bytes())
    data[data.index(vectors(2).tobytes())] ^= 1
    path.write_bytes(bytes(data))
    Path(store.join("shards", "killed", ".put-x1")).write_bytes(b"half")
    generation = store.adopt_orphans()
    assert generation.shards == (whole,)
    assert caplog.text.count("set aside") == 2
    assert store.adopt_orphans() == generation


def test_the_same_batch_of_a_task_is_found_again(store: VectorStore) -> None:
    shard = store.write_shard("run-a", ["bb", "aa"], vectors(2))
    assert store.find_shard("run-a", ["aa", "bb"]) == shard
    assert store.find_shard("run-a", ["aa"]) is None
    assert store.find_shard("run-b", ["aa", "bb"]) is None


def test_the_first_reason_to_stop_stays(store: VectorStore) -> None:
    assert store.stop_reason("run-a") is None
    store.stop("run-a", {"error": "BadKeyError"})
    store.stop("run-a", {"error": "other"})
    assert store.stop_reason("run-a") == {"error": "BadKeyError"}
    assert store.stop_reason("run-b") is None
