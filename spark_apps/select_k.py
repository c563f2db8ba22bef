"""Choose the number of clusters, and say why.

Reads product_vectors; writes k_scores and the plots `elbow` and `silhouette`. The sweep runs as Spark tasks on a
sample whose size doesn't grow with the catalogue.
"""

from __future__ import annotations

import argparse

from shelfkin.clustering import choose_k
from shelfkin.clustering.vectors import sample
from shelfkin.plotting.elbow import draw_elbow
from shelfkin.plotting.silhouette import draw_silhouette
from shelfkin.stage import Stage, main, optional
from shelfkin.tables import K_SCORES, PRODUCT_VECTORS

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
    """Sweep k on a sample, choose, and leave scores, pictures and reasons."""
    section = stage.profile.clustering
    wanted = section.k if stage.options.k is None else stage.options.k
    given = None if wanted == "auto" else int(wanted)
    n_sample = max(section.sweep_sample, TEXTS_PER_CLUSTER * (given or 0))
    _, vectors, weights = sample(stage.read("embed_products", PRODUCT_VECTORS), n_sample)
    stage.progress(
        "looking for k between %d and %d on %s distinct texts", section.k_min, section.k_max, f"{len(vectors):,}"
    )
    choice = choose_k.choose_on_sample(
        stage.spark.sparkContext,
        vectors,
        weights,
        k_min=section.k_min,
        k_max=section.k_max,
        given=given,
        seed=section.seed,
    )
    for score in choice.scores:
        stage.progress("k=%3d  %s%s", score.k, score.describe(), "  <- chosen" if score.k == choice.k else "")
    stage.progress("%s", choice.reason)
    _write(stage, choice)
    _draw(stage, choice, n_products=float(weights.sum()))
    stage.metrics.update(
        k=choice.k,
        k_rule=choice.rule,
        silhouette=choice.chosen.silhouette,
        silhouette_se=choice.chosen.silhouette_se,
        reason=choice.reason,
        texts_sampled=len(vectors),
    )


def _write(stage: Stage, choice: choose_k.Choice) -> None:
    rows = [
        (score.k, score.inertia, score.silhouette, score.silhouette_se, score.k == choice.k) for score in choice.scores
    ]
    ddl = "k int, inertia double, silhouette double, silhouette_se double, chosen boolean"
    stage.write(K_SCORES, stage.spark.createDataFrame(rows, ddl), n_files=1)


def _draw(stage: Stage, choice: choose_k.Choice, n_products: float) -> None:
    shop = stage.profile.title
    ks = [score.k for score in choice.scores]
    stage.save_figure(
        "elbow",
        draw_elbow(
            ks,
            [score.inertia / n_products for score in choice.scores],
            choice.k,
            title=f"{shop}: {choice.headline('inertia')}",
            detail=f"as of {stage.as_of}, mean over the products of sampled texts",
        ),
    )
    scored = [score for score in choice.scores if score.silhouette is not None]
    stage.save_figure(
        "silhouette",
        draw_silhouette(
            [score.k for score in scored],
            [score.silhouette or 0.0 for score in scored],
            [score.silhouette_se or 0.0 for score in scored],
            choice.k,
            title=f"{shop}: {choice.headline('silhouette')}",
            detail=f"as of {stage.as_of}, mean over the products of sampled texts",
        ),
    )


if __name__ == "__main__":
    main("select_k", run, inputs=("embed_products",), add_flags=add_flags, description=__doc__)
