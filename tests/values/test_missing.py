"""Words that stand for no value."""

from __future__ import annotations

import pytest
from pyspark.sql import SparkSession

from shelfkin.values.missing import blanked, brandless_words, missing_words
from values.reading import raw_texts

pytestmark = pytest.mark.spark

GONE = [
    "NULL",
    "null",
    "Null",
    "\\N",
    "NaN",
    "nan",
    "N/A",
    "n/a",
    "#N/A",
    "None",
    "none",
    "NONE",
    "-",
    "—",
    "(null)",
    "#REF!",
    "NA",
]
KEPT = ["Null modem cable", "null42", "Nana", "Nan Goldin", "N", "0", "none of it", "A-", "NAN-1"]


def kept(spark: SparkSession, texts: list[str], own: list[str] | None) -> list[str]:
    frame = blanked(raw_texts(spark, texts).frame, missing_words(own))
    return [row[0] for row in frame.orderBy("i").select("`text:x`").collect() if row[0] is not None]


def test_only_whole_texts_are_missing(spark: SparkSession) -> None:
    assert kept(spark, [*GONE, *KEPT], None) == KEPT


def test_the_profile_has_its_own_words(spark: SparkSession) -> None:
    assert kept(spark, ["NULL", "leer", "Leer", "-"], ["leer"]) == ["NULL", "-"]
    assert kept(spark, ["NULL", "-"], []) == ["NULL", "-"]


def test_placeholder_brands() -> None:
    assert {"no brand", "No Brand", "GENERIC", "Unbranded"} <= set(brandless_words(None))
    assert set(brandless_words(["Acme"])) == {"Acme", "acme", "ACME"}
