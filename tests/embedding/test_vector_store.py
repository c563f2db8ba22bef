"""The vector store: what a reader sees while others write, race, crash and tear files."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from shelfkin.artifacts import Root
from shelfkin.embedding.provider import Provider
from shelfkin.embedding.vector_store import VectorStore
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
    shard = store.write_shard("run-a", "r1", ["cc", "aa", "bb"], vectors(3))
    assert store.latest().shards == ()
    generation = store.commit([shard])
    assert generation.number == 1
    table = pq.read_table(store.join(generation.shards[0].path))
    assert table["text_hash"].to_pylist() == ["aa", "bb", "cc"]
    np.testing.assert_array_equal(np.stack(table["vector"].to_numpy()), vectors(3)[[1, 2, 0]])


def test_a_generation_never_changes(store: VectorStore) -> None:
    first = store.commit([store.write_shard("run-a", "r1", ["aa"], vectors(1))])
    second = store.commit([store.write_shard("run-b", "r1", ["bb"], vectors(1))])
    assert (first.number, second.number) == (1, 2)
    assert store.generation(1) == first and set(first.shards) < set(second.shards)
    assert store.commit(second.shards) == second  # nothing new: no new generation
    with pytest.raises(ArtifactError):
        store.generation(9)


def test_racing_writers_all_arrive(store: VectorStore) -> None:
    shards = [store.write_shard(f"run-{i}", "r1", [f"{i:02d}"], vectors(1, i)) for i in range(8)]
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
    whole = store.write_shard("killed", "r0", ["aa", "bb"], vectors(2))
    torn = store.write_shard("killed", "r1", ["cc", "dd"], vectors(2))
    flipped = store.write_shard("killed", "r2", ["ee", "ff"], vectors(2))
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


def test_a_shard_of_another_model_is_never_adopted(store: VectorStore, caplog: pytest.LogCaptureFixture) -> None:
    other = VectorStore.of(store.root, replace(PROVIDER, model="other-model"))
    shard = other.write_shard("run-a", "r1", ["aa"], vectors(1))
    # Somebody copies files between two models' folders.
    target = Path(store.join(shard.path))
    target.parent.mkdir(parents=True)
    target.write_bytes(Path(other.join(shard.path)).read_bytes())
    assert store.adopt_orphans().shards == ()
    assert "belongs to 'local/other-model/4'" in caplog.text


def test_a_refusal_is_a_row_without_a_vector(store: VectorStore) -> None:
    shard = store.write_refused("run-a", {"bb": "too rude", "aa": "too long"})
    table = pq.read_table(store.join(shard.path))
    assert table.to_pylist() == [
        {"text_hash": "aa", "vector": None, "refused": "too long"},
        {"text_hash": "bb", "vector": None, "refused": "too rude"},
    ]


def test_the_requests_line_travels_in_its_shard(store: VectorStore) -> None:
    line = {"permit": "run-a-0000001", "inputs": 1, "tokens": 5, "try": 1, "status": "ok", "billed": 4}
    shard = store.write_shard("run-a", "r1", ["aa"], vectors(1), [line])
    assert store.orphan_requests("run-a") == [{**line, "shard": vars(shard)}]
