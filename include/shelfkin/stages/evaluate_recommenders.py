"""Judge our lists and the baselines on the newest complete window before as_of."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import astuple
from datetime import date

import numpy as np
import pandas as pd
from pyspark.sql import functions as F  # noqa: N812

from shelfkin.app import App, optional
from shelfkin.artifacts import Manifest, published_before
from shelfkin.errors import OptionError
from shelfkin.evaluation import gate
from shelfkin.evaluation.backtest import (
    HEADLINE_K,
    TASKS,
    Judged,
    Window,
    best_baseline,
    dated_purchases,
    evaluate,
    truth,
    value_of,
)
from shelfkin.evaluation.baselines import OURS, Baselines, ours
from shelfkin.evaluation.beyond import Background
from shelfkin.evaluation.gate import Before, Rival, Verdict
from shelfkin.evaluation.learning import Lessons, Rankers, learn, windows_before
from shelfkin.evaluation.taken_over import from_rows, ranker_key, to_rows, usable
from shelfkin.evaluation.tuning import Tuned, tune
from shelfkin.plotting.recommenders import draw_against_baselines, draw_over_days
from shelfkin.profile import MAX_RANKER_WINDOWS, Recommending
from shelfkin.recommending.model import (
    CONTENT_NEIGHBOURS,
    Catalogue,
    Fitted,
    catalogue_neighbours,
    fit_model,
    item_numbers,
    read_catalogue,
    unknown_products,
)
from shelfkin.recommending.policies import Policy
from shelfkin.recommending.timelines import purchase_type, timelines
from shelfkin.recommending.variants import find_variants
from shelfkin.stage import Stage
from shelfkin.tables import (
    BASELINE_PARAMETERS,
    EVENTS,
    PRODUCT_CLUSTERS,
    PRODUCT_VECTORS,
    PRODUCTS,
    RANKERS,
    RECOMMENDER_METRICS,
    SCHEMAS,
)

# Metrics go up to k = 20, so lists are judged at this length even where shorter ones are shown.
MIN_LIST_LENGTH = 20
# Published days that the picture over time looks back on.
MAX_DAYS = 60


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the lists and of learning; "" means as the profile says."""
    parser.add_argument("--list-length", type=optional(int), help="products per list")
    parser.add_argument("--repurchase", type=optional(str), help="allow or exclude past purchases")
    parser.add_argument("--repurchase-after-days", type=optional(int), help="days before a past purchase may come back")
    parser.add_argument("--ranker-windows", type=optional(int), help="past windows to learn from")


def run(stage: Stage) -> None:
    """Fit before the cut, score every contestant in both tasks, and write ``recommender_metrics``."""
    settings = recommending_of(stage)
    policy = Policy.of(
        settings, stage.options.list_length, stage.options.repurchase, stage.options.repurchase_after_days
    )
    window = Window.before(stage.cutoff, settings.horizon_days)
    stage.metrics |= {"cut": window.cut.date().isoformat(), "horizon_days": window.horizon_days}
    stage.metrics["ranker_windows"] = settings.ranker_windows
    events = stage.read("clean_events", EVENTS)
    if stage.profile.events is None or events.isEmpty():
        return skip(stage, "The store has no events before as_of.")
    event_types = stage.profile.events.event_types
    purchases = events.filter(F.col("event_type") == purchase_type(event_types))
    earliest = [window, *windows_before(window, settings.ranker_windows)][-1].cut
    dated = dated_purchases(purchases, earliest).persist()
    wanted = truth(dated, window)
    if wanted.isEmpty():
        return skip(
            stage, f"No user bought both before {window.cut.date()} and within the {window.horizon_days} days after it."
        )

    products = stage.read("clean_catalog", PRODUCTS)
    catalogue = read_catalogue(
        products, stage.read("embed_products", PRODUCT_VECTORS), stage.read("cluster_products", PRODUCT_CLUSTERS)
    )
    catalogue = find_variants(products, catalogue, settings).collapsed(catalogue)
    items = item_numbers(stage.spark, catalogue.product_ids)
    past = timelines(events, items, event_types).persist()
    sold = (
        purchases.filter(F.col("occurred_at") < F.lit(window.cut))
        .select("product_id")
        .distinct()
        .join(F.broadcast(items), "product_id", how="inner")
    )
    allowed = np.zeros(len(catalogue.product_ids), dtype=bool)
    allowed[sold.select("item").toPandas()["item"].to_numpy()] = True
    stage.progress("searching the nearest of %s groups of variants", f"{len(catalogue.vectors):,}")
    near = catalogue_neighbours(catalogue, allowed, CONTENT_NEIGHBOURS, settings)

    def fit(earlier: Window) -> Fitted:
        stage.progress("fitting on the events before %s", earlier.cut.date())
        return fit_model(catalogue, near, past, earlier.cut, event_types, settings, backtest=True)

    def tune_on(earlier: Window, known: Fitted) -> Tuned:
        stage.progress("tuning the baselines on the %s days from %s", earlier.horizon_days, earlier.cut.date())
        return tune(Baselines(known), truth(dated, earlier), policy.repurchase_after_days)

    learned = taken_over(stage, settings)
    if learned is None:
        lessons = Lessons(dated, settings.ranker_seed, stage.spark.sparkContext.defaultParallelism)
        fitted, rankers, tuned = learn(lessons, window, settings.ranker_windows, fit, tune_on, items)
    else:
        fitted, (rankers, tuned) = fit(window), learned
    write_rankers(stage, rankers)
    write_parameters(stage, tuned)
    stage.progress("scoring lists against the %s days from %s", window.horizon_days, window.cut.date())
    baselines = Baselines(fitted)
    asked = [(task, name) for task in TASKS for name in baselines.names]
    peers = baselines.contestants((name, tuned.parameters(task, name)) for task, name in asked)
    peer = dict(zip(asked, peers, strict=True))
    found = evaluate(
        {
            task: [
                *ours(fitted, settings.blend_for(repurchase), rankers.judged[task]),
                *(peer[task, name] for name in baselines.names),
            ]
            for task, repurchase in TASKS.items()
        },
        wanted,
        window,
        max(policy.list_length, MIN_LIST_LENGTH),
        background_of(catalogue, fitted),
        policy.repurchase_after_days,
    )
    for table in (fitted.histories, past, dated):
        table.unpersist()
    stage.write(RECOMMENDER_METRICS, stage.spark.createDataFrame(found.metrics), n_files=1)
    stage.metrics["co_purchase_method"] = fitted.method
    stage.metrics |= unknown_products(events, items)
    # Once: each interval draws all users thousands of times.
    rivals_of = {task: found.rivals(OURS, task) for task in TASKS if (task, OURS) in found.ndcg}
    for task, rivals in rivals_of.items():
        report(stage, found, task, rivals)
        draw_task(stage, found, task, rivals)
    stage.metrics["ndcg_at_10"] = stage.metrics.get(f"ndcg_at_10_{policy.task}")
    draw_days(stage, policy.task)
    verdict = judge_run(stage, found, policy.task, rivals_of.get(policy.task, {}))
    stage.metrics |= {"task": policy.task, "gate": verdict.word, "gate_reason": verdict.reason}
    stage.progress("gate: %s, %s", verdict.word, verdict.reason)


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


