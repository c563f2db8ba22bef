"""One embedding request through the `openai` SDK: its answer is checked before it is believed, its failure is named.

The SDK's own retries are off, because they would repeat ``insufficient_quota`` and know nothing of the quota; and its
parser is bypassed, because a wrong count, order, length or a NaN passes it silently.
"""

from __future__ import annotations

import base64
import binascii
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
import openai
import orjson

from shelfkin.embedding.provider import KEY_VARIABLE, Provider
from shelfkin.errors import EmbeddingError, EmbeddingUnavailableError, without_controls

# 429s (and others) that say "no money", not "not so fast": asking again can't help.
_NO_QUOTA_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
_RETRYABLE_STATUS = frozenset({408, 409})
# A gateway's word that it got no (good) answer: what stands behind it may have done the work, and bill it.
_GATEWAY_STATUS = frozenset({502, 504, 520, 521, 522, 523, 524})
# A 400 that is about the request's settings, not about its texts: no text is to blame.
_SETTINGS_PARAMS = frozenset({"model", "dimensions", "encoding_format", "user"})
_SPOILT_INPUT_STATUS = frozenset({400, 413, 422})
# Names, not classes: which HTTP library the SDK stands on is its own affair.
_NEVER_SENT = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout"})
_MESSAGE_CHARS = 300

T = TypeVar("T")


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


class BudgetError(EmbeddingError):
    """The next request would cross the run's budget."""

    kind = "budget"


class TooManyRefusedError(EmbeddingError):
    """The server refused more texts for good than the profile allows."""

    kind = "too_many_refused"


# What became of a request that brought no vectors:
# rate_limited  429, not so fast
# failed        the server says that it failed, or it was never reached: nothing is billed
# lost          it was sent, and no answer came back (or only a gateway's): it may be billed
# unusable      a 200 without what was asked for: it is billed
# refused       one of the texts (or the request) is not acceptable
# terminal      asking again can't help
Status = Literal["rate_limited", "failed", "lost", "unusable", "refused", "terminal"]
RETRYABLE: frozenset[Status] = frozenset({"rate_limited", "failed", "lost", "unusable"})


@dataclass(frozen=True)
class Answer:
    """What one request brought.

    Attributes
    ----------
    vectors
        float32 of shape (n_texts, dimensions), row i for text i, all finite, as the model returned them.
    n_tokens
        ``usage.total_tokens`` as the server reports it, or None.
    latency_s
        Seconds from sending to the whole answer.
    request_id
        The server's name of the request, or "".
    headers
        The answer's headers, names in lower case.
    """

    vectors: npt.NDArray[np.float32]
    n_tokens: int | None
    latency_s: float
    request_id: str
    headers: Mapping[str, str]


class RequestFailedError(Exception):
    """A request without usable vectors, in words that can't hold the key.

    Attributes
    ----------
    status
        What became of it.
    said
        The server's words, or what is wrong with its answer.
    error
        Our typed error, for a status that ends the run.
    billed
        Tokens that the answer says were used, where it could be read that far.
    """

    def __init__(
        self,
        status: Status,
        said: str,
        *,
        http_status: int | None = None,
        headers: Mapping[str, str] | None = None,
        latency_s: float = 0.0,
        error: EmbeddingError | None = None,
        billed: int | None = None,
    ) -> None:
        super().__init__(said)
        self.status, self.said, self.http_status = status, said, http_status
        self.headers, self.latency_s, self.error, self.billed = headers or {}, latency_s, error, billed


class UnusableAnswerError(Exception):
    """A 200 that doesn't hold what was asked for; another try may."""

    def __init__(self, said: str, billed: int | None = None) -> None:
        super().__init__(said)
        self.said, self.billed = said, billed


