"""The kinds of failure of an embedding request: try it again, blame one of its texts, or end the run.

Here answers and exceptions are read. `retry_policy` says how long to wait before another try.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import openai

from shelfkin.embedding.provider import KEY_VARIABLE, Provider
from shelfkin.embedding.server_errors import (
    TABLE,
    codes_of,
    content_of,
    is_about_settings,
    meant_status,
    words_of,
)
from shelfkin.errors import EmbeddingError, EmbeddingUnavailableError, without_controls

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

    @property
    def may_be_a_texts(self) -> bool:
        """Whether one text of many may be to blame, although the server blames none."""
        overloaded = self.http_status is None or self.http_status in (408, 409, 503)
        return self.status == "unusable" or (self.status == "failed" and not overloaded)


def unusable(said: str) -> RequestFailedError:
    """Return the error of a 200 that doesn't hold what was asked for; another try may."""
    return RequestFailedError("unusable", said, http_status=200)


_BECOMES: dict[int, Status] = {status: becomes for becomes, found in TABLE["becomes"].items() for status in found}
_ERRORS = {
    error.kind: error
    for error in (InsufficientQuotaError, BadKeyError, NoPermissionError, UnknownModelError, BadRequestError)
}


def failure_of(error: openai.OpenAIError, provider: Provider, key: str, latency_s: float) -> RequestFailedError:
    """Return our name for an error of the SDK.

    Raise the result ``from None``: the SDK's exception carries the request with its headers, and may echo the key.
    """
    if not isinstance(error, openai.APIStatusError):
        cause = error.__cause__
        said = f"{type(error).__name__} ({type(cause).__name__})" if cause else str(error) or type(error).__name__
        never_sent = type(cause).__name__ in _NEVER_SENT
        return RequestFailedError("failed" if never_sent else "lost", without_key(said, key), latency_s=latency_s)
    failed = failure_said(error.status_code, error.response.content, provider, key)
    failed.headers, failed.latency_s = error.response.headers, latency_s
    return failed


def failure_said(http_status: int, body: bytes, provider: Provider, key: str) -> RequestFailedError:
    """Return our name for an answer that tells of an error, by its status and by what it says."""
    content = content_of(body)
    words, codes = words_of(content), codes_of(content)
    status = meant_status(http_status, codes, words)
    words, code = without_key(words, key), without_key(next(iter(codes), ""), key)
    named = f"{http_status} {code}" if code not in ("", str(http_status)) else str(http_status)
    failed = RequestFailedError(_BECOMES.get(status, "terminal"), f"HTTP {named}: {words}", http_status)
    if failed.status == "refused" and is_about_settings(content):
        failed.status = "terminal"
    if failed.status == "terminal":
        ending = TABLE["ends"].get(str(status), TABLE["ends"]["other"])
        wants = f"does not accept {KEY_VARIABLE}" if key else "wants a key"
        names = {"model": provider.model, "wants": wants}
        verdict = f"{provider.server} {ending['verdict'].format(**names)} ({named}): {words}."
        failed.error = _ERRORS[ending["kind"]](verdict, next_step=ending["next_step"].format(**names))
    return failed


def without_key(text: str, key: str) -> str:
    """Return `text` without the key and anything that looks like (a part of) one, cut to a message's length."""
    if key:
        beginning = re.escape(key[:12]) if len(key) > 15 else re.escape(key)
        text = re.sub(rf"{re.escape(key)}|{beginning}[^\s'\"<>]*", "[key]", text, flags=re.IGNORECASE)
    # Cut only now: a key that lies across the cut would keep its beginning.
    return without_controls(_KEY_LIKE.sub("[key]", text))[:_MESSAGE_CHARS]


def unavailable(server: str, n_tries: int, deadline_s: float, said: str) -> EmbeddingUnavailableError:
    """Return the error of a batch that found no usable answer in time."""
    return EmbeddingUnavailableError(
        f"No usable answer from {server} after {n_tries} tries within {deadline_s:.0f} s; the last was: {said}.",
        next_step="Run the task again later: finished vectors are kept, only the rest is sent.",
    )
