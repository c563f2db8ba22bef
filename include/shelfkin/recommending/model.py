"""From tables to the model that lists are made with: the one way, for the nightly tables and the backtest."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd
import scipy.sparse as sp
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from shelfkin.errors import OptionError
from shelfkin.profile import EventType, Recommending
from shelfkin.recommending import co_purchase
from shelfkin.recommending.als import Als
from shelfkin.recommending.baskets import Baskets, collect_baskets, faded, next_order
from shelfkin.recommending.candidates import ItemModel, content_relations
from shelfkin.recommending.features import Evidence, item_features, store_leaders
from shelfkin.recommending.interactions import anonymous_baskets, user_histories
from shelfkin.recommending.nearest import TextNeighbours, nearest_texts
from shelfkin.recommending.policies import on_sale
from shelfkin.recommending.popularity import (
    item_popularity,
    popular_scores,
    popularity_rank,
    trending_scores,
)
from shelfkin.recommending.timelines import purchase_type, type_names

# Shared customers alone make item-kNN and the twins' choice; neighbours kept per product.
KNN_NEIGHBOURS = 100
KNN_SHRINKAGE = 5.0
# Above this many weights per product EASE^R's remaining ones are noise of the order of 1e-3.
EASE_NEIGHBOURS = 500
CONTENT_NEIGHBOURS = 10
# Pairs of a user, or an anonymous order, with a product that item-item models and factors are trained on: 16 bytes each
# on the driver. Beyond, users and orders are sampled.
MAX_TRAINING_PAIRS = 20_000_000
# Pairs of an order and a product that same-order and next-order relations are made from; beyond, users are sampled.
MAX_BASKET_PAIRS = 5_000_000
# A text's hash of 64 characters beside its vector, with Arrow's offsets.
_BYTES_PER_HASH = 100


@dataclass(frozen=True)
class Catalogue:
    """The products on the driver, item i in row i, sorted by id.

    Attributes
    ----------
    product_ids
        (n_items,) str.
    on_sale
        (n_items,) bool: not known to be out of stock.
    texts
        (n_items,) int64: number of the product's text. Texts with a vector come first, in the order of `vectors`.
    vectors
        (n_vectors, d) float32 unit norm, sorted by text_hash; (0, 0) without an embedding.
    prices
        (n_items,) float64, NaN where none is known.
    clusters
        (n_items,) int64: number of the product's cluster from 0, -1 for none.
    brands
        (n_items,) str, empty for none.
    shelves
        Result of `shelf_numbers`.
    """

    product_ids: np.ndarray
    on_sale: np.ndarray
    texts: np.ndarray
    vectors: np.ndarray
    prices: np.ndarray
    clusters: np.ndarray
    brands: np.ndarray
    shelves: np.ndarray

    @property
    def n_texts(self) -> int:
        """Number of distinct texts."""
        return int(self.texts.max(initial=-1)) + 1


@dataclass(frozen=True)
class Fitted:
    """A store's model as of one moment.

    Attributes
    ----------
    items
        The products' signals, with the co-purchase model that fits the store's size.
    method
        ``ease``, ``item_knn`` or ``none``.
    item_knn
        (n_items, n_items) sparse float32 cosine of shared customers.
    strengths
        What `item_knn` and the co-purchase model were trained on (`training_matrices`).
    popularity
        Result of `popularity.item_popularity`.
    histories
        Histories of every known user (`interactions.user_histories`), persisted.
    evidence
        What the ranker uses beyond `items`.
    """

    items: ItemModel
    method: str
    item_knn: sp.csr_array
    strengths: sp.csr_array
    popularity: pd.DataFrame
    histories: DataFrame
    evidence: Evidence


def read_catalogue(products: DataFrame, vectors: DataFrame | None, clusters: DataFrame | None = None) -> Catalogue:
    """Bring ids, stock, texts and vectors to the driver: about 200 bytes a product and 4 * d + 100 bytes a text.

    Spark refuses to collect more than ``spark.driver.maxResultSize``; its default of 1 GB holds about 650,000 texts
    of 384 dimensions.

    Parameters
    ----------
    products
        Contract table ``products``.
    vectors
        Contract table ``product_vectors``; None for a catalogue that isn't embedded.
    clusters
        Contract table ``product_clusters``; None for a catalogue without clusters.

    Raises
    ------
    OptionError
        The vectors exceed ``spark.driver.maxResultSize``.
    """
    columns = ["product_id", "in_stock", "text_hash", "price", "brand", "category_path"]
    table = products.select(*columns).toPandas().sort_values("product_id")
    hashes, matrix = np.empty(0, dtype=object), np.empty((0, 0), dtype=np.float32)
    if vectors is not None:
        size = vectors.agg(F.count(F.lit(1)).alias("n"), F.max(F.size("vector")).alias("d")).first()
        if size is not None and size["n"]:
            check_result_size(size["n"], size["d"], result_limit_bytes(vectors.sparkSession))
        found = vectors.select("text_hash", "vector").toPandas().sort_values("text_hash")
        found = found[found["text_hash"].isin(table["text_hash"])]
        hashes = found["text_hash"].to_numpy()
        matrix = np.stack(found["vector"].tolist()).astype(np.float32) if len(found) else matrix
    unembedded = np.setdiff1d(table["text_hash"].to_numpy().astype(str), hashes.astype(str))
    numbers = pd.Index(np.concatenate([hashes.astype(str), unembedded]))
    return Catalogue(
        product_ids=table["product_id"].to_numpy().astype(object),
        on_sale=on_sale(table["in_stock"].to_numpy()),
        texts=numbers.get_indexer(pd.Index(table["text_hash"].astype(str))).astype(np.int64),
        vectors=matrix,
        prices=table["price"].to_numpy(dtype=np.float64),
        clusters=cluster_numbers(table["product_id"], clusters),
        brands=table["brand"].fillna("").to_numpy().astype(object),
        shelves=shelf_numbers(table["category_path"], table["brand"].fillna("")),
    )


def cluster_numbers(product_ids: pd.Series, clusters: DataFrame | None) -> np.ndarray:
    """Return each product's cluster as a number from 0, in the order of cluster ids; -1 for none."""
    if clusters is None:
        return np.full(len(product_ids), -1, dtype=np.int64)
    table = clusters.select("product_id", "cluster_id").toPandas().set_index("product_id")["cluster_id"]
    found = table.reindex(product_ids)
    return pd.Categorical(found, categories=np.unique(table)).codes.astype(np.int64)


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


