"""The products on the driver: ids, stock, prices, places, texts with their vectors, and groups of variants."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import pyarrow.dataset as ds
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from shelfkin.clustering.vectors import vectors_of

# Rows of vectors that are read at a time.
_ROWS_AT_ONCE = 8_192
SHELVES = ("department", "category", "category_brand")


@dataclass(frozen=True)
class Catalogue:
    """The products, item i in row i, sorted by id.

    Attributes
    ----------
    rows
        (n_items,) the table ``prepared_products`` (`product_rows`), by product id.
    texts
        (n_items,) int64: number of the product's text. Texts with a vector come first, in the order of `vectors`.
    vectors
        (n_vectors, d) float32 unit norm, sorted by text_hash; (0, 0) without an embedding.
    groups
        (n_items,) int64: number of the product's group of variants (`variants.grouped`), by rising text in the middle.
    group_vectors
        (n_group_vectors, d) float32: vectors of the texts in the groups' middles; groups without one come last.
    """

    rows: pd.DataFrame
    texts: np.ndarray
    vectors: np.ndarray
    groups: np.ndarray
    group_vectors: np.ndarray

    @classmethod
    def of(cls, rows: pd.DataFrame, vectors: ds.Dataset | None) -> Catalogue:
        """Number the texts and groups of `product_rows`, and bring their vectors to the driver.

        Parameters
        ----------
        rows
            Result of `product_rows`.
        vectors
            Contract table ``product_vectors``; None for a catalogue that isn't embedded.
        """
        hashes, matrix = read_vectors(vectors, rows["text_hash"])
        without = np.sort(rows.loc[~rows["text_hash"].isin(hashes), "text_hash"].unique())
        numbers = pd.Index(np.concatenate([hashes, without]))
        middle_of = numbers.get_indexer(pd.Index(rows["group_text_hash"]))
        middles, groups = np.unique(middle_of, return_inverse=True)
        return cls(
            rows=rows,
            texts=numbers.get_indexer(pd.Index(rows["text_hash"])).astype(np.int64),
            vectors=matrix,
            groups=groups.astype(np.int64),
            group_vectors=matrix[middles[middles < len(matrix)]],
        )

    @property
    def n_items(self) -> int:
        """Number of products."""
        return len(self.rows)

    @property
    def n_texts(self) -> int:
        """Number of distinct texts."""
        return int(self.texts.max(initial=-1)) + 1

    @property
    def n_groups(self) -> int:
        """Number of groups of variants."""
        return int(self.groups.max(initial=-1)) + 1

    @cached_property
    def product_ids(self) -> np.ndarray:
        """(n_items,) str."""
        return self.rows["product_id"].to_numpy().astype(object)

    @cached_property
    def on_sale(self) -> np.ndarray:
        """(n_items,) bool: not known to be out of stock."""
        return self.rows["on_sale"].to_numpy(dtype=bool)

    @cached_property
    def clusters(self) -> np.ndarray:
        """(n_items,) int64: clusters as numbers from 0, in the order of ids; -1 for none."""
        ids = self.rows["cluster_id"].to_numpy(dtype=np.int64)
        return np.where(ids >= 0, np.searchsorted(np.unique(ids[ids >= 0]), ids), -1)


def product_rows(products: DataFrame, clusters: DataFrame | None = None) -> pd.DataFrame:
    """Return the table ``prepared_products`` in which every text is a group of its own: about 300 bytes a product.

    Parameters
    ----------
    products
        Contract table ``products``.
    clusters
        Contract table ``product_clusters``; None for a catalogue without clusters.

    Returns
    -------
    pandas.DataFrame
        Sorted by ``product_id``; the columns of the contract.
    """
    columns = ["product_id", "in_stock", "text_hash", "price", "brand", "category_path"]
    table = products.select(*columns).toPandas().sort_values("product_id", ignore_index=True)
    brands = table["brand"].fillna("")
    shelves = shelf_numbers(table["category_path"], brands)
    rows = pd.DataFrame(
        {
            "product_id": table["product_id"],
            "text_hash": table["text_hash"].astype(str),
            "group_text_hash": table["text_hash"].astype(str),
            # All that aren't known to be out of stock.
            "on_sale": [value is None or value != value or bool(value) for value in table["in_stock"]],
            "price": table["price"].astype(np.float64),
            "brand": brands,
            "cluster_id": -1,
            **dict(zip(SHELVES, shelves.T, strict=True)),
        }
    )
    if clusters is not None:
        ids = clusters.select("product_id", "cluster_id").toPandas().set_index("product_id")["cluster_id"]
        rows["cluster_id"] = ids.reindex(rows["product_id"], fill_value=-1).to_numpy()
    return rows


def shelf_numbers(category_paths: pd.Series, brands: pd.Series) -> np.ndarray:
    """Return where each product stands: (n_items, 3) int64, numbers from 0 in the order of names, -1 for none.

    The columns are the department (the first step of the category path), the category (the whole path), and the
    category and brand together.

    Parameters
    ----------
    category_paths, brands
        Of contract table ``products``: a sequence of str or None, and str.
    """
    # By a character that no category holds, so that no two paths look alike.
    paths = ["\0".join(path) if path is not None else "" for path in category_paths]
    keys = (
        [path.partition("\0")[0] for path in paths],
        paths,
        [f"{path}\0\0{brand}" if path else "" for path, brand in zip(paths, brands, strict=True)],
    )
    named = [pd.Categorical(pd.Series(key, dtype=object).replace("", None)).codes for key in keys]
    return np.column_stack(named).astype(np.int64)


def read_vectors(vectors: ds.Dataset | None, text_hashes: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Return hashes, (n,) str objects, rising, and vectors, (n, d) float32, of those texts that products have.

    The files are read some rows after the other, each row to its place: memory is that of the result.
    """
    nothing = np.empty(0, dtype=object), np.empty((0, 0), dtype=np.float32)
    if vectors is None:
        return nothing
    hashes = vectors.to_table(columns=["text_hash"])["text_hash"].to_pandas()
    ordered = hashes[hashes.isin(text_hashes)].sort_values()
    if ordered.empty:
        return nothing
    places = np.full(len(hashes), -1, dtype=np.int64)
    places[ordered.index] = np.arange(len(ordered))
    matrix, start = np.empty((0, 0), dtype=np.float32), 0
    for batch in vectors.to_batches(
        columns=["vector"], batch_size=_ROWS_AT_ONCE, batch_readahead=1, fragment_readahead=1
    ):
        block = vectors_of(batch.column("vector"), matrix.shape[1] or None)
        place = places[start : start + len(block)]
        if not len(matrix) and len(block):
            matrix = np.empty((len(ordered), block.shape[1]), dtype=np.float32)
        matrix[place[place >= 0]] = block[place >= 0]
        start += len(block)
    return ordered.to_numpy(dtype=object), matrix


def item_numbers(session: SparkSession, product_ids: np.ndarray) -> DataFrame:
    """Return ``product_id`` and its ``item`` number as a table."""
    table = pd.DataFrame({"product_id": product_ids, "item": np.arange(len(product_ids), dtype=np.int32)})
    return session.createDataFrame(table, "product_id string, item int")


def unknown_products(events: DataFrame, items: DataFrame) -> dict[str, int]:
    """Count events, and their products, that the catalogue doesn't know: they can't be recommended or explained."""
    unknown = events.join(F.broadcast(items), "product_id", how="left_anti")
    row = unknown.agg(F.count(F.lit(1)).alias("n"), F.countDistinct("product_id").alias("products")).first()
    return {"events_of_unknown_products": row["n"], "unknown_products": row["products"]} if row else {}
