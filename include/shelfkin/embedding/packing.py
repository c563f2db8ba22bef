"""Cutting a stream of texts into requests that fill the limits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What one request may hold.

    Attributes
    ----------
    max_inputs
        Texts in a request; OpenAI takes 2,048.
    max_tokens
        Tokens in a request; OpenAI takes 300,000.
    max_tokens_per_input
        Tokens in one text; OpenAI's models take 8,192.
    """

    max_inputs: int = 2048
    max_tokens: int = 300_000
    max_tokens_per_input: int = 8192


@dataclass(frozen=True)
class Text:
    """One text to embed, the sha256 hex under which its vector is kept, and its tokens (or a bound of them)."""

    text_hash: str
    text: str
    n_tokens: int


def pack(texts: Iterable[Text], limits: Limits, wanted_tokens: Callable[[], int]) -> Iterator[list[Text]]:
    """Yield requests in the order of `texts`, each as full as `limits` and the quota of the moment allow.

    A text that alone exceeds a limit gets a request of its own.

    Parameters
    ----------
    wanted_tokens
        Tokens that the next request should hold; asked anew for every request, because limits are learned on the way.
    """
    batch: list[Text] = []
    n_tokens, most = 0, min(wanted_tokens(), limits.max_tokens)
    for text in texts:
        if batch and (len(batch) == limits.max_inputs or n_tokens + text.n_tokens > most):
            yield batch
            batch, n_tokens, most = [], 0, min(wanted_tokens(), limits.max_tokens)
        batch.append(text)
        n_tokens += text.n_tokens
    if batch:
        yield batch