def result_limit_bytes(session: SparkSession) -> int:
    """Return ``spark.driver.maxResultSize`` in bytes; 0 is no limit."""
    conf = session.sparkContext._jsc.sc().getConf()
    return int(conf.getSizeAsBytes("spark.driver.maxResultSize", "1g"))


def check_result_size(n_vectors: int, n_dimensions: int, limit_bytes: int) -> None:
    """Refuse vectors that Spark wouldn't bring to the driver, before minutes of work end in its own error.

    Parameters
    ----------
    n_vectors, n_dimensions
        Size of ``product_vectors``.
    limit_bytes
        Result of `result_limit_bytes`; 0 is no limit.

    Raises
    ------
    OptionError
        ``n_vectors * (4 * n_dimensions + 100)`` bytes exceed the limit.
    """
    needed = n_vectors * (4 * n_dimensions + _BYTES_PER_HASH)
    if 0 < limit_bytes < needed:
        raise OptionError(
            f"{n_vectors:,} vectors of {n_dimensions} dimensions take about {needed / 2**20:,.0f} MiB on the driver, "
            f"more than spark.driver.maxResultSize={limit_bytes / 2**20:,.0f} MiB.",
            next_step="Raise spark.driver.maxResultSize, and the driver's memory with it, in SHELFKIN_SPARK_CONF or "
            "the Spark connection; or embed with fewer dimensions.",
        )


def no_neighbours(n_texts: int) -> TextNeighbours:
    """Return the neighbours of texts that have no vectors: none."""
    return TextNeighbours(np.full((n_texts, 0), -1, dtype=np.int32), np.zeros((n_texts, 0), dtype=np.float32))


def catalogue_neighbours(catalogue: Catalogue, allowed: np.ndarray, n: int, settings: Recommending) -> TextNeighbours:
    """Return the `n` nearest texts of every text of a catalogue.

    Parameters
    ----------
    catalogue
        The products; of a collapsed catalogue (`variants.Variants.collapsed`), texts are groups.
    allowed
        (n_items,) bool: products that may be an answer; a text may be one if one of its products may.
    n
        Answers per text.
    settings
        Of the profile: how to search.
    """
    eligible = np.zeros(catalogue.n_texts, dtype=bool)
    eligible[catalogue.texts[allowed]] = True
    return nearest_texts(
        catalogue.vectors,
        eligible,
        n,
        exact_up_to=settings.search_exact_up_to,
        recall=settings.search_recall,
    )


