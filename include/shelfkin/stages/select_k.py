"""Choose the number of clusters, and say why.

Reads product_vectors, and how many clusters the newest older lineage has; writes k_scores and the plot
`k_choice`. The sweep runs as Spark tasks on a sample whose size doesn't grow with the catalogue.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict

import pandas as pd
from pyspark.sql import functions as F  # noqa: N812 - the name every PySpark reader knows

from shelfkin.app import App, optional
from shelfkin.artifacts import predecessor_lineage
from shelfkin.clustering.choose_k import choose_k
from shelfkin.clustering.identity import embedding_model
from shelfkin.clustering.k_rule import KChoice, Limits
from shelfkin.clustering.vectors import FloatArray, sample
from shelfkin.plotting.k_choice import draw_k_choice
from shelfkin.stage import Stage
from shelfkin.tables import K_SCORES, PRODUCT_VECTORS, SCHEMAS

# A given k is judged on at least so many texts per cluster.
TEXTS_PER_CLUSTER = 4


def parse_k(text: str) -> int | str:
    """Return ``auto`` or a number of clusters; raises argparse.ArgumentTypeError otherwise."""
    if text == "auto":
        return text
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 9_999:
        raise argparse.ArgumentTypeError(f"k={text!r} is neither 'auto' nor a whole number from 1 to 9999")
    return int(text)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the stage's flags."""
    parser.add_argument("--k", type=optional(parse_k), help="number of clusters, or auto")


def run(stage: Stage) -> None:
    """Sweep k on a sample, choose, and leave scores, a picture and reasons."""
    section = stage.profile.clustering
    wanted = section.k if stage.options.k is None else stage.options.k
    given = None if wanted == "auto" else int(wanted)
    product_vectors = stage.read("embed_products", PRODUCT_VECTORS)
    _, vectors, weights = sample(product_vectors, max(section.sweep_sample, TEXTS_PER_CLUSTER * (given or 0)))
    n_products = float(product_vectors.agg(F.sum("n_products")).collect()[0][0] or 0)
    limits = Limits(section.k_min, section.k_max, n_products, section.min_cluster_size, section.max_cluster_share)
    choice = _choose_k(stage, vectors, weights, limits, given)
    _report(stage, choice)
    _write_scores(stage, choice)
    _draw(stage, choice, float(weights.sum()))
    stage.metrics.update(
        k=choice.k,
        k_rule=choice.rule,
        silhouette=choice.chosen.silhouette,
        silhouette_se=choice.chosen.silhouette_se,
        stability=choice.chosen.stability,
        stability_se=choice.chosen.stability_se,
        reason=choice.reason,
        runners_up=list(choice.runners_up),
        texts_sampled=len(vectors),
    )


def _choose_k(stage: Stage, vectors: FloatArray, weights: FloatArray, limits: Limits, given: int | None) -> KChoice:
    yesterday = _k_of_predecessor(stage)
    stage.progress(
        "looking for k between %d and %d on %s distinct texts%s",
        limits.k_min,
        limits.k_max,
        f"{len(vectors):,}",
        "" if yesterday is None else f"; it was {yesterday} the day before",
    )
    context, seed = stage.spark.sparkContext, stage.profile.clustering.seed
    return choose_k(context, vectors, weights, limits, given=given, yesterday=yesterday, seed=seed)


def _report(stage: Stage, choice: KChoice) -> None:
    for score in choice.scores:
        stage.progress("k=%3d  %s%s", score.k, score.describe(), "  <- chosen" if score.k == choice.k else "")
    stage.progress("%s", choice.reason)
    for runner_up in choice.runners_up:
        stage.progress("runner-up %s", runner_up)


def _k_of_predecessor(stage: Stage) -> int | None:
    """Return the number of clusters of the newest older lineage, if they are of the same embedding model."""
    predecessor = predecessor_lineage(stage.paths)
    if predecessor is None or predecessor.get("model") != embedding_model(stage.inputs["embed_products"]):
        return None
    return len(predecessor["clusters"]) or None


def _write_scores(stage: Stage, choice: KChoice) -> None:
    rows = [{**asdict(score), "chosen": score.k == choice.k} for score in choice.scores]
    stage.write(K_SCORES, stage.spark.createDataFrame(rows, SCHEMAS[K_SCORES]), n_files=1)


def _draw(stage: Stage, choice: KChoice, n_products: float) -> None:
    scores = pd.DataFrame([asdict(score) for score in choice.scores])
    shaded = "; shaded: nearly as good, there stability decides" if len(choice.candidates) > 1 else ""
    figure = draw_k_choice(
        scores.assign(mean_squared_distance=scores["inertia"] / n_products),
        choice.k,
        choice.candidates,
        title=f"{stage.profile.title}: {choice.headline()}",
        detail=f"as of {stage.as_of}, sampled texts{shaded}",
    )
    stage.save_figure("k_choice", figure)


APP = App("select_k", run, inputs=("embed_products",), add_flags=add_flags, description=__doc__)
