"""Runs leave out the rows of customers who were erased, and withhold lines that nobody can take apart."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from shelfkin.erased_users import ErasedUsers, normalised
from shelfkin.events.erased_rows import without_erased
from shelfkin.profile import Events, IdRule, Source
from shelfkin.sources import raw_json, read_rows, text
from shelfkin.values.ids import normalised_id

pytestmark = pytest.mark.spark

# The shop writes one customer in many ways; the others only look alike, or are odd in other ways.
THEIRS = ["17850", "17850.0", " 17850", '="17850"', "1.785E4"]
OTHERS = ["178500", "1785", "", "a\u200bb-X", "c\u00a0d", "1E5", "1e+05", "0.50", "e\u0301t\u00e9", "-5.00"]


def test_a_customers_rows_are_left_out_and_counted(spark: SparkSession, tmp_path: Path) -> None:
    path = tmp_path / "e.csv"
    lines = [f"{number},'{who}'" for number, who in enumerate([*THEIRS, *OTHERS])]
    path.write_text("sku,who\n" + "\n".join([*lines, "99,17850,too,many"]) + "\n")
    rule = IdRule(strip_suffix="-X", case="upper")
    events = Events.model_validate(
        {
            "source": Source(path=str(path), quote="'"),
            "fields": {"user_id": "who", "product_id": "sku", "occurred_at": "sku"},
            "user_id": rule,
        }
    )
    wanted = {"events.fields.user_id": "who", "events.fields.product_id": "sku"}
    raw = read_rows(spark, events, "events", wanted, str, date(2024, 1, 1))
    assert without_erased(raw, events, ErasedUsers()) is raw
    left = without_erased(raw, events, ErasedUsers("salt", rule=rule).only("17850"))
    rows = left.frame.select(
        normalised_id(text("who"), rule).alias("id"), "text:sku", raw_json().alias("raw")
    ).collect()
    assert left.findings()["n_rows_erased"] == len(THEIRS)
    # Python writes ids as Spark does: a customer is named by hand, and erased from files that Spark wrote.
    assert [row["id"] for row in rows] == [*(normalised(one, rule) or None for one in OTHERS), None]
    assert "17850," not in str(rows) and "withheld" in rows[-1]["raw"] and rows[-1]["text:sku"] is None
