"""Class-based TF-IDF of the words and pairs of words of every cluster, counted in Spark.

A cluster's products are taken as one document (Grootendorst, 2022, "BERTopic: Neural topic modeling with a class-based
TF-IDF procedure", eq. 2). Here the frequency of a term is the share of the cluster's products that carry it, so that a
large cluster counts no more than a small one and a word repeated in one title counts once:

    score(t, c) = share(t, c) * log(1 + 1 / sum of share(t, c') over all clusters c')

Beside the score, counts say how a term is used (`words.Mention`), and how often two terms of a cluster stand on one
product. The driver gets `TERMS_PER_CLUSTER` rows per cluster and at most so many squared of pairs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
from pyspark.sql import DataFrame, Row, Window
from pyspark.sql import functions as F  # noqa: N812 - the name every PySpark reader knows

from shelfkin.clustering import words
from shelfkin.clustering.cut_titles import without_fragments
from shelfkin.clustering.spelling import Spellings, find_spellings
from shelfkin.spark import persisted

TERMS_PER_CLUSTER = 40

# A term on fewer than 2% of a cluster's products can't name it; leaving it out keeps the shuffle small.
MIN_SHARE = 0.02

_USES = ("n", "n_last", "n_plain", "n_leads", "n_first", "n_model", "n_category", "n_brand")
_TERM_SCHEMA = "cluster_id int, key string, surface string, " + ", ".join(f"{use} bigint" for use in _USES)
_PAIR_SCHEMA = "cluster_id int, first string, second string, n bigint"

_Text = tuple[int, str, "list[str] | None", "str | None", int]


@dataclass(frozen=True)
class Term:
    """A candidate for a cluster's name. Shares are of the cluster's products, in [0, 1].

    Attributes
    ----------
    key
        Folded form, one or two words.
    surface
        The form to show: the plural where it is in use, else the most frequent one.
    share
        Share of products that carry it.
    score
        Class-based TF-IDF.
    last
        Of its uses in all clusters, the share that ends a phrase.
    plain, leads, first, model, category, brand
        Of its uses in this cluster, the shares outside notes, at a title's beginning, at the beginning of a title or a
        level of the category path, before a model's number, in the category path, and in the product's own brand.
    everywhere
        Sum of its shares over all clusters.
    together
        Share of products that carry both this term and another one, by key, where that isn't 0.
    """

    key: str
    surface: str
    share: float
    score: float
    last: float = 1.0
    plain: float = 1.0
    leads: float = 0.0
    first: float = 0.0
    model: float = 0.0
    category: float = 0.0
    brand: float = 0.0
    everywhere: float = 0.0
    together: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ClusterTerms:
    """What all clusters are about.

    Attributes
    ----------
    best
        Terms of each cluster, best first.
    spelt
        By cluster, the full forms of abbreviations.
    """

    best: dict[int, list[Term]]
    spelt: Spellings


def collect_terms(products: DataFrame) -> ClusterTerms:
    """Return the best terms of every cluster on the driver.

    Parameters
    ----------
    products
        Columns cluster_id, title, category_path (array<string>, may be null) and, where there is one, brand; one row
        per product.
    """
    with persisted(_distinct_texts(products)) as texts:
        spelt = find_spellings(texts)
        with persisted(_surfaces(texts, spelt)) as surfaces:
            sizes = texts.groupBy("cluster_id").agg(F.sum("n").alias("size"))
            rows = term_scores(surfaces, sizes).orderBy("cluster_id", "rank").collect()
        together = _count_together(texts, rows, spelt)
    found: dict[int, list[Term]] = {}
    for row in rows:
        cluster, key, n = row["cluster_id"], row["key"], row["n"]
        term = Term(
            key=key,
            surface=row["surface"],
            share=row["share"],
            score=row["score"],
            last=row["last"],
            plain=row["n_plain"] / n,
            leads=row["n_leads"] / n,
            first=row["n_first"] / n,
            model=row["n_model"] / n,
            category=row["n_category"] / n,
            brand=row["n_brand"] / n,
            everywhere=row["everywhere"],
            together={other: count / row["size"] for other, count in together.get((cluster, key), {}).items()},
        )
        found.setdefault(cluster, []).append(term)
    return ClusterTerms(found, spelt)


def _distinct_texts(products: DataFrame) -> DataFrame:
    """Return each cluster's different texts with `n`, their number of products."""
    brand = F.col("brand") if "brand" in products.columns else F.lit(None).cast("string")
    return (
        without_fragments(products)
        .select("cluster_id", "title", "category_path", brand.alias("brand"))
        .groupBy("cluster_id", "title", "category_path", "brand")
        .agg(F.count("*").alias("n"))
    )


