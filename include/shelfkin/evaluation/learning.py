"""The rankers: what they learn from, and which windows of the past that is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812

from shelfkin.evaluation.tuning import Tuned
from shelfkin.evaluation.windows import TASKS, Window, truth
from shelfkin.recommending.fitting import Fitted
from shelfkin.recommending.ranker import Ranker, TrainingRows, train
from shelfkin.recommending.repurchase import RepurchasePolicy
from shelfkin.recommending.training_rows import training_rows

# Lists are learned at the length that is judged; see `candidate_rows` for what a longer one looks at.
LIST_LENGTH = 20
# Rankers that are trained side by side: each takes a copy of its rows.
_SIDE_BY_SIDE = 2


@dataclass(frozen=True)
class Rankers:
    """What ranks, by task; None where there is too little to learn from.

    Attributes
    ----------
    backtest
        Learned from the windows before the one that lists are judged on, which the next days judge again.
    production
        Learned from that window as well; these make the lists that are shown.
    learned_as_of
        The day that the newest window of the training set ends at.
    """

    backtest: Mapping[str, Ranker | None]
    production: Mapping[str, Ranker | None]
    learned_as_of: date


@dataclass
class TrainingSet:
    """Training rows by task and window, gathered one window at a time, so that one fitted store is held at once.

    Parameters
    ----------
    purchases
        Result of `windows.dated_purchases` since the earliest window's cut, persisted.
    items
        ``product_id`` and its ``item`` number.
    seed
        Of the rankers.
    n_threads
        Cores of the driver that training may use.
    """

    purchases: DataFrame
    items: DataFrame
    seed: int
    n_threads: int
    rows: dict[tuple[str, Window], TrainingRows] = field(default_factory=dict)

    def add(self, window: Window, fitted: Fitted) -> None:
        """Add the examples of one window, complete at the moment that the rankers are for.

        Parameters
        ----------
        window
            The cut and the days after it.
        fitted
            As of the window's cut.
        """
        wanted = truth(self.purchases, window).join(F.broadcast(self.items), "product_id", how="inner")
        of_task = {"all": F.col("item"), "new": F.when(F.col("is_new"), F.col("item"))}
        by_user = wanted.groupBy("user_id").agg(
            *(F.sort_array(F.collect_list(of_task[task])).alias(task) for task in TASKS)
        )
        policies = {task: RepurchasePolicy(LIST_LENGTH, repurchase) for task, repurchase in TASKS.items()}
        rows = training_rows(fitted.histories, by_user.persist(), fitted.items, fitted.ranking_inputs, policies)
        by_user.unpersist()
        self.rows |= {(task, window): rows_of_task for task, rows_of_task in rows.items()}

    def rankers(self, pool: Executor, windows: list[Window]) -> dict[str, Future[Ranker | None]]:
        """Start to train the rankers by task that have seen these windows, which are all added, and nothing else."""
        return {task: pool.submit(self._train, task, windows) for task in TASKS}

    def _train(self, task: str, windows: list[Window]) -> Ranker | None:
        if not windows:
            return None
        rows = TrainingRows.together([self.rows[task, window] for window in windows])
        return train(rows, seed=self.seed, n_threads=max(1, self.n_threads // _SIDE_BY_SIDE))


def learn(
    training_set: TrainingSet,
    backtest: Window,
    n_windows: int,
    fit: Callable[[Window], Fitted],
    tune: Callable[[Window, Fitted], Tuned],
) -> tuple[Fitted, Rankers, Tuned]:
    """Fit every window once.

    Parameters
    ----------
    training_set
        Empty; holds the rows afterwards.
    backtest
        The newest complete window, which lists are judged on.
    n_windows
        Windows that a ranker learns from.
    fit
        Fits the store as of a window's cut.
    tune
        Chooses the baselines' parameters on a window: the newest before the judged one.

    Returns
    -------
    Fitted
        Of the judged window, its histories persisted.
    Rankers
        Two per task.
    Tuned
        What `tune` chose; nothing without a window to learn from.
    """
    tuned = Tuned()
    earlier = backtest.windows_before(n_windows)
    for window in reversed(earlier):
        past = fit(window)
        training_set.add(window, past)
        if window == earlier[0]:
            tuned = tune(window, past)
        past.histories.unpersist()
    newest = [backtest, *earlier][:n_windows]
    # Trees grow more quickly side by side than each on all cores, and some while the store is fitted: that often waits.
    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        of_backtest = training_set.rankers(pool, earlier)
        fitted = fit(backtest)
        if newest:
            training_set.add(backtest, fitted)
        of_production = training_set.rankers(pool, newest)
    rankers = Rankers(_results(of_backtest), _results(of_production), backtest.end.date())
    return fitted, rankers, tuned


def _results(trained: Mapping[str, Future[Ranker | None]]) -> dict[str, Ranker | None]:
    return {task: ranker.result() for task, ranker in trained.items()}
