"""Temporal backtest: fit before a cut, judge against what the same users bought after it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from shelfkin.evaluation.beyond import Background, diversity, novelty, popularity_lift
from shelfkin.evaluation.bootstrap import paired_interval
from shelfkin.evaluation.contestants import Contestant, lists_of
from shelfkin.evaluation.gate import Rival
from shelfkin.evaluation.metrics import PER_USER, mean_metrics
from shelfkin.recommending.policies import Policy, Repurchase

KS = (5, 10, 20)
# The one figure that lists are compared by.
HEADLINE_K = 10
# Task "all" counts repeats, so its lists may hold past purchases; task "new" counts only what was never bought.
TASKS: dict[str, Repurchase] = {"all": "allow", "new": "exclude"}
# Users whose lists are collected and scored on the driver; beyond, a sample by hash of the id. The standard error of
# a mean NDCG over this many users is about 0.001.
MAX_USERS = 50_000
# Users with at most so many orders before the cut are cold, the others warm.
COLD_MAX_ORDERS = 1


@dataclass(frozen=True)
class Window:
    """One cut and how far ahead of it is judged.

    Attributes
    ----------
    cut
        Models know only what happened strictly before it (UTC).
    horizon_days
        What users buy from the cut up to this many days later is the truth.
    """

    cut: datetime
    horizon_days: int

    @classmethod
    def before(cls, as_of: datetime, horizon_days: int) -> Window:
        """Return the newest window that is complete at `as_of`."""
        return cls(as_of - timedelta(days=horizon_days), horizon_days)

    @property
    def end(self) -> datetime:
        """First moment that no longer counts."""
        return self.cut + timedelta(days=self.horizon_days)


def dated_purchases(purchases: DataFrame, since: datetime) -> DataFrame:
    """Return what known users bought from a moment on, beside when it all began.

    One pass over the whole history for all windows, where each window by itself would need one.

    Parameters
    ----------
    purchases
        Events of the type that counts as buying, of the whole history.
    since
        Earlier purchases only count for the beginnings: the earliest cut of all windows.

    Returns
    -------
    DataFrame
        ``user_id`` string, ``product_id`` string, ``occurred_at``, ``owned_since`` (the user's first purchase of the
        product), ``sold_since`` (anybody's first purchase of it), ``known_since`` (the user's first purchase), all
        timestamps.
    """
    at = F.col("occurred_at")
    known = purchases.filter(F.col("user_id").isNotNull())
    # Each from the events, not the latter two from the first: most of a product's or user's events meet before the
    # exchange, and what is read again is two columns.
    pairs = known.groupBy("user_id", "product_id").agg(F.min(at).alias("owned_since"))
    products = purchases.groupBy("product_id").agg(F.min(at).alias("sold_since"))
    users = known.groupBy("user_id").agg(F.min(at).alias("known_since"))
    return (
        known.filter(at >= F.lit(since))
        .select("user_id", "product_id", "occurred_at")
        .join(pairs, ["user_id", "product_id"], how="inner")
        .join(products, "product_id", how="inner")
        .join(users, "user_id", how="inner")
        .select("user_id", "product_id", "occurred_at", "owned_since", "sold_since", "known_since")
    )


def truth(dated: DataFrame, window: Window) -> DataFrame:
    """Return what known users bought within the window.

    Users count who bought before the cut; products count that were sold before it.

    Parameters
    ----------
    dated
        Result of `dated_purchases`, since the cut or earlier.
    window
        The cut and the horizon.

    Returns
    -------
    DataFrame
        Distinct ``user_id`` string, ``product_id`` string, ``is_new`` boolean (never bought by the user before).
    """
    at, cut = F.col("occurred_at"), F.lit(window.cut)
    within = (at >= cut) & (at < F.lit(window.end))
    return (
        dated.filter(within & (F.col("sold_since") < cut) & (F.col("known_since") < cut))
        .select("user_id", "product_id", (F.col("owned_since") >= cut).alias("is_new"))
        .distinct()
    )


def wanted_products(truth: DataFrame, task: str, max_users: int = MAX_USERS) -> pd.DataFrame:
    """Return the truth of one task on the driver, for at most about `max_users` users: ``user_id``, ``product_id``."""
    counted = truth.filter(F.col("is_new")) if task == "new" else truth
    n_users = counted.select("user_id").distinct().count()
    if n_users > max_users:
        share = int(max_users / n_users * 10_000)
        counted = counted.filter(F.pmod(F.xxhash64("user_id"), F.lit(10_000)) < share)
    return counted.select("user_id", "product_id").toPandas()


def users_of(session: SparkSession, wanted: Iterable[pd.DataFrame]) -> DataFrame:
    """Return the distinct users of some results of `wanted_products`."""
    users = pd.concat([found[["user_id"]] for found in wanted]).drop_duplicates()
    return session.createDataFrame(users, "user_id string")


def judge(
    lists: pd.DataFrame, wanted: pd.DataFrame, n_ranks: int, product_ids: pd.Index
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lay lists and truth out as arrays.

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
class Judged:
    """What `evaluate` found.

    Attributes
    ----------
    metrics
        Rows of ``recommender_metrics``; none for a task in which nobody counts.
    ndcg
        By task and contestant: each user's NDCG@10, users in the same order for all.
    """

    metrics: pd.DataFrame
    ndcg: dict[tuple[str, str], np.ndarray]

    def rivals(self, ours: str, task: str) -> dict[str, Rival]:
        """Return every other contestant of a task, with the paired interval of ours less its figure."""
        of_task = {name: values for (judged_task, name), values in self.ndcg.items() if judged_task == task}
        return {
            name: Rival(float(values.mean()), *paired_interval([of_task[ours] - values]))
            for name, values in of_task.items()
            if name != ours
        }


def evaluate(
    contestants_of: dict[str, list[Contestant]],
    truth: DataFrame,
    window: Window,
    list_length: int,
    background: Background,
    repurchase_after_days: int | None = None,
) -> Judged:
    """Score every contestant in every task.

    Parameters
    ----------
    contestants_of
        The contestants by task.
    truth
        Result of `truth`.
    window
        What it was made for.
    list_length
        Length of the lists; metrics at larger k aren't reported.
    background
        Products and users as of the cut.
    repurchase_after_days
        As in `policies.Policy`, for all contestants.
    """
    truth = truth.persist()
    ks = [k for k in KS if k <= list_length]
    rows, ndcg = [], {}
    wanted_of = {task: wanted for task in TASKS if not (wanted := wanted_products(truth, task)).empty}
    asked = {
        (task, one.name): (one, Policy(list_length, TASKS[task], repurchase_after_days))
        for task in wanted_of
        for one in contestants_of[task]
    }
    lists = lists_of(asked, users_of(truth.sparkSession, wanted_of.values())) if asked else {}
    for task, wanted in wanted_of.items():
        for contestant in contestants_of[task]:
            shown = lists[task, contestant.name]
            hits, items, n_wanted = judge(shown, wanted, list_length, background.product_ids)
            ndcg[task, contestant.name] = PER_USER["ndcg"](hits, n_wanted, min(HEADLINE_K, list_length))
            found = [(*figure, len(hits)) for figure in mean_metrics(hits, items, n_wanted, ks)]
            found += [(*figure, len(hits)) for figure in _beyond_hits(items, wanted, ks, background)]
            found += _by_warmth(hits, n_wanted, wanted, ks, background)
            rows += [(contestant.name, task, window.cut.date(), window.horizon_days, *figure) for figure in found]
    truth.unpersist()
    columns = ["model", "task", "cut", "horizon_days", "metric", "k", "value", "users"]
    return Judged(pd.DataFrame(rows, columns=columns), ndcg)


def _beyond_hits(
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


def value_of(metrics: pd.DataFrame, model: str, task: str, metric: str, k: int) -> float | None:
    """Return one figure of `evaluate`'s result, or None if it isn't there."""
    chosen = metrics[
        (metrics["model"] == model) & (metrics["task"] == task) & (metrics["metric"] == metric) & (metrics["k"] == k)
    ]
    return None if chosen.empty else float(chosen["value"].iloc[0])


def best_baseline(metrics: pd.DataFrame, ours: str, task: str, metric: str, k: int) -> tuple[str, float] | None:
    """Return the strongest baseline of a task and its figure; of equal ones the first by name."""
    chosen = metrics[
        (metrics["model"] != ours) & (metrics["task"] == task) & (metrics["metric"] == metric) & (metrics["k"] == k)
    ].sort_values(["value", "model"], ascending=[False, True])
    return None if chosen.empty else (str(chosen["model"].iloc[0]), float(chosen["value"].iloc[0]))
