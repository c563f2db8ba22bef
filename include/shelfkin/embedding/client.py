"""One embedding request through the `openai` SDK: retried by kind of error, its answer checked before it is believed.

The SDK's own retries are off, because they would repeat ``insufficient_quota``; and its parser is bypassed, because
a wrong count, order, length or a NaN passes it silently.
"""

from __future__ import annotations

import base64
import binascii
import email.utils
import logging
import math
import random
import re
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
import openai
import orjson
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_before_delay

from shelfkin.embedding.provider import KEY_VARIABLE, Provider
from shelfkin.errors import EmbeddingError, EmbeddingUnavailableError

log = logging.getLogger("shelfkin.embedding")

# 429s (and others) that say "no money", not "not so fast": asking again can't help.
_NO_QUOTA_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
_RETRYABLE_STATUS = frozenset({408, 409, 429})
_BACKOFF_BASE_S, _BACKOFF_CAP_S = 0.5, 30.0
_MESSAGE_CHARS = 300


class InsufficientQuotaError(EmbeddingError):
    """The account has no quota left."""

    kind = "insufficient_quota"


class BadKeyError(EmbeddingError):
    """The server doesn't accept the key, or there is none."""

    kind = "bad_key"


class NoPermissionError(EmbeddingError):
    """The key may not use this model or endpoint."""

    kind = "no_permission"


class UnknownModelError(EmbeddingError):
    """The server has no such model or address."""

    kind = "unknown_model"


class BadRequestError(EmbeddingError):
    """The server refuses the request itself."""

    kind = "bad_request"


class UnusableAnswerError(Exception):
    """A 200 that doesn't hold what was asked for; another try may."""


@dataclass(frozen=True)
class Answer:
    """What one request brought.

    Attributes
    ----------
    vectors
        float32 of shape (n_texts, dimensions), row i for text i, all finite, as the model returned them.
    n_tokens
        ``usage.total_tokens`` as the server reports it; 0 if it reports none.
    n_retries
        Requests sent before this one for the same texts.
    latency_s
        Seconds that the successful request took.
    """

    vectors: npt.NDArray[np.float32]
    n_tokens: int
    n_retries: int
    latency_s: float
    request_id: str
    requested_at: datetime


