"""Formats besides CSV: JSON, XML, Parquet, ORC, and what else Spark reads, here a real Postgres by JDBC."""

from __future__ import annotations

import contextlib
import select
import socket
import socketserver
import threading
import traceback
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError
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
    """The JDBC URL of a Postgres with one table, for the user `reader`; Spark knows its driver."""
    if not DRIVER.exists():
        pytest.skip(f"there is no {DRIVER}: install libpostgresql-jdbc-java")
    spark.sql(f"ADD JAR {DRIVER}")
    with embedded_postgres() as url, psycopg.connect(url, autocommit=True) as db:
        db.execute("CREATE TABLE articles (id int, name text, price numeric(8, 2), sold timestamptz)")
        db.execute("INSERT INTO articles VALUES (7, 'Käse', 3.50, '2024-05-01 10:00+02'), (8, 'Brot', NULL, NULL)")
        db.execute("CREATE ROLE reader LOGIN PASSWORD 'hunter2'")
        db.execute("GRANT SELECT ON articles TO reader")
        with forwarded(f"{db.info.host}/.s.PGSQL.{db.info.port}") as port:
            yield f"jdbc:postgresql://127.0.0.1:{port}/postgres"


@contextlib.contextmanager
def forwarded(unix_socket: str) -> Iterator[int]:
    """Forward a TCP port to a unix socket, which Java's driver doesn't know, and yield the port."""

    class Both(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.socket(socket.AF_UNIX) as server:
                server.connect(unix_socket)
                ends = {self.request: server, server: self.request}
                while True:
                    for ready in select.select(list(ends), [], [])[0]:
                        some = ready.recv(65_536)
                        if not some:
                            return
                        ends[ready].sendall(some)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Both) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def jdbc(url: str, **options: str) -> dict[str, Any]:
    options = {"url": url, "dbtable": "articles", "user": "reader", "driver": "org.postgresql.Driver", **options}
    return {"format": "jdbc", "options": options, "options_from_env": {"password": "SHOP_DB_PASSWORD"}}


def test_a_database_by_jdbc(spark: SparkSession, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_DB_PASSWORD", "hunter2")
    raw = read(spark, ("id", "name", "price"), **jdbc(database))
    assert rows(raw, "text:id", "text:name", "text:price") == [("7", "Käse", "3.50"), ("8", "Brot", None)]
    tables = {"articles": jdbc(database)}
    section = Sourced.model_validate({"tables": tables, "query": "SELECT id FROM articles WHERE price IS NULL"})
    raw = sources.read_rows(spark, section, "catalog", {"a": "id"}, str, date(2024, 6, 1))
    assert rows(raw, "text:id") == [("8",)]
    assert raw.metrics["source_tables"]["articles"]["rows"] == 2
    assert "hunter2" not in repr(raw) + str(raw.metrics)


def test_secrets_stay_out_of_messages(
    spark: SparkSession, database: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SHOP_DB_PASSWORD", raising=False)
    with pytest.raises(SourceError, match="password comes from the environment variable SHOP_DB_PASSWORD, which is"):
        read(spark, **jdbc(database))
    monkeypatch.setenv("SHOP_DB_PASSWORD", "xyzzy-secret")
    # The driver repeats a URL that it can't read, here with the secret in it.
    for source in (
        jdbc(database, dbtable="nothing"),
        {
            "format": "jdbc",
            "options": {"dbtable": "articles", "driver": "org.postgresql.Driver"},
            "options_from_env": {"url": "SHOP_DB_PASSWORD"},
        },
    ):
        with pytest.raises(SourceError) as error:
            read(spark, **source)
        shown = "".join(traceback.format_exception(error.value)) + "".join(capfd.readouterr())
        assert "xyzzy" not in shown
        assert "events.source" in error.value.next_step


@pytest.mark.parametrize(
    "source",
    [
        {"format": "cvs", "path": "p.csv"},
        {"format": "jdbc", "options": {"url": "jdbc:x", "password": "hunter2"}},
        {"format": "csv"},
        {"path": "p.csv", "options": {"mode": "DROPMALFORMED"}},
        {"path": "p.csv", "options": {"comment": "#"}, "options_from_env": {"comment": "C"}},
        {"path": []},
        {"format": "jdbc", "options_from_env": {"url": "OPENAI_API_KEY"}},
        {"format": "jdbc", "options_from_env": {"url": "AIRFLOW__API_AUTH__JWT_SECRET"}},
        {"format": "jdbc", "options_from_env": {"url": "SHELFKIN_PUBLISH_POSTGRES"}},
    ],
)
def test_sources_that_can_t_work_are_refused(source: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as error:
        Source.model_validate(source)
    assert "must" in str(error.value) or "source" in str(error.value).lower()


def test_an_unknown_format_is_said(spark: SparkSession) -> None:
    with pytest.raises(SourceError, match="can't be read as excel"):
        read(spark, path="p.xlsx", format="excel", options={"sheet": "1"})
