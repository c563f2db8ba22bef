"""Cluster the catalogue with the chosen k, and give every cluster an identity, a name and a face.

Reads products, product_vectors and select_k's k, and the newest older lineage; writes product_clusters, clusters,
cluster_projection, the plots `projection`, `sizes`, `silhouette_by_cluster` and `drift`, and this day's lineage.
`clusters` holds the clusters that have products today (kept or born; `split_from` names the living cluster that a born
one was part of); merged and retired ones are in the lineage and counted in the metrics.
"""

from __future__ import annotations

import os
import re
from typing import Any

import numpy as np
from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F  # noqa: N812 - the name every PySpark reader knows

from shelfkin.app import App
from shelfkin.artifacts import predecessor_lineage
from shelfkin.clustering import assign, drift, faces, identity, kmeans, name_share, naming, shards, warm_start
from shelfkin.clustering.k_scores import silhouette_samples
from shelfkin.clustering.members import Members, count_members, fingerprint
from shelfkin.clustering.projection import fit_projection
from shelfkin.clustering.terms import Term, collect_terms
from shelfkin.clustering.vectors import FloatArray, IntArray, sample
from shelfkin.errors import DataQualityError
from shelfkin.lineage import write_lineage
from shelfkin.plotting.drift import Change, draw_drift
from shelfkin.plotting.projection import MAX_NAMES, draw_projection
from shelfkin.plotting.silhouette_by_cluster import draw_silhouette_by_cluster, overlaps
from shelfkin.plotting.sizes import draw_sizes
from shelfkin.stage import Stage
from shelfkin.tables import CLUSTER_PROJECTION, CLUSTERS, PRODUCT_CLUSTERS, PRODUCT_VECTORS, PRODUCTS, SCHEMAS

# Vectors on the driver take at most so much, whatever their length; more are fitted where they lie.
MAX_FIT_BYTES = 512 * 2**20

# Texts of the projection's table and pictures: a uniform sample of a large catalogue.
N_PROJECTED = 50_000

# A longer list of days isn't read.
N_DAYS_NAMED = 5


def run(stage: Stage) -> None:
    """Fit, assign, identify, name, describe."""
    vectors = stage.read("embed_products", PRODUCT_VECTORS)
    model = identity.embedding_model(stage.inputs["embed_products"])
    predecessor = predecessor_lineage(stage.paths)
    found = _fit(stage, vectors, model, predecessor)

    assigned = assign.assign(vectors, found.centroids).persist()
    located = _located(stage, assigned).persist()
    members, why_not = _members(stage, located, predecessor, len(found.centroids))
    described = identity.identify(
        found.centroids, stage.as_of, model, predecessor, None if members is None else members.common, why_not
    )
    stage.progress("%s", described.note)
    moved = _drift(predecessor, members, described)
    if moved is not None:
        stage.progress("%s", moved.sentence())
    product_clusters = _product_clusters(located, described.ids)
    totals = _totals(product_clusters)
    order = sorted(totals, key=lambda cluster: (-totals[cluster]["size"], cluster))
    terms = collect_terms(product_clusters)
    chosen = {row["cluster_id"]: row for row in faces.representatives(product_clusters, vectors).collect()}
    names = naming.name_clusters(terms.best, order, described.kept_names)
    names = _chat_names(
        stage, names, terms.best, chosen, [cluster for cluster in order if cluster not in described.kept_names]
    )
    shares = name_share.name_shares(product_clusters, names, terms.spelt)
    spreads = faces.spreads(product_clusters)
    stage.progress("clusters, and the share of their products that carry their names:")
    for cluster in order:
        size = f"{totals[cluster]['size']:>7,}"
        stage.progress("%s  %s products  %4.0f%%  %s", cluster, size, 100 * shares[cluster], names[cluster])

    flagged = faces.flag_outliers(product_clusters, spreads)
    stage.write(PRODUCT_CLUSTERS, flagged.select("product_id", "cluster_id", "distance", "is_outlier"))
    clusters = [
        (
            cluster,
            names[cluster],
            totals[cluster]["size"],
            naming.top_terms(terms.best.get(cluster, ())),
            chosen[cluster]["representative_product_ids"],
            status,
            described.split_from(cluster),
            spreads[cluster].median,
            spreads[cluster].p90,
            spreads[cluster].n_outliers,
            shares[cluster],
        )
        for cluster, status in sorted(zip(described.ids, described.statuses, strict=True))
        if cluster in totals
    ]
    ddl = f"{SCHEMAS[CLUSTERS]}, split_from int, distance_median float, distance_p90 float, n_outliers bigint"
    ddl += ", name_share float"
    stage.write(CLUSTERS, stage.spark.createDataFrame(clusters, ddl).orderBy("cluster_id"), n_files=1)
    stage.metrics["outliers"] = sum(spread.n_outliers for spread in spreads.values())
    explained = _project(stage, vectors, found, described.ids, names, order)
    sizes = {cluster: int(totals[cluster]["size"]) for cluster in order}
    _draw_sizes(stage, names, sizes)
    _draw_drift(stage, moved, described, names)
    _remember(stage, found, described, model, names, sizes, predecessor, fingerprint(product_clusters), moved)
    _measure(stage, found, described, totals, explained)
    stage.metrics.update(drift.metrics(moved))
    located.unpersist()
    assigned.unpersist()


