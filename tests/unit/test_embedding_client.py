"""Requests against a server that fails in every way a server can: what is retried, when, and what is believed."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np
import pytest

import embedding_server as faulty
from embedding_server import DIMENSIONS, Server, refuse, running_server, vector_of
from shelfkin.embedding.client import (
    BadKeyError,
    BadRequestError,
    EmbeddingClient,
    InsufficientQuotaError,
    NoPermissionError,
    UnknownModelError,
    UnusableAnswerError,
    read_answer,
    retry_after_s,
)
from shelfkin.embedding.provider import Provider
from shelfkin.errors import EmbeddingError, EmbeddingUnavailableError

KEY = "sk-proj-PLANTED0123456789abcdefWXYZ"
TEXTS = ["red mug", "blue mug", "tea towel"]


@pytest.fixture
def server() -> Iterator[Server]:
    with running_server() as running:
        yield running


class Waits(list[float]):
    """Records the waits between tries instead of suffering them."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


def client(server: Server, waits: Waits | None = None, **options: float) -> EmbeddingClient:
    provider = Provider("compatible", server.base_url, "some-model", DIMENSIONS, True)
    return EmbeddingClient(provider, KEY, sleep=Waits() if waits is None else waits, **options)


def expected() -> np.ndarray:
    return np.stack([vector_of(text) for text in TEXTS])


def test_sends_what_was_asked_and_returns_vectors_in_order(server: Server) -> None:
    answer = client(server).embed(TEXTS)
    assert answer.vectors.dtype == np.float32
    np.testing.assert_array_equal(answer.vectors, expected())
    assert (answer.n_tokens, answer.n_retries) == (7, 0)
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
    np.testing.assert_array_equal(client(server).embed(TEXTS).vectors, expected())
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    "fault",
    [
        refuse(429, "rate_limit_exceeded"),
        refuse(408),
        refuse(409),
        refuse(500),
        refuse(503),
        faulty.reset,
        faulty.cut_off,
        faulty.truncated_json,
        faulty.html,
        faulty.too_few,
        faulty.no_data,
        faulty.same_index_twice,
        faulty.not_a_number,
        faulty.too_short,
    ],
    ids=lambda fault: getattr(fault, "__name__", "status").strip("<>"),
)
def test_passing_faults_are_retried(server: Server, fault: faulty.Fault) -> None:
    waits = Waits()
    server.faults = [fault, fault]
    answer = client(server, waits).embed(TEXTS)
    np.testing.assert_array_equal(answer.vectors, expected())
    assert answer.n_retries == 2
    assert len(server.seen) == 3
    # Full jitter below 0.5 s doubled with each try.
    assert len(waits) == 2 and 0 <= waits[0] <= 1 and 0 <= waits[1] <= 2


@pytest.mark.parametrize(
    ("headers", "at_least_s"), [({"Retry-After": "7"}, 7.0), ({"retry-after-ms": "2500", "Retry-After": "3"}, 2.5)]
)
def test_never_sooner_than_the_server_asks(server: Server, headers: dict[str, str], at_least_s: float) -> None:
    waits = Waits()
    server.faults = [refuse(429, "rate_limit_exceeded", headers=headers)]
    client(server, waits).embed(TEXTS)
    assert at_least_s <= waits[0] <= at_least_s + 1


def test_retry_after_as_http_date_and_nonsense() -> None:
    now = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
    assert retry_after_s({"retry-after": "Mon, 23 Nov 2026 12:00:30 GMT"}, now) == 30.0
    assert retry_after_s({"retry-after": "Mon, 23 Nov 2026 11:00:00 GMT"}, now) == 0.0
    assert retry_after_s({"retry-after": "soon"}, now) is None
    assert retry_after_s({"retry-after": "-3"}, now) is None
    assert retry_after_s({}, now) is None


def test_a_wait_beyond_the_deadline_is_not_begun(server: Server) -> None:
    waits = Waits()
    server.faults = [refuse(429, "rate_limit_exceeded", headers={"Retry-After": "3600"})]
    with pytest.raises(EmbeddingUnavailableError) as caught:
        client(server, waits, deadline_s=5).embed(TEXTS)
    assert caught.value.retryable
    assert waits == [] and len(server.seen) == 1


def test_a_slow_server_times_out(server: Server) -> None:
    import time

    server.faults = [lambda handler, texts: time.sleep(0.6)] * 9
    with pytest.raises(EmbeddingUnavailableError, match="APITimeoutError"):
        client(server, timeout_s=0.1, deadline_s=1.0).embed(TEXTS)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (refuse(429, "insufficient_quota"), InsufficientQuotaError),
        (refuse(401, "invalid_api_key", f"Incorrect API key provided: sk-proj-****WXYZ or {KEY}"), BadKeyError),
        (refuse(403, "model_not_allowed"), NoPermissionError),
        (refuse(404, "model_not_found"), UnknownModelError),
        (refuse(400, None, f"bad input, Bearer {KEY}"), BadRequestError),
    ],
)
def test_refusals_end_at_once(
    server: Server, fault: faulty.Fault, error: type[EmbeddingError], caplog: pytest.LogCaptureFixture
) -> None:
    server.faults = [fault]
    waits = Waits()
    with pytest.raises(error) as caught:
        client(server, waits).embed(TEXTS)
    assert len(server.seen) == 1 and waits == []
    assert not caught.value.retryable and caught.value.next_step
    assert_no_key(str(caught.value))


def test_the_key_is_in_no_log_and_no_traceback(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    import traceback

    caplog.set_level(logging.DEBUG)
    server.faults = [
        refuse(500, None, f"boom {KEY}"),
        refuse(429, "x", f"slow down sk-proj-PLAN****WXYZ {KEY}"),
        refuse(401, None, KEY),
    ]
    with pytest.raises(BadKeyError) as caught:
        client(server).embed(TEXTS)
    assert server.seen[0].authorization.endswith(KEY)  # it was really sent
    assert len(caplog.records) > 2
    assert_no_key(caplog.text)
    assert_no_key("".join(traceback.format_exception(caught.value)))


def assert_no_key(text: str) -> None:
    assert "PLAN" not in text and "WXYZ" not in text


def test_length_is_free_but_uniform_where_only_the_server_knows_it() -> None:
    body = faulty.answer(faulty.entries(TEXTS))
    vectors, _ = read_answer(body, 3, None)
    assert vectors.shape == (3, DIMENSIONS)
    mixed = [*faulty.entries(TEXTS[:2]), {"index": 2, "embedding": [1.0, 0.0]}]
    with pytest.raises(UnusableAnswerError, match="length"):
        read_answer(faulty.answer(mixed), 3, None)
