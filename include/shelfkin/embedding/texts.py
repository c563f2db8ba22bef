"""Which texts a run needs, which of them have no vector yet, and a product's vector from its parts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd
import pyarrow.parquet as pq
from pyspark.sql import Column, DataFrame, Observation, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the name every PySpark reader knows

from shelfkin.artifacts import Root
from shelfkin.embedding.packing import Text
from shelfkin.embedding.splitting import split_text
from shelfkin.embedding.tokens import Counter, counter_of
from shelfkin.embedding.vector_store import SHARD_DDL, Generation, Shard, VectorStore

# A few requests of texts in memory at a time.
_ROWS_READ = 8192
_PARTS_DDL = (
    "text_hash string, n_products bigint, part int, n_parts int, n_tokens bigint, sent_hash string, text string"
)
_PARTS_COLUMNS = [column.split()[0] for column in _PARTS_DDL.split(", ")]


def distinct_parts(products: DataFrame, kind: str, model: str, max_tokens: int) -> DataFrame:
    """Return the distinct embedding texts as they are sent: whole, or in parts where they exceed the model's limit.

    Parameters
    ----------
    products
        Columns text_hash, embedding_text.
    kind, model
        Of the provider; they say how tokens are counted.
    max_tokens
        Tokens that the model takes in one input.

    Returns
    -------
    DataFrame
        text_hash, n_products, part (from 0), n_parts, n_tokens (of the part), sent_hash (sha256 hex of what is sent:
        the vector store's key), text.
    """
    distinct = products.groupBy("text_hash").agg(
        F.min("embedding_text").alias("text"), F.count("*").alias("n_products")
    )

    def split(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        count = counter_of(kind, model)
        for frame in frames:
            rows = zip(frame["text_hash"], frame["n_products"], frame["text"], count(list(frame["text"])), strict=True)
            parts = [part for row in rows for part in _parts(*row, max_tokens, count)]
            yield pd.DataFrame(parts, columns=_PARTS_COLUMNS)

    return distinct.select("text_hash", "n_products", "text").mapInPandas(split, _PARTS_DDL)


def _parts(
    text_hash: str, n_products: int, text: str, n_tokens: int, max_tokens: int, count: Counter
) -> Iterator[tuple[str, int, int, int, int, str, str]]:
    """Yield the rows of one text in the order of `_PARTS_COLUMNS`."""
    if n_tokens <= max_tokens:
        yield text_hash, n_products, 0, 1, n_tokens, text_hash, text
        return
    parts = split_text(text, max_tokens, count)
    for number, (part, size) in enumerate(zip(parts, count(parts), strict=True)):
        key = hashlib.sha256(part.encode()).hexdigest()
        yield text_hash, n_products, number, len(parts), size, key, part


@dataclass(frozen=True)
class TextCounts:
    """Distinct texts of a run, how many of them were split; the distinct texts as sent, and their tokens."""

    distinct: int
    split: int
    sent: int
    tokens: int


def count_texts(parts: DataFrame) -> TextCounts:
    """Count the distinct texts of `distinct_parts`."""
    first = F.col("part") == 0
    texts = parts.agg(
        F.count_if(first).alias("n"), F.count_if(first & (F.col("n_parts") > 1)).alias("split")
    ).collect()[0]
    sent = parts.groupBy("sent_hash").agg(F.min("n_tokens").alias("n_tokens"))
    row = sent.agg(F.count("*").alias("n"), F.coalesce(F.sum("n_tokens"), F.lit(0)).alias("tokens")).collect()[0]
    return TextCounts(int(texts["n"]), int(texts["split"]), int(row["n"]), int(row["tokens"]))


def stored_vectors(session: SparkSession, store: VectorStore, generation: Generation) -> DataFrame:
    """Return the rows of a generation: text_hash, vector, refused. Runs that raced may have stored a text twice."""
    if not generation.shards:
        return session.createDataFrame([], SHARD_DDL)
    return read_shards(session, store, generation.shards)


def read_shards(session: SparkSession, store: VectorStore, shards: Sequence[Shard]) -> DataFrame:
    """Return the rows of some shards: text_hash, vector, refused."""
    # Flipped bits must be an error, not a vector.
    reader = session.read.schema(SHARD_DDL).option("parquet.page.verify-checksum.enabled", "true")
    return reader.parquet(*(store.join(shard.path) for shard in shards))


def missing_texts(parts: DataFrame, stored: DataFrame, *, retry_refused: bool) -> DataFrame:
    """Return text_hash, text and n_tokens of what has no row yet, each distinct text as sent once.

    Parameters
    ----------
    parts
        Result of `distinct_parts`.
    stored
        Result of `stored_vectors`.
    retry_refused
        Whether texts that the server once refused count as missing.
    """
    known = stored.filter(F.col("vector").isNotNull()) if retry_refused else stored
    return (
        parts.join(known.select(F.col("text_hash").alias("sent_hash")).distinct(), on="sent_hash", how="left_anti")
        .groupBy(F.col("sent_hash").alias("text_hash"))
        .agg(F.min("text").alias("text"), F.min("n_tokens").alias("n_tokens"))
    )


@dataclass(frozen=True)
class PendingTexts:
    """Texts that are about to be sent, in files that executors wrote: the driver reads them as a stream.

    Attributes
    ----------
    uri
        The folder.
    n_texts, n_tokens
        How many, and their tokens by our count.
    """

    root: Root
    uri: str
    n_texts: int
    n_tokens: int

    @classmethod
    def write(cls, missing: DataFrame, root: Root, uri: str) -> PendingTexts:
        """Write the result of `missing_texts` to a folder, in place of what is there."""
        seen = Observation()
        counts = F.count("*").alias("n"), F.coalesce(F.sum("n_tokens"), F.lit(0)).alias("tokens")
        missing.observe(seen, *counts).write.mode("overwrite").parquet(uri)
        return cls(root, uri, int(seen.get["n"]), int(seen.get["tokens"]))

    def __iter__(self) -> Iterator[Text]:
        for path in sorted(self.root.fs.glob(f"{self.uri}/*.parquet")):
            with self.root.fs.open(path, "rb") as file:
                for batch in pq.ParquetFile(file).iter_batches(_ROWS_READ):
                    columns = (batch[name].to_pylist() for name in ("text_hash", "text", "n_tokens"))
                    yield from map(Text, *columns)

    def delete(self) -> None:
        """Delete the files."""
        self.root.fs.rm(self.uri, recursive=True)


def product_vectors(parts: DataFrame, stored: DataFrame) -> DataFrame:
    """Return text_hash, n_products, vector, n_parts, sorted by text_hash; texts without a vector have no row.

    The vector of a text that was split is the mean of its parts' vectors, weighted by their tokens, at unit length
    (openai-cookbook, "Embedding texts that are longer than the model's maximum context length"). Of a text that was
    stored twice, the smaller vector is taken: any fixed choice makes the table reproducible.
    """
    found = (
        stored.filter(F.col("vector").isNotNull())
        .withColumnRenamed("text_hash", "sent_hash")
        .join(parts.select("sent_hash").distinct(), on="sent_hash", how="left_semi")
        .groupBy("sent_hash")
        .agg(F.min("vector").alias("vector"))
    )
    together = parts.join(found, on="sent_hash", how="inner")
    whole = together.filter(F.col("n_parts") == 1).select("text_hash", "n_products", "vector", "n_parts")
    gathered = (
        together.filter(F.col("n_parts") > 1)
        .groupBy("text_hash", "n_products", "n_parts")
        .agg(F.sort_array(F.collect_list(F.struct("part", "n_tokens", "vector"))).alias("pieces"))
        .filter(F.size("pieces") == F.col("n_parts"))
    )
    split = gathered.select("text_hash", "n_products", _weighted_mean("pieces").alias("vector"), "n_parts")
    return whole.unionByName(split).orderBy("text_hash")


def _weighted_mean(pieces: str) -> Column:
    """Return the sum of `vector` weighted by `n_tokens`, divided by its length; summed in the order of the parts."""
    zero = F.array_repeat(F.lit(0.0), F.size(F.col(pieces)[0]["vector"]))

    def add(total: Column, piece: Column) -> Column:
        return F.zip_with(total, piece["vector"], lambda a, b: a + b * piece["n_tokens"])

    def to_unit(total: Column) -> Column:
        length = F.sqrt(F.aggregate(total, F.lit(0.0), lambda a, b: a + b * b))
        return F.transform(total, lambda x: (x / length).cast("float"))

    return F.aggregate(F.col(pieces), zero, add, to_unit)


def refused_texts(parts: DataFrame, stored: DataFrame) -> DataFrame:
    """Return ``embedding_refused``: texts of which the server refuses a part, unless another run got its vector."""
    said = stored.filter(F.col("refused").isNotNull()).groupBy("text_hash").agg(F.max("refused").alias("detail"))
    embedded = stored.filter(F.col("vector").isNotNull()).select("text_hash")
    refused = said.join(embedded, on="text_hash", how="left_anti").withColumnRenamed("text_hash", "sent_hash")
    return (
        parts.join(refused, on="sent_hash", how="inner")
        .groupBy("text_hash", "n_products")
        .agg(F.min("detail").alias("detail"))
        .select("text_hash", "n_products", F.lit("refused_by_server").alias("reason"), "detail")
        .orderBy("text_hash")
    )
