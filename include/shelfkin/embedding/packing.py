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
    return cut(texts, lambda text: (1, text.n_tokens), lambda: (max_inputs, wanted_tokens()))


def cut(
    texts: Iterable[Text], size_of: Callable[[Text], tuple[float, ...]], most: Callable[[], tuple[float, ...]]
) -> Iterator[list[Text]]:
    """Yield groups of consecutive texts, each as full as it may be; a text that alone is too large is a group.

    Parameters
    ----------
    size_of
        A text's size in each of several units.
    most
        What the next group may hold, in these units.
    """
    group: list[Text] = []
    room = most()
    for text in texts:
        left = tuple(have - take for have, take in zip(room, size_of(text), strict=True))
        if group and min(left) < 0:
            yield group
            group = []
            left = tuple(have - take for have, take in zip(most(), size_of(text), strict=True))
        group.append(text)
        room = left
    if group:
        yield group
