"""One request against a server that fails in every way a server can: what each failure is called, what is believed."""

from __future__ import annotations

import asyncio
import json
import time
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np
import pytest

import embedding_server as faulty
from embedding_server import DIMENSIONS, Server, refuse, running_server, vector_of
from shelfkin.embedding.answers import read_answer
from shelfkin.embedding.client import EmbeddingClient
from shelfkin.embedding.failures import (
    BadKeyError,
    BadRequestError,
    InsufficientQuotaError,
    NoPermissionError,
    RequestFailedError,
    UnknownModelError,
)
from shelfkin.embedding.provider import Provider
from shelfkin.embedding.rate_headers import retry_after_s
from shelfkin.errors import EmbeddingError

KEY = "sk-proj-PLANTED0123456789abcdefWXYZ"
TEXTS = ["red mug", "blue mug", "tea towel"]


@pytest.fixture
def server() -> Iterator[Server]:
    with running_server() as running:
        yield running


def provider_at(base_url: str) -> Provider:
    return Provider("compatible", base_url, "some-model", DIMENSIONS, True)


def send(base_url: str, texts: list[str] = TEXTS, **options: float) -> tuple[np.ndarray, int | None]:
    """Send one request and read its answer."""

    async def ask() -> tuple[np.ndarray, int | None]:
        async with EmbeddingClient(provider_at(base_url), KEY, **options) as client:
            answer = await client.send(texts)
            return answer.read(len(texts), DIMENSIONS)

    return asyncio.run(ask())


def expected() -> np.ndarray:
    return np.stack([vector_of(text) for text in TEXTS])


def test_sends_what_was_asked_and_returns_vectors_in_order(server: Server) -> None:
    vectors, n_tokens = send(server.base_url)
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, expected())
    assert n_tokens == 7
    assert server.seen[0].body == {
        "input": TEXTS,
        "model": "some-model",
        "encoding_format": "base64",
        "dimensions": DIMENSIONS,
    }
    assert server.seen[0].authorization == f"Bearer {KEY}"


@pytest.mark.parametrize("harmless", [faulty.shuffled, faulty.as_floats])
def test_order_and_format_of_the_answer_do_not_matter(server: Server, harmless: faulty.Fault) -> None:
    server.faults = [harmless]
    np.testing.assert_array_equal(send(server.base_url)[0], expected())


@pytest.mark.parametrize(
    ("fault", "status", "http_status"),
    [
        (refuse(429, "rate_limit_exceeded"), "rate_limited", 429),
        (refuse(408), "failed", 408),
        (refuse(409), "failed", 409),
        (refuse(500), "failed", 500),
        (refuse(503), "failed", 503),
        (faulty.reset, "lost", None),
        (faulty.cut_off, "lost", None),
        (faulty.truncated_json, "unusable", 200),
        (faulty.html, "unusable", 200),
        (faulty.too_few, "unusable", 200),
        (faulty.no_data, "unusable", 200),
        (faulty.same_index_twice, "unusable", 200),
        (faulty.not_a_number, "unusable", 200),
        (faulty.too_short, "unusable", 200),
        (refuse(400, "invalid_request_error"), "refused", 400),
        (refuse(422), "refused", 422),
    ],
)
def test_what_each_failure_is_called(server: Server, fault: faulty.Fault, status: str, http_status: int | None) -> None:
    server.faults = [fault]
    with pytest.raises(RequestFailedError) as caught:
        send(server.base_url)
    assert (caught.value.status, caught.value.http_status) == (status, http_status)
    assert len(server.seen) == 1  # the SDK repeats nothing


def test_an_answer_that_was_billed_and_is_of_no_use_says_what_was_billed(server: Server) -> None:
    server.faults = [faulty.too_few, faulty.no_data, faulty.truncated_json]
    for _ in range(2):
        with pytest.raises(RequestFailedError) as caught:
            send(server.base_url)
        assert caught.value.billed == 7
    with pytest.raises(RequestFailedError) as caught:
        send(server.base_url)
    assert caught.value.billed is None


def test_a_slow_answer_is_lost_and_a_server_that_is_not_there_costs_nothing(server: Server) -> None:
    server.faults = [lambda handler, texts: time.sleep(0.6)]
    with pytest.raises(RequestFailedError) as caught:
        send(server.base_url, timeout_s=0.1)
    assert caught.value.status == "lost"
    with pytest.raises(RequestFailedError) as caught:
        send("http://127.0.0.1:9/v1")
    assert caught.value.status == "failed"


