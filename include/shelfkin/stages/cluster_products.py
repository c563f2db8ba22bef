"""Cluster the catalogue with the chosen k, and give every cluster an identity, a name and representatives.

Reads product_vectors and select_k's k, and the newest older lineage; writes product_clusters, clusters,
cluster_projection, the plots `projection`, `sizes`, `silhouette_by_cluster` and `drift`, and this day's lineage.
`clusters` holds the clusters that have products today (kept or born; `split_from` names the living cluster that a born
one was part of); merged and retired ones are in the lineage and counted in the metrics.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - the name every PySpark reader knows

from shelfkin.app import App
from shelfkin.artifacts import predecessor_lineage
from shelfkin.clustering import identity, kmeans, warm_start
from shelfkin.clustering.assign import assign_texts
from shelfkin.clustering.cluster_stats import ClusterStats, cluster_stats, flag_outliers
from shelfkin.clustering.k_scores import silhouette_samples
from shelfkin.clustering.lloyd import Points
from shelfkin.clustering.members import Members, count_members, fingerprint
from shelfkin.clustering.pca import principal_coordinates
from shelfkin.clustering.representatives import representatives
from shelfkin.clustering.vectors import FloatArray, IntArray, sample
from shelfkin.lineage import write_lineage
from shelfkin.naming.naming_chain import run_chain
from shelfkin.naming.product_texts import collect_product_texts
from shelfkin.plotting.cluster_changes import draw_cluster_changes
from shelfkin.plotting.projection import MAX_NAMES, draw_projection
from shelfkin.plotting.silhouette_by_cluster import draw_silhouette_by_cluster, overlaps
from shelfkin.plotting.sizes import draw_sizes
from shelfkin.spark import persisted
from shelfkin.stage import Stage
from shelfkin.tables import CLUSTER_PROJECTION, CLUSTERS, PRODUCT_CLUSTERS, PRODUCT_VECTORS, PRODUCTS, SCHEMAS

# Texts of the projection's table and pictures: a uniform sample of a large catalogue.
N_PROJECTED = 50_000

# A longer list of days isn't read.
N_DAYS_NAMED = 5

_MORE_COLUMNS = "split_from int, distance_median float, distance_p90 float, n_outliers bigint, name_share float"


@dataclass(frozen=True)
class Inputs:
    """What the stage starts from: vectors of distinct texts, k, their embedding model, and the day before if any."""

    vectors: DataFrame
    k: int
    embedding_model: str
    predecessor: dict[str, Any] | None


@dataclass(frozen=True)
class Described:
    """By cluster id, the largest cluster first: figures, names and representatives."""

    stats: Mapping[int, ClusterStats]
    names: Mapping[int, str]
    name_shares: Mapping[int, float]
    top_terms: Mapping[int, Sequence[str]]
    representative_ids: Mapping[int, Sequence[str]]
    n_names_from_model: int


@dataclass(frozen=True)
class Projected:
    """A sample of texts in two dimensions: for each its hash, point, index of its centroid, and coordinates (n, 2).

    `explained` is the share of variance along both axes.
    """

    text_hashes: Sequence[str]
    points: Points
    labels: IntArray
    coordinates: FloatArray
    explained: FloatArray


def run(stage: Stage) -> None:
    """Fit, assign, identify, describe and project; then leave tables, pictures, the lineage and figures."""
    inputs = _read_inputs(stage)
    model = _fit(stage, inputs)
    with persisted(_assign_products(stage, inputs, model)) as assigned:
        identities = _identify(stage, inputs, model, assigned)
        products = _with_cluster_ids(assigned, identities.ids)
        described = _describe(stage, inputs, products, identities.kept_names)
        projected = _project(inputs, model)
        _write_tables(stage, products, identities, described, projected)
        members_fingerprint = fingerprint(products)
    _draw(stage, identities, described, projected)
    _write_lineage(stage, inputs, model, identities, described, members_fingerprint)
    _write_metrics(stage, model, identities, described, projected)


def _read_inputs(stage: Stage) -> Inputs:
    return Inputs(
        vectors=stage.read("embed_products", PRODUCT_VECTORS),
        k=int(stage.inputs["select_k"].content["metrics"]["k"]),
        embedding_model=identity.embedding_model(stage.inputs["embed_products"]),
        predecessor=predecessor_lineage(stage.paths),
    )


def _fit(stage: Stage, inputs: Inputs) -> kmeans.Model:
    """Fit the centroids on a sample that one process holds, with yesterday's among the starts."""
    section = stage.profile.clustering
    dimensions = int(stage.inputs["embed_products"].content["metrics"]["dimensions"])
    n_rows = kmeans.n_fit_rows(section.fit_sample, inputs.k, dimensions)
    _, points, weights = sample(inputs.vectors, n_rows)
    stage.progress("fitting %d clusters on %s distinct texts", inputs.k, f"{len(points):,}")
    warm = _warm_start(inputs, points, weights, section.seed)
    options = kmeans.Options(n_starts=section.n_starts, seed=section.seed, warm_start=warm)
    model = kmeans.fit(points, weights, inputs.k, options)
    stage.progress(
        "%d clusters after %d iterations, mean cosine to centroid %.3f",
        len(model.centroids),
        model.n_iterations,
        model.mean_cosine,
    )
    return model


