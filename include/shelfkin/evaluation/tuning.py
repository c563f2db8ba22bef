"""The baselines' parameters: the best on the window before the one that lists are judged on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import pandas as pd
from pyspark.sql import DataFrame

from shelfkin.evaluation.backtest import HEADLINE_K, hits_of
from shelfkin.evaluation.backtest_models import lists_of
from shelfkin.evaluation.baselines import GRIDS, Baselines, Grid, Parameters, choices
from shelfkin.evaluation.metrics import ndcg
from shelfkin.evaluation.windows import TASKS, users_of, wanted_products
from shelfkin.recommending.repurchase import RepurchasePolicy
from shelfkin.recommending.sampling import MIN_USERS

# Users that parameters are chosen by, drawn by a hash of their id: the standard error of a mean NDCG over so many is
# about 0.01, that of the difference between neighbours on a grid much less, because the same users are asked.
MAX_USERS = 1_000


@dataclass(frozen=True)
class Tried:
    """One row of ``baseline_parameters``.

    Attributes
    ----------
    task, model
        As in ``recommender_metrics``.
    parameters
        One of `baselines.choices`, as JSON.
    ndcg
        Mean NDCG@10 of the window.
    chosen
        Whether no other of the task and model is better; of equal ones the first in the grid.
    """

    task: str
    model: str
    parameters: str
    ndcg: float
    chosen: bool


@dataclass(frozen=True)
class Tuned:
    """All that `tune` has tried, or nothing: then the defaults stand."""

    tried: tuple[Tried, ...] = ()

    @classmethod
    def from_rows(cls, rows: Iterable[Sequence[object]]) -> Tuned:
        """Return what was written to ``baseline_parameters``, rows in any order."""
        tried = [Tried(*row) for row in rows]  # type: ignore[arg-type]
        return cls(tuple(sorted(tried, key=lambda one: (one.task, one.model, one.parameters))))

    def parameters(self, task: str, model: str) -> Parameters:
        """Return what a baseline is judged with."""
        chosen = [one for one in self.tried if (one.task, one.model, one.chosen) == (task, model, True)]
        return json.loads(chosen[0].parameters) if chosen else next(choices(GRIDS[model]))


def tune(
    baselines: Baselines,
    truth: DataFrame,
    repurchase_after_days: int | None = None,
    *,
    grids: Mapping[str, Grid] = GRIDS,
    max_users: int = MAX_USERS,
) -> Tuned:
    """Score every baseline with all that its grid holds, in every task that enough users count in.

    Parameters
    ----------
    baselines
        As of a window's cut.
    truth
        Result of `windows.truth` for that window.
    repurchase_after_days
        As in `repurchase.RepurchasePolicy`.
    grids
        What to try, by baseline.
    max_users
        Users of each task that are asked; beyond, about so many are drawn.
    """
    truth = truth.persist()
    wanted = {task: wanted_products(truth, task, max_users) for task in TASKS}
    truth.unpersist()
    counted = {task: table for task, table in wanted.items() if table["user_id"].nunique() >= MIN_USERS}
    if not counted:
        return Tuned()
    tried = [
        (name, parameters)
        for name in baselines.names
        if len(options := list(choices(grids[name]))) > 1
        for parameters in options
    ]
    asked = {
        (task, name, json.dumps(parameters)): (model, RepurchasePolicy(HEADLINE_K, TASKS[task], repurchase_after_days))
        for (name, parameters), model in zip(tried, baselines.models(tried), strict=True)
        for task in counted
    }
    lists = lists_of(asked, users_of(truth.sparkSession, counted.values()))
    return Tuned.from_rows(_with_choice([(*key, _score(of_model, counted[key[0]])) for key, of_model in lists.items()]))


def _score(lists: pd.DataFrame, wanted: pd.DataFrame) -> float:
    hits, _, n_wanted = hits_of(lists, wanted, HEADLINE_K, pd.Index(lists["product_id"].unique()))
    return float(ndcg(hits, n_wanted, HEADLINE_K).mean())


def _with_choice(scores: list[tuple[str, str, str, float]]) -> Iterable[tuple[str, str, str, float, bool]]:
    for _, group in groupby(sorted(scores, key=lambda row: row[:2]), key=lambda row: row[:2]):
        rows = list(group)
        best = max(rows, key=lambda row: row[3])  # the first of equal ones, in the grid's order
        yield from ((*row, row is best) for row in rows)
