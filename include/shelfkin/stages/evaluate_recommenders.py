"""Judge our lists and the baselines on the newest complete window before as_of."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import astuple, dataclass, replace
from datetime import date

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812

from shelfkin import tables
from shelfkin.app import App, optional
from shelfkin.artifacts import Manifest, published_before
from shelfkin.errors import OptionError
from shelfkin.evaluation import gate
from shelfkin.evaluation.backtest import BacktestResult, evaluate
from shelfkin.evaluation.baselines import OURS, Baselines, ours
from shelfkin.evaluation.beyond_accuracy import Background
from shelfkin.evaluation.gate import BaselineComparison, LastPublished
from shelfkin.evaluation.learning import Rankers, TrainingSet, learn
from shelfkin.evaluation.ranker_reuse import from_rows, ranker_key, reusable_day, to_rows
from shelfkin.evaluation.tuning import Tuned, tune
from shelfkin.evaluation.windows import TASKS, Window, dated_purchases, truth
from shelfkin.plotting.recommenders import draw_against_baselines, draw_over_days
from shelfkin.profile import MAX_RANKER_WINDOWS, Recommending, purchase_type
from shelfkin.recommending.catalogue import unknown_products
from shelfkin.recommending.fitting import CONTENT_NEIGHBOURS, Fitted, fit_store
from shelfkin.recommending.preparation import Preparation, prepare
from shelfkin.recommending.repurchase import RepurchasePolicy
from shelfkin.recommending.variants import variant_rows
from shelfkin.stage import Stage
from shelfkin.stages import list_flags

# Metrics go up to k = 20, so lists are judged at this length even where shorter ones are shown.
MIN_LIST_LENGTH = 20
# Published days that the picture over time looks back on.
MAX_DAYS = 60


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the lists and of learning; "" means as the profile says."""
    list_flags.add_flags(parser)
    parser.add_argument("--ranker-windows", type=optional(int), help="past windows to learn from")


@dataclass(frozen=True)
class Learned:
    """The store as of the judged window's cut, the rankers, and the baselines' parameters."""

    fitted: Fitted
    rankers: Rankers
    tuned: Tuned


def run(stage: Stage) -> None:
    """Prepare what building needs too, fit before the cut, and score every model in both tasks."""
    settings, policy = recommending_of(stage), list_flags.policy_of(stage)
    window = Window.before(stage.cutoff, settings.horizon_days)
    stage.metrics |= {"cut": window.cut.date().isoformat(), "horizon_days": window.horizon_days}
    stage.metrics["ranker_windows"] = settings.ranker_windows
    events = stage.read("clean_events", tables.EVENTS)
    prepared = write_preparation(stage, events, settings)
    if stage.profile.events is None or events.isEmpty():
        return skip(stage, "The store has no events before as_of.")
    purchases = purchases_in_windows(prepared, events, window).persist()
    wanted = truth(purchases, window)
    if wanted.isEmpty():
        return skip(
            stage, f"No user bought both before {window.cut.date()} and within the {window.horizon_days} days after it."
        )
    learned = learn_or_reuse(stage, prepared, purchases, window, policy)
    write_learned(stage, learned)
    stage.progress("scoring lists against the %s days from %s", window.horizon_days, window.cut.date())
    result = backtest(prepared, learned, wanted, window, policy)
    learned.fitted.histories.unpersist()
    purchases.unpersist()
    stage.metrics["co_purchase_method"] = learned.fitted.method
    write_result(stage, result, policy)


def recommending_of(stage: Stage) -> Recommending:
    """Return the profile's settings, with the number of past windows that this run asks for.

    Raises
    ------
    OptionError
        It is no number of windows.
    """
    settings, n_windows = stage.profile.recommending, stage.options.ranker_windows
    if n_windows is None:
        return settings
    if not 0 <= n_windows <= MAX_RANKER_WINDOWS:
        raise OptionError(f"ranker_windows={n_windows} is not within 0 to {MAX_RANKER_WINDOWS}.")
    return settings.model_copy(update={"ranker_windows": n_windows})


