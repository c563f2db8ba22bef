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

TERMS_PER_CLUSTER = 40

# A term on fewer than 2% of a cluster's products can't name it; leaving it out keeps the shuffle small.
MIN_SHARE = 0.02

_USES = ("n", "n_last", "n_plain", "n_leads", "n_category", "n_brand")
_TERM_SCHEMA = "cluster_id int, key string, surface string, " + ", ".join(f"{use} bigint" for use in _USES)
_SECOND_SCHEMA = "cluster_id int, kind string, first string, second string, n bigint"

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
    plain, leads, category, brand
        Of its uses in this cluster, the shares outside notes, at a title's beginning, in the category path, and in
        the product's own brand.
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
    category: float = 0.0
    brand: float = 0.0
    everywhere: float = 0.0
    together: Mapping[str, float] = field(default_factory=dict)


def collect_terms(products: DataFrame) -> dict[int, list[Term]]:
    """Return the best terms of every cluster on the driver, best first.

    Parameters
    ----------
    products
        Columns cluster_id, title, category_path (array<string>, may be null) and, where there is one, brand; one row
        per product.
    """
    texts = _distinct_texts(products)
    rows = term_scores(texts).orderBy("cluster_id", "rank").collect()
    together, full = _second_look(texts, rows)
    found: dict[int, list[Term]] = {}
    for row in rows:
        cluster, key, n = row["cluster_id"], row["key"], row["n"]
        shared = {other: count / row["size"] for other, count in together.get((cluster, key), {}).items()}
        spelt_out = full.get(cluster, {})
        term = Term(
            key=key,
            surface=" ".join(spelt_out.get(word, word) for word in row["surface"].split()),
            share=row["share"],
            score=row["score"],
            last=row["last"],
            plain=row["n_plain"] / n,
            leads=row["n_leads"] / n,
            category=row["n_category"] / n,
            brand=row["n_brand"] / n,
            everywhere=row["everywhere"],
            together=shared,
        )
        found.setdefault(cluster, []).append(term)
    return found


def _distinct_texts(products: DataFrame) -> DataFrame:
    """Return each cluster's different texts with `n`, their number of products."""
    brand = F.col("brand") if "brand" in products.columns else F.lit(None).cast("string")
    return (
        products.select("cluster_id", "title", "category_path", brand.alias("brand"))
        .groupBy("cluster_id", "title", "category_path", "brand")
        .agg(F.count("*").alias("n"))
    )


def term_scores(texts: DataFrame) -> DataFrame:
    """Return the best terms of every cluster.

    Parameters
    ----------
    texts
        Columns cluster_id, title, category_path, brand and n, the number of products of this text.

    Returns
    -------
    DataFrame
        cluster_id, rank (from 1), key, surface, size, share, everywhere, score, last, and the counts n, n_plain,
        n_leads, n_category, n_brand: at most `TERMS_PER_CLUSTER` rows per cluster.
    """
    sizes = texts.groupBy("cluster_id").agg(F.sum("n").alias("size"))
    counted = texts.mapInArrow(_count_batches, _TERM_SCHEMA)
    surfaces = counted.groupBy("cluster_id", "key", "surface").agg(*(F.sum(use).alias(use) for use in _USES))
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