def _warm_start(inputs: Inputs, points: FloatArray, weights: FloatArray, seed: int) -> FloatArray | None:
    """Return yesterday's centroids, adapted to today's k; None where they are of another model."""
    centroids = identity.comparable_centroids(inputs.predecessor, inputs.embedding_model, points.shape[1])
    if inputs.predecessor is None or centroids is None:
        return None
    sizes = identity.sizes_of(inputs.predecessor)
    return warm_start.adapted(centroids, sizes, inputs.k, points, weights, np.random.default_rng(seed))


def _assign_products(stage: Stage, inputs: Inputs, model: kmeans.Model) -> DataFrame:
    """Return every product with the index of its cluster, its distance and its texts."""
    products = stage.read("clean_catalog", PRODUCTS)
    return products.join(assign_texts(inputs.vectors, model.centroids), "text_hash", "inner").select(
        "product_id", "cluster", "distance", "title", "brand", "category_path", "text_hash"
    )


def _identify(stage: Stage, inputs: Inputs, model: kmeans.Model, assigned: DataFrame) -> identity.Identities:
    """Match today's clusters with those of the day before, and measure what moved."""
    members, why_not = _members(stage, inputs.predecessor, assigned, len(model.centroids))
    identities = identity.identify(
        model.centroids, stage.as_of, inputs.embedding_model, inputs.predecessor, members, why_not
    )
    stage.progress("%s", identities.note)
    if identities.drift is not None:
        stage.progress("%s", identities.drift.sentence())
    return identities


