"""How much of a cluster its name tells: the share of its products whose texts hold a part of the name.

A cluster of all sorts has a name that few of its products carry, and so has one whose content drifted since it was
named; this figure tells them from the others. It says nothing of a chat model's synonyms: "Dairy" for milk.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - the name every PySpark reader knows

from shelfkin.clustering import words
from shelfkin.clustering.spelling import Spellings

_COUNT_SCHEMA = "cluster_id int, n bigint, n_named bigint"


def name_shares(products: DataFrame, names: Mapping[int, str], spelt: Spellings) -> dict[int, float]:
    """Return, for each cluster, the share of its products that carry its name, in [0, 1].

    A product does if its title and category path hold all words of one part of the name, plurals folded.

    Parameters
    ----------
    products
        Columns cluster_id, title and category_path (array<string>, may be null), one row per product.
    names
        Name of each cluster.
    spelt
        By cluster, the full forms of abbreviations.
    """
    wanted = {cluster: name_parts(name) for cluster, name in names.items()}
    shared = products.sparkSession.sparkContext.broadcast((wanted, spelt))

    def count_batches(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield _count_batch(batch, *shared.value)

    texts = products.groupBy("cluster_id", "title", "category_path").agg(F.count("*").alias("n"))
    counts = texts.mapInArrow(count_batches, _COUNT_SCHEMA).groupBy("cluster_id")
    rows = counts.agg(F.sum("n").alias("n"), F.sum("n_named").alias("n_named")).collect()
    return {row["cluster_id"]: row["n_named"] / row["n"] for row in rows}


def name_parts(name: str) -> list[set[str]]:
    """Return the folded words of each part: "Dog & Cat Foods" is for what says dog, or cat and food."""
    return [words.folded_words(part) for part in re.split(r", | & ", name)]


def _count_batch(batch: pa.RecordBatch, wanted: Mapping[int, list[set[str]]], spelt: Spellings) -> pa.RecordBatch:
    counts: dict[int, list[int]] = {}
    columns = (batch.column(name).to_pylist() for name in ("cluster_id", "title", "category_path", "n"))
    for cluster, title, category_path, n in zip(*columns, strict=True):
        held = words.folded_words(title, category_path, spelt.get(cluster))
        row = counts.setdefault(cluster, [0, 0])
        row[0] += n
        row[1] += n * any(part and part <= held for part in wanted.get(cluster, ()))
    return pa.RecordBatch.from_pydict(
        {
            "cluster_id": pa.array(counts, type=pa.int32()),
            "n": pa.array([n for n, _ in counts.values()], type=pa.int64()),
            "n_named": pa.array([n_named for _, n_named in counts.values()], type=pa.int64()),
        }
    )
