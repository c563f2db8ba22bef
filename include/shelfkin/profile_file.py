"""Read a store profile from its file, and say everything that is wrong with it at once.

Nothing here imports pyspark or Airflow, as in `shelfkin.profile`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from shelfkin.errors import ProfileError, without_controls
from shelfkin.profile import StoreProfile

_TIME_TAG = "tag:yaml.org,2002:timestamp"
_TEXT_TAG = "tag:yaml.org,2002:str"
_NOT_TEXT = tuple(f"tag:yaml.org,2002:{kind}" for kind in ("int", "float", "bool", "timestamp"))
_MERGE_TAG = "tag:yaml.org,2002:merge"
# What pydantic wants, in the words of a person who writes YAML. Its own words stand for the rest.
_WANTED = {
    "string_type": "a text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "date_type": "a date such as 2026-01-31",
    "date_parsing": "a date such as 2026-01-31",
    "date_from_datetime_parsing": "a date such as 2026-01-31",
    "date_from_datetime_inexact": "a date such as 2026-01-31, without a time",
    "list_type": "a list: [one, two]",
    "tuple_type": "a list: [one, two]",
    "dict_type": "keys with values",
    "model_type": "keys with values",
    "string_too_long": r'a sign such as ";" (a tab is "\t")',
    "string_too_short": "a text that isn't empty",
    "too_short": "a list that isn't empty",
}
# Far beyond any shop; `*` repeats a part without writing it again, so that a few lines can stand for billions.
_MOST_VALUES = 100_000
# Keys that earlier versions knew.
_GONE = {"embedding.coordinator_port": "gone, because all requests leave from the driver itself"}

Key = tuple[int | str, ...]


@dataclass
class _ProfileText:
    """The content of a YAML file, with what YAML itself would let pass.

    Attributes
    ----------
    problems
        What is wrong, by key, in the order of the file.
    written
        The text of each value that YAML takes for something else than text, by key.
    """

    content: Any = None
    problems: dict[Key, str] = field(default_factory=dict)
    written: dict[Key, str] = field(default_factory=dict)


def load_profile(path: Path) -> StoreProfile:
    """Read and check one store profile.

    Raises
    ------
    ProfileError
        The file can't be read, or isn't valid YAML; a key is unknown, missing, stands twice or has a wrong value. The
        message names the file, and every key that is wrong.
    """
    text = _read_yaml(path)
    if not isinstance(text.content, dict):
        raise ProfileError(f"{path} holds no keys; a store profile starts with `store: <name>`.")
    problems = dict(text.problems)
    try:
        profile = StoreProfile.model_validate(text.content)
    except ValidationError as error:
        for key, found in _explained(error, text).items():
            problems.setdefault(key, found)
    else:
        if profile.store != path.stem:
            problems["store",] = f"is {profile.store!r}; the file's name says {path.stem!r}, and both must be the same"
    if problems:
        raise ProfileError(_listed(path, problems), next_step="Correct these keys in the profile.")
    return profile


def _listed(path: Path, problems: Mapping[Key, str]) -> str:
    lines = [f"  {'.'.join(map(str, key)) or '(whole profile)'}: {found}" for key, found in problems.items()]
    count = "1 key is" if len(lines) == 1 else f"{len(lines)} keys are"
    return without_controls("\n".join([f"{path}: {count} wrong.", *lines]), keep="\n")


def _read_yaml(path: Path) -> _ProfileText:
    """Return the file's content; what YAML takes in silence (a key twice, a day that isn't) becomes a problem."""
    try:
        loader = yaml.SafeLoader(path.read_text(encoding="utf-8-sig"))
        node = loader.get_single_node()
        text = _ProfileText()
        if node is not None:
            if _n_values(node, {}) > _MOST_VALUES:
                raise ProfileError(
                    f"{path} holds more than {_MOST_VALUES:,} values, those that & and * repeat counted each time.",
                    next_step="Write what you mean without repeating lists of lists.",
                )
            _inspect(node, (), loader, text, set())
            text.content = loader.construct_document(node)
        return text
    except UnicodeDecodeError as error:
        raise ProfileError(f"{path} is not UTF-8: {error}", next_step="Save the file as UTF-8.") from error
    except OSError as error:
        raise ProfileError(f"{path} can't be read: {error.strerror}") from error
    except yaml.MarkedYAMLError as error:
        where = f"line {error.problem_mark.line + 1}" if error.problem_mark else "somewhere"
        found = error.problem or error.context
        raise ProfileError(
            f"{path}, {where}: not valid YAML: {found}.",
            next_step="Look at the indentation, and put quotes around text that holds one of : # { [ * & @ %.",
        ) from error
    except (yaml.YAMLError, RecursionError, ValueError, TypeError) as error:
        raise ProfileError(f"{path} is not valid YAML: {str(error) or type(error).__name__}") from error


def _n_values(node: yaml.Node, known: dict[int, int]) -> int:
    """Return how many values a node stands for; `known` are those of the nodes that were counted before."""
    if id(node) not in known:
        known[id(node)] = 1  # a node inside itself is counted once
        inside = [] if isinstance(node, yaml.ScalarNode) else node.value
        parts = [part for pair in inside for part in pair] if isinstance(node, yaml.MappingNode) else inside
        known[id(node)] += sum(_n_values(part, known) for part in parts)
    return known[id(node)]


def _inspect(node: yaml.Node, key: Key, loader: yaml.SafeLoader, text: _ProfileText, seen: set[int]) -> None:
    """Note what YAML would let pass below a node, and make text of dates that don't exist."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        first_lines: dict[Any, int] = {}
        for name, value in node.value:
            line = name.start_mark.line + 1
            part = name.value if name.tag == _MERGE_TAG else loader.construct_object(name, deep=True)
            if part in first_lines:
                text.problems[*key, part] = f"stands twice, on lines {first_lines[part]} and {line}; delete one"
            first_lines.setdefault(part, line)
            if name.tag in _NOT_TEXT:
                text.written[*key, part] = str(name.value)
            _inspect(value, (*key, part), loader, text, seen)
    elif isinstance(node, yaml.SequenceNode):
        for place, value in enumerate(node.value):
            _inspect(value, (*key, place), loader, text, seen)
    elif isinstance(node, yaml.ScalarNode) and node.tag in _NOT_TEXT:
        text.written[key] = str(node.value)
        try:
            if node.tag == _TIME_TAG:
                loader.construct_yaml_timestamp(node)
        except ValueError:
            text.problems[key] = f"{node.value} is no day of the calendar, on line {node.start_mark.line + 1}"
            node.tag = _TEXT_TAG


