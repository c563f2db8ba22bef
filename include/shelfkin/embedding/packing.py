"""Cutting a stream of texts into requests that fill the limits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

MAX_INPUTS = 2048  # texts in a request; as OpenAI's


@dataclass(frozen=True)
class Text:
    """One text to embed, the sha256 hex under which its vector is kept, and its tokens (or a bound of them)."""

    text_hash: str
    text: str
    n_tokens: int


def pack(texts: Iterable[Text], max_inputs: int, wanted_tokens: Callable[[], int]) -> Iterator[list[Text]]:
    """Yield requests in the order of `texts`, each as full as `max_inputs` and the quota of the moment allow.

    A text that alone exceeds a limit gets a request of its own.

    Parameters
    ----------
    wanted_tokens
        Tokens that the next request should hold; asked anew for every request, because limits are learned on the way.
    """
    batch: list[Text] = []
    n_tokens, most = 0, wanted_tokens()
    for text in texts:
        if batch and (len(batch) == max_inputs or n_tokens + text.n_tokens > most):
            yield batch
            batch, n_tokens, most = [], 0, wanted_tokens()
        batch.append(text)
        n_tokens += text.n_tokens
    if batch:
        yield batch
