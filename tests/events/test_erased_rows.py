"""Runs leave out the rows of customers who were erased, and withhold lines that nobody can take apart."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F  # noqa: N812

from shelfkin.erased_users import ErasedUsers, normalised
from shelfkin.events.erased_rows import without_erased
from shelfkin.profile import Events, IdRule, Source
from shelfkin.sources import raw_json, read_rows
from shelfkin.values.ids import normalised_id

pytestmark = pytest.mark.spark

# The shop writes one customer in many ways; the others only look alike.
THEIRS = ["17850", "17850.0", " 17850", '="17850"']
OTHERS = ["178500", "1785", ""]


def test_a_customers_rows_are_left_out_and_counted(spark: SparkSession, tmp_path: Path) -> None:
    path = tmp_path / "e.csv"
    lines = [f"{number},'{who}'" for number, who in enumerate([*THEIRS, *OTHERS])]
    path.write_text("sku,who\n" + "\n".join([*lines, "9,17850,too,many"]) + "\n")
    source = Source(path=str(path), quote="'")
    events = Events.model_validate(
        {"source": source, "fields": {"user_id": "who", "product_id": "sku", "occurred_at": "sku"}}
    )
    wanted = {"events.fields.user_id": "who", "events.fields.product_id": "sku"}
    raw = read_rows(spark, events, "events", wanted, str, date(2024, 1, 1))
    assert without_erased(raw, events, ErasedUsers()) is raw
    erased = ErasedUsers("salt", rule=events.user_id).only("17850")
    left = without_erased(raw, events, erased)
    rows = left.frame.select("text:sku", "text:who", raw_json().alias("raw")).collect()
    assert left.findings()["n_rows_erased"] == len(THEIRS)
    assert [row["text:who"] for row in rows] == ["178500", "1785", None, None]
    assert "17850," not in str(rows) and "withheld" in rows[-1]["raw"] and rows[-1]["text:sku"] is None


def test_python_writes_ids_as_spark_does(spark: SparkSession) -> None:
    rule = IdRule(strip_suffix="-X", case="upper")
    written = [
        *THEIRS,
        "a\u200bb-X",
        "  c\u00a0d ",
        "'007",
        "1.785E4",
        "1E5",
        "1e+05",
        "0.50",
        "e\u0301t\u00e9",
        "-5.00",
    ]
    rows = spark.createDataFrame([(one,) for one in written], "written string")
    found = rows.select(normalised_id(F.col("written"), rule).alias("id")).collect()
    assert [row["id"] for row in found] == [normalised(one, rule) for one in written]
