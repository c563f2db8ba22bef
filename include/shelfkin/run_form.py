"""The fields of a run: what the form in Airflow's UI shows, and what `make run` and the API accept.

Each is a JSON schema, with the default and the words beside the field. Nothing here imports Airflow, so that a run's
values can be checked before it starts.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from shelfkin.errors import OptionError
from shelfkin.profile import MAX_RANKER_WINDOWS, StoreProfile

LISTS = "What lists hold"
CLUSTERS = "Clusters and texts"
SAFETY = "Limits"


def run_form(profile: StoreProfile) -> dict[str, dict[str, Any]]:
    """Return the fields by name, the common ones first; blank means "as the store profile says"."""
    lists = profile.recommending
    return {
        "as_of": {
            "default": profile.default_as_of.isoformat() if profile.default_as_of and not profile.schedule else None,
            "type": ["null", "string"],
            "format": "date",
            "title": "As of",
            "description": "The day that lists are made for. What happened on it or later isn't looked at. "
            "Today at the latest. Blank: the day of the run.",
        },
        "publish": {
            "default": True,
            "type": "boolean",
            "title": "Publish",
            "description": "Off: a what-if run. Everything is made and can be looked at; customers see no change.",
        },
        "list_length": {
            "default": lists.list_length,
            "type": "integer",
            "minimum": 1,
            "maximum": 500,
            "title": "List length",
            "description": "Recommendations per customer, from 1 to 500.",
        },
        "repurchase": {
            "default": lists.repurchase,
            "type": "string",
            "enum": ["allow", "exclude"],
            "section": LISTS,
            "title": "Products bought before",
            "description": "allow: lists may hold what the customer bought before. exclude: only what is new to them.",
        },
        "repurchase_after_days": _blank(
            "integer",
            LISTS,
            "Days until a purchase may come back",
            f"Only where products bought before are allowed. Blank: {_days(lists.repurchase_after_days)}.",
            minimum=1,
            maximum=3_650,
        ),
        "ranker_windows": _blank(
            "integer",
            LISTS,
            "Past periods to learn from",
            "More rank a little better and take longer; 0: no learning, a fixed mixture. "
            f"Blank: the shop's own, {lists.ranker_windows}.",
            minimum=0,
            maximum=MAX_RANKER_WINDOWS,
        ),
        "k": _blank(
            "integer",
            CLUSTERS,
            "Number of clusters",
            "Blank: chosen from the catalogue, with reasons on the task's page.",
            minimum=2,
            maximum=9_999,
        ),
        "model": _blank(
            "string",
            CLUSTERS,
            "Embedding model",
            "Turns product texts into numbers, such as text-embedding-3-small. The word local: the bundled one, which "
            "costs nothing. Blank: the shop's own.",
            pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,99}$",
        ),
        "dimensions": _blank(
            "integer", CLUSTERS, "Numbers per text", "Blank: the model's own.", minimum=1, maximum=10_000
        ),
        "budget_usd": _blank(
            "number",
            SAFETY,
            "Budget for texts, in US dollars",
            "The run stops before it spends more, and keeps what is paid. Blank: the shop's own.",
            exclusiveMinimum=0,
        ),
        "override_gate": {
            "default": False,
            "type": "boolean",
            "section": SAFETY,
            "title": "Publish in spite of the gate",
            "description": "The gate refuses lists that lose to a simple one, such as the most popular products, or "
            "that fell far below the last published. On: they are published all the same.",
        },
    }


def _blank(kind: str, section: str, title: str, description: str, **limits: Any) -> dict[str, Any]:
    """Return a field that may stay blank."""
    return {
        "default": None,
        "type": ["null", kind],
        "section": section,
        "title": title,
        "description": description,
        **limits,
    }


def _days(number: int | None) -> str:
    return "the shop's own" if number is None else f"the shop's own, {number}"


def check_run(values: Mapping[str, Any], form: Mapping[str, Mapping[str, Any]], what: str) -> None:
    """Refuse values that the form would refuse.

    Parameters
    ----------
    what
        What holds them, for the message.

    Raises
    ------
    OptionError
        A field doesn't exist or can't have its value; the message names each such field.
    """
    from jsonschema import Draft7Validator, FormatChecker

    problems = []
    for name, value in values.items():
        if name not in form:
            close = get_close_matches(name, form, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(form)}."
            problems.append(f"{name}: no such field; {hint}")
            continue
        schema = {key: part for key, part in form[name].items() if key not in ("default", "title", "description")}
        errors = Draft7Validator(schema, format_checker=FormatChecker()).iter_errors(value)
        problems += [f"{name}: {error.message}. {form[name]['description']}" for error in errors]
    if problems:
        raise OptionError("\n  ".join([f"{what} can't be used:", *problems]), next_step="Correct these fields.")
