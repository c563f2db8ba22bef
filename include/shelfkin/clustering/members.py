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


# In place of the cluster of a product that isn't in a catalogue; ids and indexes are never negative.
_NOWHERE = -1


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
    counts = (
        before.select("product_id", "cluster_id")
        .join(now.select("product_id", "cluster"), "product_id", "full_outer")
        .groupBy("cluster_id", "cluster")
        .count()
        .toPandas()
    )
    strangers = set(counts["cluster_id"].dropna()) - set(old_ids)
    if strangers:
        raise ArtifactError(
            f"The older product_clusters table holds cluster {min(strangers):.0f}, which its lineage doesn't name.",
            next_step="Run that day again.",
        )
    # One row and column more, for products of one of the days only.
    crossed = counts.fillna(_NOWHERE).pivot_table("count", "cluster_id", "cluster", aggfunc="sum")
    crossed = crossed.reindex(index=[*old_ids, _NOWHERE], columns=[*range(n_clusters), _NOWHERE])
    table = crossed.fillna(0).to_numpy(np.int64)
    return Members(common=table[:-1, :-1], gone=table[:-1, -1], new=table[-1, :-1])


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