def item_numbers(session: SparkSession, product_ids: np.ndarray) -> DataFrame:
    """Return ``product_id`` and its ``item`` number as a table."""
    table = pd.DataFrame({"product_id": product_ids, "item": np.arange(len(product_ids), dtype=np.int32)})
    return session.createDataFrame(table, "product_id string, item int")


def unknown_products(events: DataFrame, items: DataFrame) -> dict[str, int]:
    """Count events, and their products, that the catalogue doesn't know: they can't be recommended or explained."""
    unknown = events.join(F.broadcast(items), "product_id", how="left_anti")
    row = unknown.agg(F.count(F.lit(1)).alias("n"), F.countDistinct("product_id").alias("products")).first()
    return {"events_of_unknown_products": row["n"], "unknown_products": row["products"]} if row else {}


def fit_model(
    catalogue: Catalogue,
    near: TextNeighbours,
    timelines: DataFrame,
    as_of: datetime,
    event_types: Mapping[str, EventType],
    settings: Recommending,
    *,
    backtest: bool = False,
) -> Fitted:
    """Fit everything that lists are made from, on the events before `as_of` and nothing else.

    Parameters
    ----------
    catalogue
        The products.
    near
        Nearest texts, of `no_neighbours` or `catalogue_neighbours`.
    timelines
        Result of `timelines.timelines` for the catalogue's `item_numbers`, persisted: it is gone over several times.
    as_of
        Only events strictly before this moment (UTC) are used.
    event_types, settings
        Of the profile.
    backtest
        Whether `as_of` lies before the catalogue's own date. Then stock as known today is ignored, and products not
        yet sold at `as_of` are masked: today's catalogue may hold them only because of what came later.
    """
    n_items = len(catalogue.product_ids)
    bought = type_names(event_types).index(buying := purchase_type(event_types))
    histories = user_histories(timelines, event_types, as_of).persist()
    popularity = item_popularity(timelines, bought, as_of, settings.popular_half_life_days, n_items)
    rank = popularity_rank(popularity["total"].to_numpy(), popularity["usual"].to_numpy())
    allowed = popularity["total"].to_numpy() > 0 if backtest else catalogue.on_sale
    strengths, recent = training_matrices(histories, anonymous_baskets(timelines, event_types, as_of), n_items)
    baskets = collect_baskets(timelines, bought, as_of, n_items, MAX_BASKET_PAIRS)
    half_life = event_types[buying].half_life_days if buying in event_types else 1.0
    related = fit_relations(strengths, recent, baskets, half_life, settings)
    log_prices = np.log(np.where(catalogue.prices > 0, catalogue.prices, np.nan))
    features = item_features(popularity, catalogue.clusters, log_prices)
    evidence = Evidence(
        co_purchase_recent=related.co_purchase_recent,
        item_knn=related.item_knn,
        same_order=related.same_order,
        next_order=related.next_order,
        als=related.als,
        als_recent=related.als_recent,
        clusters=catalogue.clusters,
        shelves=catalogue.shelves,
        features=features,
        log_prices=log_prices,
        leaders=store_leaders(features, rank),
    )
    items = ItemModel(
        product_ids=catalogue.product_ids,
        texts=catalogue.texts,
        allowed=allowed,
        popular=popular_scores(popularity["recent"].to_numpy()),
        trending=trending_scores(popularity["trend"].to_numpy(), popularity["usual"].to_numpy()),
        rank=rank,
        co_purchase=related.co_purchase.weights,
        content=content_relations(catalogue.texts, allowed, rank, near.neighbours, near.cosines, CONTENT_NEIGHBOURS),
    )
    return Fitted(items, related.co_purchase.method, related.item_knn, strengths, popularity, histories, evidence)


@dataclass(frozen=True)
class Relations:
    """What goes with what, see `Fitted` and `features.Evidence`."""

    co_purchase: co_purchase.CoPurchase
    co_purchase_recent: sp.csr_array
    item_knn: sp.csr_array
    same_order: sp.csr_array
    next_order: sp.csr_array
    als: Als
    als_recent: Als


