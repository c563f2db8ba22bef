"""A query in place of a file: what it may read, what its errors say, and which rows are counted."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from shelfkin import sources
from shelfkin.errors import SourceError
from shelfkin.profile import Sourced

pytestmark = pytest.mark.spark

AS_OF = date(2024, 6, 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Articles and their sizes; one line of the sizes has a field too many."""
    (tmp_path / "articles.csv").write_text("id;name;added\n1;Shirt;2024-05-01\n2;Hat;2024-07-01\n", encoding="utf-8")
    (tmp_path / "sizes.tsv").write_text("sku\tarticle\tsize\n1-S\t1\tS\n1-M\t1\tM\n2-U\t2\tU\tx\n", encoding="utf-8")
    return tmp_path


def read(spark: SparkSession, folder: Path, query: str, wanted: dict[str, str] | None = None) -> sources.RawTable:
    tables: dict[str, Any] = {
        "articles": {"path": f"{folder}/articles.csv", "separator": ";"},
        "sizes": {"path": f"{folder}/sizes.tsv", "format": "tsv"},
    }
    section = Sourced.model_validate({"tables": tables, "query": query})
    return sources.read_rows(spark, section, "catalog", wanted or {}, str, AS_OF)


def test_a_join_is_read_like_a_file(spark: SparkSession, folder: Path) -> None:
    query = "SELECT s.sku, a.name, s.size FROM sizes s\nJOIN articles a ON a.id = s.article"
    raw = read(spark, folder, query, {"catalog.fields.title": "name"})
    rows = raw.frame.select("text:name", sources.raw_json().alias("json")).collect()
    assert sorted((row[0], row[1]) for row in rows if row[0]) == [
        ("Shirt", '{"sku":"1-M","name":"Shirt","size":"M"}'),
        ("Shirt", '{"sku":"1-S","name":"Shirt","size":"S"}'),
    ]
    # The line that could not be read is a row that the stage turns away, with the table's name.
    assert [row[1] for row in rows if row[0] is None] == ['{"malformed_line":"sizes: 2-U\\t2\\tU\\tx"}']
    counts = raw.metrics["source_tables"]
    assert {name: (each["rows"], each["malformed"]) for name, each in counts.items()} == {
        "articles": (2, 0),
        "sizes": (3, 1),
    }
    assert not spark.catalog.tableExists("articles")


@pytest.mark.parametrize(
    "query",
    [
        "WITH new AS (SELECT * FROM articles WHERE added < :as_of) SELECT id, name FROM new",
        "SELECT id, name FROM articles WHERE id IN (SELECT article FROM SIZES) AND id = '1'",
        "SELECT id, last_value(name, true) OVER (ORDER BY id) AS name FROM articles QUALIFY id = '1'",
        "SELECT DISTINCT id, name FROM articles, LATERAL explode(array(1, 2)) AS t(n) WHERE id = '1'",
        "FROM articles |> WHERE id = '1' |> SELECT id, name",
        "SELECT id, name FROM (SELECT * FROM articles UNION ALL SELECT * FROM articles) GROUP BY ALL HAVING id = '1'",
        "SELECT a.id, a.name FROM articles a LEFT ANTI JOIN (VALUES ('2')) AS gone(id) USING (id) ORDER BY 1 LIMIT 5",
    ],
)
def test_a_query_may_do_all_that_reading_needs(spark: SparkSession, folder: Path, query: str) -> None:
    rows = read(spark, folder, query).frame.where("malformed IS NULL").select("raw.id", "raw.name").collect()
    assert [tuple(row) for row in rows] == [("1", "Shirt")]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        (
            "SELECT id,\n  prise\nFROM articles",
            ["line 2", "`prise`", "articles (id, name, added)", "sizes (sku, article, size)"],
        ),
        ("SELECT id\nFORM articles", ["line 2", "Syntax error at or near 'articles'"]),
        ("SELECT frob(id) FROM articles", ["line 1", "frob"]),
        ("SELECT id, count(*) FROM articles", ["line 1", "GROUP BY"]),
        ("SELECT * FROM articles a JOIN articles b USING (name)", ["gives the column added, id more than once", "AS"]),
    ],
)
def test_errors_are_plain(spark: SparkSession, folder: Path, query: str, said: list[str]) -> None:
    with pytest.raises(SourceError) as error:
        read(spark, folder, query)
    shown = f"{error.value.message} {error.value.next_step}"
    assert shown.startswith("catalog.query")
    assert [words for words in said if words not in shown] == []
    assert not [words for words in ("SQLSTATE", "'Project", "[UNRESOLVED", "org.apache") if words in shown]


def test_a_missing_column_names_the_tables(spark: SparkSession, folder: Path) -> None:
    with pytest.raises(SourceError, match=r"catalog\.fields\.title wants column 'titel'; columns present: id, name"):
        read(spark, folder, "SELECT id, name FROM articles", {"catalog.fields.title": "titel"})


def test_what_fails_while_rows_are_read_names_the_query(spark: SparkSession, folder: Path) -> None:
    raw = read(spark, folder, "SELECT id, raise_error('no such shop') AS name FROM articles")
    with pytest.raises(SourceError, match="no such shop") as error, raw.reading():
        raw.frame.collect()
    assert "catalog.query" in error.value.next_step


def test_dated_tables_are_those_before_the_day(spark: SparkSession, tmp_path: Path) -> None:
    for day, price in (("2024-05-01", 1), ("2024-05-31", 2), ("2024-06-01", 3)):
        (tmp_path / f"prices-{day}.csv").write_text(f"id,price\n1,{price}\n", encoding="utf-8")
    tables = {"prices": {"path": f"{tmp_path}/prices-{{snapshot_date}}.csv"}}
    section = Sourced.model_validate({"tables": tables, "query": "SELECT id, price FROM prices"})
    raw = sources.read_rows(spark, section, "catalog", {}, str, AS_OF)
    assert [row["price"] for row in raw.frame.select("raw.price").collect()] == ["2"]
    assert raw.metrics["source_tables"]["prices"]["snapshot_date"] == "2024-05-31"


def test_types_of_a_result_are_kept(spark: SparkSession, folder: Path) -> None:
    query = "SELECT DATE'2024-01-02' AS day, 1.5D AS price, map('a', 1) AS more, NULL AS nothing, array('x') AS list"
    raw = read(spark, folder, query)
    row = raw.frame.where("malformed IS NULL").select(sources.row_hash(), sources.raw_json().alias("json")).collect()[0]
    assert row["json"] == '{"day":"2024-01-02","price":1.5,"more":"{\\"a\\":1}","nothing":null,"list":["x"]}'


@pytest.mark.parametrize("given", ["true", "false"])
def test_settings_are_afterwards_as_they_were_given(spark: SparkSession, folder: Path, given: str) -> None:
    spark.conf.set("spark.sql.variable.substitute", given)
    try:
        read(spark, folder, "SELECT id FROM articles")
        with pytest.raises(SourceError):
            read(spark, folder, "SELECT id FROM nowhere")
        assert spark.conf.get("spark.sql.variable.substitute") == given
    finally:
        spark.conf.unset("spark.sql.variable.substitute")