def background_of(catalogue: Catalogue, fitted: Fitted) -> Background:
    """Return what novelty, diversity and warmth are counted from, as of the judged window's cut."""
    orders = fitted.histories.select("user_id", "n_orders").toPandas().set_index("user_id")["n_orders"]
    return Background(
        product_ids=pd.Index(catalogue.product_ids),
        buyers=fitted.popularity["buyers"].to_numpy(),
        n_users=len(orders),
        vectors=catalogue.vectors,
        texts=catalogue.texts,
        n_orders=orders,
    )


def judge_run(stage: Stage, found: Judged, task: str, rivals: Mapping[str, Rival]) -> Verdict:
    """Judge the run's own lists against the baselines and what was published before."""
    ours = found.ndcg.get((task, OURS), np.empty(0))
    return gate.judge(
        len(ours),
        float(ours.mean()) if len(ours) else 0.0,
        rivals,
        last_published(stage, task),
        stage.profile.recommending.max_fall,
    )


def last_published(stage: Stage, task: str) -> Before | None:
    """Return the newest published run before this one, if its lists were judged in the same task and horizon."""
    for pointer in published_before(stage.paths):
        metrics = pointer["metrics"]
        alike = metrics.get("task") == task and metrics.get("horizon_days") == stage.metrics["horizon_days"]
        if alike and metrics.get("ndcg_at_10") is not None:
            return Before(date.fromisoformat(pointer["as_of"]), float(metrics["ndcg_at_10"]))
    return None


def taken_over(stage: Stage, settings: Recommending) -> tuple[Rankers, Tuned] | None:
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
    pointer = usable(days, stage.as_of, key, settings.ranker_max_age_days)
    if pointer is None:
        return None
    learned_as_of = pointer["metrics"]["ranker_learned_as_of"]
    manifest = Manifest.read(stage.paths.root, pointer["manifests"]["evaluate_recommenders"])
    rankers, tried = (
        [tuple(row) for row in stage.spark.read.schema(SCHEMAS[table]).parquet(manifest.table_uri(table)).collect()]
        for table in (RANKERS, BASELINE_PARAMETERS)
    )
    stage.progress("going on with the rankers that were learned as of %s", learned_as_of)
    return from_rows(rankers, date.fromisoformat(learned_as_of)), Tuned.from_rows(tried)


