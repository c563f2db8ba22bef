"""What `make check` says of a shop with faults, and that the stages leave the same report."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
import yaml
from pyspark.sql import SparkSession

from drafting.made_shops import put, table
from shelfkin.checking.check import _SESSION, Checked, Checker, check_store
from shelfkin.checking.likely_cause import likely_cause
from shelfkin.checking.show import all_findings
from shelfkin.settings import Settings
from stage_runs import Run

pytestmark = [pytest.mark.spark, pytest.mark.usefixtures("session_as_it_was")]

PROFILE = {
    "store": "faulty",
    "title": "Faulty",
    "currency": "EUR",
    "default_as_of": date(2024, 6, 1),
    "catalog": {"kind": "snapshot", "fields": {"product_id": "art", "title": "name", "price": "eur"}},
    "events": {
        "fields": {
            "user_id": "customer",
            "product_id": "art",
            "occurred_at": "when",
            "quantity": "qty",
            "event_type": "kind",
        },
        "timestamp_format": "d.M.yyyy H:mm",
        "event_types": {"purchase": {"aliases": ["buy"]}, "view": {"weight": 0.1}},
        "max_quarantined_share": 0.4,
    },
}


@pytest.fixture(scope="module")
def session_as_it_was(spark: SparkSession) -> Iterator[None]:
    """A check sets Spark up for seconds; other tests go on with their session as it was."""
    kept = {name: spark.conf.get(name) for name in _SESSION if name.startswith("spark.sql.")}
    yield
    for name, value in kept.items():
        if value is not None:
            spark.conf.set(name, value)


def shop(folder: Path) -> Path:
    """Write a shop whose orders lost the zeros of their ids, hold an unknown event type, and blank times."""
    articles = [["art", "name", "eur"], *[[f"{i:05d}", f"Lamp {i % 12}", f"{i},90"] for i in range(60)]]
    articles[1][1] += "\x1b[2J"
    orders = [["customer", "art", "when", "qty", "kind"]]
    for i in range(180):
        when = "" if i % 30 == 0 else f"{1 + i % 28:02d}.05.2024 10:{i % 60:02d}"
        orders.append([f"c{i % 40}", str(i % 60), when, "1", ["buy", "view", "peek"][i % 3]])
    profile = yaml.safe_load(yaml.safe_dump(PROFILE))
    profile["catalog"]["source"] = {"path": str(put(folder / "articles.csv", table(articles, ";"))), "separator": ";"}
    profile["events"]["source"] = {"path": str(put(folder / "orders.csv", table(orders, ";"))), "separator": ";"}
    stores = folder / "stores"
    stores.mkdir()
    (stores / "faulty.yaml").write_text(yaml.safe_dump(profile), encoding="utf-8")
    return stores


def settings_of(stores: Path) -> Settings:
    return Settings.from_env({"SHELFKIN_STORES_DIR": str(stores)})


@pytest.fixture
def checked(spark: SparkSession, tmp_path: Path) -> Checked:
    settings = settings_of(shop(tmp_path))
    return Checker(settings, settings.profile("faulty"), date(2024, 6, 1), tmp_path).look()


def test_faults_are_counted_and_ranked_by_what_they_cost(checked: Checked) -> None:
    assert checked.catalog is not None
    assert checked.events is not None
    assert {row.name: row.rows for row in checked.events.of("event_type")} == {"purchase": 54, "view": 60}
    assert {row.name: row.rows for row in checked.events.of("reason")} == {"unknown_event_type": 60, "bad_time": 6}
    by_field = {row.name: (row.read, row.empty, row.unread) for row in checked.events.of("field")}
    assert by_field["event_type"] == (120, 0, 60)
    assert by_field["occurred_at"] == (174, 6, 0)
    assert [row.rows for row in checked.catalog.of("repeated_title")] == [5] * 5
    assert len(checked.events.beside) == 5
    assert sum("turned away as" in became for _, became in checked.events.beside) == 2
    assert checked.named == 0
    findings = sorted(all_findings(checked), key=lambda each: -each.damage)
    assert "events name no product of the catalogue: 1 and 10; it has 00000 and 00001" in findings[0].seen
    assert "leading zeros" in findings[0].change
    assert "peek" in findings[1].seen
    assert "events.event_types" in findings[1].change


def test_the_report_reads_like_the_data(spark: SparkSession, tmp_path: Path) -> None:
    text = "\n".join(check_store(settings_of(shop(tmp_path)), "faulty", None))
    for said in (
        '{"art":"00001","name":"Lamp 1","eur":"1,90"}',
        "product_id=00001 | title=Lamp 1 | price=1.9",
        "JOIN: 0 of 114 good events (0.0%)",
        "DAYS: events from 2024-05-01",
    ):
        assert said in text
    assert "[2J" in text and "\x1b" not in text


def test_what_would_stop_a_run_comes_first(spark: SparkSession, tmp_path: Path) -> None:
    stores = shop(tmp_path)
    path = stores / "faulty.yaml"
    path.write_text(path.read_text().replace("max_quarantined_share: 0.4", "max_quarantined_share: 0.1"))
    (tmp_path / "articles.csv").unlink()
    text = "\n".join(check_store(settings_of(stores), "faulty", None)).split("WHAT TO CHANGE")[1].splitlines()
    assert "stops the run: There is no file" in text[1]
    assert "stops the run: 66 of 180 rows are turned away" in text[3]


def test_a_wrong_encoding_is_said_before_anybody_waits_for_a_run(spark: SparkSession, tmp_path: Path) -> None:
    stores = shop(tmp_path)
    articles = tmp_path / "articles.csv"
    articles.write_bytes(articles.read_text().replace("Lamp", "Käselampe").encode("latin-1"))
    text = "\n".join(check_store(settings_of(stores), "faulty", None)).split("WHAT TO CHANGE")[1].splitlines()
    assert "stops the run" in text[1]
    assert "can't be decoded as utf-8" in text[1]
    assert "catalog.source.encoding" in text[2]


def test_the_stages_leave_the_same_report(checked: Checked, tmp_path: Path) -> None:
    run = Run(tmp_path / "stores", tmp_path / "artifacts", "faulty", "2024-06-01")
    for stage, name, looked in (
        ("clean_catalog", "products_report", checked.catalog),
        ("clean_events", "events_report", checked.events),
    ):
        run.stage(stage)
        written = run.rows(stage, name, "topic", "name", "rows", "read", "empty", "unread")
        assert looked is not None
        assert written == sorted(
            [(row.topic, row.name, row.rows, row.read, row.empty, row.unread) for row in looked.rows], key=repr
        )


@pytest.mark.parametrize(
    ("events", "catalogue", "said"),
    [
        (["7", "8"], ["007", "008"], "leading zeros"),
        (["a7", "b8"], ["A7", "B8"], "case"),
        (["7.0", "8.0"], ["7", "8"], ".0"),
        (["gid://shop/7", "gid://shop/8"], ["7", "8"], "begins with 'gid://shop/'"),
        (["7-DE", "8-DE"], ["7", "8"], "ends with '-DE'"),
        (["A-7", "B 8"], ["A7", "B8"], "punctuation"),
        (["7", "8"], ["x", "y"], ""),
    ],
)
def test_the_likely_cause(events: list[str], catalogue: list[str], said: str) -> None:
    assert said in likely_cause(events, catalogue)
    assert bool(said) == bool(likely_cause(events, catalogue))
