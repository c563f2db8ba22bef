"""The values that catalogue and events share."""

from __future__ import annotations

import json
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession
from pyspark.sql import functions as F  # noqa: N812

from shelfkin import sources
from shelfkin.catalog.written_values import parse_currency, parse_price
from shelfkin.profile import IdRule, Source, Sourced

pytestmark = pytest.mark.spark


def read(spark: SparkSession, source: Source, wanted: dict[str, str]) -> sources.RawTable:
    return sources.read_rows(spark, Sourced(source=source), "events", wanted, str, date(2024, 1, 1))


def one_column(spark: SparkSession, values: list[str | None]) -> Any:
    return spark.createDataFrame([(i, value) for i, value in enumerate(values)], "i int, written string")


PRICES = {
    "$1,299.00": 1299.0,
    "1.299,00 €": 1299.0,
    "1.299 €": 1299.0,
    "1.299": 1.299,  # without a currency sign a machine wrote it
    "1,299": 1299.0,
    "EUR 1\u00a0299,00": 1299.0,
    "1 299,00": 1299.0,
    "1'299.-": 1299.0,
    "CHF 1’299.50": 1299.5,
    "12,5": 12.5,
    "0,999": 0.999,
    "£3.49": 3.49,
    "3.49GBP": 3.49,
    "kr 49,-": 49.0,
    "₹1,29,999.00": 129999.0,
    "1.234.567": 1234567.0,
    "free": 0.0,
    "-5.00": None,
    "-$ 5": None,
    "on request": None,
    "12-15": None,
    "NaN": None,
    "Infinity": None,
    "1e400": None,
    "9" * 400: None,
}


def test_prices_as_people_write_them(spark: SparkSession) -> None:
    rows = one_column(spark, list(PRICES)).select("written", parse_price(F.col("written")).alias("price")).collect()
    assert {row["written"]: row["price"] for row in rows} == PRICES


def test_decimal_mark_of_the_profile_ends_guessing(spark: SparkSession) -> None:
    frame = one_column(spark, ["1,299", "1.299", "12"])
    comma = [row[0] for row in frame.orderBy("i").select(parse_price(F.col("written"), ",")).collect()]
    dot = [row[0] for row in frame.orderBy("i").select(parse_price(F.col("written"), ".")).collect()]
    assert (comma, dot) == ([1.299, 1299.0, 12.0], [1299.0, 1.299, 12.0])


@settings(max_examples=3, deadline=None)
@given(st.lists(st.integers(0, 99_999_999), min_size=60, max_size=60))
def test_every_way_to_write_an_amount_reads_back(spark: SparkSession, cents: list[int]) -> None:
    written, expected = [], []
    for amount in cents:
        english = f"{amount / 100:,.2f}"
        german = english.translate(str.maketrans(",.", ".,"))
        french = english.replace(",", "\u202f").replace(".", ",")
        swiss = english.replace(",", "'")
        for text in (f"${english}", english, f"{german} €", german, f"{french}\u00a0€", f"CHF {swiss}"):
            written.append(text)
            expected.append(amount / 100)
    rows = one_column(spark, written).orderBy("i").select(parse_price(F.col("written"))).collect()
    assert [row[0] for row in rows] == pytest.approx(expected)


def test_currency_by_code_sign_or_profile(spark: SparkSession) -> None:
    expected = {"US$ 5": "USD", "5 €": "EUR", "£5": "GBP", "CAD 5": "CAD", "5": "SEK", "$5": "SEK", "5 chf": "CHF"}
    rows = one_column(spark, list(expected)).select("written", parse_currency(F.col("written"), "SEK").alias("c"))
    assert {row["written"]: row["c"] for row in rows.collect()} == expected


