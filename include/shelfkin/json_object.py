"""Reading a JSON object that people or other programs wrote."""

from __future__ import annotations

import json
from typing import Any

from shelfkin.errors import ShelfkinError


def json_object(text: str | bytes, what: str, refusal: type[ShelfkinError], next_step: str = "") -> dict[str, Any]:
    """Return a JSON object; raises `refusal`, with the name of `what` was read, for anything else."""
    try:
        content = json.loads(text)
    except ValueError as error:
        raise refusal(f"{what} is not valid JSON: {error}", next_step=next_step) from error
    if not isinstance(content, dict):
        raise refusal(f"{what} holds a JSON {type(content).__name__}, not an object.", next_step=next_step)
    return content
