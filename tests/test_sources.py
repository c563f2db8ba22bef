"""Reading raw files."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from shelfkin import sources
from shelfkin.errors import SourceError
from shelfkin.profile import Source

pytestmark = pytest.mark.spark


def read(spark: SparkSession, path: Path, wanted: dict[str, str], **source: Any) -> list[dict[str, Any]]:
    table = sources.read_source(spark, Source(path=str(path), **source), str(path), wanted, "catalog")
    rows = table.frame.withColumn("json", sources.raw_json()).collect()
    texts = [
        {name.removeprefix("text:"): row[name] for name in table.frame.columns if name.startswith("text:")}
        for row in rows
    ]
    return [
        {**found, "json": row["json"], "malformed": row["malformed"]} for found, row in zip(texts, rows, strict=True)
    ]


def test_csv_with_bom_quotes_line_breaks_and_a_malformed_line(spark: SparkSession, tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    text = '\ufeffid, title\n1,"say ""hi"", twice"\n2,"two\nlines"\n3,x,too many\n4\n'
    path.write_text(text, encoding="utf-8")
    rows = read(spark, path, {"a": "id", "b": "title"})
    assert [row["title"] for row in rows[:2]] == ['say "hi", twice', "two\nlines"]
    assert [row["malformed"] for row in rows] == [None, None, "3,x,too many", "4"]
    assert json.loads(rows[0]["json"]) == {"id": "1", "title": 'say "hi", twice'}
    assert json.loads(rows[2]["json"]) == {"malformed_line": "3,x,too many"}


def test_headerless_semicolon_latin1_gzip(spark: SparkSession, tmp_path: Path) -> None:
    path = tmp_path / "p.csv.gz"
    path.write_bytes(gzip.compress("7;Käse\n8; \n".encode("latin-1")))
    rows = read(
        spark, path, {"a": "nr", "b": "name"}, separator=";", encoding="latin-1", header=False, columns=("nr", "name")
    )
    assert [(row["nr"], row["name"]) for row in rows] == [("7", "Käse"), ("8", None)]


def test_jsonl_keeps_broken_lines_and_globs_read_all_files(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": 1, "name": "x"}\n{"id": 2, "na\n', encoding="utf-8")
    (tmp_path / "b.jsonl").write_text('{"id": 3.5}\n', encoding="utf-8")
    rows = read(spark, tmp_path / "*.jsonl", {"a": "id", "b": "name"}, format="jsonl")
    assert sorted((row["id"] or "", row["malformed"] or "") for row in rows) == [
        ("", '{"id": 2, "na'),
        ("1", ""),
        ("3.5", ""),
    ]


def test_missing_file_empty_file_and_missing_column(spark: SparkSession, tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    with pytest.raises(SourceError, match=r"There is no file .*p\.csv \(catalog\.source\.path\)"):
        read(spark, path, {})
    path.touch()
    with pytest.raises(SourceError, match="is empty: it holds 0 bytes"):
        read(spark, path, {})
    path.write_text("id;name\n1;x\n", encoding="utf-8")
    with pytest.raises(SourceError) as error:
        read(spark, path, {"catalog.fields.title": "name"})
    assert "catalog.fields.title wants column 'name'; columns present: id;name" in error.value.message
    assert "wrong separator" in error.value.message


@pytest.mark.parametrize(
    ("cells", "names"),
    [
        (["\ufeffid", " name "], ["id", "name"]),
        (["id", "", "ID", "id"], ["id", "column_2", "ID_2", "id_3"]),
    ],
)
def test_header_names_are_made_unique(cells: list[str], names: list[str]) -> None:
    assert sources.unique_names(cells) == names
