"""Cluster the catalogue with the chosen k, and give every cluster an identity, a name and a face.

Reads products, product_vectors and select_k's k, and the newest older lineage; writes product_clusters, clusters,
cluster_projection, the plots `projection` and `sizes`, and this day's lineage. `clusters` holds the clusters that have
products today (kept or born); merged and retired ones are in the lineage and counted in the metrics.
"""

from __future__ import annotations

import os
import re
from typing import Any

import numpy as np
from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F  # noqa: N812 - the name every PySpark reader knows

from shelfkin.artifacts import lineage_dates, predecessor_lineage
from shelfkin.clustering import faces, identity, kmeans, naming
from shelfkin.clustering.projection import fit_projection
from shelfkin.clustering.terms import Term, collect_terms
from shelfkin.errors import DataQualityError
from shelfkin.plotting.projection import MAX_NAMES, draw_projection
from shelfkin.plotting.sizes import draw_sizes
from shelfkin.stage import Stage, main
from shelfkin.tables import CLUSTER_PROJECTION, CLUSTERS, PRODUCT_CLUSTERS, PRODUCT_VECTORS, PRODUCTS, SCHEMAS

# Vectors on the driver take at most so much, whatever their length.
MAX_FIT_BYTES = 512 * 2**20

# Points in the scatter: more can't be told apart on a page.
N_PROJECTED = 6_000


def run(stage: Stage) -> None:
    """Fit, assign, identify, name, describe."""
    vectors = stage.read("embed_products", PRODUCT_VECTORS)
    model = _model(stage)
    predecessor = predecessor_lineage(stage.paths)
    hashes, points, weights = kmeans.sample(vectors, _fit_rows(stage, vectors))
    found = _fit(stage, points, weights, model, predecessor)

    assigned = kmeans.assign(vectors, found.centroids).persist()
    described = identity.identify(found.centroids, stage.as_of, model, predecessor)
    stage.progress("%s", described.note)
    product_clusters = _product_clusters(stage, assigned, described.ids).persist()
    totals = _totals(product_clusters)
    order = sorted(totals, key=lambda cluster: (-totals[cluster]["size"], cluster))
    terms = collect_terms(product_clusters)
    chosen = {row["cluster_id"]: row for row in faces.representatives(product_clusters, vectors).collect()}
    names = naming.name_clusters(terms, order, described.kept_names)
    names = _chat_names(
        stage, names, terms, chosen, [cluster for cluster in order if cluster not in described.kept_names]
    )
    spreads = faces.spreads(product_clusters)
    for cluster in order:
        stage.progress("%s  %s products  %s", cluster, f"{totals[cluster]['size']:>7,}", names[cluster])

    flagged = faces.flag_outliers(product_clusters, spreads)
    stage.write(PRODUCT_CLUSTERS, flagged.select("product_id", "cluster_id", "distance", "is_outlier"))
    clusters = [
        (
            cluster,
            names[cluster],
            totals[cluster]["size"],
            naming.top_terms(terms.get(cluster, ())),
            chosen[cluster]["representative_product_ids"],
            status,
            spreads[cluster].median,
            spreads[cluster].p90,
            spreads[cluster].n_outliers,
        )
        for cluster, status in sorted(zip(described.ids, described.statuses, strict=True))
        if cluster in totals
    ]
    ddl = f"{SCHEMAS[CLUSTERS]}, distance_median float, distance_p90 float, n_outliers bigint"
    stage.write(CLUSTERS, stage.spark.createDataFrame(clusters, ddl).orderBy("cluster_id"), n_files=1)
    stage.metrics["outliers"] = sum(spread.n_outliers for spread in spreads.values())
    explained = _project(stage, hashes, points, weights, found, described.ids, names, order)
    sizes = {cluster: int(totals[cluster]["size"]) for cluster in order}
    _draw_sizes(stage, names, sizes)
    _remember(stage, found, described, model, names, sizes, predecessor)
    _measure(stage, found, described, totals, explained)
    product_clusters.unpersist()
    assigned.unpersist()


def _model(stage: Stage) -> str:
    """Return what vectors must share to be compared: provider, model and dimensions."""
    embedded = stage.inputs["embed_products"].content["metrics"]
    return "/".join(str(embedded.get(part, "unknown")) for part in ("provider", "model", "dimensions"))