def _members(
    stage: Stage, predecessor: dict[str, Any] | None, assigned: DataFrame, n_clusters: int
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
    return count_members(before, assigned, identity.ids_of(predecessor), n_clusters), ""


def _with_cluster_ids(assigned: DataFrame, ids: Sequence[int]) -> DataFrame:
    """Return products with `cluster_id` for the index of their cluster."""
    cluster_ids = F.array(*[F.lit(cluster).cast("int") for cluster in ids])
    return assigned.withColumn("cluster_id", F.get(cluster_ids, F.col("cluster"))).drop("cluster")


def _describe(stage: Stage, inputs: Inputs, products: DataFrame, kept_names: Mapping[int, str]) -> Described:
    """Count, name and represent the clusters, and tell a person."""
    stats = cluster_stats(products)
    rows = {row["cluster_id"]: row for row in representatives(products, inputs.vectors).collect()}
    named = run_chain(collect_product_texts(products, len(stats)), list(stats), kept_names)
    titles = {cluster: rows[cluster]["representative_titles"] for cluster in stats if cluster not in kept_names}
    names, n_from_model = _with_chat_names(stage, named.names, named.top_terms, titles)
    shares = named.shares(names)
    stage.progress("clusters, and the share of their products that carry their names:")
    for cluster, of_cluster in stats.items():
        size = f"{of_cluster.size:>7,}"
        stage.progress("%s  %s products  %4.0f%%  %s", cluster, size, 100 * shares[cluster], names[cluster])
    representative_ids = {cluster: row["representative_product_ids"] for cluster, row in rows.items()}
    return Described(stats, names, shares, named.top_terms, representative_ids, n_from_model)


def _with_chat_names(
    stage: Stage, names: Mapping[int, str], top_terms: Mapping[int, Sequence[str]], titles: Mapping[int, Sequence[str]]
) -> tuple[Mapping[int, str], int]:
    """Return names in which a chat model's stand in for those of the clusters in `titles`, and how many are its own."""
    model = stage.profile.clustering.naming_model
    if model is None or not titles:
        return names, 0
    base_url, key = os.environ.get("OPENAI_BASE_URL", "").rstrip("/"), os.environ.get("OPENAI_API_KEY", "")
    if not (base_url or key) or (base_url and not re.match(r"https?://[^/]", base_url)):
        stage.progress("no chat model names the clusters: neither OPENAI_API_KEY nor a valid OPENAI_BASE_URL is set")
        return names, 0
    # Here, so that a run without a chat model doesn't wait for the SDK's import.
    from shelfkin.naming import chat_names

    facts = [chat_names.Facts(cluster, top_terms[cluster], of_cluster) for cluster, of_cluster in titles.items()]
    ask = chat_names.chat(model, base_url=base_url or chat_names.OPENAI_URL, api_key=key)
    better = chat_names.improve(names, facts, ask)
    stage.progress("%s", better.note)
    return better.names, better.n_from_model


def _project(inputs: Inputs, model: kmeans.Model) -> Projected:
    """Return a sample of the texts in two dimensions."""
    hashes, vectors, weights = sample(inputs.vectors, N_PROJECTED)
    points = Points(vectors, weights)
    labels = points.assign(model.centroids).labels
    return Projected(hashes.tolist(), points, labels, *principal_coordinates(vectors, weights))


def _write_tables(
    stage: Stage, products: DataFrame, identities: identity.Identities, described: Described, projected: Projected
) -> None:
    """Write product_clusters, clusters and cluster_projection."""
    flagged = flag_outliers(products, described.stats)
    stage.write(PRODUCT_CLUSTERS, flagged.select("product_id", "cluster_id", "distance", "is_outlier"))
    statuses = dict(zip(identities.ids, identities.statuses, strict=True))
    clusters = [
        (
            cluster,
            described.names[cluster],
            of_cluster.size,
            described.top_terms[cluster],
            described.representative_ids[cluster],
            statuses[cluster],
            identities.split_from(cluster),
            of_cluster.median,
            of_cluster.p90,
            of_cluster.n_outliers,
            described.name_shares[cluster],
        )
        for cluster, of_cluster in sorted(described.stats.items(), key=lambda item: item[0])
    ]
    table = stage.spark.createDataFrame(clusters, f"{SCHEMAS[CLUSTERS]}, {_MORE_COLUMNS}").orderBy("cluster_id")
    stage.write(CLUSTERS, table, n_files=1)
    rows = [
        (text_hash, identities.ids[label], x, y)
        for text_hash, label, (x, y) in zip(
            projected.text_hashes, projected.labels, projected.coordinates.tolist(), strict=True
        )
    ]
    stage.write(CLUSTER_PROJECTION, stage.spark.createDataFrame(rows, SCHEMAS[CLUSTER_PROJECTION]), n_files=1)


def _draw(stage: Stage, identities: identity.Identities, described: Described, projected: Projected) -> None:
    """Draw the clusters: where they lie, how large they are, how well they hold together, and what moved."""
    names = [described.names[cluster] for cluster in described.stats]
    sizes = [of_cluster.size for of_cluster in described.stats.values()]
    title, as_of = stage.profile.title, f"as of {stage.as_of}"
    place_of = {cluster: place for place, cluster in enumerate(described.stats)}
    places = np.asarray([place_of.get(identities.ids[label], 0) for label in projected.labels], np.int64)
    n_texts = f"{len(places):,} distinct texts"
    shown = "all" if len(names) <= MAX_NAMES else f"the {MAX_NAMES} largest"
    stage.save_figure(
        "projection",
        draw_projection(
            projected.coordinates,
            places,
            names,
            projected.explained.tolist(),
            title=f"{title} in {len(names)} clusters, first {names[0]}",
            detail=f"{as_of}; {n_texts}; {shown} clusters are named",
        ),
    )
    stage.save_figure(
        "sizes",
        draw_sizes(
            names,
            sizes,
            title=f"{title}: the largest of {len(sizes)} clusters holds {max(sizes) / sum(sizes):.0%}",
            detail=f"{as_of}; {sum(sizes):,} products",
        ),
    )
    _draw_silhouettes(stage, projected, places, names, f"{as_of}; {n_texts}")
    _draw_changes(stage, identities, described.names)


def _draw_silhouettes(stage: Stage, projected: Projected, places: IntArray, names: list[str], detail: str) -> None:
    """Draw how well each cluster holds together, on the sample of the projection."""
    # The sample may lack a small cluster: numbers without gaps for those that it has.
    found, present = np.unique(places, return_inverse=True)
    if len(found) < 2:
        return  # a silhouette compares with another cluster
    values = silhouette_samples(projected.points, present)
    n_low = sum(overlaps(values[places == place]) for place in found)
    finding = f"{n_low} of {len(names)} clusters overlap with others" if n_low else "all clusters hold together"
    figure = draw_silhouette_by_cluster(values, places, names, title=f"{stage.profile.title}: {finding}", detail=detail)
    stage.save_figure("silhouette_by_cluster", figure)


def _draw_changes(stage: Stage, identities: identity.Identities, names: Mapping[int, str]) -> None:
    """Draw what each cluster won and lost; on a first run there is nothing to draw."""
    moved = identities.drift
    if moved is None or moved.share_moved is None:
        return
    status_of = zip(identities.ids, identities.statuses, strict=True)
    fates = {cluster: status for cluster, status in status_of if status == "born"}
    fates |= {gone["cluster_id"]: str(gone["status"]) for gone in identities.gone}
    all_names = {**names, **{gone["cluster_id"]: str(gone["name"]) for gone in identities.gone}}
    clusters = moved.flows.index.to_series()
    changes = moved.flows.assign(name=clusters.map(all_names).fillna(""), fate=clusters.map(fates).fillna(""))
    figure = draw_cluster_changes(
        changes,
        title=f"{stage.profile.title}: {moved.kept} of products kept their cluster since {moved.since}",
        detail=f"as of {stage.as_of}; {moved.n_common:,} products on both days, "
        f"{moved.n_new:,} new, {moved.n_gone:,} gone",
    )
    stage.save_figure("drift", figure)


def _write_lineage(
    stage: Stage,
    inputs: Inputs,
    model: kmeans.Model,
    identities: identity.Identities,
    described: Described,
    members: str,
) -> None:
    """Write this day's lineage, and say which later days were built on another one."""
    content = identity.lineage(
        day=stage.as_of,
        run_id=stage.paths.run_id,
        model=inputs.embedding_model,
        centroids=model.centroids,
        identities=identities,
        names=described.names,
        sizes={cluster: of_cluster.size for cluster, of_cluster in described.stats.items()},
        predecessor=inputs.predecessor,
        product_clusters=stage.tables[PRODUCT_CLUSTERS]["path"],
        members=members,
    )
    stale = write_lineage(stage.paths, content, inputs.predecessor)
    stage.metrics["predecessor_stale"] = bool(inputs.predecessor and inputs.predecessor.get("stale"))
    if stale:
        stage.metrics.update(stale_from=stale[0].isoformat(), stale_days=len(stale))
        stage.progress(
            "%d later days follow other clusters than these; run them again, in order: %s",
            len(stale),
            ", ".join(str(day) for day in stale[:N_DAYS_NAMED]) + (", ..." if len(stale) > N_DAYS_NAMED else ""),
        )


def _write_metrics(
    stage: Stage, model: kmeans.Model, identities: identity.Identities, described: Described, projected: Projected
) -> None:
    stats = described.stats.values()
    n_products = sum(of_cluster.size for of_cluster in stats)
    distance = sum(described.stats[cluster].total_distance for cluster in sorted(described.stats))
    stage.counts.update(products=n_products)
    stage.metrics.update(
        k=len(stats),
        silhouette=stage.inputs["select_k"].content["metrics"].get("silhouette"),
        inertia=round(2 * distance, 4),
        mean_cosine=round(1 - distance / n_products, 6),
        largest_cluster_share=round(max(of_cluster.size for of_cluster in stats) / n_products, 6),
        variance_explained=round(float(projected.explained.sum()), 6),
        iterations=model.n_iterations,
        outliers=sum(of_cluster.n_outliers for of_cluster in stats),
        names_from_model=described.n_names_from_model,
        **identities.metrics(),
    )


APP = App("cluster_products", run, inputs=("clean_catalog", "embed_products", "select_k"), description=__doc__)