def _explained(error: ValidationError, text: _ProfileText) -> dict[Key, str]:
    """Return what is wrong by key, in plain words."""
    wanted: dict[Key, list[str]] = {}
    said: dict[Key, str] = {}
    for problem in error.errors():
        key = _key_of(problem, text.content)
        name = ".".join(map(str, key))
        if problem["type"] == "extra_forbidden":
            unknown = f"unknown key; allowed here: {', '.join(_allowed_keys(key))}"
            said[key] = f"{_GONE[name]}; delete this line" if name in _GONE else unknown
        elif problem["type"] == "missing":
            said[key] = "this key is required"
        elif problem["type"] == "value_error":
            said[key] = problem["msg"].removeprefix("Value error, ")
        else:
            own_words = problem["msg"].removeprefix("Input should be ").removeprefix("String should ")
            wanted.setdefault(key, []).append(_WANTED.get(problem["type"], own_words))
    for key, choices in wanted.items():
        said.setdefault(key, f"must be {' or '.join(dict.fromkeys(choices))}{_it_is(key, choices, text)}")
    return said


def _it_is(key: Key, choices: list[str], text: _ProfileText) -> str:
    written = text.written.get(key)
    if written is not None and "a text" in choices:
        return f"; {written} without quotes is none to YAML: quote it, as in '{written}'"
    value = _at(key, text.content)
    return f"; it is {repr(value)[:80]}" if value is not None else "; it is empty"


def _key_of(problem: ErrorDetails, content: Any) -> Key:
    """Return the key of the YAML file that a problem is about: pydantic's own, without names of types."""
    key: list[int | str] = []
    value = content
    for place, part in enumerate(problem["loc"]):
        if isinstance(value, dict):
            # A key that YAML took for a number is known by what it became.
            found = part in value
            if not found and problem["type"] == "missing" and place == len(problem["loc"]) - 1:
                key.append(part)
            value = value[part] if found else value
        else:
            found = isinstance(value, list) and isinstance(part, int) and part < len(value)
            value = value[part] if found else value
        if found:
            key.append(part)
    return tuple(key)


def _at(key: Key, content: Any) -> Any:
    for part in key:
        content = content[part]
    return content


def _allowed_keys(key: Key) -> list[str]:
    model: Any = StoreProfile
    for part in key[:-1]:
        known = getattr(model, "model_fields", {}).get(part)
        if known is None:
            continue  # a key of a free mapping such as event_types.<name>: the model stays that of its values
        model = _section_of(known.annotation)
    return sorted(getattr(model, "model_fields", {}))


def _section_of(annotation: Any) -> Any:
    """Return the section class inside `X | None`, `dict[str, X]` or `X`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _section_of(argument)
        if found is not None:
            return found
    return None