def fit_relations(
    strengths: sp.csr_array, recent: sp.csr_array, baskets: Baskets, half_life_days: float, settings: Recommending
) -> Relations:
    """Fit every relation between products.

    Parameters
    ----------
    strengths, recent
        Result of `training_matrices`.
    baskets
        Result of `baskets.collect_baskets`.
    half_life_days
        Of orders.
    settings
        Of the profile.
    """

    small = len(co_purchase.active_items(strengths)) <= settings.ease_max_items

    def fit(matrix: sp.csr_array, l2: float) -> co_purchase.CoPurchase:
        return co_purchase.fit(
            matrix,
            ease_max_items=settings.ease_max_items,
            l2=l2,
            shrinkage=KNN_SHRINKAGE,
            n_neighbours=EASE_NEIGHBOURS if small else KNN_NEIGHBOURS,
        )

    def fit_knn() -> co_purchase.CoPurchase:
        return co_purchase.fit(
            strengths,
            method="item_knn",
            ease_max_items=0,
            l2=0.0,
            shrinkage=KNN_SHRINKAGE,
            n_neighbours=KNN_NEIGHBOURS,
        )

    # EASE^R keeps all cores busy by itself, and two inverses at once would take twice the memory; sparse products use
    # one core each, and leave Python's lock alone.
    with ThreadPoolExecutor(max_workers=1 if small else 2) as pool:
        knn = pool.submit(fit_knn)
        lately = pool.submit(fit, recent, settings.ease_l2 / 2)
        same_order = pool.submit(fit, faded(baskets, half_life_days), settings.ease_l2)
        following = pool.submit(next_order, baskets, half_life_days, KNN_NEIGHBOURS)
        # Beyond EASE^R's size the store's co-purchase model is that very item-kNN.
        store = pool.submit(fit, strengths, settings.ease_l2) if small else knn
    return Relations(
        co_purchase=store.result(),
        co_purchase_recent=lately.result().weights,
        item_knn=knn.result().weights,
        same_order=same_order.result().weights,
        next_order=following.result(),
        # Not in the pool: they use all cores, and keep BLAS to one thread meanwhile, which holds for the whole process.
        als=Als.fit(strengths),
        als_recent=Als.fit(recent),
    )


def training_matrices(
    histories: DataFrame, baskets: DataFrame, n_items: int, max_pairs: int = MAX_TRAINING_PAIRS
) -> tuple[sp.csr_array, sp.csr_array]:
    """Bring the strengths, and those that fade fast, to the driver: sparse (n_users + n_baskets, n_items) float64.

    At most about `max_pairs` entries: above, a share of the rows is taken by a hash of their id, which is enough for
    item-item statistics and the same in every run.

    Parameters
    ----------
    histories
        Result of `interactions.user_histories`; users without products are left out.
    baskets
        Result of `interactions.anonymous_baskets`: each counts like a user of its own.
    n_items
        Number of columns.
    max_pairs
        Entries before sampling.
    """
    customers = histories.filter(F.size("items") > 0)
    arrays = ["items", "strengths", "recent"]
    known = customers.select(F.lit(0).alias("kind"), F.col("user_id").alias("id"), *arrays)
    rows = known.unionByName(baskets.select(F.lit(1).alias("kind"), F.col("order_id").alias("id"), *arrays))
    n_pairs = rows.agg(F.sum(F.size("items"))).first()[0] or 0  # type: ignore[index]
    if n_pairs > max_pairs:
        share = int(max_pairs / n_pairs * 10_000)
        rows = rows.filter(F.pmod(F.xxhash64("id"), F.lit(10_000)) < share)
    # In the order of ids: sums of floats, and so the last digits of weights, depend on the order of rows.
    table = rows.toPandas().sort_values(["kind", "id"])
    if table.empty:
        return sp.csr_array((0, n_items), dtype=np.float64), sp.csr_array((0, n_items), dtype=np.float64)
    indptr = np.concatenate([[0], np.cumsum(table["items"].map(len).to_numpy())])
    items, strengths, recent = (np.concatenate(table[name].tolist()) for name in arrays)
    shape = (len(table), n_items)
    # Arrays of its own for each: what sorts or clips one must not change the other.
    return (
        sp.csr_array((strengths.astype(np.float64), items, indptr), shape=shape),
        sp.csr_array((recent.astype(np.float64), items.copy(), indptr.copy()), shape=shape),
    )