def _fit_rows(stage: Stage, vectors: DataFrame) -> int:
    first = vectors.select(F.size("vector").alias("dimensions")).first()
    if first is None:
        raise DataQualityError(
            "There are no product vectors to cluster.", next_step="Check what embed_products and clean_catalog kept."
        )
    return min(stage.profile.clustering.fit_sample, max(1, MAX_FIT_BYTES // (4 * max(1, first["dimensions"]))))


def _fit(
    stage: Stage, points: kmeans.FloatArray, weights: kmeans.FloatArray, model: str, predecessor: dict[str, Any] | None
) -> kmeans.Fit:
    """Fit the centroids, with yesterday's among the starts where they are of the same model."""
    section = stage.profile.clustering
    k = int(stage.inputs["select_k"].content["metrics"]["k"])
    warm = None
    if predecessor is not None and predecessor.get("model") == model:
        warm = identity.centroids_of(predecessor)
    stage.progress("fitting %d clusters on %s distinct texts", k, f"{len(points):,}")
    found = kmeans.fit(points, weights, k, n_starts=section.n_starts, seed=section.seed, warm_start=warm)
    stage.progress(
        "%d clusters after %d iterations, mean cosine to centroid %.3f",
        len(found.centroids),
        found.n_iterations,
        float(np.average(found.cosines, weights=weights)),
    )
    return found


def _product_clusters(stage: Stage, assigned: DataFrame, ids: tuple[int, ...]) -> DataFrame:
    """Return every product with its cluster_id, distance and texts."""
    cluster_ids = F.array(*[F.lit(cluster).cast("int") for cluster in ids])
    products = stage.read("clean_catalog", PRODUCTS).select(
        "product_id", "title", "brand", "category_path", "text_hash"
    )
    return products.join(assigned, "text_hash", "inner").select(
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
    hashes: np.ndarray,
    points: kmeans.FloatArray,
    weights: kmeans.FloatArray,
    found: kmeans.Fit,
    ids: tuple[int, ...],
    names: dict[int, str],
    order: list[int],
) -> tuple[float, float]:
    """Write cluster_projection and its picture; return the explained share of variance along both axes."""
    shown = slice(0, N_PROJECTED)  # sorted by hash: a uniform sample
    projection = fit_projection(points[shown], weights[shown])
    coordinates = projection.transform(points[shown])
    labels = found.labels[shown]
    rows = [
        (str(text_hash), int(ids[label]), float(x), float(y))
        for text_hash, label, (x, y) in zip(hashes[shown], labels, coordinates, strict=True)
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
    return explained


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


def _remember(
    stage: Stage,
    found: kmeans.Fit,
    described: identity.Identities,
    model: str,
    names: dict[int, str],
    sizes: dict[int, int],
    predecessor: dict[str, Any] | None,
) -> None:
    """Write this day's lineage, and say which later days were built on another one."""
    later = [day for day in lineage_dates(stage.paths.root, stage.profile.store) if day > stage.as_of]
    content = identity.lineage(
        day=stage.as_of,
        run_id=stage.paths.run_id,
        model=model,
        centroids=found.centroids,
        found=described,
        names=names,
        sizes=sizes,
        predecessor=predecessor,
    )
    root, uri = stage.paths.root, stage.paths.lineage_uri()
    changed = not root.exists(uri) or root.read_json(uri).get("clusters") != content["clusters"]
    root.put_json(uri, content)
    if later and changed:
        stage.metrics["stale_from"] = later[0].isoformat()
        stage.progress(
            "the clusters as of %s and later follow another lineage than this day's new one; run those days again",
            later[0],
        )


def _measure(
    stage: Stage,
    found: kmeans.Fit,
    described: identity.Identities,
    totals: dict[int, dict[str, Any]],
    explained: tuple[float, float],
) -> None:
    n_products = sum(total["size"] for total in totals.values())
    distance = sum(totals[cluster]["distance"] for cluster in sorted(totals))
    gone = [cluster["status"] for cluster in described.gone]
    stage.counts.update(products=n_products)
    stage.metrics.update(
        k=len(totals),
        silhouette=stage.inputs["select_k"].content["metrics"].get("silhouette"),
        inertia=round(2 * distance, 4),
        mean_cosine=round(1 - distance / n_products, 6),
        largest_cluster_share=round(max(total["size"] for total in totals.values()) / n_products, 6),
        clusters_born=described.statuses.count("born"),
        clusters_kept=described.statuses.count("kept"),
        clusters_merged=gone.count("merged"),
        clusters_retired=gone.count("retired"),
        variance_explained=round(sum(explained), 6),
        identity_note=described.note,
        iterations=found.n_iterations,
    )


if __name__ == "__main__":
    main("cluster_products", run, inputs=("clean_catalog", "embed_products", "select_k"), description=__doc__)