def test_a_vector_length_that_was_not_asked_for_is_not_believed() -> None:
    body = faulty.answer(faulty.entries(TEXTS))
    with pytest.raises(RequestFailedError, match=f"length .{DIMENSIONS}.; expected 4"):
        read_answer(body, 3, 4)


def test_retry_after_as_http_date_and_nonsense() -> None:
    now = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
    assert retry_after_s({"retry-after": "Mon, 23 Nov 2026 12:00:30 GMT"}, now) == 30.0
    assert retry_after_s({"retry-after": "Mon, 23 Nov 2026 11:00:00 GMT"}, now) == 0.0
    assert retry_after_s({"retry-after-ms": "2500", "retry-after": "3"}, now) == 2.5
    assert retry_after_s({"retry-after": "soon"}, now) is None
    assert retry_after_s({"retry-after": "-3"}, now) is None
    assert retry_after_s({}, now) is None


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (refuse(429, "insufficient_quota"), InsufficientQuotaError),
        (refuse(402, None, "Not enough credit"), InsufficientQuotaError),
        (refuse(401, "invalid_api_key", f"Incorrect API key provided: sk-proj-****WXYZ or {KEY}"), BadKeyError),
        (refuse(403, "model_not_allowed", f"Bearer {KEY}"), NoPermissionError),
        (refuse(404, "model_not_found"), UnknownModelError),
        (refuse(405, None, f"bad method, Bearer {KEY}"), BadRequestError),
    ],
)
def test_refusals_that_end_the_run_are_typed(server: Server, fault: faulty.Fault, error: type[EmbeddingError]) -> None:
    server.faults = [fault]
    with pytest.raises(RequestFailedError) as caught:
        send(server.base_url)
    assert caught.value.status == "terminal"
    assert type(caught.value.error) is error
    assert not caught.value.error.retryable and caught.value.error.next_step
    assert_no_key(str(caught.value.error))


@pytest.mark.parametrize(
    "content",
    [
        {"error": {"message": "longer than the model takes", "type": "x"}},
        {"error": "longer than the model takes", "error_type": "Validation"},
        {"detail": "longer than the model takes"},
        [{"error": {"code": 400, "message": "longer than the model takes"}}],
    ],
)
def test_the_servers_words_are_found_in_whatever_shape_they_come(server: Server, content: object) -> None:
    server.faults = [lambda handler, texts: handler.reply(400, json.dumps(content).encode())]
    with pytest.raises(RequestFailedError, match=r"HTTP 400.*: longer than the model takes"):
        send(server.base_url)


def test_a_400_about_the_settings_blames_no_text(server: Server) -> None:
    content = b'{"error": {"message": "no", "type": "invalid_request_error", "param": "dimensions", "code": null}}'
    server.faults = [lambda handler, texts: handler.reply(400, content)]
    with pytest.raises(RequestFailedError) as caught:
        send(server.base_url)
    assert caught.value.status == "terminal" and type(caught.value.error) is BadRequestError


def test_the_key_is_in_no_message_and_no_traceback(server: Server) -> None:
    server.faults = [
        refuse(500, None, f"boom {KEY}"),
        refuse(429, "x", f"slow down sk-proj-PLAN****WXYZ {KEY}"),
        refuse(400, None, f"bad input, Bearer {KEY}"),
        refuse(401, None, KEY),
    ]
    for _ in range(4):
        with pytest.raises(RequestFailedError) as caught:
            send(server.base_url)
        assert_no_key("".join(traceback.format_exception(caught.value)))
        assert_no_key(f"{caught.value.said} {caught.value.error}")
    assert server.seen[0].authorization.endswith(KEY)  # it was really sent


def assert_no_key(text: str) -> None:
    assert "PLAN" not in text and "WXYZ" not in text


def test_length_is_free_but_uniform_where_only_the_server_knows_it() -> None:
    body = faulty.answer(faulty.entries(TEXTS))
    vectors, _ = read_answer(body, 3, None)
    assert vectors.shape == (3, DIMENSIONS)
    mixed = [*faulty.entries(TEXTS[:2]), {"index": 2, "embedding": [1.0, 0.0]}]
    with pytest.raises(RequestFailedError, match="length"):
        read_answer(faulty.answer(mixed), 3, None)