def _count_batches(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        yield _count_batch(batch)


def _rows(batch: pa.RecordBatch) -> Iterator[_Text]:
    columns = ("cluster_id", "title", "category_path", "brand", "n")
    return zip(*(batch.column(name).to_pylist() for name in columns), strict=True)


def _count_batch(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Add up the terms of one batch of texts; see `_TERM_SCHEMA`."""
    counts: dict[tuple[int, str, str], list[int]] = {}
    for cluster, title, category_path, brand, n in _rows(batch):
        brand_words = {mention.key for mention in words.mentions(brand or "")}
        for mention in words.mentions(title or "", category_path):
            in_brand = mention.key in brand_words
            uses = (True, mention.last, mention.plain, mention.leads, mention.in_category, in_brand)
            row = counts.setdefault((cluster, mention.key, mention.surface), [0] * len(_USES))
            for place, used in enumerate(uses):
                row[place] += n * used
    named = [(*key, *row) for key, row in counts.items()]
    types = [pa.int32(), pa.string(), pa.string(), *[pa.int64()] * len(_USES)]
    return _batch(named, types, ["cluster_id", "key", "surface", *_USES])


def _second_look(
    texts: DataFrame, rows: Sequence[Row]
) -> tuple[dict[tuple[int, str], dict[str, int]], dict[int, dict[str, str]]]:
    """Return what only the texts know about the best terms.

    Returns
    -------
    together
        For each cluster and key, how many products carry it together with each other key of the cluster.
    full
        For each cluster, the full form of squeezed words: cleaning for cleang. Only where the cluster's own texts hold
        it, so that no dictionary is needed.
    """
    wanted: dict[int, _Wanted] = {}
    for row in rows:
        wanted.setdefault(row["cluster_id"], _Wanted()).add(row["key"], row["surface"])
    shared = texts.sparkSession.sparkContext.broadcast(wanted)

    def count_again(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield _count_again(batch, shared.value)

    found = texts.mapInArrow(count_again, _SECOND_SCHEMA).groupBy("cluster_id", "kind", "first", "second")
    together: dict[tuple[int, str], dict[str, int]] = {}
    forms: dict[tuple[int, str], list[tuple[int, str]]] = {}
    for row in found.agg(F.sum("n").alias("n")).collect():
        cluster, first, second, n = row["cluster_id"], row["first"], row["second"], row["n"]
        if row["kind"] == "form":
            forms.setdefault((cluster, first), []).append((n, second))
        else:
            together.setdefault((cluster, first), {})[second] = n
            together.setdefault((cluster, second), {})[first] = n
    full: dict[int, dict[str, str]] = {}
    for (cluster, squeezed), longer in forms.items():
        full.setdefault(cluster, {})[squeezed] = max(longer)[1]
    return together, full


@dataclass
class _Wanted:
    """What the second look counts in one cluster."""

    keys: set[str] = field(default_factory=set)
    by_skeleton: dict[str, set[str]] = field(default_factory=dict)

    def add(self, key: str, surface: str) -> None:
        self.keys.add(key)
        for word in surface.split():
            self.by_skeleton.setdefault(words.skeleton(word), set()).add(word)

    def squeezed(self, full: str) -> Iterator[str]:
        """Yield the shown words that are `full` with syllables left out."""
        for word in sorted(self.by_skeleton.get(words.skeleton(full), ())):
            if words.is_squeezed(word, full):
                yield word


def _count_again(batch: pa.RecordBatch, wanted: Mapping[int, _Wanted]) -> pa.RecordBatch:
    counts: Counter[tuple[int, str, str, str]] = Counter()
    for cluster, title, category_path, _, n in _rows(batch):
        if cluster not in wanted:
            continue
        mentioned = words.mentions(title or "", category_path)
        keys = sorted({mention.key for mention in mentioned} & wanted[cluster].keys)
        for place, first in enumerate(keys):
            for second in keys[place + 1 :]:
                counts[cluster, "pair", first, second] += n
        for mention in mentioned:
            if " " not in mention.key:
                for squeezed in wanted[cluster].squeezed(mention.surface):
                    counts[cluster, "form", squeezed, mention.surface] += n
    rows = [(*key, n) for key, n in counts.items()]
    types = [pa.int32(), pa.string(), pa.string(), pa.string(), pa.int64()]
    return _batch(rows, types, ["cluster_id", "kind", "first", "second", "n"])


def _batch(rows: Sequence[tuple[object, ...]], types: Sequence[pa.DataType], names: list[str]) -> pa.RecordBatch:
    columns = zip(*rows, strict=True) if rows else [()] * len(names)
    arrays = [pa.array(column, type=kind) for column, kind in zip(columns, types, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, names=names)
