"""Cutting a text that is longer than the model takes into parts: at sentences where it can be."""

from __future__ import annotations

import re
from itertools import pairwise

from shelfkin.embedding.tokens import Counter

# Where a text may be cut, best first: after a line, after a sentence (Latin and CJK marks), after a word.
_ENDS = (r"\n+", r"(?<=[.!?…])\s+|(?<=[。！？])", r"\s+")


def split_text(text: str, max_tokens: int, count: Counter) -> list[str]:
    """Return parts of at most `max_tokens` tokens each; together they are `text`, character for character.

    Parts are filled from the left: as many lines as fit; within a longer line sentences, within a longer sentence
    words, within a longer word characters.

    Parameters
    ----------
    text
        Any text.
    max_tokens
        At least 1. A single character may exceed it.
    count
        Counts the tokens of texts.
    """
    parts = _fill(text, max_tokens, count, _ENDS)
    return [part for part in parts if part]


def _fill(text: str, max_tokens: int, count: Counter, ends: tuple[str, ...]) -> list[str]:
    if count([text])[0] <= max_tokens:
        return [text]
    if not ends:
        return _halve(text, max_tokens, count)
    pieces = _cut_after(text, ends[0])
    if len(pieces) == 1:
        return _fill(text, max_tokens, count, ends[1:])
    # The pieces' own counts are added up: to count every growing part anew would take the square of its length.
    parts: list[str] = []
    room = 0
    for size, piece in zip(count(pieces), pieces, strict=True):
        if size <= room:
            parts[-1] += piece
            room -= size
        elif size <= max_tokens:
            parts.append(piece)
            room = max_tokens - size
        else:
            parts += _fill(piece, max_tokens, count, ends[1:])
            room = max_tokens - count([parts[-1]])[0]
    # Pieces may have a token more together than apart, where a token would have spanned the cut.
    return [
        whole
        for part, size in zip(parts, count(parts), strict=True)
        for whole in ([part] if size <= max_tokens else _halve(part, max_tokens, count))
    ]


def _cut_after(text: str, end: str) -> list[str]:
    """Cut after every match of `end`, keeping what matched with the piece before it."""
    cuts = [match.end() for match in re.finditer(end, text)]
    borders = [0, *[cut for cut in cuts if 0 < cut < len(text)], len(text)]
    return [text[start:stop] for start, stop in pairwise(borders)]


def _halve(text: str, max_tokens: int, count: Counter) -> list[str]:
    if len(text) < 2 or count([text])[0] <= max_tokens:
        return [text]
    middle = len(text) // 2
    return _halve(text[:middle], max_tokens, count) + _halve(text[middle:], max_tokens, count)
