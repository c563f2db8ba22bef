"""Who was where: today's clusters against those of another day, counted over products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from shelfkin.clustering.vectors import IntArray
from shelfkin.errors import ArtifactError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


@dataclass(frozen=True)
class Members:
    """How many products went from which of the old clusters to which of the new.

    Attributes
    ----------
    common
        Shape (k_old, k_new), int64: products of both days.
    gone
        Shape (k_old,): products of the old cluster that aren't in today's catalogue.
    new
        Shape (k_new,): products of the new cluster that weren't in the old catalogue.
    """

    common: IntArray
    gone: IntArray
    new: IntArray


def count_members(before: DataFrame, now: DataFrame, old_ids: Sequence[int], n_clusters: int) -> Members:
    """Count products by old and new cluster; at most (k_old + 1) x (k_new + 1) rows reach the driver.

    Parameters
    ----------
    before
        Columns product_id and cluster_id: the other day's product_clusters.
    now
        Columns product_id and cluster (index of the new cluster).
    old_ids
        The other day's cluster ids, in the order wanted.
    n_clusters
        Number of new clusters.

    Raises
    ------
    ArtifactError
        `before` holds a cluster that `old_ids` lacks.
    """
    rows = (
        before.select("product_id", "cluster_id")
        .join(now.select("product_id", "cluster"), "product_id", "full_outer")
        .groupBy("cluster_id", "cluster")
        .count()
        .collect()
    )
    place_of = {cluster: place for place, cluster in enumerate(old_ids)}
    # One row and column more, for products of one of the days only.
    counts = np.zeros((len(old_ids) + 1, n_clusters + 1), dtype=np.int64)
    for row in rows:
        if row["cluster_id"] is not None and row["cluster_id"] not in place_of:
            raise ArtifactError(
                f"The older product_clusters table holds cluster {row['cluster_id']}, which its lineage doesn't name.",
                next_step="Run that day again.",
            )
        old = len(old_ids) if row["cluster_id"] is None else place_of[row["cluster_id"]]
        new = n_clusters if row["cluster"] is None else row["cluster"]
        counts[old, new] += row["count"]
    return Members(common=counts[:-1, :-1], gone=counts[:-1, -1], new=counts[-1, :-1])


def fingerprint(product_clusters: DataFrame) -> str:
    """Return a number that is the same for the same products in the same clusters, in whatever order.

    Parameters
    ----------
    product_clusters
        Columns product_id and cluster_id.
    """
    from pyspark.sql import functions as F  # noqa: N812 - the name every PySpark reader knows

    # A sum of hashes as decimals neither overflows nor depends on the order of partitions.
    total = product_clusters.agg(F.sum(F.xxhash64("product_id", "cluster_id").cast("decimal(38,0)")).alias("sum"))
    return str(total.collect()[0]["sum"])
