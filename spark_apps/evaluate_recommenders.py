"""Judge our lists and the baselines on the newest complete window before as_of."""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
from pyspark.sql import functions as F  # noqa: N812

from shelfkin.evaluation.backtest import TASKS, Window, best_baseline, evaluate, truth, value_of
from shelfkin.evaluation.baselines import OURS, contestants
from shelfkin.mapped import Scratch
from shelfkin.recommending.interactions import purchase_type
from shelfkin.recommending.model import (
    CONTENT_NEIGHBOURS,
    fit_model,
    item_numbers,
    read_catalogue,
    unknown_products,
)
from shelfkin.recommending.policies import Policy
from shelfkin.recommending.search import catalogue_neighbours
from shelfkin.recommending.variants import find_variants
from shelfkin.stage import Stage, main, optional
from shelfkin.tables import EVENTS, PRODUCT_VECTORS, PRODUCTS, RECOMMENDER_METRICS

# Metrics go up to k = 20, so lists are judged at this length even where shorter ones are shown.
MIN_LIST_LENGTH = 20


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the lists; "" means as the profile says."""
    parser.add_argument("--list-length", type=optional(int), help="products per list")
    parser.add_argument("--repurchase", type=optional(str), help="allow or exclude past purchases")


def run(stage: Stage) -> None:
    """Fit before the cut, score every contestant in both tasks, and write ``recommender_metrics``."""
    settings = stage.profile.recommending
    policy = Policy.of(settings, stage.options.list_length, stage.options.repurchase)
    window = Window.before(stage.cutoff, settings.horizon_days)
    stage.metrics |= {"cut": window.cut.date().isoformat(), "horizon_days": window.horizon_days}
    events = stage.read("clean_events", EVENTS)
    if stage.profile.events is None or events.isEmpty():
        return skip(stage, "The store has no events before as_of.")
    event_types = stage.profile.events.event_types
    purchases = events.filter(F.col("event_type") == purchase_type(event_types))
    wanted = truth(purchases.filter(F.col("occurred_at") < F.lit(stage.cutoff)), window)
    if wanted.isEmpty():
        return skip(
            stage, f"No user bought both before {window.cut.date()} and within the {window.horizon_days} days after it."
        )

    products = stage.read("clean_catalog", PRODUCTS)
    catalogue = read_catalogue(products, stage.read("embed_products", PRODUCT_VECTORS))
    catalogue = find_variants(products, catalogue, settings).collapsed(catalogue)
    sold = (
        purchases.filter(F.col("occurred_at") < F.lit(window.cut))
        .select("product_id")
        .distinct()
        .join(F.broadcast(item_numbers(stage.spark, catalogue.product_ids)), "product_id", how="inner")
    )
    allowed = np.zeros(len(catalogue.product_ids), dtype=bool)
    allowed[sold.select("item").toPandas()["item"].to_numpy()] = True
    stage.progress("searching the nearest of %s groups of variants", f"{len(catalogue.vectors):,}")
    with Scratch(stage.paths.root, stage.table_uri("search")) as scratch:
        near, _ = catalogue_neighbours(stage.spark, catalogue, allowed, CONTENT_NEIGHBOURS, scratch, settings)
    stage.progress("fitting on the events before %s", window.cut.date())
    fitted = fit_model(catalogue, near, events, window.cut, event_types, settings, backtest=True)
    stage.progress("scoring lists against the %s days from %s", window.horizon_days, window.cut.date())
    metrics = evaluate(
        {task: contestants(fitted, settings.blend_for(repurchase)) for task, repurchase in TASKS.items()},
        wanted,
        window,
        max(policy.list_length, MIN_LIST_LENGTH),
    )
    fitted.histories.unpersist()
    stage.write(RECOMMENDER_METRICS, stage.spark.createDataFrame(metrics), n_files=1)
    stage.metrics["co_purchase_method"] = fitted.method
    stage.metrics |= unknown_products(events, item_numbers(stage.spark, catalogue.product_ids))
    for task in TASKS:
        report(stage, metrics, task)
    headline = "all" if policy.repurchase == "allow" else "new"
    stage.metrics["ndcg_at_10"] = stage.metrics.get(f"ndcg_at_10_{headline}")


def report(stage: Stage, metrics: pd.DataFrame, task: str) -> None:
    """Put a task's main figures where XCom shows them, and say them."""
    ours = value_of(metrics, OURS, task, "ndcg", 10)
    best = best_baseline(metrics, OURS, task, "ndcg", 10)
    if ours is None or best is None:
        return
    users = int(metrics.loc[metrics["task"] == task, "users"].iloc[0])
    stage.metrics |= {
        f"ndcg_at_10_{task}": round(ours, 4),
        f"best_baseline_{task}": best[0],
        f"best_baseline_ndcg_at_10_{task}": round(best[1], 4),
        f"users_{task}": users,
    }
    stage.progress("task %s: NDCG@10 %.4f, best baseline %s %.4f, %s users", task, ours, *best, f"{users:,}")


def skip(stage: Stage, reason: str) -> None:
    """Write an empty table and say why: too little history is no failure."""
    stage.metrics["skipped_reason"] = reason
    stage.progress("no evaluation: %s", reason)
    stage.write_empty(RECOMMENDER_METRICS)


if __name__ == "__main__":
    main(
        "evaluate_recommenders",
        run,
        inputs=("clean_catalog", "clean_events", "embed_products", "cluster_products"),
        add_flags=add_flags,
        description=__doc__,
    )
