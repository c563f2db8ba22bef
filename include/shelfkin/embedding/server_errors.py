"""The words and the meaning of an error's body, in whatever shape a server sends it.

What servers write, and what it means, stands in ``data/server_errors.toml``.
"""

from __future__ import annotations

import html
import json
import re
import tomllib
from importlib import resources
from typing import Any

TABLE = tomllib.loads(resources.files(__package__).joinpath("data/server_errors.toml").read_text("utf-8"))
_MEANT = [
    (frozenset(row["hidden_by"]), re.compile("|".join(row["tells"]), re.IGNORECASE), int(row["status"]))
    for row in TABLE["meant"]
]


def content_of(body: bytes) -> Any:
    """Return an error's body: parsed, or as text where it isn't JSON."""
    try:
        return json.loads(body)
    except ValueError:
        return body.decode(errors="replace")


def codes_of(content: Any) -> list[str]:
    """Return what a body calls the error, from the narrowest word to the widest."""
    return _values(content, "code") + _values(content, "type", "status", "error_type")


def is_about_settings(content: Any) -> bool:
    """Whether a body blames a setting of the request."""
    return not set(TABLE["settings"]).isdisjoint(_values(content, "param"))


def meant_status(http_status: int, codes: list[str], words: str) -> int:
    """Return the status that says what the server means."""
    told = " ".join([*codes, words])
    for hidden_by, tells, status in _MEANT:
        if http_status in hidden_by and tells.search(told):
            return status
    inside = [int(code) for code in codes if http_status == 200 and re.fullmatch(r"[45]\d\d", code)]
    return inside[0] if inside else http_status


def words_of(content: Any) -> str:
    """Return the sentence of an error's body; all of the body if nothing of it is one.

    >>> words_of({"error": {"message": "no such model"}}), words_of([{"detail": [{"msg": "too long"}]}])
    ('no such model', 'too long')
    >>> words_of("<html><head><title>Bad gateway</title></head></html>"), words_of({"ok": False})
    ('Bad gateway', '{"ok": false}')
    """
    found = _words(content) or ("" if not content or isinstance(content, str) else json.dumps(content))
    return " ".join(found.split()).rstrip(".") or "no message"


def _words(content: Any) -> str:
    if isinstance(content, str):
        title = re.search(r"<title[^>]*>(.*?)</title>", content, re.IGNORECASE | re.DOTALL)
        return html.unescape(title.group(1) if title else re.sub(r"<[A-Za-z/!][^>]*>", " ", content)).strip()
    if isinstance(content, list):
        parts = content[:3]
    elif isinstance(content, dict):
        by_name = {str(name).lower(): value for name, value in content.items()}
        parts = [by_name.get(name) for name in TABLE["word_keys"]]
    else:
        return ""
    return "; ".join(dict.fromkeys(filter(None, map(_words, parts))))


def _values(content: Any, *names: str) -> list[str]:
    """Return the texts and numbers under some names, at any depth."""
    if isinstance(content, list):
        return [value for part in content for value in _values(part, *names)]
    if not isinstance(content, dict):
        return []
    own = [str(value) for name, value in content.items() if name in names and isinstance(value, str | int)]
    return own + [value for part in content.values() for value in _values(part, *names)]
