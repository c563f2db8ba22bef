"""The texts that name clusters: titles, category paths and brands of their products, on the driver.

Large clusters are sampled, so that the driver holds at most `MAX_PRODUCTS` texts, however large the catalogue; naming
takes some 0.2 ms of one core for each. The share of a word among 5,000 products is known to 0.7 points (one standard
error).
"""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F  # noqa: N812 - the name every PySpark reader knows

MAX_PRODUCTS_PER_CLUSTER = 5_000
MAX_PRODUCTS = 400_000


@dataclass(frozen=True, order=True)
class ProductText:
    """A text of a cluster, and how many products of it carry that text."""

    cluster_id: int
    title: str
    category_path: tuple[str, ...] = ()
    brand: str = ""
    n_products: int = 1


def collect_product_texts(products: DataFrame, n_clusters: int) -> list[ProductText]:
    """Return the distinct texts of every cluster, of all its products or of a uniform sample of them.

    A product is in the sample when the hash of its id is among its cluster's lowest, which no partitioning changes.

    Parameters
    ----------
    products
        Columns cluster_id, product_id, title, category_path (array<string>, may be null) and brand.
    n_clusters
        Number of clusters, which share `MAX_PRODUCTS`.
    """
    limit = max(1, min(MAX_PRODUCTS_PER_CLUSTER, MAX_PRODUCTS // max(n_clusters, 1)))
    by_hash = Window.partitionBy("cluster_id").orderBy(F.xxhash64("product_id"), "product_id")
    columns = ("cluster_id", "title", "category_path", "brand")
    texts = (
        products.withColumn("place", F.row_number().over(by_hash))
        .where(F.col("place") <= limit)
        .groupBy(*columns)
        .agg(F.count("*").alias("n_products"))
    )
    table = texts.select(*columns, "n_products").toArrow()
    return sorted(
        ProductText(cluster, title or "", tuple(path or ()), brand or "", n_products)
        for cluster, title, path, brand, n_products in zip(*table.to_pydict().values(), strict=True)
    )