def write_rankers(stage: Stage, rankers: Rankers) -> None:
    """Write ``rankers``, and say what ranks tonight's lists and what it goes by."""
    rows = list(to_rows(rankers))
    stage.write(RANKERS, stage.spark.createDataFrame(rows, SCHEMAS[RANKERS]), n_files=1)
    # A day that had too little to learn from has nothing to hand on: the next one tries for itself.
    stage.metrics["ranker_learned_as_of"] = rankers.learned_as_of.isoformat() if rows else None
    for task, ranker in rankers.tonight.items():
        stage.metrics[f"ranked_by_{task}"] = "blend" if ranker is None else "lambdamart"
        if ranker is None:
            stage.progress("task %s: too little history to learn from; the fixed blend ranks", task)
        else:
            leading = ", ".join(f"{name} {share:.0%}" for name, share in list(ranker.importance().items())[:5])
            stage.progress("task %s: learned to rank; goes most by %s", task, leading)


def write_parameters(stage: Stage, tuned: Tuned) -> None:
    """Write ``baseline_parameters``, and say what was chosen."""
    rows = [astuple(one) for one in tuned.tried]
    stage.write(BASELINE_PARAMETERS, stage.spark.createDataFrame(rows, SCHEMAS[BASELINE_PARAMETERS]), n_files=1)
    for task in TASKS:
        chosen = {one.model: one.parameters for one in tuned.tried if one.chosen and one.task == task}
        if chosen:
            words = "; ".join(f"{model} {parameters}" for model, parameters in chosen.items())
            stage.progress("task %s: the baselines' best parameters are %s", task, words)


def report(stage: Stage, found: Judged, task: str, rivals: Mapping[str, Rival]) -> None:
    """Put a task's main figures where XCom shows them, and say them."""
    ours = value_of(found.metrics, OURS, task, "ndcg", HEADLINE_K)
    best = best_baseline(found.metrics, OURS, task, "ndcg", HEADLINE_K)
    if ours is None or best is None:
        return
    users = len(found.ndcg[task, OURS])
    stage.metrics |= {
        f"ndcg_at_10_{task}": round(ours, 4),
        f"best_baseline_{task}": best[0],
        f"best_baseline_ndcg_at_10_{task}": round(best[1], 4),
        f"users_{task}": users,
        f"ahead_{task}": {name: [round(rival.low, 4), round(rival.high, 4)] for name, rival in rivals.items()},
    }
    rival = rivals[best[0]]
    stage.progress(
        "task %s: NDCG@10 %.4f, best baseline %s %.4f, ahead by %+.4f to %+.4f (95%%), %s users",
        task,
        ours,
        *best,
        rival.low,
        rival.high,
        f"{users:,}",
    )


def draw_task(stage: Stage, found: Judged, task: str, rivals: Mapping[str, Rival]) -> None:
    """Draw a task's lists against its baselines."""
    ours = found.ndcg[task, OURS]
    n_beaten = sum(rival.low > 0 for rival in rivals.values())
    figure = draw_against_baselines(
        (OURS, float(ours.mean())),
        {name: (rival.mean, rival.low, rival.high) for name, rival in rivals.items()},
        metric="NDCG@10",
        title=f"Task {task}: ahead of {n_beaten} of {len(rivals)} baselines beyond noise",
        detail=f"{stage.metrics['horizon_days']} days from {stage.metrics['cut']}, {len(ours):,} customers, "
        "95% intervals",
    )
    stage.save_figure(f"quality_{task}", figure)


def draw_days(stage: Stage, task: str) -> None:
    """Draw NDCG@10 of the run's task, ours and the best baseline's, as of each of the last published days and today."""
    earlier = [(pointer["as_of"], pointer["metrics"]) for pointer in reversed(published_before(stage.paths, MAX_DAYS))]
    known = [
        (date.fromisoformat(as_of), metrics[ours], metrics.get(f"best_baseline_{ours}"))
        for as_of, metrics in [*earlier, (stage.as_of.isoformat(), stage.metrics)]
        if metrics.get(ours := f"ndcg_at_10_{task}") is not None
    ]
    if known:
        days, ours_by_day, best = zip(*known, strict=True)
        ahead = sum(value is None or mine >= value for mine, value in zip(ours_by_day, best, strict=True))
        title = f"Task {task}: ahead of the best baseline on {ahead} of {len(days)} days"
        detail = f"each day judged by the last {stage.metrics['horizon_days']} days before it"
        figure = draw_over_days(days, ours_by_day, best, metric="NDCG@10", title=title, detail=detail)
        stage.save_figure("quality_over_days", figure)


def skip(stage: Stage, reason: str) -> None:
    """Write an empty table and say why: too little history is no failure."""
    stage.metrics |= {"skipped_reason": reason, "gate": "abstain", "gate_reason": reason}
    stage.progress("no evaluation: %s", reason)
    stage.write_empty(RECOMMENDER_METRICS)
    stage.write_empty(RANKERS)
    stage.write_empty(BASELINE_PARAMETERS)


APP = App(
    "evaluate_recommenders",
    run,
    inputs=("clean_catalog", "clean_events", "embed_products", "cluster_products"),
    add_flags=add_flags,
    description=__doc__,
)
