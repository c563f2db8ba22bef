"""Cleaning of event logs, on small hand-made files whose every row has a purpose."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from shelfkin import sources
from shelfkin.errors import DataQualityError
from shelfkin.events import clean
from shelfkin.profile import Events, IdRule, Source
from shelfkin.quarantine import check_share, counts_by_reason

pytestmark = pytest.mark.spark

CUTOFF = datetime(2020, 2, 1, tzinfo=UTC)
HEADER = "order,sku,units,at,price,who"


def settle(spark: SparkSession, tmp_path: Path, rows: list[str], **changes: Any) -> tuple[Any, clean.Settled]:
    path = tmp_path / "e.csv"
    path.write_text("\n".join([HEADER, *rows]) + "\n", encoding="utf-8")
    options: dict[str, Any] = {
        "source": Source(path=str(path)),
        "fields": {
            **{"user_id": "who", "product_id": "sku", "occurred_at": "at"},
            **{"quantity": "units", "order_id": "order", "price": "price"},
        },
        "user_id": IdRule(pattern=r"\d+", strip_suffix=".0"),
        "cancellations": {"order_id_pattern": "^C"},
        "require_positive_price": True,
        "max_quantity": 1000,
    }
    events = Events.model_validate({**options, **changes})
    raw = sources.read_rows(spark, events, "events", clean.wanted_columns(events), str, CUTOFF.date())
    parsed = clean.parse_events(raw, events, IdRule(pattern=r"[A-Z]\d", case="upper"), "UTC", CUTOFF)
    return parsed, clean.settle(clean.drop_copies(parsed), True)


def kept(settled: clean.Settled) -> list[tuple[Any, ...]]:
    rows = settled.events.select("user_id", "product_id", "order_id", "quantity").collect()
    return sorted((tuple(row) for row in rows), key=str)


def test_every_reason_and_the_rows_that_stay(spark: SparkSession, tmp_path: Path) -> None:
    rows = [
        "1,a1,2,2020-01-01 10:00,1.5,17.0",  # good: id upper-cased, suffix stripped
        "1,a1,2,2020-01-01 10:00,1.5,17.0",  # exact copy
        "2,A1,1,2020-01-02 10:00,1.5,",  # anonymous: stays
        "3,A1,1,2020-02-01 00:00,1.5,17",  # at the cutoff: later, though otherwise fine
        "4,POST,1,2999-01-01 00:00,1.5,17",  # later, and nothing else is said of it
        "5,POST,1,2020-01-01 10:00,1.5,17",
        "6,,1,2020-01-01 10:00,1.5,17",
        "7,A1,1,yesterday,1.5,17",
        "8,A1,1,1970-01-01 00:00,1.5,17",
        "9,A1,many,2020-01-01 10:00,1.5,17",
        "10,A1,0,2020-01-01 10:00,1.5,17",
        "11,A1,5000,2020-01-01 10:00,1.5,17",
        "12,A1,1,2020-01-01 10:00,0,17",
        "13,A1,1,2020-01-01 10:00,n/a,17",
        "14,A1,1,2020-01-01 10:00,1.5,bob",
        "C15,A1,-1,2020-01-01 10:00,1.5,",
        "C16,A1,-1,2020-01-01 09:00,1.5,17",  # before anything was bought
        "17,A1",
    ]
    parsed, settled = settle(spark, tmp_path, rows)
    by_reason = counts_by_reason(parsed.where("reason IS NOT NULL"))
    assert by_reason == dict.fromkeys(
        [
            *("bad_price", "bad_quantity", "bad_time", "cancellation_without_user", "implausible_time"),
            *("invalid_user_id", "malformed_row", "missing_product_id", "non_positive_price", "not_a_product_id"),
            *("quantity_too_large", "zero_quantity"),
        ],
        1,
    )
    assert parsed.where("after_as_of").count() == 2
    assert kept(settled) == [("17", "A1", "1", 2.0), (None, "A1", "2", 1.0)]
    unmatched = settled.unmatched.collect()
    assert [row["reason"] for row in unmatched] == ["cancellation_without_purchase"]
    assert json.loads(unmatched[0]["raw"])["order"] == "C16"
    # 18 rows = 2 kept + 12 + 1 quarantined + 1 merged + 0 netted + 2 after
    assert settled.netted == 0


def test_cancellations_take_back_the_newest_earlier_purchases(spark: SparkSession, tmp_path: Path) -> None:
    rows = [
        "1,A1,5,2020-01-01 10:00,1,1",
        "2,A1,3,2020-01-02 10:00,1,1",
        "C3,A1,-4,2020-01-03 10:00,1,1",  # order 2 goes, order 1 keeps 4
        "4,A1,2,2020-01-04 10:00,1,1",  # bought after it: untouched
        "5,A2,1,2020-01-01 10:00,1,1",
        "C6,A2,-5,2020-01-02 10:00,1,1",  # more than was bought: takes what there is
        "7,A2,1,2020-01-03 10:00,1,1",  # and doesn't reach forward
        "8,A3,1,2020-01-01 10:00,1,2",
        "C9,A3,-1,2020-01-01 10:00,1,2",  # same moment: the purchase counts first
        "10,A1,1,2020-01-01 10:00,1,3",  # another user's
    ]
    expected = [("1", "A1", "1", 4.0), ("1", "A1", "4", 2.0), ("1", "A2", "7", 1.0), ("3", "A1", "10", 1.0)]
    _, settled = settle(spark, tmp_path, rows)
    assert kept(settled) == expected
    assert (settled.netted, settled.reduced, settled.unmatched.count()) == (6, 1, 0)


def test_netting_equals_a_stack_on_random_logs_whatever_the_row_order(spark: SparkSession, tmp_path: Path) -> None:
    rng = random.Random(7)
    rows, expected, unmatched, netted = [], {}, 0, 0
    for user in range(1, 40):
        stack: list[list[Any]] = []
        for minute in range(rng.randint(1, 12)):
            units, order = rng.randint(1, 6), f"{user}-{minute}"
            at = f"2020-01-01 10:{minute:02d}"
            if rng.random() < 0.4:
                rows.append(f"C{order},A1,-{units},{at},1,{user}")
                left = units
                while left and stack:
                    taken = min(left, stack[-1][1])
                    stack[-1][1] -= taken
                    left -= taken
                    if stack[-1][1] == 0:
                        stack.pop()
                        netted += 1
                unmatched += left == units
                netted += left < units
            else:
                rows.append(f"{order},A1,{units},{at},1,{user}")
                stack.append([order, units])
        expected.update({order: float(units) for order, units in stack})
    rng.shuffle(rows)
    _, settled = settle(spark, tmp_path, rows)
    assert {row[2]: row[3] for row in kept(settled)} == expected
    assert (settled.netted, settled.unmatched.count()) == (netted, unmatched)


def test_event_types_have_aliases_and_net_within_their_type(spark: SparkSession, tmp_path: Path) -> None:
    rows = [
        "buy,A1,1,2020-01-01 10:00,1,1",
        "View,A1,1,2020-01-01 11:00,1,1",
        "buy,A1,-1,2020-01-01 12:00,1,1",  # undoes the purchase, not the newer view
        "stare,A1,1,2020-01-01 10:00,1,1",
    ]
    fields = {"user_id": "who", "product_id": "sku", "occurred_at": "at", "quantity": "units", "event_type": "order"}
    types = {"purchase": {"aliases": ["buy"]}, "view": {"weight": 0.1}}
    changes = {"fields": fields, "event_types": types, "require_positive_price": False, "cancellations": {}}
    parsed, settled = settle(spark, tmp_path, rows, **changes)
    assert [row["event_type"] for row in settled.events.collect()] == ["view"]
    assert counts_by_reason(parsed.where("reason IS NOT NULL")) == {"unknown_event_type": 1}


def test_too_much_quarantine_names_reasons_and_examples(spark: SparkSession) -> None:
    quarantine = spark.createDataFrame([("bad_time", "at 'x'"), ("bad_time", "at 'y'")], "reason string, detail string")
    check_share("events", quarantine, {"bad_time": 2}, 10, 0.2)
    with pytest.raises(DataQualityError) as error:
        check_share("events", quarantine, {"bad_time": 2}, 9, 0.2)
    assert "2 of 9 event rows (22.2%)" in error.value.message
    assert "bad_time: 2 rows, for example at 'x'; at 'y'" in error.value.message
    with pytest.raises(DataQualityError, match="nothing is left"):
        check_share("events", quarantine, {"bad_time": 2}, 2, 1.0)
