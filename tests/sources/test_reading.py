"""Reading one source: files of every format, and the oddities that shops' exports have."""

from __future__ import annotations

import gzip
import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from shelfkin import sources
from shelfkin.errors import SourceError
from shelfkin.profile import Source, Sourced
from shelfkin.sources.csv_files import unique_names

pytestmark = pytest.mark.spark

AS_OF = date(2024, 6, 1)


def read(spark: SparkSession, path: Path, wanted: dict[str, str], **source: Any) -> list[dict[str, Any]]:
    section = Sourced(source=Source.model_validate({"path": str(path), **source}))
    frame = sources.read_rows(spark, section, "catalog", wanted, str, AS_OF).frame
    rows = frame.withColumn("json", sources.raw_json()).collect()
    return [{name.removeprefix("text:"): value for name, value in row.asDict().items()} for row in rows]


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
    assert unique_names(cells) == names


@pytest.mark.parametrize("name", ["sold at 12:30:00.csv", "file [1].csv", "a%20b.csv", "{x}.csv"])
@pytest.mark.parametrize("asterisk", [False, True])
def test_names_may_hold_any_sign(spark: SparkSession, tmp_path: Path, name: str, asterisk: bool) -> None:
    (tmp_path / name).write_text("id,name\n1,x\n", encoding="utf-8")
    rows = read(spark, tmp_path / "*.csv" if asterisk else tmp_path / name, {"a": "id", "b": "name"})
    assert [(row["id"], row["name"]) for row in rows] == [("1", "x")]


ROWS = [f"S{number},Product {number},{number}.50" for number in range(1, 41)]


@pytest.mark.parametrize(
    ("line", "least"),
    [
        ('S7,"Screen 27,7.50', 39),  # swallows all that follows
        ('S7,Screen,"7.50', 38),  # the same in the last column: the record has the right number of fields
        ('"S7,Screen,7.50', 39),
        ('S7,Screen 27",7.50', 40),  # no harm: the field doesn't begin with the quote
    ],
)
@pytest.mark.parametrize("later", ["", 'S99,"a ""quoted"" name",9.50', 'S99,Screen 9",9.50'])
def test_a_stray_quote_costs_its_own_line(
    spark: SparkSession, tmp_path: Path, line: str, least: int, later: str
) -> None:
    path = tmp_path / "p.csv"
    lines = ["sku,name,price", *ROWS[:6], line, *ROWS[7:], *([later, "S100,Last,1.00"] if later else [])]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    rows = read(spark, path, {"a": "sku", "b": "name", "c": "price"})
    good = [row for row in rows if row["malformed"] is None and row["price"] and "\n" not in row["name"]]
    assert len(good) >= least - 1 + (2 if later else 0) - (1 if later else 0)
    assert {row["price"] for row in good if row["sku"] in ("S8", "S40")} == {"8.50", "40.50"}
    # What is lost is counted line by line.
    assert len(rows) >= len(lines) - 2


def test_descriptions_with_line_breaks_stay_whole(spark: SparkSession, tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    described = "soft, warm, blue\nred, green, or: grey\n\nwash at 30, 40, never 60\n- a, b, c"
    path.write_text(f'id,text,n\n1,"{described}",5\n2,"two\nlines",6\n', encoding="utf-8")
    rows = read(spark, path, {"a": "id", "b": "text", "c": "n"})
    assert [(row["id"], row["text"], row["n"]) for row in rows] == [("1", described, "5"), ("2", "two\nlines", "6")]


def found_damage(spark: SparkSession, path: Path, **source: Any) -> dict[str, int]:
    section = Sourced(source=Source.model_validate({"path": str(path), **source}))
    raw = sources.read_rows(spark, section, "catalog", {}, str, AS_OF)
    raw.frame.collect()
    return raw.findings()


@pytest.mark.parametrize("kind", ["csv", "csv.gz"])
def test_letters_of_another_encoding_stop_the_stage(spark: SparkSession, tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"p.{kind}"
    raw = "id,name\n1,plain\n2,Bœuf séché\n".encode("cp1252")
    path.write_bytes(gzip.compress(raw) if kind.endswith("gz") else raw)
    with pytest.raises(SourceError, match=r"can't be decoded as utf-8: 3 bytes, first in line 3; as cp1252") as error:
        found_damage(spark, path)
    assert "catalog.source.encoding" in error.value.next_step
    assert found_damage(spark, path, encoding="cp1252") == {}


def test_a_few_broken_bytes_are_said(spark: SparkSession, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "p.csv"
    path.write_bytes("id,name\n1,Käse\n2,Brötchen\n3,x".encode() + b"\xff\n")
    assert found_damage(spark, path) == {"n_rows_with_unreadable_letters": 1}
    assert "first in line 4" in caplog.text
    # A replacement character of the file itself is none of this reading's.
    path.write_text("id,name\n1,K\ufffdse\n", encoding="utf-8")
    caplog.clear()
    found_damage(spark, path)
    assert "decoded" not in caplog.text


def test_backslashes_before_quotes_are_said(
    spark: SparkSession, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "p.csv"
    path.write_text('id,name,n\n1,"Monitor 27\\" wide",2\n2,"12\\", large",3\n3,"end \\\\",4\n', encoding="utf-8")
    assert found_damage(spark, path) == {"n_rows_with_backslash_before_quote": 2}
    assert "set catalog.source.escape: '\\'" in caplog.text
    rows = read(spark, path, {"a": "name", "b": "n"}, escape="\\")
    assert [(row["name"], row["n"]) for row in rows] == [
        ('Monitor 27" wide', "2"),
        ('12", large', "3"),
        ("end \\", "4"),
    ]


def test_several_files_by_the_names_of_their_columns(
    spark: SparkSession, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.csv").write_text("id,name,n\n1,x,5\n,,\n, ,\n,,,\n", encoding="utf-8")
    (tmp_path / "b.csv").write_text('sep=;\r\n"n";"id";"colour"\r\n6;2;red\r\n', encoding="utf-8")
    (tmp_path / "empty.csv").touch()
    rows = read(spark, tmp_path / "*.csv", {"a": "id", "b": "name", "c": "n"})
    assert sorted((row["id"], row["name"], row["n"]) for row in rows) == [("1", "x", "5"), ("2", None, "6")]
    assert "b.csv: no column name" in caplog.text and "a.csv: no column colour" in caplog.text
    (tmp_path / "c.csv").write_text("7,y,1\n8,z,2\n", encoding="utf-8")
    with pytest.raises(SourceError, match=r"c\.csv .*has the columns 7, y, 1; .*a\.csv has id, name, n"):
        read(spark, tmp_path / "*.csv", {})
