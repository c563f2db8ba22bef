"""Regular expressions of a profile: checked here by Python, run by Spark with Java.

Allowed is what both read alike. Java's meaning counts: ``\\d``, ``\\w``, ``\\s``, ``\\b`` and ``(?i)`` know ASCII only.
"""

from __future__ import annotations

import re
import warnings

# Before the first group, after an escape, within a class: the pieces in which the two dialects differ.
_PIECES = re.compile(
    r"\\(?:x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|\d+|.)"
    r"|\(\?(?:P?[<=!>#(]+|[A-Za-z]*(?:-[A-Za-z]+)?[:)]?)"
    r"|\{(?:\d{1,6}(?:,\d{0,6})?\})?"
    r"|&&|.",
    re.DOTALL,
)
_GROUPS = re.compile(r"\(\?(?:[:=!>]|<[=!]|[ims]+[:)]|[ims]*-[ims]+:)")
_ESCAPES = re.compile(r"\\(?:[dDsSwWtnrfa]|x..|u....|[^0-9A-Za-z])", re.DOTALL)
_ESCAPES_OUTSIDE_A_CLASS = re.compile(r"\\(?:[bBA]|[1-9])")
_HINTS = {
    "\\Z": "write $",
    "\\z": "write $",
    "\\p": "write the letters, such as [A-Za-zÀ-ÿ]",
    "\\P": "write the letters, such as [^A-Za-zÀ-ÿ]",
    "\\Q": "write a backslash before each sign",
    "\\h": "write [ \\t]",
    "\\v": "write \\x0b",
    "(?P<": "a group needs no name: write (",
    "(?<": "a group needs no name: write (",
    "{": "write \\{",
    "[": "inside a class write \\[",
    "]": "first in a class write \\]",
    "&&": "inside a class write &\\&",
}


def check_regex(pattern: str) -> str:
    """Return a pattern that Python and Java read alike.

    Raises
    ------
    ValueError
        Only one of them knows it, neither does, or they read it differently. The message says which piece.
    """
    odd = _unshared_piece(pattern)
    if odd is not None:
        hint = _HINTS.get(odd, "leave it out")
        raise ValueError(f"{odd} in {pattern!r} is read by Python and Java in different ways; {hint}")
    try:
        with warnings.catch_warnings(action="ignore"):
            re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"{pattern!r} is not a regular expression ({error})") from error
    return pattern


def _unshared_piece(pattern: str) -> str | None:
    """Return the first piece of a pattern that Python and Java don't read alike, None where there is none."""
    class_began = None
    for match in _PIECES.finditer(pattern):
        piece, in_class = match.group(), class_began is not None
        if piece.startswith("\\"):
            known = _ESCAPES.fullmatch(piece) or (not in_class and _ESCAPES_OUTSIDE_A_CLASS.fullmatch(piece))
            if not known and piece != "\\":
                return piece
        elif in_class and piece == "]":
            if match.start() == class_began:
                return piece
            class_began = None
        elif in_class:
            if piece in ("[", "&&"):
                return piece
        elif piece == "[":
            class_began = match.end() + (pattern[match.end() : match.end() + 1] == "^")
        elif piece == "{" or (piece.startswith("(?") and not _GROUPS.match(piece)):
            return piece
    return None