class EmbeddingClient:
    """Sends texts to one provider.

    Parameters
    ----------
    provider
        Where and with which model.
    api_key
        The key; "" where the server needs none.
    timeout_s
        Longest wait for one answer.
    deadline_s
        Longest time for one batch of texts, with all its retries and waits.
    sleep
        Replaced in tests, so that waits are measured and not suffered.
    """

    def __init__(
        self,
        provider: Provider,
        api_key: str,
        *,
        timeout_s: float = 60.0,
        deadline_s: float = 300.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._provider, self._key = provider, api_key
        self._timeout_s, self._deadline_s, self._sleep = timeout_s, deadline_s, sleep
        # A proxy of the environment can't reach a loopback address.
        loopback = urlsplit(provider.base_url).hostname in ("127.0.0.1", "localhost", "::1")
        self._sdk = openai.OpenAI(
            base_url=provider.base_url,
            api_key=api_key or "no-key-needed",  # the SDK insists on one
            max_retries=0,
            http_client=openai.DefaultHttpxClient(trust_env=not loopback),
        )

    def __enter__(self) -> EmbeddingClient:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._sdk.close()

    def embed(self, texts: list[str]) -> Answer:
        """Return the vectors of `texts`, in order.

        Rate limits, time-outs, resets, 5xx and unusable answers are retried with full jitter (Brooker 2015, AWS
        Architecture Blog, "Exponential backoff and jitter"), never sooner than Retry-After says.

        Raises
        ------
        EmbeddingUnavailableError
            No usable answer within `deadline_s`.
        EmbeddingError
            Its subclasses by kind: the server refused, and asking again will not help.
        """
        started = time.monotonic()
        retrying = Retrying(
            stop=stop_before_delay(self._deadline_s),
            wait=_wait_s,
            retry=retry_if_exception(is_retryable),
            sleep=self._sleep,
            before_sleep=self._log_retry,
            reraise=True,
        )
        try:
            for attempt in retrying:
                with attempt:
                    remaining_s = self._deadline_s - (time.monotonic() - started)
                    n_retries = attempt.retry_state.attempt_number - 1
                    return self._request(texts, n_retries, min(self._timeout_s, max(remaining_s, 1.0)))
        except (openai.OpenAIError, UnusableAnswerError) as error:
            # `from None`: the SDK's exception carries the request with its headers, and may echo the key.
            raise self._explained(error, retrying.statistics.get("attempt_number", 1)) from None
        raise EmbeddingError("The retry loop ended without an answer.")  # tenacity always returns or raises

    def _request(self, texts: list[str], n_retries: int, timeout_s: float) -> Answer:
        requested_at, started = datetime.now(UTC), time.monotonic()
        provider = self._provider
        raw = self._sdk.embeddings.with_raw_response.create(
            input=texts,
            model=provider.model,
            encoding_format="base64",
            dimensions=provider.dimensions if provider.send_dimensions and provider.dimensions else openai.omit,
            timeout=timeout_s,
        )
        response = raw.http_response
        vectors, n_tokens = read_answer(response.content, len(texts), provider.dimensions)
        request_id = response.headers.get("x-request-id") or f"local-{uuid.uuid4().hex[:16]}"
        return Answer(vectors, n_tokens, n_retries, time.monotonic() - started, request_id, requested_at)

    def _log_retry(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        log.warning("request failed (%s); next try in %.1f s", self._safe(_summary(error)), state.upcoming_sleep)

    def _explained(self, error: Exception, n_tries: int) -> EmbeddingError:
        """Return our typed error for the SDK's, in words that can't hold the key."""
        server, model = self._provider.server, self._provider.model
        if is_retryable(error):
            return EmbeddingUnavailableError(
                f"No usable answer from {server} after {n_tries} tries within {self._deadline_s:.0f} s; "
                f"the last was: {self._safe(_summary(error))}.",
                next_step="Run the task again later: finished vectors are kept, only the rest is sent.",
            )
        status = getattr(error, "status_code", None)
        code, said = error_code(error), self._safe(_summary(error))
        if code in _NO_QUOTA_CODES:
            return InsufficientQuotaError(
                f"{server} says that the account's quota is used up ({code}).",
                next_step="Raise the budget or add credit, then run again: finished vectors are kept.",
            )
        if status == 401:
            return BadKeyError(  # without the server's words: it echoes parts of the key
                f"{server} does not accept {KEY_VARIABLE} (401)." if self._key else f"{server} wants a key (401).",
                next_step=f"Set a valid {KEY_VARIABLE} in the environment of the driver and of every executor.",
            )
        if status == 403:
            return NoPermissionError(
                f"{server} refuses access (403): {said}.",
                next_step=f"Allow the key's project to use {model}, or choose another --model.",
            )
        if status == 404:
            return UnknownModelError(
                f"{server} knows no model or address {model!r} (404): {said}.",
                next_step="Check --model and OPENAI_BASE_URL (it usually ends in /v1).",
            )
        return BadRequestError(
            f"{server} refuses the request: {said}.", next_step="Check --model, --dimensions and the texts' length."
        )

    def _safe(self, text: str) -> str:
        """Return `text` without the key and without anything that looks like (a masked part of) one."""
        if self._key:
            text = text.replace(self._key, "[key]")
        return re.sub(r"\b(sk|Bearer)[-_ ][A-Za-z0-9_*.…-]{3,}", "[key]", text)


def read_answer(body: bytes, n_texts: int, dimensions: int | None) -> tuple[npt.NDArray[np.float32], int]:
    """Return vectors (float32, n_texts x d, in the order of the texts) and total tokens of an answer's body.

    Raises
    ------
    UnusableAnswerError
        Not JSON (truncated, HTML), or wrong count, index, length or a value that isn't finite.
    """
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise UnusableAnswerError(f"a body of {len(body)} bytes that is not JSON") from None
    data = content.get("data") if isinstance(content, dict) else None
    if not isinstance(data, list) or not all(isinstance(entry, dict) for entry in data):
        raise UnusableAnswerError("a body without a list `data`")
    if sorted(str(entry.get("index")) for entry in data) != sorted(str(index) for index in range(n_texts)):
        raise UnusableAnswerError(f"{len(data)} vectors for {n_texts} texts, or indexes that are not 0..{n_texts - 1}")
    rows = [_vector(entry.get("embedding")) for entry in sorted(data, key=lambda entry: int(entry["index"]))]
    lengths = {len(row) for row in rows}
    if len(lengths) != 1 or (dimensions is not None and lengths != {dimensions}) or 0 in lengths:
        raise UnusableAnswerError(f"vectors of length {sorted(lengths)}; expected {dimensions or 'one length'}")
    vectors = np.stack(rows)
    if not np.isfinite(vectors).all():
        raise UnusableAnswerError("a vector holds NaN or infinity")
    usage = content.get("usage")
    tokens = usage.get("total_tokens") if isinstance(usage, dict) else None
    return vectors, tokens if isinstance(tokens, int) else 0


def _vector(embedding: Any) -> npt.NDArray[np.float32]:
    """Decode base64 of little-endian float32, or a list of numbers from a server that ignores encoding_format."""
    try:
        if isinstance(embedding, str):
            decoded = np.frombuffer(base64.b64decode(embedding, validate=True), dtype="<f4")
        else:
            decoded = np.asarray(embedding, dtype=np.float32)
    except (binascii.Error, ValueError, TypeError):
        raise UnusableAnswerError("a vector that is neither base64 of float32 nor a list of numbers") from None
    if decoded.ndim != 1:
        raise UnusableAnswerError("a vector that is not one-dimensional")
    return decoded.astype(np.float32)


def error_code(error: BaseException | None) -> str | None:
    """Return the API's error code (or type, where the code is missing)."""
    known = getattr(error, "code", None) or getattr(error, "type", None)
    return str(known) if known else None


def is_retryable(error: BaseException) -> bool:
    """Whether the same request may succeed later."""
    if isinstance(error, openai.APIStatusError):
        named = {str(error.code), str(error.type)}
        if named & _NO_QUOTA_CODES:
            return False
        return error.status_code in _RETRYABLE_STATUS or error.status_code >= 500
    # APIConnectionError covers time-outs, resets and bodies cut short of their Content-Length.
    return isinstance(error, openai.APIConnectionError | UnusableAnswerError)


def _summary(error: BaseException | None) -> str:
    if isinstance(error, openai.APIStatusError):
        body = error.body if isinstance(error.body, dict) else {}
        message = str(body.get("message") or "no message")[:_MESSAGE_CHARS]
        return f"HTTP {error.status_code} {error_code(error) or ''}: {message}".replace(" :", ":")
    if isinstance(error, openai.APIConnectionError):
        cause = error.__cause__
        return f"{type(error).__name__} ({type(cause).__name__})" if cause else type(error).__name__
    return str(error)[:_MESSAGE_CHARS]


def retry_after_s(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Return the seconds that a server asks to wait, or None.

    Understands ``retry-after-ms`` (OpenAI) and ``Retry-After`` in seconds or as an HTTP date (RFC 9110, 10.2.3).
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    if value is None:
        return None
    seconds = _number(value)
    if seconds is not None:
        return seconds
    try:
        date = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - (now or datetime.now(UTC))).total_seconds())


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None


def _wait_s(state: RetryCallState) -> float:
    """Full jitter below an exponential cap; on top of Retry-After where the server gives one."""
    jitter = random.uniform(0, min(_BACKOFF_CAP_S, _BACKOFF_BASE_S * 2**state.attempt_number))
    error = state.outcome.exception() if state.outcome else None
    asked = retry_after_s(error.response.headers) if isinstance(error, openai.APIStatusError) else None
    # After the time that the server named, a little jitter keeps tasks that were refused together apart.
    return jitter if asked is None else asked + min(jitter, 1.0)
