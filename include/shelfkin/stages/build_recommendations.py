"""Build similar products, personal lists with reasons, and popular products."""

from __future__ import annotations

import argparse
from dataclasses import replace

import pandas as pd
from pyspark.sql import functions as F  # noqa: N812

from shelfkin.app import App, optional
from shelfkin.evaluation.taken_over import TONIGHT
from shelfkin.recommending.lists import Recommender, recommend_users
from shelfkin.recommending.model import (
    Catalogue,
    Fitted,
    catalogue_neighbours,
    fit_model,
    item_numbers,
    read_catalogue,
    unknown_products,
)
from shelfkin.recommending.nearest import TextNeighbours
from shelfkin.recommending.policies import Policy
from shelfkin.recommending.popularity import popular_products
from shelfkin.recommending.ranker import Learned, Ranker
from shelfkin.recommending.shelf_rules import ShelfRules, resolve
from shelfkin.recommending.similar import SimilarModel, similar_products
from shelfkin.recommending.timelines import timelines
from shelfkin.recommending.variants import find_variants
from shelfkin.stage import Stage
from shelfkin.tables import (
    EVENTS,
    POPULAR_PRODUCTS,
    PRODUCT_CLUSTERS,
    PRODUCT_VARIANTS,
    PRODUCT_VECTORS,
    PRODUCTS,
    RANKERS,
    SCHEMAS,
    SIMILAR_PRODUCTS,
    USER_RECOMMENDATIONS,
)

# Groups looked at per product before co-purchase re-ranks them.
NEAREST_PER_RESULT = 3
LIST_FILES = 4


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the lists; "" means as the profile says."""
    parser.add_argument("--list-length", type=optional(int), help="products per list")
    parser.add_argument("--repurchase", type=optional(str), help="allow or exclude past purchases")
    parser.add_argument("--repurchase-after-days", type=optional(int), help="days before a past purchase may come back")


def run(stage: Stage) -> None:
    """Read the tables, fit the model as of the run's date, and write what is recommended."""
    settings = stage.profile.recommending
    policy = Policy.of(
        settings, stage.options.list_length, stage.options.repurchase, stage.options.repurchase_after_days
    )
    products = stage.read("clean_catalog", PRODUCTS)
    catalogue = read_catalogue(
        products, stage.read("embed_products", PRODUCT_VECTORS), stage.read("cluster_products", PRODUCT_CLUSTERS)
    )
    variants = find_variants(products, catalogue, settings)
    write_variants(stage, variants.table(catalogue))
    collapsed = variants.collapsed(catalogue)
    event_types = stage.profile.events.event_types if stage.profile.events else {}
    events = stage.read("clean_events", EVENTS)
    items = item_numbers(stage.spark, catalogue.product_ids)
    stage.progress("searching the nearest of %s groups of variants", f"{len(collapsed.vectors):,}")
    near = catalogue_neighbours(collapsed, catalogue.on_sale, NEAREST_PER_RESULT * settings.similar_length, settings)
    stage.metrics |= near.metrics
    stage.progress("fitting co-purchase and popularity on the events before %s", stage.as_of)
    past = timelines(events, items, event_types).persist()
    fitted = fit_model(collapsed, near, past, stage.cutoff, event_types, settings)
    past.unpersist()
    write_similar(stage, catalogue, near, fitted)

    n_users = fitted.histories.count()
    stage.metrics |= {"products": len(catalogue.product_ids), "users": n_users, "repurchase": policy.repurchase}
    if events.isEmpty():
        stage.metrics["skipped_reason"] = (
            "The store has no events before as_of: no personal lists, no popular products."
        )
        stage.write_empty(USER_RECOMMENDATIONS)
        stage.write_empty(POPULAR_PRODUCTS)
        return
    stage.metrics["co_purchase_method"] = fitted.method
    stage.metrics |= unknown_products(events, items)
    learned = read_learned(stage, fitted, policy)
    stage.metrics["ranked_by"] = "lambdamart" if learned else "blend"
    stage.progress(
        "scoring %s users (co-purchase by %s, ranked by %s)", f"{n_users:,}", fitted.method, stage.metrics["ranked_by"]
    )
    blend = settings.blend_for(policy.repurchase)
    rules = read_rules(stage, catalogue)
    shown = replace(fitted.items, allowed=fitted.items.allowed & rules.allowed)
    recommender = Recommender(shown, blend, policy, learned=learned, rules=rules)
    with recommend_users(fitted.histories, recommender) as lists:
        # By hash, then sorted within each file: a sort of the whole would score every user twice, once to find the
        # ranges. The exchange also keeps scoring on all cores, whatever the number of files.
        by_user = lists.repartition(LIST_FILES, "user_id").sortWithinPartitions("user_id", "rank")
        stage.write(USER_RECOMMENDATIONS, by_user, n_files=LIST_FILES)
    write_popular(stage, catalogue, fitted, policy.list_length)
    fitted.histories.unpersist()


