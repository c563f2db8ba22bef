"""Build similar products, personal lists with reasons, and popular products."""

from __future__ import annotations

from dataclasses import replace

from pyspark.sql import functions as F  # noqa: N812

from shelfkin import tables
from shelfkin.app import App
from shelfkin.evaluation.ranker_reuse import PRODUCTION
from shelfkin.recommending.catalogue import Catalogue
from shelfkin.recommending.fitting import Fitted, fit_store
from shelfkin.recommending.merchandising import MerchandisingRules, resolve_rules
from shelfkin.recommending.nearest import TextNeighbours
from shelfkin.recommending.popularity import popular_products
from shelfkin.recommending.preparation import Preparation
from shelfkin.recommending.ranker import FittedRanker, Ranker
from shelfkin.recommending.recommend_users import recommend_users
from shelfkin.recommending.recommender import Recommender
from shelfkin.recommending.repurchase import RepurchasePolicy
from shelfkin.recommending.similar import SimilarModel, similar_products
from shelfkin.stage import Stage
from shelfkin.stages import list_flags

# Groups looked at per product before co-purchase re-ranks them.
NEAREST_PER_RESULT = 3
LIST_FILES = 4


def run(stage: Stage) -> None:
    """Read what was prepared, fit the store as of the run's date, and write what is recommended."""
    policy = list_flags.policy_of(stage)
    prepared = read_preparation(stage)
    near = nearest_on_sale(stage, prepared)
    stage.progress("fitting co-purchase and popularity on the events before %s", stage.as_of)
    fitted = fit_store(prepared, near, stage.cutoff)
    write_similar(stage, prepared.catalogue, near, fitted)
    n_users = fitted.histories.count()
    stage.metrics |= {"products": prepared.catalogue.n_items, "users": n_users, "repurchase": policy.repurchase}
    if prepared.timelines.isEmpty():
        return skip(stage)
    evaluated = stage.inputs["evaluate_recommenders"].content["metrics"]
    stage.metrics |= {name: evaluated[name] for name in ("events_of_unknown_products", "unknown_products")}
    stage.metrics["co_purchase_method"] = fitted.method
    ranker = read_ranker(stage, fitted, policy)
    stage.metrics["ranked_by"] = "lambdamart" if ranker else "blend"
    stage.progress(
        "scoring %s users (co-purchase by %s, ranked by %s)", f"{n_users:,}", fitted.method, stage.metrics["ranked_by"]
    )
    write_lists(stage, prepared.catalogue, fitted, policy, ranker)
    write_popular(stage, prepared.catalogue, fitted, policy.list_length)
    fitted.histories.unpersist()


def read_preparation(stage: Stage) -> Preparation:
    """Return what evaluate_recommenders has prepared."""
    rows = stage.read("evaluate_recommenders", tables.PREPARED_PRODUCTS).toPandas()
    return Preparation(
        Catalogue.of(
            rows.sort_values("product_id", ignore_index=True), stage.dataset("embed_products", tables.PRODUCT_VECTORS)
        ),
        stage.read("evaluate_recommenders", tables.TIMELINES),
        stage.profile.events.event_types if stage.profile.events else {},
        stage.profile.recommending,
    )


def nearest_on_sale(stage: Stage, prepared: Preparation) -> TextNeighbours:
    """Return each group's nearest groups of which something is on sale."""
    stage.progress("searching the nearest of %s groups of variants", f"{len(prepared.catalogue.group_vectors):,}")
    near = prepared.nearest(prepared.catalogue.on_sale, NEAREST_PER_RESULT * prepared.settings.similar_length)
    stage.metrics |= near.metrics
    return near


def read_ranker(stage: Stage, fitted: Fitted, policy: RepurchasePolicy) -> FittedRanker | None:
    """Return the ranker that evaluate_recommenders trained for this policy's task; None where it had too little."""
    mine = (F.col("task") == policy.task) & (F.col("role") == PRODUCTION)
    rows = stage.read("evaluate_recommenders", tables.RANKERS).filter(mine).collect()
    return FittedRanker(Ranker(rows[0]["ranker"]), fitted.ranking_inputs) if rows else None


def read_rules(stage: Stage, catalogue: Catalogue) -> MerchandisingRules:
    """Return the profile's rules for lists; what they name and the catalogue lacks is said, and has no effect."""
    rules, unknown = resolve_rules(stage.profile.recommending.rules, catalogue.rows, catalogue.clusters)
    if unknown:
        stage.metrics["unknown_in_rules"] = unknown
        stage.progress(
            "WARNING: recommending.rules name what this catalogue doesn't have, without effect: %s", ", ".join(unknown)
        )
    return rules


def write_lists(
    stage: Stage, catalogue: Catalogue, fitted: Fitted, policy: RepurchasePolicy, ranker: FittedRanker | None
) -> None:
    """Write ``user_recommendations``."""
    rules = read_rules(stage, catalogue)
    shown = replace(fitted.items, allowed=fitted.items.allowed & rules.allowed)
    blend = stage.profile.recommending.blend_for(policy.repurchase)
    recommender = Recommender(shown, blend, policy, learned=ranker, rules=rules)
    with recommend_users(fitted.histories, [recommender]) as lists:
        # By hash, then sorted within each file: a sort of the whole would score every user twice, once to find the
        # ranges. The exchange also keeps scoring on all cores, whatever the number of files.
        by_user = lists.drop("recommender").repartition(LIST_FILES, "user_id").sortWithinPartitions("user_id", "rank")
        stage.write(tables.USER_RECOMMENDATIONS, by_user, n_files=LIST_FILES)


def write_similar(stage: Stage, catalogue: Catalogue, near: TextNeighbours, fitted: Fitted) -> None:
    """Write ``similar_products``: from the groups, with cosines of the products' own texts."""
    settings = stage.profile.recommending
    model = SimilarModel(
        product_ids=catalogue.product_ids,
        texts=catalogue.texts,
        groups=catalogue.groups,
        allowed=fitted.items.allowed,
        rank=fitted.items.rank,
        neighbours=near.neighbours,
        co_purchase=fitted.ranking_inputs.relations.item_knn,
        content_share=settings.similar_content_share,
    )
    with similar_products(stage.spark, model, catalogue.vectors, settings.similar_length) as table:
        stage.write(tables.SIMILAR_PRODUCTS, table, n_files=4)


def write_popular(stage: Stage, catalogue: Catalogue, fitted: Fitted, length: int) -> None:
    """Write ``popular_products`` of the store and of each cluster."""
    rows = popular_products(
        fitted.popularity["recent"].to_numpy(),
        fitted.items.rank,
        fitted.items.allowed,
        catalogue.product_ids,
        catalogue.rows["cluster_id"].to_numpy(),
        length,
    )
    table = stage.spark.createDataFrame(rows, tables.SCHEMAS[tables.POPULAR_PRODUCTS])
    stage.write(tables.POPULAR_PRODUCTS, table, n_files=1)


def skip(stage: Stage) -> None:
    """Write empty tables where nobody has done anything yet."""
    stage.metrics["skipped_reason"] = "The store has no events before as_of: no personal lists, no popular products."
    stage.write_empty(tables.USER_RECOMMENDATIONS)
    stage.write_empty(tables.POPULAR_PRODUCTS)


APP = App(
    "build_recommendations",
    run,
    inputs=("clean_catalog", "clean_events", "embed_products", "cluster_products", "evaluate_recommenders"),
    add_flags=list_flags.add_flags,
    description=__doc__,
)