def write_preparation(stage: Stage, events: DataFrame, settings: Recommending) -> Preparation:
    """Read the catalogue, find variants and lay out timelines; write them as tables, for building as well."""
    prepared = prepare(
        stage.read("clean_catalog", tables.PRODUCTS),
        stage.dataset("embed_products", tables.PRODUCT_VECTORS),
        stage.read("cluster_products", tables.PRODUCT_CLUSTERS),
        events,
        stage.profile.events.event_types if stage.profile.events else {},
        settings,
    )
    variants = variant_rows(prepared.catalogue)
    for table, rows in ((tables.PRODUCT_VARIANTS, variants), (tables.PREPARED_PRODUCTS, prepared.catalogue.rows)):
        stage.write(table, stage.spark.createDataFrame(rows, tables.SCHEMAS[table]), n_files=1)
    stage.write(tables.TIMELINES, prepared.timelines)
    stage.metrics |= {
        "variant_groups": variants["variant_group"].nunique(),
        "products_with_variants": len(variants),
        **unknown_products(events, prepared.items),
    }
    return replace(prepared, timelines=stage.spark.read.parquet(stage.table_uri(tables.TIMELINES)))


def purchases_in_windows(prepared: Preparation, events: DataFrame, window: Window) -> DataFrame:
    """Return `windows.dated_purchases` of all windows that are judged or learned from."""
    earliest = [window, *window.windows_before(prepared.settings.ranker_windows)][-1].cut
    return dated_purchases(events.filter(F.col("event_type") == purchase_type(prepared.event_types)), earliest)


def learn_or_reuse(
    stage: Stage, prepared: Preparation, purchases: DataFrame, window: Window, policy: RepurchasePolicy
) -> Learned:
    """Fit the store as of the cut, with the rankers of a day published shortly before, or with new ones."""
    popularity = prepared.popularity(window.cut)
    stage.progress("searching the nearest of %s groups of variants", f"{len(prepared.catalogue.group_vectors):,}")
    near = prepared.nearest(popularity["total"].to_numpy() > 0, CONTENT_NEIGHBOURS)

    def fit(earlier: Window) -> Fitted:
        stage.progress("fitting on the events before %s", earlier.cut.date())
        counted = popularity if earlier == window else None
        return fit_store(prepared, near, earlier.cut, popularity=counted, backtest=True)

    def tune_on(earlier: Window, fitted: Fitted) -> Tuned:
        stage.progress("tuning the baselines on the %s days from %s", earlier.horizon_days, earlier.cut.date())
        return tune(Baselines(fitted), truth(purchases, earlier), policy.repurchase_after_days)

    reused = reused_rankers(stage, prepared.settings)
    if reused is not None:
        return Learned(fit(window), *reused)
    settings, n_cores = prepared.settings, stage.spark.sparkContext.defaultParallelism
    training_set = TrainingSet(purchases, prepared.items, settings.ranker_seed, n_cores)
    return Learned(*learn(training_set, window, settings.ranker_windows, fit, tune_on))


def reused_rankers(stage: Stage, settings: Recommending) -> tuple[Rankers, Tuned] | None:
    """Return what a day published shortly before has learned, if it goes by the same features, settings and model."""
    embedded = stage.inputs["embed_products"].content["metrics"]
    event_types = stage.profile.events.event_types if stage.profile.events else {}
    key = ranker_key(
        settings.model_dump(mode="json"),
        {name: event_type.model_dump(mode="json") for name, event_type in event_types.items()},
        embedded.get("model"),
        embedded.get("dimensions"),
    )
    stage.metrics["ranker_key"] = key
    days = published_before(stage.paths, settings.ranker_max_age_days) if settings.ranker_max_age_days else []
    pointer = reusable_day(days, stage.as_of, key, settings.ranker_max_age_days)
    if pointer is None:
        return None
    learned_as_of = pointer["metrics"]["ranker_learned_as_of"]
    manifest = Manifest.read(stage.paths.root, pointer["manifests"]["evaluate_recommenders"])

    def rows_of(table: str) -> list[tuple]:
        read = stage.spark.read.schema(tables.SCHEMAS[table]).parquet(manifest.table_uri(table))
        return [tuple(row) for row in read.collect()]

    stage.progress("going on with the rankers that were learned as of %s", learned_as_of)
    rankers = from_rows(rows_of(tables.RANKERS), date.fromisoformat(learned_as_of))
    return rankers, Tuned.from_rows(rows_of(tables.BASELINE_PARAMETERS))