def _fit(stage: Stage, vectors: DataFrame, model: str, predecessor: dict[str, Any] | None) -> kmeans.Model:
    """Fit the centroids, with yesterday's among the starts where they are of the same model."""
    section = stage.profile.clustering
    k = int(stage.inputs["select_k"].content["metrics"]["k"])
    first = vectors.select(F.size("vector").alias("dimensions")).first()
    if first is None:
        raise DataQualityError(
            "There are no product vectors to cluster.", next_step="Check what embed_products and clean_catalog kept."
        )
    n_texts, dimensions = vectors.count(), int(first["dimensions"])
    fits = min(section.fit_in_process_up_to, MAX_FIT_BYTES // (4 * max(1, dimensions)))
    stage.progress(
        "fitting %d clusters on %s distinct texts %s",
        k,
        f"{n_texts:,}",
        "in one process" if n_texts <= fits else "on the executors",
    )
    warm = _warm_start(vectors, k, dimensions, model, predecessor, section.seed)
    options = kmeans.Options(n_starts=section.n_starts, seed=section.seed, warm_start=warm)
    if n_texts <= fits:
        _, points, weights = sample(vectors, n_texts)
        found: kmeans.Model = kmeans.fit(points, weights, k, options)
    else:
        found = _fit_on_executors(stage, k, dimensions, options)
    stage.progress(
        "%d clusters after %d iterations, mean cosine to centroid %.3f",
        len(found.centroids),
        found.n_iterations,
        found.mean_cosine,
    )
    return found


def _warm_start(
    vectors: DataFrame, k: int, dimensions: int, model: str, predecessor: dict[str, Any] | None, seed: int
) -> FloatArray | None:
    """Return yesterday's centroids, adapted to today's k; None where they are of another model."""
    if predecessor is None or predecessor.get("model") != model:
        return None
    centroids, sizes = identity.centroids_of(predecessor), identity.sizes_of(predecessor)
    if len(centroids) == k or centroids.shape[1:] != (dimensions,):
        return centroids
    _, points, weights = sample(vectors, warm_start.DRAW_ROWS)
    return warm_start.adapted(centroids, sizes, k, points, weights, np.random.default_rng(seed))


def _fit_on_executors(stage: Stage, k: int, dimensions: int, options: kmeans.Options) -> kmeans.Model:
    """Fit where the table's files are read, from starts on a sample that the driver holds."""
    table = stage.input_uri("embed_products", PRODUCT_VECTORS)
    over = shards.SparkShards(stage.spark.sparkContext, stage.paths.root, table, k, dimensions)
    try:
        return kmeans.fit_passes(over, kmeans.start(*over.head(kmeans.n_start_rows(k)), k, options), options)
    finally:
        over.close()


def _located(stage: Stage, assigned: DataFrame) -> DataFrame:
    """Return every product with the index of its cluster, distance and texts."""
    products = stage.read("clean_catalog", PRODUCTS).select(
        "product_id", "title", "brand", "category_path", "text_hash"
    )
    return products.join(assigned, "text_hash", "inner").select(
        "product_id", "cluster", "distance", "title", "brand", "category_path", "text_hash"
    )


def _members(
    stage: Stage, located: DataFrame, predecessor: dict[str, Any] | None, n_clusters: int
) -> tuple[Members | None, str]:
    """Count the products that today's clusters share with the predecessor's; without its table, say why not."""
    if predecessor is None:
        return None, ""
    path = predecessor.get("product_clusters")
    if not path:
        return None, "that lineage doesn't name its product_clusters table"
    uri = stage.paths.root.join(path)
    if not stage.paths.root.exists(uri):
        return None, "its product_clusters table is gone"
    # With its schema given, a folder that was emptied reads as no rows.
    before = stage.spark.read.schema(SCHEMAS[PRODUCT_CLUSTERS]).parquet(uri)
    if before.isEmpty():
        return None, "its product_clusters table is empty"
    return count_members(before, located, identity.ids_of(predecessor), n_clusters), ""


def _drift(
    predecessor: dict[str, Any] | None, members: Members | None, described: identity.Identities
) -> drift.Drift | None:
    if predecessor is None or members is None:
        return None
    return drift.measure(members, identity.ids_of(predecessor), described.ids, str(predecessor.get("as_of")))


def _product_clusters(located: DataFrame, ids: tuple[int, ...]) -> DataFrame:
    """Return every product with its cluster_id, distance and texts."""
    cluster_ids = F.array(*[F.lit(cluster).cast("int") for cluster in ids])
    return located.select(
        "product_id",
        F.get(cluster_ids, F.col("cluster")).alias("cluster_id"),
        "distance",
        "title",
        "brand",
        "category_path",
        "text_hash",
    )


def _chat_names(
    stage: Stage, names: dict[int, str], terms: dict[int, list[Term]], chosen: dict[int, Row], asked: list[int]
) -> dict[int, str]:
    """Return names in which a chat model's stand in, where the profile asks for one; yesterday's stay as they are."""
    model = stage.profile.clustering.naming_model
    stage.metrics["names_from_model"] = 0
    if model is None or not asked:
        return names
    base_url, key = os.environ.get("OPENAI_BASE_URL", "").rstrip("/"), os.environ.get("OPENAI_API_KEY", "")
    if not (base_url or key) or (base_url and not re.match(r"https?://[^/]", base_url)):
        stage.progress("no chat model names the clusters: neither OPENAI_API_KEY nor a valid OPENAI_BASE_URL is set")
        return names
    # Here, so that a run without a chat model doesn't wait for the SDK's import.
    from shelfkin.clustering import chat_names

    facts = [
        chat_names.Facts(cluster, naming.top_terms(terms.get(cluster, ())), chosen[cluster]["representative_titles"])
        for cluster in asked
    ]
    ask = chat_names.chat(model, base_url=base_url or chat_names.OPENAI_URL, api_key=key)
    found = chat_names.improve(names, facts, ask)
    stage.metrics["names_from_model"] = found.n_from_model
    stage.progress("%s", found.note)
    return dict(found.names)


def _totals(product_clusters: DataFrame) -> dict[int, dict[str, Any]]:
    """Return size and summed distance of each cluster.

    Distances have six decimals: as decimals, their sum doesn't depend on the order of partitions.
    """
    rows = (
        product_clusters.groupBy("cluster_id")
        .agg(
            F.count("*").alias("size"),
            F.sum(F.col("distance").cast("decimal(18,6)")).cast("double").alias("distance"),
            F.sum(F.col("distance").isNull().cast("int")).alias("unusable"),
        )
        .collect()
    )
    unusable = sum(row["unusable"] for row in rows)
    if unusable:
        raise DataQualityError(
            f"The vectors of {unusable:,} products hold NaN or infinity, or are all zero; a vector needs a direction.",
            next_step="Check the embedding model's answers, and embed these texts again.",
        )
    return {row["cluster_id"]: {"size": row["size"], "distance": row["distance"]} for row in rows}


def _project(
    stage: Stage,
    vectors: DataFrame,
    found: kmeans.Model,
    ids: tuple[int, ...],
    names: dict[int, str],
    order: list[int],
) -> tuple[float, float]:
    """Write cluster_projection and its picture; return the explained share of variance along both axes."""
    hashes, points, weights = sample(vectors, N_PROJECTED)
    labels, _ = kmeans.assign_all(points, found.centroids)
    projection = fit_projection(points, weights)
    coordinates = projection.transform(points)
    rows = [
        (str(text_hash), int(ids[label]), float(x), float(y))
        for text_hash, label, (x, y) in zip(hashes, labels, coordinates, strict=True)
    ]
    ddl = "text_hash string, cluster_id int, x float, y float"
    stage.write(CLUSTER_PROJECTION, stage.spark.createDataFrame(rows, ddl), n_files=1)
    explained = (float(projection.explained[0]), float(projection.explained[1]))
    place_of = {cluster: place for place, cluster in enumerate(order)}
    places = np.asarray([place_of.get(ids[label], 0) for label in labels], dtype=np.int64)
    largest = names[order[0]]
    named = "all" if len(order) <= MAX_NAMES else f"the {MAX_NAMES} largest"
    figure = draw_projection(
        coordinates,
        places,
        [names[cluster] for cluster in order],
        explained,
        title=f"{stage.profile.title} in {len(order)} clusters, first {largest}",
        detail=f"as of {stage.as_of}; {len(coordinates):,} distinct texts; {named} clusters are named",
    )
    stage.save_figure("projection", figure)
    _draw_silhouettes(stage, points, weights, labels, places, [names[cluster] for cluster in order])
    return explained


def _draw_silhouettes(
    stage: Stage,
    points: FloatArray,
    weights: FloatArray,
    labels: IntArray,
    places: IntArray,
    names: list[str],
) -> None:
    """Draw how well each cluster holds together, on the sample of the projection."""
    if len(np.unique(labels)) < 2:
        return  # a silhouette compares with another cluster
    # The sample may lack a small cluster: numbers without gaps for those that it has.
    _, present = np.unique(labels, return_inverse=True)
    values = silhouette_samples(points, weights, present)
    n_low = sum(overlaps(values[places == place]) for place in np.unique(places))
    finding = f"{n_low} of {len(names)} clusters overlap with others" if n_low else "all clusters hold together"
    figure = draw_silhouette_by_cluster(
        values,
        places,
        names,
        title=f"{stage.profile.title}: {finding}",
        detail=f"as of {stage.as_of}; {len(points):,} distinct texts",
    )
    stage.save_figure("silhouette_by_cluster", figure)


def _draw_sizes(stage: Stage, names: dict[int, str], sizes: dict[int, int]) -> None:
    total, largest = sum(sizes.values()), max(sizes.values())
    title = f"{stage.profile.title}: the largest of {len(sizes)} clusters holds {largest / total:.0%}"
    figure = draw_sizes(
        [names[cluster] for cluster in sizes],
        list(sizes.values()),
        title=title,
        detail=f"as of {stage.as_of}; {total:,} products",
    )
    stage.save_figure("sizes", figure)


def _draw_drift(stage: Stage, moved: drift.Drift | None, described: identity.Identities, names: dict[int, str]) -> None:
    """Draw what each cluster won and lost; on a first run there is nothing to draw."""
    if moved is None or moved.share_moved is None:
        return
    gone = {cluster["cluster_id"]: cluster for cluster in described.gone}
    born = {cluster for cluster, status in zip(described.ids, described.statuses, strict=True) if status == "born"}
    changes = [
        Change(
            name=str(gone[cluster]["name"]) if cluster in gone else names.get(cluster, ""),
            fate=str(gone[cluster]["status"]) if cluster in gone else "born" if cluster in born else "",
            **flow.counts(),
        )
        for cluster, flow in moved.flows.items()
    ]
    figure = draw_drift(
        changes,
        title=f"{stage.profile.title}: {moved.kept} of products kept their cluster since {moved.since}",
        detail=f"as of {stage.as_of}; {moved.n_common:,} products on both days, "
        f"{moved.n_new:,} new, {moved.n_gone:,} gone",
    )
    stage.save_figure("drift", figure)


def _remember(
    stage: Stage,
    found: kmeans.Model,
    described: identity.Identities,
    model: str,
    names: dict[int, str],
    sizes: dict[int, int],
    predecessor: dict[str, Any] | None,
    members: str,
    moved: drift.Drift | None,
) -> None:
    """Write this day's lineage, and say which later days were built on another one."""
    content = identity.lineage(
        day=stage.as_of,
        run_id=stage.paths.run_id,
        model=model,
        centroids=found.centroids,
        found=described,
        names=names,
        sizes=sizes,
        predecessor=predecessor,
        product_clusters=stage.tables[PRODUCT_CLUSTERS]["path"],
        members=members,
        drift=moved,
    )
    stale = write_lineage(stage.paths, content, predecessor)
    stage.metrics["predecessor_stale"] = bool(predecessor and predecessor.get("stale"))
    if stale:
        stage.metrics.update(stale_from=stale[0].isoformat(), stale_days=len(stale))
        stage.progress(
            "%d later days follow other clusters than these; run them again, in order: %s",
            len(stale),
            ", ".join(str(day) for day in stale[:N_DAYS_NAMED]) + (", ..." if len(stale) > N_DAYS_NAMED else ""),
        )


def _measure(
    stage: Stage,
    found: kmeans.Model,
    described: identity.Identities,
    totals: dict[int, dict[str, Any]],
    explained: tuple[float, float],
) -> None:
    n_products = sum(total["size"] for total in totals.values())
    distance = sum(totals[cluster]["distance"] for cluster in sorted(totals))
    stage.counts.update(products=n_products)
    stage.metrics.update(
        k=len(totals),
        silhouette=stage.inputs["select_k"].content["metrics"].get("silhouette"),
        inertia=round(2 * distance, 4),
        mean_cosine=round(1 - distance / n_products, 6),
        largest_cluster_share=round(max(total["size"] for total in totals.values()) / n_products, 6),
        variance_explained=round(sum(explained), 6),
        iterations=found.n_iterations,
        **described.metrics(),
    )


APP = App("cluster_products", run, inputs=("clean_catalog", "embed_products", "select_k"), description=__doc__)
