"""The kinds of failure of an embedding request: try it again, blame one of its texts, or end the run.

Here answers and exceptions are read. `retry_policy` says how long to wait before another try.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import openai

from shelfkin.embedding.provider import KEY_VARIABLE, Provider
from shelfkin.errors import EmbeddingError, EmbeddingUnavailableError, without_controls

# 429s (and others) that say "no money", not "not so fast": asking again can't help.
_NO_QUOTA_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
_PAYMENT_REQUIRED = 402
_RETRYABLE_STATUS = frozenset({408, 409})
# A gateway's word that it got no (good) answer: what stands behind it may have done the work, and bill it.
_GATEWAY_STATUS = frozenset({502, 504, 520, 521, 522, 523, 524})
# A 400 that is about the request's settings, not about its texts: no text is to blame.
_SETTINGS_PARAMS = frozenset({"model", "dimensions", "encoding_format", "user"})
_SPOILT_INPUT_STATUS = frozenset({400, 413, 422})
# Names, not classes: which HTTP library the SDK stands on is its own affair.
_NEVER_SENT = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout"})
# A key, or a part of one that a server has masked.
_KEY_LIKE = re.compile(r"\b(sk|Bearer)[-_ ][A-Za-z0-9_*.…-]{3,}|[^\s'\"]*\*{3,}[^\s'\"]*")
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


class BudgetError(EmbeddingError):
    """The next request would cross the run's budget."""

    kind = "budget"


class TooManyRefusedError(EmbeddingError):
    """The server refused more texts for good than the profile allows."""

    kind = "too_many_refused"


# rate_limited  429, not so fast
# failed        the server says that it failed, or it was never reached: nothing is billed
# lost          it was sent, and no answer came back (or only a gateway's): it may be billed
# unusable      a 200 without what was asked for: it is billed
# refused       one of the texts (or the request) is not acceptable
# terminal      asking again can't help
Status = Literal["rate_limited", "failed", "lost", "unusable", "refused", "terminal"]
RETRYABLE: frozenset[Status] = frozenset({"rate_limited", "failed", "lost", "unusable"})


@dataclass(eq=False, repr=False)
class RequestFailedError(Exception):
    """A request without usable vectors, in words that can't hold the key.

    Attributes
    ----------
    status
        What became of it.
    said
        The server's words, or what is wrong with its answer.
    error
        The error that ends the run, for the status ``terminal``.
    billed
        Tokens that the answer says were used, where it could be read that far.
    """

    status: Status
    said: str
    http_status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    latency_s: float = 0.0
    error: EmbeddingError | None = None
    billed: int | None = None


def unusable(said: str) -> RequestFailedError:
    """Return the error of a 200 that doesn't hold what was asked for; another try may."""
    return RequestFailedError("unusable", said, http_status=200)


def failure_of(error: openai.OpenAIError, provider: Provider, key: str, latency_s: float) -> RequestFailedError:
    """Return our name for an error of the SDK.

    Raise the result ``from None``: the SDK's exception carries the request with its headers, and may echo the key.
    """
    if not isinstance(error, openai.APIStatusError):
        cause = error.__cause__
        said = f"{type(error).__name__} ({type(cause).__name__})" if cause else str(error) or type(error).__name__
        never_sent = type(cause).__name__ in _NEVER_SENT
        return RequestFailedError("failed" if never_sent else "lost", without_key(said, key), latency_s=latency_s)
    words = without_key(words_of(error.body), key)
    status = _status_of(error)
    return RequestFailedError(
        status,
        f"HTTP {error.status_code} {_code(error) or ''}: {words}".replace(" :", ":"),
        http_status=error.status_code,
        headers=error.response.headers,
        latency_s=latency_s,
        error=_ending(error, words, provider, key) if status == "terminal" else None,
    )


def _status_of(error: openai.APIStatusError) -> Status:
    http_status = error.status_code
    if _is_out_of_quota(error):
        return "terminal"
    if http_status == 429:
        return "rate_limited"
    if http_status in _GATEWAY_STATUS:
        return "lost"
    if http_status in _RETRYABLE_STATUS or http_status >= 500:
        return "failed"
    if http_status in _SPOILT_INPUT_STATUS and error.param not in _SETTINGS_PARAMS:
        return "refused"
    return "terminal"


def _ending(error: openai.APIStatusError, words: str, provider: Provider, key: str) -> EmbeddingError:
    """Return the error that ends the run."""
    server, model, status = provider.server, provider.model, error.status_code
    if _is_out_of_quota(error):
        return InsufficientQuotaError(
            f"{server} says that the account's quota is used up ({_code(error) or status}): {words}.",
            next_step="Raise the budget or add credit, then run again: finished vectors are kept.",
        )
    if status == 401:
        verdict = f"does not accept {KEY_VARIABLE}" if key else "wants a key"
        return BadKeyError(
            f"{server} {verdict} (401): {words}.", next_step=f"Set a valid {KEY_VARIABLE} where the driver runs."
        )
    if status == 403:
        return NoPermissionError(
            f"{server} refuses access (403): {words}.",
            next_step=f"Allow the key's project to use {model}, or choose another --model.",
        )
    if status == 404:
        return UnknownModelError(
            f"{server} knows no model or address {model!r} (404): {words}.",
            next_step="Check --model and OPENAI_BASE_URL (it usually ends in /v1).",
        )
    return BadRequestError(
        f"{server} refuses the request ({status}): {words}.", next_step="Check --model and --dimensions."
    )


def _is_out_of_quota(error: openai.APIStatusError) -> bool:
    said = {error.code, error.type} & _NO_QUOTA_CODES
    return bool(said) or error.status_code == _PAYMENT_REQUIRED


def _code(error: openai.APIStatusError) -> str | None:
    """Return the API's error code (or type, where the code is missing)."""
    known = error.code or error.type
    return str(known) if known else None


def words_of(body: Any) -> str:
    """Return the sentence of an error's body, in whichever of the usual shapes a server sends it.

    >>> words_of({"error": {"message": "no such model"}}), words_of([{"detail": "too long"}]), words_of("busy")
    ('no such model', 'too long', 'busy')
    """
    if isinstance(body, dict):
        body = next((body[name] for name in ("message", "error", "detail") if body.get(name)), None)
        return words_of(body)
    if isinstance(body, list) and body:
        return words_of(body[0])
    return str(body or "no message").strip().rstrip(".")


def without_key(text: str, key: str) -> str:
    """Return `text` without the key and anything that looks like (a part of) one, cut to a message's length."""
    if key:
        text = text.replace(key, "[key]")
    # Cut only now: a key that lies across the cut would keep its beginning.
    return without_controls(_KEY_LIKE.sub("[key]", text))[:_MESSAGE_CHARS]


def unavailable(server: str, n_tries: int, deadline_s: float, said: str) -> EmbeddingUnavailableError:
    """Return the error of a batch that found no usable answer in time."""
    return EmbeddingUnavailableError(
        f"No usable answer from {server} after {n_tries} tries within {deadline_s:.0f} s; the last was: {said}.",
        next_step="Run the task again later: finished vectors are kept, only the rest is sent.",
    )