def _surfaces(texts: DataFrame, spelt: Spellings) -> DataFrame:
    """Return how many products of each cluster use each form of each term, in which ways: see `_TERM_SCHEMA`."""
    shared = texts.sparkSession.sparkContext.broadcast(spelt)

    def count_batches(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield _count_batch(batch, shared.value)

    counted = texts.mapInArrow(count_batches, _TERM_SCHEMA)
    return counted.groupBy("cluster_id", "key", "surface").agg(*(F.sum(use).alias(use) for use in _USES))


def term_scores(surfaces: DataFrame, sizes: DataFrame) -> DataFrame:
    """Return the best terms of every cluster.

    Parameters
    ----------
    surfaces
        Result of `_surfaces`, persisted: it is read four times.
    sizes
        cluster_id and size, the number of products.

    Returns
    -------
    DataFrame
        cluster_id, rank (from 1), key, surface, size, share, everywhere, score, last, and the counts n, n_plain,
        n_leads, n_category, n_brand: at most `TERMS_PER_CLUSTER` rows per cluster.
    """
    shares = (
        _shown_forms(surfaces)
        .join(F.broadcast(sizes), "cluster_id", "inner")
        .withColumn("share", F.col("n") / F.col("size"))
        .where(F.col("share") >= MIN_SHARE)
    )
    # Rounded, so that the order in which partitions are added up can't reorder terms.
    everywhere = shares.groupBy("key").agg(
        F.round(F.sum("share"), 9).alias("everywhere"),
        (F.sum("n_last") / F.sum("n")).alias("last"),
    )
    score = F.round(F.col("share") * F.log1p(1 / F.col("everywhere")), 9)
    best_first = Window.partitionBy("cluster_id").orderBy(F.col("score").desc(), F.col("key"))
    return (
        shares.join(everywhere, "key", "inner")
        .withColumn("score", score)
        .withColumn("rank", F.row_number().over(best_first))
        .where(F.col("rank") <= TERMS_PER_CLUSTER)
        .drop("n_last")
    )


def _shown_forms(surfaces: DataFrame) -> DataFrame:
    """Add up the forms of each folded term and keep one to show, the same in all clusters.

    A plural that is in use, else the most frequent form: a sign says "Candles", though most titles say "candle".
    """
    forms = surfaces.groupBy("key", "surface").agg(F.sum("n").alias("n"))
    per_term = Window.partitionBy("key")
    is_plural = F.length("surface") > F.length("key")
    in_use = F.col("n") * 100 >= F.sum("n").over(per_term)
    preferred = per_term.orderBy((is_plural & in_use).desc(), F.col("n").desc(), F.col("surface"))
    shown = (
        forms.withColumn("place", F.row_number().over(preferred)).where(F.col("place") == 1).select("key", "surface")
    )
    totals = surfaces.groupBy("cluster_id", "key").agg(*(F.sum(use).alias(use) for use in _USES))
    return totals.join(shown, "key", "inner")


def _rows(batch: pa.RecordBatch) -> Iterator[_Text]:
    columns = ("cluster_id", "title", "category_path", "brand", "n")
    return zip(*(batch.column(name).to_pylist() for name in columns), strict=True)


def _count_batch(batch: pa.RecordBatch, spelt: Spellings) -> pa.RecordBatch:
    """Add up the terms of one batch of texts; see `_TERM_SCHEMA`."""
    counts: dict[tuple[int, str, str], list[int]] = {}
    for cluster, title, category_path, brand, n in _rows(batch):
        brand_words = {mention.key for mention in words.mentions(brand or "")}
        for mention in words.mentions(title or "", category_path, spelt.get(cluster)):
            in_brand = mention.key in brand_words
            uses = (
                True,
                mention.last,
                mention.plain,
                mention.leads,
                mention.first,
                mention.model,
                mention.in_category,
                in_brand,
            )
            row = counts.setdefault((cluster, mention.key, mention.surface), [0] * len(_USES))
            for place, used in enumerate(uses):
                row[place] += n * used
    named = [(*key, *row) for key, row in counts.items()]
    types = [pa.int32(), pa.string(), pa.string(), *[pa.int64()] * len(_USES)]
    return _batch(named, types, ["cluster_id", "key", "surface", *_USES])


def _count_together(texts: DataFrame, rows: Sequence[Row], spelt: Spellings) -> dict[tuple[int, str], dict[str, int]]:
    """Return, for each cluster and key of `rows`, how many products carry it together with each other key."""
    wanted: dict[int, set[str]] = {}
    for row in rows:
        wanted.setdefault(row["cluster_id"], set()).add(row["key"])
    shared = texts.sparkSession.sparkContext.broadcast((wanted, spelt))

    def count_pairs(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield _count_pairs(batch, *shared.value)

    found = texts.mapInArrow(count_pairs, _PAIR_SCHEMA).groupBy("cluster_id", "first", "second")
    together: dict[tuple[int, str], dict[str, int]] = {}
    for row in found.agg(F.sum("n").alias("n")).collect():
        cluster, first, second, n = row["cluster_id"], row["first"], row["second"], row["n"]
        together.setdefault((cluster, first), {})[second] = n
        together.setdefault((cluster, second), {})[first] = n
    return together


def _count_pairs(batch: pa.RecordBatch, wanted: Mapping[int, set[str]], spelt: Spellings) -> pa.RecordBatch:
    counts: Counter[tuple[int, str, str]] = Counter()
    for cluster, title, category_path, _, n in _rows(batch):
        if cluster not in wanted:
            continue
        mentioned = {mention.key for mention in words.mentions(title or "", category_path, spelt.get(cluster))}
        keys = sorted(mentioned & wanted[cluster])
        for place, first in enumerate(keys):
            for second in keys[place + 1 :]:
                counts[cluster, first, second] += n
    rows = [(*key, n) for key, n in counts.items()]
    types = [pa.int32(), pa.string(), pa.string(), pa.int64()]
    return _batch(rows, types, ["cluster_id", "first", "second", "n"])


def _batch(rows: Sequence[tuple[object, ...]], types: Sequence[pa.DataType], names: list[str]) -> pa.RecordBatch:
    columns = zip(*rows, strict=True) if rows else [()] * len(names)
    arrays = [pa.array(column, type=kind) for column, kind in zip(columns, types, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, names=names)
