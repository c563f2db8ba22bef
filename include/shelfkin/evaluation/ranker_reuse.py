"""Rankers and parameters of an earlier day that are good for today too: learning is weekly, the backtest daily."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from typing import Any

from shelfkin.evaluation.baselines import GRIDS
from shelfkin.evaluation.learning import Rankers
from shelfkin.evaluation.windows import TASKS
from shelfkin.recommending.features import FEATURES
from shelfkin.recommending.ranker import N_ROUNDS, PARAMETERS, Ranker

# Values of ``rankers.role``.
BACKTEST, PRODUCTION = "backtest", "production"
# What days that were published by earlier versions call them.
_EARLIER_ROLES = {"judged": BACKTEST, "tonight": PRODUCTION}


def ranker_key(*parts: Any) -> str:
    """Return a hash of what is learned by besides data: the ranker's method and features, grids, `parts`, as JSON."""
    whole = [FEATURES, PARAMETERS, N_ROUNDS, GRIDS, *parts]
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:16]


def reusable_day(
    pointers: Iterable[Mapping[str, Any]], as_of: date, key: str, max_age_days: int
) -> Mapping[str, Any] | None:
    """Return the published day whose rankers today may go on with, or None where it must learn for itself.

    Windows that such rankers learned from end before today's backtest, because both move with as_of.

    Parameters
    ----------
    pointers
        Days published before `as_of`, newest first.
    as_of
        Today.
    key
        Result of `ranker_key` for today.
    max_age_days
        The newest window that they learned from ends less than so many days before `as_of`; 0 for never.
    """
    for pointer in pointers:
        metrics = pointer["metrics"]
        learned = metrics.get("ranker_learned_as_of")
        fresh = learned is not None and (as_of - date.fromisoformat(learned)).days < max_age_days
        if fresh and metrics.get("ranker_key") == key and "evaluate_recommenders" in pointer["manifests"]:
            return pointer
    return None


def to_rows(rankers: Rankers) -> Iterator[tuple[str, str, str]]:
    """Yield the rows of ``rankers``: task, the ranker's text, role."""
    for role, by_task in ((BACKTEST, rankers.backtest), (PRODUCTION, rankers.production)):
        yield from ((task, ranker.text, role) for task, ranker in by_task.items() if ranker is not None)


def from_rows(rows: Sequence[tuple[str, str, str]], learned_as_of: date) -> Rankers:
    """Return what `to_rows` gave."""
    rankers = {(_EARLIER_ROLES.get(role, role), task): Ranker(text) for task, text, role in rows}
    return Rankers(
        {task: rankers.get((BACKTEST, task)) for task in TASKS},
        {task: rankers.get((PRODUCTION, task)) for task in TASKS},
        learned_as_of,
    )
