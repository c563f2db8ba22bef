"""The bundled model, and the client that asks it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from shelfkin.embedding import minilm
from shelfkin.embedding.local_client import LocalClient
from shelfkin.embedding.minilm import MiniLM, mean_pool
from shelfkin.errors import EmbeddingError

TITLES = [
    "Apple iPhone 8 Plus 64GB silver",
    "iphone 8 plus 64 gb spacegrau",
    "WHITE HANGING HEART T-LIGHT HOLDER",
    "Crème brûlée ☕ 抹茶 $5",
    "x",
    "word " * 300,
]


@pytest.fixture(scope="module")
def model() -> MiniLM:
    return MiniLM(n_threads=1)


def test_vectors_are_unit_and_bit_identical_over_batching_threads_and_requests(model: MiniLM) -> None:
    async def ask() -> list[tuple[np.ndarray, int]]:
        async with LocalClient() as client:
            answers = await asyncio.gather(client.send(TITLES * 9), client.send(TITLES * 4))
        return [answer.read(0, None) for answer in answers]

    (many, n_tokens), (fewer, _) = asyncio.run(ask())
    assert many.shape == (54, 384) and many.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(many, axis=1), 1, atol=1e-6)
    alone = [model.embed([title]) for title in TITLES]
    expected = np.concatenate([one.vectors for one in alone])
    assert many.tobytes() == np.tile(expected, (9, 1)).tobytes()
    assert fewer.tobytes() == np.tile(expected, (4, 1)).tobytes()
    assert n_tokens == 9 * sum(one.n_tokens for one in alone)


def test_tokens_are_counted_with_the_marks(model: MiniLM) -> None:
    assert model.embed(["red mug"]).n_tokens == 4  # [CLS] red mug [SEP]


def test_meaning_is_near(model: MiniLM) -> None:
    vectors = model.embed(TITLES).vectors
    assert vectors[0] @ vectors[1] > 0.6 > 0.3 > vectors[0] @ vectors[2]


def test_long_texts_are_cut_at_128_tokens(model: MiniLM) -> None:
    long = model.embed(["word " * 300])
    assert long.n_tokens == 128
    np.testing.assert_array_equal(long.vectors, model.embed(["word " * 126]).vectors)


def test_mean_pool_ignores_padding() -> None:
    hidden = np.array([[[1, 2], [3, 4], [100, 100]]], dtype=np.float32)
    np.testing.assert_array_equal(mean_pool(hidden, np.array([[1, 1, 0]])), [[2, 3]])


def test_another_model_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "model.onnx"
    other.write_bytes(b"not the model")
    monkeypatch.setattr(minilm, "_model_path", lambda: other)
    with pytest.raises(EmbeddingError, match="sha256"):
        MiniLM()
