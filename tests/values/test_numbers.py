"""Quantities and other numbers without a currency."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from shelfkin.values.numbers import amount, parse_number
from values.reading import raw_texts, read

pytestmark = pytest.mark.spark

NUMBERS = {
    "2": 2.0,
    "2.0": 2.0,
    "-1": -1.0,
    "+3": 3.0,
    "1,000": 1000.0,
    "1.250,00": 1250.0,
    "1 250,5": 1250.5,
    "1'000": 1000.0,
    "0,5": 0.5,
    "1,23,456": 123456.0,
    "1.5E3": 1500.0,
    "2e-1": 0.2,
    "٣": 3.0,
    "٢٫٥": 2.5,
    "−4": -4.0,
    "two": None,
    "1-2": None,
    "": None,
    "1e999": None,
}


def test_numbers_as_people_write_them(spark: SparkSession) -> None:
    assert read(spark, list(NUMBERS), parse_number) == NUMBERS


def test_the_profile_knows_the_decimal_mark(spark: SparkSession) -> None:
    texts = ["1,299", "1.299", "12", "1.2E7"]
    assert list(read(spark, texts, lambda text: parse_number(text, ",")).values()) == [1.299, 1299.0, 12.0, 12000000.0]
    assert list(read(spark, texts, lambda text: parse_number(text, ".")).values()) == [1299.0, 1.299, 12.0, 12000000.0]


def test_what_was_paid_in_any_currency(spark: SparkSession) -> None:
    raw = raw_texts(spark, ["3.50", "£3.50", "3,50 €", "-3.50", "-£3.50", "gift"])
    rows = raw.frame.orderBy("i").select(amount(raw, "x").alias("paid")).collect()
    assert [row["paid"] for row in rows] == [3.5, 3.5, 3.5, -3.5, None, None]


@settings(max_examples=3, deadline=None)
@given(st.lists(st.integers(-99_999_999, 99_999_999), min_size=60, max_size=60, unique=True))
def test_every_way_to_write_a_number_reads_back(spark: SparkSession, cents: list[int]) -> None:
    written = {}
    for each in cents:
        english = f"{each / 100:,.2f}"
        german = english.translate(str.maketrans(",.", ".,"))
        for text in (english, german, english.replace(",", "'"), german.replace(".", "\u202f")):
            written[text] = each / 100
    assert read(spark, list(written), parse_number) == pytest.approx(written)