def write_learned(stage: Stage, learned: Learned) -> None:
    """Write ``rankers`` and ``baseline_parameters``; say what ranks the production lists and what was chosen."""
    rankers, tuned = learned.rankers, learned.tuned
    rows = {tables.RANKERS: list(to_rows(rankers)), tables.BASELINE_PARAMETERS: [astuple(one) for one in tuned.tried]}
    for table, content in rows.items():
        stage.write(table, stage.spark.createDataFrame(content, tables.SCHEMAS[table]), n_files=1)
    # A day that had too little to learn from has nothing to hand on: the next one tries for itself.
    stage.metrics["ranker_learned_as_of"] = rankers.learned_as_of.isoformat() if rows[tables.RANKERS] else None
    for task, ranker in rankers.production.items():
        stage.metrics[f"ranked_by_{task}"] = "blend" if ranker is None else "lambdamart"
        if ranker is None:
            stage.progress("task %s: too little history to learn from; the fixed blend ranks", task)
        else:
            leading = ", ".join(f"{name} {share:.0%}" for name, share in list(ranker.importance().items())[:5])
            stage.progress("task %s: learned to rank; goes most by %s", task, leading)
    for task in TASKS:
        chosen = "; ".join(f"{one.model} {one.parameters}" for one in tuned.tried if one.chosen and one.task == task)
        if chosen:
            stage.progress("task %s: the baselines' best parameters are %s", task, chosen)


def backtest(
    prepared: Preparation, learned: Learned, wanted: DataFrame, window: Window, policy: RepurchasePolicy
) -> BacktestResult:
    """Score our lists and every baseline's in both tasks."""
    fitted, tuned, baselines = learned.fitted, learned.tuned, Baselines(learned.fitted)
    asked = [(task, name) for task in TASKS for name in baselines.names]
    models = baselines.models((name, tuned.parameters(task, name)) for task, name in asked)
    models_of = {
        task: [
            *ours(fitted, prepared.settings.blend_for(repurchase), learned.rankers.backtest[task]),
            *(model for (of_task, _), model in zip(asked, models, strict=True) if of_task == task),
        ]
        for task, repurchase in TASKS.items()
    }
    return evaluate(
        models_of,
        wanted,
        window,
        max(policy.list_length, MIN_LIST_LENGTH),
        background_of(prepared, fitted),
        policy.repurchase_after_days,
    )


def background_of(prepared: Preparation, fitted: Fitted) -> Background:
    """Return what novelty, diversity and warmth are counted from, as of the judged window's cut."""
    orders = fitted.histories.select("user_id", "n_orders").toPandas().set_index("user_id")["n_orders"]
    return Background(
        product_ids=pd.Index(prepared.catalogue.product_ids),
        buyers=fitted.popularity["buyers"].to_numpy(),
        n_users=len(orders),
        vectors=prepared.catalogue.group_vectors,
        groups=prepared.catalogue.groups,
        n_orders=orders,
    )


def write_result(stage: Stage, result: BacktestResult, policy: RepurchasePolicy) -> None:
    """Write ``recommender_metrics``, figures and pictures of each task, and what the gate decides."""
    stage.write(tables.RECOMMENDER_METRICS, stage.spark.createDataFrame(result.metrics), n_files=1)
    # Once: each interval draws all users thousands of times.
    comparisons = {task: result.comparisons(OURS, task) for task in TASKS if (task, OURS) in result.ndcg}
    for task, of_task in comparisons.items():
        report(stage, task, result.ndcg[task, OURS], of_task)
        draw_task(stage, task, result.ndcg[task, OURS], of_task)
    stage.metrics["ndcg_at_10"] = stage.metrics.get(f"ndcg_at_10_{policy.task}")
    draw_days(stage, policy.task)
    ndcg = result.ndcg.get((policy.task, OURS), np.empty(0))
    verdict = gate.decide(
        len(ndcg),
        float(ndcg.mean()) if len(ndcg) else 0.0,
        comparisons.get(policy.task, {}),
        last_published(stage, policy.task),
        stage.profile.recommending.max_fall,
    )
    stage.metrics |= {"task": policy.task, "gate": verdict.word, "gate_reason": verdict.reason}
    stage.progress("gate: %s, %s", verdict.word, verdict.reason)


