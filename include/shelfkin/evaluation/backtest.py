"""The backtest: lists of models fitted before a cut, beside what the same users bought after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame

from shelfkin.evaluation.backtest_models import BacktestModel, lists_of
from shelfkin.evaluation.beyond_accuracy import Background, diversity, novelty, popularity_lift
from shelfkin.evaluation.bootstrap import paired_interval
from shelfkin.evaluation.gate import BaselineComparison
from shelfkin.evaluation.metrics import PER_USER, mean_metrics
from shelfkin.evaluation.windows import TASKS, Window, users_of, wanted_products
from shelfkin.recommending.repurchase import RepurchasePolicy

KS = (5, 10, 20)
# The one figure that lists are compared by.
HEADLINE_K = 10
# Users with at most so many orders before the cut are cold, the others warm.
COLD_MAX_ORDERS = 1


def hits_of(
    lists: pd.DataFrame, wanted: pd.DataFrame, n_ranks: int, product_ids: pd.Index
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return where lists hold what was wanted, as arrays.

    Parameters
    ----------
    lists
        ``user_id``, ``rank`` (from 1), ``product_id``; ranks beyond `n_ranks` and users without truth don't count.
    wanted
        Distinct ``user_id``, ``product_id``. A user without a list scores zero.
    n_ranks
        Width of the result.
    product_ids
        The catalogue; items are places in it.

    Returns
    -------
    hits, items, n_wanted
        As `metrics.mean_metrics` takes them; users by rising id.
    """
    users, n_wanted = np.unique(wanted["user_id"].to_numpy(dtype=str), return_counts=True)
    shown = lists[(lists["rank"] >= 1) & (lists["rank"] <= n_ranks)]
    merged = shown.merge(wanted.assign(hit=True), on=["user_id", "product_id"], how="left")
    row = pd.Index(users).get_indexer(pd.Index(merged["user_id"]))
    codes = product_ids.get_indexer(pd.Index(merged["product_id"]))
    column = merged["rank"].to_numpy() - 1
    hits, items = np.zeros((len(users), n_ranks), dtype=bool), np.full((len(users), n_ranks), -1)
    met = row >= 0
    hits[row[met], column[met]] = merged["hit"].notna().to_numpy()[met]
    items[row[met], column[met]] = codes[met]
    return hits, items, n_wanted


@dataclass(frozen=True)
class BacktestResult:
    """What `evaluate` measured.

    Attributes
    ----------
    metrics
        Rows of ``recommender_metrics``; none for a task in which nobody counts.
    ndcg
        By task and model: each user's NDCG@10, users in the same order for all.
    """

    metrics: pd.DataFrame
    ndcg: dict[tuple[str, str], np.ndarray]

    def comparisons(self, ours: str, task: str) -> dict[str, BaselineComparison]:
        """Return every other model of a task, with the paired interval of ours less its figure."""
        of_task = {name: values for (judged_task, name), values in self.ndcg.items() if judged_task == task}
        return {
            name: BaselineComparison(float(values.mean()), *paired_interval([of_task[ours] - values]))
            for name, values in of_task.items()
            if name != ours
        }


def evaluate(
    models_of: dict[str, list[BacktestModel]],
    truth: DataFrame,
    window: Window,
    list_length: int,
    background: Background,
    repurchase_after_days: int | None = None,
) -> BacktestResult:
    """Score every model in every task.

    Parameters
    ----------
    models_of
        The models by task.
    truth
        Result of `windows.truth`.
    window
        What it was made for.
    list_length
        Length of the lists; metrics at larger k aren't reported.
    background
        Products and users as of the cut.
    repurchase_after_days
        As in `repurchase.RepurchasePolicy`, for all models.
    """
    truth = truth.persist()
    ks = [k for k in KS if k <= list_length]
    rows, ndcg = [], {}
    wanted_of = {task: wanted for task in TASKS if not (wanted := wanted_products(truth, task)).empty}
    asked = {
        (task, one.name): (one, RepurchasePolicy(list_length, TASKS[task], repurchase_after_days))
        for task in wanted_of
        for one in models_of[task]
    }
    lists = lists_of(asked, users_of(truth.sparkSession, wanted_of.values())) if asked else {}
    for task, wanted in wanted_of.items():
        for model in models_of[task]:
            shown = lists[task, model.name]
            hits, items, n_wanted = hits_of(shown, wanted, list_length, background.product_ids)
            ndcg[task, model.name] = PER_USER["ndcg"](hits, n_wanted, min(HEADLINE_K, list_length))
            figures = [(*figure, len(hits)) for figure in mean_metrics(hits, items, n_wanted, ks)]
            figures += [(*figure, len(hits)) for figure in _beyond_accuracy(items, wanted, ks, background)]
            figures += _by_warmth(hits, n_wanted, wanted, ks, background)
            rows += [(model.name, task, window.cut.date(), window.horizon_days, *figure) for figure in figures]
    truth.unpersist()
    columns = ["model", "task", "cut", "horizon_days", "metric", "k", "value", "users"]
    return BacktestResult(pd.DataFrame(rows, columns=columns), ndcg)


def _beyond_accuracy(
    items: np.ndarray, wanted: pd.DataFrame, ks: Sequence[int], background: Background
) -> list[tuple[str, int, float]]:
    """Return novelty, diversity and popularity lift at every k."""
    buyers = background.buyers[background.product_ids.get_indexer(pd.Index(wanted["product_id"]))]
    usual = pd.Series(buyers).groupby(wanted["user_id"].to_numpy()).mean().to_numpy()
    rows: list[tuple[str, int, float]] = []
    for k in ks:
        rows += [
            ("novelty", k, novelty(items[:, :k], background)),
            ("diversity", k, diversity(items[:, :k], background)),
            ("popularity_lift", k, popularity_lift(items[:, :k], usual, background)),
        ]
    return rows


def _by_warmth(
    hits: np.ndarray, n_wanted: np.ndarray, wanted: pd.DataFrame, ks: Sequence[int], background: Background
) -> list[tuple[str, int, float, int]]:
    """Return recall and NDCG of cold and of warm users, where there are any, at every k."""
    users = np.unique(wanted["user_id"].to_numpy(dtype=str))
    cold = background.n_orders.reindex(users, fill_value=0).to_numpy() <= COLD_MAX_ORDERS
    return [
        (f"{metric}_{name}", k, float(PER_USER[metric](hits[rows], n_wanted[rows], k).mean()), int(rows.sum()))
        for name, rows in (("cold", cold), ("warm", ~cold))
        if rows.any()
        for k in ks
        for metric in ("recall", "ndcg")
    ]