def test_ids_are_normalised_and_checked(spark: SparkSession) -> None:
    rule = IdRule(pattern=r"\d{5}.*", case="upper", strip_suffix=".0")
    frame = one_column(spark, ["17850.0", "85123a", "POST", ".0"]).withColumnRenamed("written", "text:x")
    found = sources.normalised_id("x", rule)
    rows = frame.orderBy("i").select(found.alias("id"), sources.breaks_pattern(found, rule).alias("broken")).collect()
    assert [tuple(row) for row in rows] == [
        ("17850", False),
        ("85123A", False),
        ("POST", True),
        (None, None),
    ]


def test_times_with_and_without_a_zone(spark: SparkSession, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(
        "i,t\n1,2011-07-01 10:00:00\n2,2011-12-01T10:00:00\n3,2011-07-01T10:00:00+02:00\n4,2011-07-01 10:00:00Z\n"
        "5,12:30\n6,2011\n7,2011-02-30\n8,2011-07-01\n",
        encoding="utf-8",
    )
    table = sources.read_rows(
        spark, Sourced(source=Source(path=str(path))), "events", {"a": "i", "b": "t"}, str, date(2024, 1, 1)
    )
    at = F.date_format(sources.timestamp(table, "t", None, "Europe/London"), "yyyy-MM-dd HH:mm").alias("at")
    rows = [row["at"] for row in table.frame.select("text:i", at).orderBy("`text:i`").collect()]
    summer = "2011-07-01 09:00"  # British summer time is one hour ahead of UTC
    assert rows == [
        summer,
        "2011-12-01 10:00",
        "2011-07-01 08:00",
        "2011-07-01 10:00",
        None,
        None,
        None,
        "2011-06-30 23:00",
    ]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_seconds_and_milliseconds_in_text_files(spark: SparkSession, tmp_path: Path, kind: str) -> None:
    expected = {
        "1322733600": "2011-12-01 10:00",
        "1322733600000": "2011-12-01 10:00",
        "999999999": "2001-09-09 01:46",
        "20111201": None,  # a compact date
        "20111201100000": None,
        "2011-12-01": "2011-11-30 23:00",
    }
    path = tmp_path / f"t.{kind}"
    numbers = {written: written if "-" not in written else json.dumps(written) for written in expected}
    lines = ["t", *expected] if kind == "csv" else [f'{{"t": {number}}}' for number in numbers.values()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    source = Source(path=str(path), format=kind)
    table = read(spark, source, {"a": "t"})
    at = F.date_format(sources.timestamp(table, "t", None, "Europe/Berlin"), "yyyy-MM-dd HH:mm").alias("at")
    assert {row["text:t"]: row["at"] for row in table.frame.select("text:t", at).collect()} == expected
    # A pattern says what a number means.
    by_day = F.date_format(sources.timestamp(table, "t", "yyyyMMdd", "UTC"), "yyyy-MM-dd").alias("day")
    days = {row["text:t"]: row["day"] for row in table.frame.select("text:t", by_day).collect()}
    assert (days["20111201"], days["1322733600"]) == ("2011-12-01", None)


def test_times_of_typed_columns(spark: SparkSession, tmp_path: Path) -> None:
    frame = spark.createDataFrame([(1322733600, 1322733600000, "x")], "s bigint, ms bigint, x string")
    frame = frame.withColumn("ntz", F.lit(datetime(2011, 7, 1, 10)).cast("timestamp_ntz"))
    path = str(tmp_path / "t.parquet")
    frame.write.parquet(path)
    wanted = {name: name for name in ("s", "ms", "ntz")}
    table = sources.read_rows(
        spark, Sourced(source=Source(path=path, format="parquet")), "events", wanted, str, date(2024, 1, 1)
    )
    columns = [
        F.date_format(sources.timestamp(table, name, None, "Europe/London"), "yyyy-MM-dd HH:mm") for name in wanted
    ]
    row = table.frame.select(*columns).head()
    assert row is not None
    assert list(row) == ["2011-12-01 10:00", "2011-12-01 10:00", "2011-07-01 09:00"]
