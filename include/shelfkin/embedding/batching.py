"""Cutting a stream of texts into requests that keep within the API's limits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What one request may hold.

    A text never has more tokens than UTF-8 bytes (a byte-level BPE token covers at least one byte), so counting bytes
    keeps within token limits without the model's tokenizer.

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
    """One text to embed and its sha256 hex, the key under which its vector is kept."""

    text_hash: str
    text: str


def token_bound(text: str) -> int:
    """Return a number of tokens that `text` can't exceed."""
    return len(text.encode("utf-8"))


def pack(texts: Iterable[Text], limits: Limits) -> Iterator[list[Text]]:
    """Yield requests in the order of `texts`, each as full as `limits` allow.

    A text that alone exceeds `max_tokens` gets a request of its own.
    """
    batch: list[Text] = []
    n_tokens = 0
    for text in texts:
        bound = token_bound(text.text)
        if batch and (len(batch) == limits.max_inputs or n_tokens + bound > limits.max_tokens):
            yield batch
            batch, n_tokens = [], 0
        batch.append(text)
        n_tokens += bound
    if batch:
        yield batch
