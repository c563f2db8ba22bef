"""Which past windows the ranker learns from, and which it is judged on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812

from shelfkin.evaluation.backtest import TASKS, Window, truth
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
        Events of the type that counts as buying, of the whole history before as_of.
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
        wanted = truth(self.purchases, window).join(F.broadcast(items), "product_id", how="inner").persist()
        for task, repurchase in TASKS.items():
            counted = wanted.filter(F.col("is_new")) if task == "new" else wanted
            by_user = counted.groupBy("user_id").agg(F.sort_array(F.collect_list("item")).alias("items"))
            self.rows[task, window] = training_rows(
                fitted.histories, by_user, fitted.items, fitted.evidence, Policy(LIST_LENGTH, repurchase)
            )
        wanted.unpersist()

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


def learn_and_judge(
    lessons: Lessons, judged: Window, n_windows: int, fit: Callable[[Window], Fitted], items: DataFrame
) -> tuple[Fitted, dict[str, Ranker | None], dict[str, Ranker | None]]:
    """Fit every window once; return the judged window's model and two rankers per task.

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
    items
        ``product_id`` and its ``item`` number.

    Returns
    -------
    fitted
        As of the judged window's cut, its histories persisted.
    of_judged
        By task: rankers that learned from the windows before the judged one only. These are judged.
    of_now
        By task: rankers that learned from the judged window and those before it. These make tonight's lists.
    """
    earlier = windows_before(judged, n_windows)
    for window in reversed(earlier):
        past = fit(window)
        lessons.add(window, past, items)
        past.histories.unpersist()
    fitted = fit(judged)
    newest = [judged, *earlier][:n_windows]
    if newest:
        lessons.add(judged, fitted, items)
    of_judged = {task: lessons.ranker(task, earlier) for task in TASKS}
    return fitted, of_judged, {task: lessons.ranker(task, newest) for task in TASKS}
