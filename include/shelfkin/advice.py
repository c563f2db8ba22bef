"""What to change in a profile, by what was found: the words of ``advice.toml``."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from typing import Literal


def advice(topic: Literal["reason", "unread", "empty"], name: str, section: str) -> str:
    """Return which key of the profile decides about a reason code, or about a field, and what it may say, in words.

    Empty if ``advice.toml`` doesn't speak of it.
    """
    known = tomllib.loads(files("shelfkin").joinpath("advice.toml").read_text(encoding="utf-8"))
    return str(known[topic].get(name, "")).replace("{section}", section)
