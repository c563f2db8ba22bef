"""Which past windows the ranker learns from, and which it is judged on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812

from shelfkin.evaluation.backtest import TASKS, Window, truth
from shelfkin.evaluation.tuning import Tuned
from shelfkin.recommending.model import Fitted
from shelfkin.recommending.policies import Policy
from shelfkin.recommending.ranker import Ranker, TrainingRows, train
from shelfkin.recommending.training import training_rows

# Lists are learned at the length that is judged; see `candidate_rows` for what a longer one looks at.
LIST_LENGTH = 20


@dataclass
class Lessons:
    """Training rows by task and window, gathered one window at a time, so that one fitted model is held at once.

    Parameters
    ----------
    purchases
        Result of `backtest.dated_purchases` since the earliest window's cut, persisted.
    seed
        Of the rankers.
    n_threads
        Cores of the driver that training may use.
    """

    purchases: DataFrame
    seed: int
    n_threads: int
    rows: dict[tuple[str, Window], TrainingRows] = field(default_factory=dict)

    def add(self, window: Window, fitted: Fitted, items: DataFrame) -> None:
        """Learn from one window.

        Parameters
        ----------
        window
            Complete at the moment that the rankers are for.
        fitted
            As of the window's cut.
        items
            ``product_id`` and its ``item`` number.
        """
        wanted = truth(self.purchases, window).join(F.broadcast(items), "product_id", how="inner")
        of_task = {"all": F.col("item"), "new": F.when(F.col("is_new"), F.col("item"))}
        by_user = wanted.groupBy("user_id").agg(
            *(F.sort_array(F.collect_list(of_task[task])).alias(task) for task in TASKS)
        )
        policies = {task: Policy(LIST_LENGTH, repurchase) for task, repurchase in TASKS.items()}
        found = training_rows(fitted.histories, by_user.persist(), fitted.items, fitted.evidence, policies)
        by_user.unpersist()
        self.rows |= {(task, window): rows for task, rows in found.items()}

    def ranker(self, task: str, windows: list[Window]) -> Ranker | None:
        """Return the ranker of a task that has seen `windows` and nothing else; None if they hold too little."""
        if not windows:
            return None
        return train(
            TrainingRows.together([self.rows[task, window] for window in windows]),
            seed=self.seed,
            n_threads=self.n_threads,
        )


def windows_before(window: Window, n: int) -> list[Window]:
    """Return the `n` windows of the same length that end where `window` begins, newest first."""
    found = []
    for _ in range(n):
        window = Window.before(window.cut, window.horizon_days)
        found.append(window)
    return found


@dataclass(frozen=True)
class Rankers:
    """What ranks, by task; None where there is too little to learn from.

    Attributes
    ----------
    judged
        Learned from the windows before the one that lists are judged on, which the next days judge again.
    tonight
        Learned from that window as well; these make the lists that are shown.
    learned_as_of
        The day that the newest lesson ends at.
    """

    judged: Mapping[str, Ranker | None]
    tonight: Mapping[str, Ranker | None]
    learned_as_of: date


def learn(
    lessons: Lessons,
    judged: Window,
    n_windows: int,
    fit: Callable[[Window], Fitted],
    tune: Callable[[Window, Fitted], Tuned],
    items: DataFrame,
) -> tuple[Fitted, Rankers, Tuned]:
    """Fit every window once.

    Parameters
    ----------
    lessons
        Empty; holds the rows afterwards.
    judged
        The newest complete window.
    n_windows
        Windows that a ranker learns from.
    fit
        Fits the model as of a window's cut.
    tune
        Chooses the baselines' parameters on a window: the newest before the judged one.
    items
        ``product_id`` and its ``item`` number.

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
    earlier = windows_before(judged, n_windows)
    for window in reversed(earlier):
        past = fit(window)
        lessons.add(window, past, items)
        if window == earlier[0]:
            tuned = tune(window, past)
        past.histories.unpersist()
    fitted = fit(judged)
    newest = [judged, *earlier][:n_windows]
    if newest:
        lessons.add(judged, fitted, items)
    rankers = Rankers(
        {task: lessons.ranker(task, earlier) for task in TASKS},
        {task: lessons.ranker(task, newest) for task in TASKS},
        judged.end.date(),
    )
    return fitted, rankers, tuned
