"""Read texts by a column expression, in one go."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F  # noqa: N812
from pyspark.sql import types as T  # noqa: N812

from shelfkin.sources import RawTable

READ = T.StructType([T.StructField("i", T.IntegerType()), T.StructField("text:x", T.StringType())])


def raw_texts(spark: SparkSession, texts: Iterable[str | None]) -> RawTable:
    """Return a raw table with the texts as its column x."""
    frame = spark.createDataFrame(list(enumerate(texts)), READ)
    return RawTable(frame.withColumn("raw", F.struct(F.col("`text:x`").alias("x"))), "here")


def read(spark: SparkSession, texts: list[str], expression: Callable[[Column], Column]) -> dict[str, Any]:
    """Return what an expression makes of each text."""
    frame = raw_texts(spark, texts).frame
    rows = frame.select(F.col("`text:x`"), expression(F.col("`text:x`")).alias("read")).collect()
    return {row["text:x"]: row["read"] for row in rows}
