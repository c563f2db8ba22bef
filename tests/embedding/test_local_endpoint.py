"""The bundled endpoint as a child process, asked through the openai SDK."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest

from shelfkin.embedding import minilm
from shelfkin.embedding.local_endpoint import running_local_endpoint
from shelfkin.embedding.minilm import MiniLM, mean_pool
from shelfkin.embedding.provider import LOCAL_MODEL
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
def base_url() -> Iterator[str]:
    with running_local_endpoint() as url:
        yield url


@pytest.fixture(scope="module")
def sdk(base_url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=base_url, api_key="any", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def model() -> MiniLM:
    return MiniLM(n_threads=1)


def test_vectors_are_unit_bit_identical_over_batching_and_processes(sdk: openai.OpenAI, model: MiniLM) -> None:
    together = sdk.embeddings.create(model=LOCAL_MODEL, input=TITLES * 9, encoding_format="base64")
    served = np.array([np.frombuffer(_bytes(entry.embedding), "<f4") for entry in together.data])
    assert served.shape == (54, 384)
    np.testing.assert_allclose(np.linalg.norm(served, axis=1), 1, atol=1e-6)
    alone = np.concatenate([model.embed([title]).vectors for title in TITLES])
    assert served.tobytes() == np.tile(alone, (9, 1)).tobytes()


def _bytes(embedding: object) -> bytes:
    import base64

    return base64.b64decode(str(embedding))


def test_float_answers_and_single_strings(sdk: openai.OpenAI, model: MiniLM) -> None:
    answer = sdk.embeddings.create(model=LOCAL_MODEL, input="red mug", encoding_format="float", dimensions=384)
    np.testing.assert_array_equal(
        np.array(answer.data[0].embedding, dtype=np.float32), model.embed(["red mug"]).vectors[0]
    )
    assert answer.usage.total_tokens == 4  # [CLS] red mug [SEP]


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


@pytest.mark.parametrize(
    ("wanted", "status", "param"),
    [
        ({"input": [[1, 2]]}, 400, "input"),
        ({"input": [1, 2]}, 400, "input"),
        ({"input": []}, 400, "input"),
        ({"input": ["a", ""]}, 400, "input"),
        ({"input": ["a"] * 2049}, 400, "input"),
        ({"input": "a", "dimensions": 256}, 400, "dimensions"),
        ({"input": "a", "encoding_format": "int8"}, 400, "encoding_format"),
        ({"input": "a", "model": "text-embedding-3-small"}, 404, "model"),
    ],
)
def test_refusals_have_openai_s_form(base_url: str, wanted: dict, status: int, param: str) -> None:
    answer = httpx.post(f"{base_url}/embeddings", json={"model": LOCAL_MODEL, **wanted})
    assert answer.status_code == status
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error" and error["param"] == param and error["message"]


def test_broken_json_and_models_and_health(base_url: str) -> None:
    assert httpx.post(f"{base_url}/embeddings", content=b"{").json()["error"]["message"]
    assert [entry["id"] for entry in httpx.get(f"{base_url}/models").json()["data"]] == [LOCAL_MODEL]
    assert httpx.get(base_url.replace("/v1", "/health")).json()["dimensions"] == 384


def test_it_stops_with_the_context_also_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError), running_local_endpoint() as url:
        raise ZeroDivisionError
    with pytest.raises(httpx.ConnectError):
        httpx.get(url.replace("/v1", "/health"))


def test_it_dies_with_a_parent_that_is_killed() -> None:
    script = (
        "import time\n"
        "from shelfkin.embedding.local_endpoint import running_local_endpoint\n"
        "with running_local_endpoint() as url:\n"
        "    print(url, flush=True)\n"
        "    time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        assert parent.stdout is not None
        health = parent.stdout.readline().strip().replace("/v1", "/health")
        assert httpx.get(health).status_code == 200
    finally:
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            httpx.get(health, timeout=1)
        except httpx.TransportError:
            return
        time.sleep(0.1)
    pytest.fail("the endpoint outlived its parent")


def test_another_model_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "model.onnx"
    other.write_bytes(b"not the model")
    monkeypatch.setattr(minilm, "_model_path", lambda: other)
    with pytest.raises(EmbeddingError, match="sha256"):
        MiniLM()
