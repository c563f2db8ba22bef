"""What a till's abbreviations stand for, from the catalogue's own words: drnk is drinks where "soft drinks" are sold.

A word without vowels, or with syllables left out, is spelt out as a word with the same consonants in the same order
(`words.is_short_for`): the one that its own cluster uses most, else, for abbreviations of `MIN_LETTERS_ELSEWHERE`
letters or more, the one that the whole catalogue does. So no dictionary is needed, and a shop that doesn't abbreviate
has nothing spelt out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - the name every PySpark reader knows

from shelfkin.clustering import words
from shelfkin.spark import persisted

# By cluster: what a short word stands for.
Spellings = dict[int, dict[str, str]]

# A rarer abbreviation can't make a name; leaving it out keeps what the driver gets small.
MIN_SHARE = 0.02
# Three consonants fit too many words of a catalogue: cnt is count, cent and coconut.
MIN_LETTERS_ELSEWHERE = 4
# Rarer than so, beside the short form, a longer one is a slip of the pen: galass for glass.
MIN_SHARE_OF_SHORT = 0.05

_WORD_SCHEMA = "cluster_id int, word string, skeleton string, n bigint"


def find_spellings(texts: DataFrame) -> Spellings:
    """Return, for each cluster, the full forms of its abbreviations.

    Parameters
    ----------
    texts
        Columns cluster_id, title, category_path and n, the number of products of this text.
    """
    sizes = texts.groupBy("cluster_id").agg(F.sum("n").alias("size"))
    vocabulary = (
        texts.mapInArrow(_words_of_batches, _WORD_SCHEMA)
        .groupBy("cluster_id", "word", "skeleton")
        .agg(F.sum("n").alias("n"))
    )
    with persisted(vocabulary):
        rows = _longer_forms(vocabulary, sizes).collect()
    return choose(row.asDict() for row in rows)


def _longer_forms(vocabulary: DataFrame, sizes: DataFrame) -> DataFrame:
    """Return every pair of a cluster's frequent word and a longer one of the same skeleton, see `choose`."""
    short = (
        vocabulary.join(F.broadcast(sizes), "cluster_id", "inner")
        .where(F.col("n") >= MIN_SHARE * F.col("size"))
        .select("cluster_id", "skeleton", F.col("word").alias("short"), F.col("n").alias("n_short"))
    )
    full = vocabulary.select("skeleton", "word", "n", F.col("cluster_id").alias("in_cluster"))
    here = F.when(F.col("in_cluster") == F.col("cluster_id"), F.col("n")).otherwise(0)
    return (
        full.join(F.broadcast(short), "skeleton", "inner")
        .where(F.length("word") > F.length("short"))
        .groupBy("cluster_id", "short", "n_short", "word")
        .agg(F.sum(here).alias("n_here"), F.sum("n").alias("n_all"))
    )


def choose(rows: Iterable[Mapping[str, Any]]) -> Spellings:
    """Return the best full form of each short word.

    Parameters
    ----------
    rows
        For each pair of words with the same consonants: cluster_id, short, n_short (products of the cluster that carry
        the short word), word, n_here and n_all (products of the cluster, and of all, that carry the longer one).
    """
    here: dict[tuple[int, str], dict[str, int]] = {}
    elsewhere: dict[tuple[int, str], dict[str, int]] = {}
    for row in rows:
        short, word = row["short"], row["word"]
        if short in words.NAMELESS or not words.is_short_for(short, word):
            continue
        if row["n_here"] >= MIN_SHARE_OF_SHORT * row["n_short"]:
            here.setdefault((row["cluster_id"], short), {})[word] = row["n_all"]
        elif words.is_consonants(short) and len(short) >= MIN_LETTERS_ELSEWHERE:
            elsewhere.setdefault((row["cluster_id"], short), {})[word] = row["n_all"]
    spelt: Spellings = {}
    for (cluster, short), candidates in sorted({**elsewhere, **here}.items()):
        spelt.setdefault(cluster, {})[short] = _best(short, candidates)
    return spelt


def _best(short: str, candidates: Mapping[str, int]) -> str:
    """Return the candidate that the catalogue uses most: the plural of the word where the short form is a plural."""
    whole = [word for word in candidates if not _is_short_itself(word, candidates)]
    uses: Counter[str] = Counter()
    for word in whole:
        uses[words.fold(word)] += candidates[word]
    best = max(uses, key=lambda folded: (uses[folded], folded))
    forms = [word for word in whole if words.fold(word) == best]
    return max(forms, key=lambda word: (words.is_plural(word) == words.is_plural(short), candidates[word], word))


def _is_short_itself(word: str, candidates: Mapping[str, int]) -> bool:
    """Whether a candidate is an abbreviation of another one: mnrl isn't mneral, but mineral."""
    least = MIN_SHARE_OF_SHORT * candidates[word]
    return any(words.is_short_for(word, other) and uses >= least for other, uses in candidates.items())


def _words_of_batches(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        yield _words_of_batch(batch)


def _words_of_batch(batch: pa.RecordBatch) -> pa.RecordBatch:
    counts: dict[tuple[int, str], int] = {}
    columns = (batch.column(name).to_pylist() for name in ("cluster_id", "title", "category_path", "n"))
    for cluster, title, category_path, n in zip(*columns, strict=True):
        for word in words.plain_words(title, category_path):
            counts[cluster, word] = counts.get((cluster, word), 0) + n
    rows = [(cluster, word, words.skeleton(words.fold(word)), n) for (cluster, word), n in counts.items()]
    names = ("cluster_id", "word", "skeleton", "n")
    types = (pa.int32(), pa.string(), pa.string(), pa.int64())
    columns_out = zip(*rows, strict=True) if rows else [()] * len(names)
    arrays = [pa.array(column, type=kind) for column, kind in zip(columns_out, types, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, names=list(names))
