"""Choose the number of clusters, and say why.

Reads product_vectors, and how many clusters the newest older lineage has; writes k_scores and the plot
`k_choice`. The sweep runs as Spark tasks on a sample whose size doesn't grow with the catalogue.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from pyspark.sql import functions as F  # noqa: N812 - the name every PySpark reader knows

from shelfkin.app import App, optional
from shelfkin.artifacts import predecessor_lineage
from shelfkin.clustering.choose_k import choose_k
from shelfkin.clustering.identity import embedding_model
from shelfkin.clustering.k_rule import KChoice, Limits
from shelfkin.clustering.vectors import FloatArray, sample
from shelfkin.plotting.k_choice import Curve, draw_k_choice
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
    sampled = _sample(stage)
    choice = _choose_k(stage, sampled)
    _report(stage, choice)
    _write_scores(stage, choice)
    _draw(stage, choice, sampled.weights)
    stage.metrics.update(
        k=choice.k,
        k_rule=choice.rule,
        silhouette=choice.chosen.silhouette,
        silhouette_se=choice.chosen.silhouette_se,
        stability=choice.chosen.stability,
        stability_se=choice.chosen.stability_se,
        reason=choice.reason,
        runners_up=list(choice.runners_up),
        texts_sampled=len(sampled.vectors),
    )


@dataclass(frozen=True)
class Sampled:
    """Texts on which k is chosen, a k that the user gave, and the products of the whole catalogue."""

    vectors: FloatArray
    weights: FloatArray
    given_k: int | None
    n_products: float


def _sample(stage: Stage) -> Sampled:
    section = stage.profile.clustering
    wanted = section.k if stage.options.k is None else stage.options.k
    given = None if wanted == "auto" else int(wanted)
    product_vectors = stage.read("embed_products", PRODUCT_VECTORS)
    _, vectors, weights = sample(product_vectors, max(section.sweep_sample, TEXTS_PER_CLUSTER * (given or 0)))
    n_products = product_vectors.agg(F.sum("n_products")).collect()[0][0]
    return Sampled(vectors, weights, given, float(n_products or 0))


def _choose_k(stage: Stage, sampled: Sampled) -> KChoice:
    section = stage.profile.clustering
    yesterday = _k_of_predecessor(stage)
    stage.progress(
        "looking for k between %d and %d on %s distinct texts%s",
        section.k_min,
        section.k_max,
        f"{len(sampled.vectors):,}",
        "" if yesterday is None else f"; it was {yesterday} the day before",
    )
    limits = Limits(
        section.k_min, section.k_max, sampled.n_products, section.min_cluster_size, section.max_cluster_share
    )
    return choose_k(
        stage.spark.sparkContext,
        sampled.vectors,
        sampled.weights,
        limits,
        given=sampled.given_k,
        yesterday=yesterday,
        seed=section.seed,
    )


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
    names = [column.split()[0] for column in SCHEMAS[K_SCORES].split(", ")]
    rows = [
        tuple(score.k == choice.k if name == "chosen" else getattr(score, name) for name in names)
        for score in choice.scores
    ]
    stage.write(K_SCORES, stage.spark.createDataFrame(rows, SCHEMAS[K_SCORES]), n_files=1)


def _draw(stage: Stage, choice: KChoice, weights: FloatArray) -> None:
    scores, n_products = choice.scores, float(weights.sum())
    inertia = [score.inertia / n_products for score in scores]
    curves = [
        Curve("mean squared distance", inertia, better="lower is tighter"),
        Curve(
            "silhouette",
            [score.silhouette for score in scores],
            [score.silhouette_se for score in scores],
            "higher is better separated",
        ),
        Curve(
            "stability",
            [score.stability for score in scores],
            [score.stability_se for score in scores],
            "higher comes out again",
        ),
    ]
    shaded = "; shaded: nearly as good, there stability decides" if len(choice.candidates) > 1 else ""
    figure = draw_k_choice(
        [score.k for score in scores],
        curves,
        choice.k,
        choice.candidates,
        title=f"{stage.profile.title}: {choice.headline()}",
        detail=f"as of {stage.as_of}, sampled texts{shaded}",
    )
    stage.save_figure("k_choice", figure)


APP = App("select_k", run, inputs=("embed_products",), add_flags=add_flags, description=__doc__)