class EmbeddingClient:
    """Sends texts to one provider, over connections that are kept; threads may share it.

    Parameters
    ----------
    provider
        Where and with which model.
    api_key
        The key; "" where the server needs none.
    timeout_s
        Longest wait for one answer.
    """

    def __init__(self, provider: Provider, api_key: str, *, timeout_s: float = 60.0) -> None:
        self._provider, self._key, self._timeout_s = provider, api_key, timeout_s
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

    def send(self, texts: list[str], *, dimensions: int | None = None, name: str = "") -> Answer:
        """Send one request and return the vectors of `texts`, in order.

        Parameters
        ----------
        dimensions
            Length that the vectors must have; None: whatever comes, as long as it is one length.
        name
            Our name of the request, sent as ``X-Client-Request-Id`` (OpenAI keeps it for support).

        Raises
        ------
        RequestFailedError
            No usable vectors came.
        """
        started = time.monotonic()
        provider = self._provider
        expected = provider.dimensions or dimensions
        try:
            raw = self._sdk.embeddings.with_raw_response.create(
                input=texts,
                model=provider.model,
                encoding_format="base64",
                dimensions=provider.dimensions if provider.send_dimensions and provider.dimensions else openai.omit,
                timeout=self._timeout_s,
                extra_headers={"X-Client-Request-Id": name} if name else None,
            )
            response = raw.http_response
            vectors, n_tokens = read_answer(response.content, len(texts), expected)
        except UnusableAnswerError as error:
            raise RequestFailedError(
                "unusable",
                self.safe(error.said),
                http_status=200,
                headers=response.headers,
                latency_s=time.monotonic() - started,
                billed=error.billed,
            ) from None
        except openai.OpenAIError as error:
            # `from None`: the SDK's exception carries the request with its headers, and may echo the key.
            raise self._named(error, time.monotonic() - started) from None
        request_id = response.headers.get("x-request-id") or ""
        return Answer(vectors, n_tokens, time.monotonic() - started, request_id, response.headers)

    def ask(self, question: Callable[[openai.OpenAI], T]) -> T:
        """Return what the SDK answers to any other question; raises RequestFailedError as `send` does."""
        started = time.monotonic()
        try:
            return question(self._sdk)
        except openai.OpenAIError as error:
            raise self._named(error, time.monotonic() - started) from None

    def _named(self, error: openai.OpenAIError, latency_s: float) -> RequestFailedError:
        """Return our name for the SDK's error."""
        said = self.safe(_summary(error))
        if not isinstance(error, openai.APIStatusError):
            return RequestFailedError(
                "failed" if type(error.__cause__).__name__ in _NEVER_SENT else "lost", said, latency_s=latency_s
            )
        status: Status
        code, http_status = error_code(error), error.status_code
        if code in _NO_QUOTA_CODES or str(error.type) in _NO_QUOTA_CODES:
            status = "terminal"
        elif http_status == 429:
            status = "rate_limited"
        elif http_status in _GATEWAY_STATUS:
            status = "lost"
        elif http_status in _RETRYABLE_STATUS or http_status >= 500:
            status = "failed"
        elif http_status in _SPOILT_INPUT_STATUS and error.param not in _SETTINGS_PARAMS:
            status = "refused"
        else:
            status = "terminal"
        return RequestFailedError(
            status,
            said,
            http_status=http_status,
            headers=error.response.headers,
            latency_s=latency_s,
            error=self._typed(error, said) if status == "terminal" else None,
        )

    def _typed(self, error: openai.APIStatusError, said: str) -> EmbeddingError:
        """Return the error that ends the run, in words that can't hold the key."""
        server, model = self._provider.server, self._provider.model
        code, status = error_code(error), error.status_code
        if code in _NO_QUOTA_CODES or str(error.type) in _NO_QUOTA_CODES:
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
        return BadRequestError(f"{server} refuses the request: {said}.", next_step="Check --model and --dimensions.")

    def safe(self, text: str) -> str:
        """Return `text` without the key, and without anything that looks like (a masked part of) one."""
        if self._key:
            text = text.replace(self._key, "[key]")
        # Cut only now: a key that lies across the cut would keep its beginning.
        return without_controls(re.sub(r"\b(sk|Bearer)[-_ ][A-Za-z0-9_*.…-]{3,}", "[key]", text))[:_MESSAGE_CHARS]


def unavailable(server: str, n_tries: int, deadline_s: float, said: str) -> EmbeddingUnavailableError:
    """Return the error of a batch that found no usable answer in time."""
    return EmbeddingUnavailableError(
        f"No usable answer from {server} after {n_tries} tries within {deadline_s:.0f} s; the last was: {said}.",
        next_step="Run the task again later: finished vectors are kept, only the rest is sent.",
    )


def read_answer(body: bytes, n_texts: int, dimensions: int | None) -> tuple[npt.NDArray[np.float32], int | None]:
    """Return vectors (float32, n_texts x d, in the order of the texts) and total tokens (None: not said).

    Raises
    ------
    UnusableAnswerError
        Not JSON (truncated, HTML), or wrong count, index, length or a value that isn't finite.
    """
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise UnusableAnswerError(f"a body of {len(body)} bytes that is not JSON") from None
    return read_vectors(content, n_texts, dimensions)


def read_vectors(content: Any, n_texts: int, dimensions: int | None) -> tuple[npt.NDArray[np.float32], int | None]:
    """Return what `read_answer` does, of an answer that is parsed already."""
    usage = content.get("usage") if isinstance(content, dict) else None
    tokens = usage.get("total_tokens") if isinstance(usage, dict) else None
    n_tokens = tokens if isinstance(tokens, int) else None
    try:
        return _vectors(content, n_texts, dimensions), n_tokens
    except UnusableAnswerError as error:
        raise UnusableAnswerError(error.said, n_tokens) from None


def _vectors(content: Any, n_texts: int, dimensions: int | None) -> npt.NDArray[np.float32]:
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
    return vectors


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


def _summary(error: BaseException | None) -> str:
    if isinstance(error, openai.APIStatusError):
        body = error.body if isinstance(error.body, dict) else {}
        message = str(body.get("message") or "no message")
        return f"HTTP {error.status_code} {error_code(error) or ''}: {message}".replace(" :", ":")
    if isinstance(error, openai.APIConnectionError):
        cause = error.__cause__
        return f"{type(error).__name__} ({type(cause).__name__})" if cause else type(error).__name__
    return str(error)
