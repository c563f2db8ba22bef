"""docker-compose.yaml as `docker compose` reads it: variables filled in, commands as words."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

PROJECT = Path(__file__).resolve().parents[1]
COMPOSE_FILE = PROJECT / "docker-compose.yaml"
ENV_EXAMPLE = PROJECT / ".env.example"
# $$, or ${NAME}, ${NAME:-default}, ${NAME:?message}
_VARIABLE = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<name>\w+)(?::(?P<kind>[-?])(?P<word>[^}]*))?\})")


class MissingVariableError(Exception):
    """A variable that the file insists on isn't set."""


@dataclass(frozen=True)
class Service:
    """One service: the words of its command, its environment, and everything else as it stands in the file."""

    command: list[str]
    environment: dict[str, str]
    content: dict[str, Any]


def example_variables() -> list[str]:
    """Return the names that .env.example lists."""
    return re.findall(r"^(\w+)=", ENV_EXAMPLE.read_text(), flags=re.MULTILINE)


def used_variables() -> set[str]:
    """Return the names that the file asks the environment for."""
    return {found["name"] for found in _VARIABLE.finditer(COMPOSE_FILE.read_text()) if found["name"]}


def load(variables: Mapping[str, str]) -> dict[str, Any]:
    """Return the file's content with its variables filled in; raises MissingVariableError."""
    return dict(_filled(yaml.safe_load(COMPOSE_FILE.read_text()), variables))


def services(variables: Mapping[str, str]) -> dict[str, Service]:
    """Return the services by name."""
    return {
        name: Service(shlex.split(content.get("command", "")), dict(content.get("environment", {})), content)
        for name, content in load(variables)["services"].items()
    }


def _filled(value: Any, variables: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _filled(each, variables) for key, each in value.items()}
    if isinstance(value, list):
        return [_filled(each, variables) for each in value]
    return _VARIABLE.sub(lambda found: _value(found, variables), value) if isinstance(value, str) else value


def _value(found: re.Match[str], variables: Mapping[str, str]) -> str:
    if found["dollar"]:
        return "$"
    value = variables.get(found["name"], "")
    if value or found["kind"] is None:
        return value
    if found["kind"] == "?":
        raise MissingVariableError(f"{found['name']}: {found['word']}")
    return found["word"]