def last_published(stage: Stage, task: str) -> LastPublished | None:
    """Return the newest published run before this one, if its lists were judged in the same task and horizon."""
    for pointer in published_before(stage.paths):
        metrics = pointer["metrics"]
        alike = metrics.get("task") == task and metrics.get("horizon_days") == stage.metrics["horizon_days"]
        if alike and metrics.get("ndcg_at_10") is not None:
            return LastPublished(date.fromisoformat(pointer["as_of"]), float(metrics["ndcg_at_10"]))
    return None


def report(stage: Stage, task: str, ndcg: np.ndarray, comparisons: Mapping[str, BaselineComparison]) -> None:
    """Put a task's main figures where XCom shows them, and say them."""
    if not comparisons:
        return
    best, nearest = min(comparisons.items(), key=lambda one: (-one[1].mean, one[0]))
    stage.metrics |= {
        f"ndcg_at_10_{task}": round(float(ndcg.mean()), 4),
        f"best_baseline_{task}": best,
        f"best_baseline_ndcg_at_10_{task}": round(nearest.mean, 4),
        f"users_{task}": len(ndcg),
        f"ahead_{task}": {name: [round(one.low, 4), round(one.high, 4)] for name, one in comparisons.items()},
    }
    told = "task %s: NDCG@10 %.4f, best baseline %s %.4f, ahead by %+.4f to %+.4f (95%%), %s users"
    stage.progress(told, task, ndcg.mean(), best, *nearest, f"{len(ndcg):,}")


def draw_task(stage: Stage, task: str, ndcg: np.ndarray, comparisons: Mapping[str, BaselineComparison]) -> None:
    """Draw a task's lists against its baselines."""
    n_beaten = sum(one.low > 0 for one in comparisons.values())
    figure = draw_against_baselines(
        (OURS, float(ndcg.mean())),
        comparisons,
        metric="NDCG@10",
        title=f"Task {task}: ahead of {n_beaten} of {len(comparisons)} baselines beyond noise",
        detail=f"{stage.metrics['horizon_days']} days from {stage.metrics['cut']}, {len(ndcg):,} customers, "
        "95% intervals",
    )
    stage.save_figure(f"quality_{task}", figure)


def draw_days(stage: Stage, task: str) -> None:
    """Draw NDCG@10 of the run's task, ours and the best baseline's, as of each of the last published days and today."""
    earlier = [(pointer["as_of"], pointer["metrics"]) for pointer in reversed(published_before(stage.paths, MAX_DAYS))]
    known = [
        (date.fromisoformat(as_of), metrics[name], metrics.get(f"best_baseline_{name}"))
        for as_of, metrics in [*earlier, (stage.as_of.isoformat(), stage.metrics)]
        if metrics.get(name := f"ndcg_at_10_{task}") is not None
    ]
    if known:
        days, ours_by_day, best = zip(*known, strict=True)
        ahead = sum(value is None or mine >= value for mine, value in zip(ours_by_day, best, strict=True))
        title = f"Task {task}: ahead of the best baseline on {ahead} of {len(days)} days"
        detail = f"each day judged by the last {stage.metrics['horizon_days']} days before it"
        figure = draw_over_days(days, ours_by_day, best, metric="NDCG@10", title=title, detail=detail)
        stage.save_figure("quality_over_days", figure)


def skip(stage: Stage, reason: str) -> None:
    """Write empty tables and say why: too little history is no failure."""
    stage.metrics |= {"skipped_reason": reason, "gate": "abstain", "gate_reason": reason}
    stage.progress("no evaluation: %s", reason)
    for table in (tables.RECOMMENDER_METRICS, tables.RANKERS, tables.BASELINE_PARAMETERS):
        stage.write_empty(table)


APP = App(
    "evaluate_recommenders",
    run,
    inputs=("clean_catalog", "clean_events", "embed_products", "cluster_products"),
    add_flags=add_flags,
    description=__doc__,
)
