"""Formats besides CSV: JSON, XML, Parquet, ORC, and what else Spark reads, here a real Postgres by JDBC."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F  # noqa: N812

from embedded_postgres import embedded_postgres
from shelfkin import sources
from shelfkin.errors import SourceError
from shelfkin.profile import Source, Sourced

pytestmark = pytest.mark.spark

DRIVER = Path("/usr/share/java/postgresql.jar")


def read(spark: SparkSession, wanted: tuple[str, ...] = (), **source: Any) -> sources.RawTable:
    section = Sourced(source=Source.model_validate(source))
    return sources.read_rows(spark, section, "events", {name: name for name in wanted}, str, date(2024, 6, 1))


def rows(raw: sources.RawTable, *columns: str) -> list[tuple[Any, ...]]:
    return sorted((tuple(row) for row in raw.frame.select(*columns).collect()), key=repr)


@pytest.mark.parametrize(
    "text",
    [
        '[{"id": 7, "price": 12.5}, {"id": 8, "price": null}]',
        '[\n  {"id": 7,\n   "price": 12.5},\n  {"id": 8}\n]\n',
        '\ufeff{"id": 7, "price": 12.5}\n{"id": 8}\n',
        '\n\n{"price": 12.5, "id": 7}\r\n{"id": 8}',
    ],
)
@pytest.mark.parametrize("kind", ["json", "jsonl"])
def test_an_array_and_lines_are_told_apart(spark: SparkSession, tmp_path: Path, text: str, kind: str) -> None:
    path = tmp_path / "p.json"
    path.write_text(text, encoding="utf-8")
    raw = read(spark, ("id", "price"), path=str(path), format=kind)
    assert rows(raw, "malformed", "text:id", "text:price") == [(None, "7", "12.5"), (None, "8", None)]


def test_numbers_of_json_stay_as_they_are_written(spark: SparkSession, tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"n": 12345678.50}\n{"n": 0.0000001}\n{"n": 12345678901234567890123}\n{"n": "007"}\n', "utf-8")
    found = rows(read(spark, ("n",), path=str(path), format="jsonl"), "text:n")
    assert found == [("0.0000001",), ("007",), ("12345678.50",), ("12345678901234567890123",)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-be", "utf-16-le", "latin-1"])
def test_json_in_other_encodings(spark: SparkSession, tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"id": "Käse", "n": NaN}\n{"id": "Brot", "n": 3}\n', encoding=encoding)
    raw = read(spark, ("id",), path=str(path), format="jsonl", encoding=encoding)
    assert rows(raw, "malformed", "text:id") == [(None, "Brot"), (None, "Käse")]


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_columns_that_differ_by_case_are_named(spark: SparkSession, tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"p.{kind}"
    if kind == "jsonl":
        path.write_text('{"id": 1, "stock": 2}\n{"id": 2, "Stock": 3}\n', encoding="utf-8")
    else:
        pq.write_table(pa.table({"id": [1], "stock": [2], "Stock": [3]}), path)
    with pytest.raises(SourceError, match=r"columns (Stock and stock|stock and Stock), which differ by case only"):
        read(spark, path=str(path), format=kind)


FEED = """<?xml version="1.0" encoding="ISO-8859-1"?>
<rss version="2.0" xmlns:g="http://base.google.com/ns/1.0"><channel><title>Shop</title>
<item><g:id>007</g:id><title>K\u00e4se &amp; Brot</title><g:price>3.50 EUR</g:price></item>
<item><g:id>008</g:id><title><![CDATA[Tee <gr\u00fcn>]]></title></item>
</channel></rss>
"""


def test_items_of_a_merchant_feed(spark: SparkSession, tmp_path: Path) -> None:
    path = tmp_path / "feed.xml"
    path.write_text(FEED, encoding="latin-1")
    raw = read(spark, ("g:id", "title", "g:price"), path=str(path), format="xml")
    assert rows(raw, "malformed", "text:g:id", "text:title", "text:g:price") == [
        (None, "007", "Käse & Brot", "3.50 EUR"),
        (None, "008", "Tee <grün>", None),
    ]


def test_another_tag_by_spark_s_own_option(spark: SparkSession, tmp_path: Path) -> None:
    path = tmp_path / "p.xml"
    path.write_text("<all><product sku='1'><n>x</n></product><product sku='2'><n>y</n></product></all>", "utf-8")
    raw = read(spark, ("_sku",), path=str(path), format="xml", options={"rowTag": "product"})
    assert rows(raw, "text:_sku") == [("1",), ("2",)]


def test_nanoseconds_of_parquet(spark: SparkSession, tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    times = {"utc": 1_715_335_200_000_007_999, "before": -1_999}
    columns: dict[str, Any] = {name: pa.array([at], pa.timestamp("ns", "UTC")) for name, at in times.items()}
    columns |= {"wall": pa.array([times["utc"]], pa.timestamp("ns")), "number": pa.array([5], pa.int64())}
    pq.write_table(pa.table(columns), path)
    raw = read(spark, path=str(path), format="parquet")
    assert str(raw.frame.schema["raw"].dataType.simpleString()) == (
        "struct<utc:timestamp,before:timestamp,wall:timestamp_ntz,number:bigint>"
    )
    found = raw.frame.select(*[F.unix_micros(f"raw.{name}") for name in times], "raw.wall").collect()[0]
    assert tuple(found) == (1_715_335_200_000_007, -2, datetime(2024, 5, 10, 10, 0, 0, 7))


def test_parquet_files_with_other_columns_and_types(spark: SparkSession, tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["1"], "n": [1]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"brand": ["B"], "id": ["2"]}), tmp_path / "b.parquet")
    raw = read(spark, ("id", "brand"), path=[f"{tmp_path}/a.parquet", f"{tmp_path}/b.parquet"], format="parquet")
    assert rows(raw, "text:id", "text:brand") == [("1", None), ("2", "B")]


def test_orc(spark: SparkSession, tmp_path: Path) -> None:
    spark.sql("SELECT '1' AS id, 2.5D AS price").write.orc(str(tmp_path / "p"))
    raw = read(spark, ("id", "price"), path=str(tmp_path / "p"), format="orc")
    assert rows(raw, "text:id", "text:price") == [("1", "2.5")]


@pytest.fixture(scope="module")
def database(spark: SparkSession) -> Iterator[str]:
    """The JDBC URL of a Postgres with two tables; Spark knows its driver."""
    if not DRIVER.exists():
        pytest.skip(f"there is no {DRIVER}: install libpostgresql-jdbc-java")
    spark.sql(f"ADD JAR {DRIVER}")
    with embedded_postgres() as url, psycopg.connect(url, autocommit=True) as db:
        db.execute("ALTER SYSTEM SET listen_addresses = '127.0.0.1'")
        yield url


def test_a_database_by_jdbc(spark: SparkSession, database: str) -> None:
    print(database)
