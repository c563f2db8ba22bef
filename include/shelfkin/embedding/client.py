"""One embedding request through the `openai` SDK.

The SDK's own retries are off: they would repeat ``insufficient_quota``, and know nothing of the quota.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import urlsplit

import openai

from shelfkin.embedding.answers import FloatArray, read_answer
from shelfkin.embedding.failures import BadKeyError, RequestFailedError, failure_of, failure_said, unusable
from shelfkin.embedding.provider import KEY_VARIABLE, Provider

_HAS_VECTORS = re.compile(rb'"data"\s*:\s*\[\s*\{')
_TELLS_ERROR = re.compile(rb'^\s*[\[{].*"(errors?|detail|message|msg)"\s*:.*[\]}]\s*$', re.DOTALL)


@dataclass(frozen=True)
class Answer:
    """A 200, not yet read.

    Attributes
    ----------
    body
        JSON, if all is well.
    headers
        Names in lower case.
    latency_s
        Seconds from sending to the whole answer.
    failure_said
        Names a failure by a status and a body (`failures.failure_said`).
    """

    body: bytes
    headers: Mapping[str, str]
    latency_s: float
    failure_said: Callable[[int, bytes], RequestFailedError] | None = field(default=None, repr=False)

    def read(self, n_texts: int, dimensions: int | None) -> tuple[FloatArray, int | None]:
        """Return vectors and billed tokens (`answers.read_answer`); takes nearly all the time that an answer takes.

        Raises
        ------
        RequestFailedError
            It doesn't hold what was asked for.
        """
        try:
            return read_answer(self.body, n_texts, dimensions)
        except RequestFailedError as unread:
            error = unread
            if self.failure_said is not None and not _HAS_VECTORS.search(self.body):
                said = self.failure_said(200, self.body)
                error = said if _TELLS_ERROR.search(self.body) else unusable(f"{unread.said}; {said.said}")
            error.headers, error.latency_s, error.billed = self.headers, self.latency_s, unread.billed
            raise error from None


class EmbeddingClient:
    """Sends texts to one provider, over connections that are kept.

    Parameters
    ----------
    provider
        Where and with which model.
    key
        The API key; "" where the server needs none.
    timeout_s
        Longest wait for one answer.
    """

    def __init__(self, provider: Provider, key: str, *, timeout_s: float = 60.0) -> None:
        self._provider, self._key, self._timeout_s = provider, key, timeout_s
        # A proxy of the environment can't reach a loopback address.
        http = openai.DefaultAsyncHttpxClient(trust_env=not is_loopback(provider.base_url))
        self._sdk = openai.AsyncOpenAI(
            base_url=provider.base_url, api_key=key_or_stand_in(key), max_retries=0, http_client=http
        )

    async def __aenter__(self) -> EmbeddingClient:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._sdk.close()

    async def send(self, texts: list[str], *, name: str = "") -> Answer:
        """Send one request.

        Parameters
        ----------
        name
            Our name of the request, sent as ``X-Client-Request-Id`` (OpenAI keeps it for support).

        Raises
        ------
        RequestFailedError
            No 200 came back.
        """
        provider, started = self._provider, time.monotonic()
        try:
            answer = await self._sdk.embeddings.with_raw_response.create(
                **provider.request(texts),
                timeout=self._timeout_s,
                extra_headers={"X-Client-Request-Id": name} if name else None,
            )
        except openai.OpenAIError as error:
            raise failure_of(error, provider, self._key, time.monotonic() - started) from None
        response = answer.http_response
        named = partial(failure_said, provider=provider, key=self._key)
        return Answer(response.content, response.headers, time.monotonic() - started, named)


def is_loopback(base_url: str) -> bool:
    """Whether a URL names this machine."""
    return urlsplit(base_url).hostname in ("127.0.0.1", "localhost", "::1")


def key_or_stand_in(key: str) -> str:
    """Return the key, or the word that the SDK gets where a server needs none: it insists on one."""
    return key or "no-key-needed"


def check_key(key: str) -> None:
    """Raise BadKeyError for a key that no HTTP header can carry: a line break copied along, or letters with accents."""
    if not key.isascii() or key != key.strip() or any(character.isspace() for character in key):
        raise BadKeyError(
            f"{KEY_VARIABLE} holds white space, a line break or a character that isn't ASCII.",
            next_step=f"Set {KEY_VARIABLE} again, without what was copied along.",
        )