def read_rules(stage: Stage, catalogue: Catalogue) -> ShelfRules:
    """Return the profile's rules for lists; what they name and the catalogue lacks is said, and has no effect."""
    found, unknown = resolve(
        stage.profile.recommending.rules,
        catalogue.product_ids,
        catalogue.prices,
        catalogue.brands,
        catalogue.clusters,
    )
    if unknown:
        stage.metrics["unknown_in_rules"] = unknown
        stage.progress(
            "WARNING: recommending.rules name what this catalogue doesn't have, without effect: %s", ", ".join(unknown)
        )
    return found


def read_learned(stage: Stage, fitted: Fitted, policy: Policy) -> Learned | None:
    """Return the ranker that evaluate_recommenders trained for this policy's task; None where it had too little."""
    mine = (F.col("task") == policy.task) & (F.col("role") == TONIGHT)
    rows = stage.read("evaluate_recommenders", RANKERS).filter(mine).collect()
    return Learned(Ranker(rows[0]["ranker"]), fitted.evidence) if rows else None


def write_variants(stage: Stage, rows: pd.DataFrame) -> None:
    """Write ``product_variants``."""
    stage.metrics |= {"variant_groups": rows["variant_group"].nunique(), "products_with_variants": len(rows)}
    table = stage.spark.createDataFrame(rows, SCHEMAS[PRODUCT_VARIANTS])
    stage.write(PRODUCT_VARIANTS, table, n_files=1)


def write_similar(stage: Stage, catalogue: Catalogue, near: TextNeighbours, fitted: Fitted) -> None:
    """Write ``similar_products``: from the groups of the model, with cosines of the products' own texts."""
    settings = stage.profile.recommending
    model = SimilarModel(
        product_ids=catalogue.product_ids,
        texts=catalogue.texts,
        groups=fitted.items.texts,
        allowed=fitted.items.allowed,
        rank=fitted.items.rank,
        neighbours=near.neighbours,
        co_purchase=fitted.item_knn,
        content_share=settings.similar_content_share,
    )
    with similar_products(stage.spark, model, catalogue.vectors, settings.similar_length) as table:
        stage.write(SIMILAR_PRODUCTS, table, n_files=4)


def write_popular(stage: Stage, catalogue: Catalogue, fitted: Fitted, length: int) -> None:
    """Write ``popular_products`` of the store and of each cluster."""
    table = stage.read("cluster_products", PRODUCT_CLUSTERS).select("product_id", "cluster_id").toPandas()
    clusters = table.set_index("product_id")["cluster_id"].reindex(catalogue.product_ids, fill_value=-1).to_numpy()
    rows = popular_products(
        fitted.popularity["recent"].to_numpy(),
        fitted.items.rank,
        fitted.items.allowed,
        catalogue.product_ids,
        clusters,
        length,
    )
    schema = "scope string, rank int, product_id string, score float"
    stage.write(POPULAR_PRODUCTS, stage.spark.createDataFrame(rows, schema), n_files=1)


APP = App(
    "build_recommendations",
    run,
    inputs=("clean_catalog", "clean_events", "embed_products", "cluster_products", "evaluate_recommenders"),
    add_flags=add_flags,
    description=__doc__,
)
