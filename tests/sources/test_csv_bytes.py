"""Whatever bytes a CSV file holds: every line is a row, a part of one, or turned away, and no error is unforeseen."""

from __future__ import annotations

import contextlib
from datetime import date
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from shelfkin import sources
from shelfkin.errors import SourceError
from shelfkin.profile import Source, Sourced

pytestmark = pytest.mark.spark

SIGNS = st.sampled_from(["a", "7", ",", ";", '"', '""', "\\", "\n", "\r\n", " ", "é", "\ufeff", "\x00", "sep=;", "\t"])
ANY = st.one_of(st.binary(max_size=200), st.lists(SIGNS, max_size=60).map(lambda signs: "".join(signs).encode()))


def read(spark: SparkSession, path: Path) -> sources.RawTable:
    section = Sourced(source=Source(path=str(path)))
    return sources.read_rows(spark, section, "catalog", {}, str, date(2024, 6, 1))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(header=st.sampled_from([b"id,name,n\n", b""]), content=ANY)
def test_any_bytes(spark: SparkSession, tmp_path: Path, header: bytes, content: bytes) -> None:
    path = tmp_path / "p.csv"
    path.write_bytes(header + content)
    with contextlib.suppress(SourceError):
        raw = read(spark, path)
        with raw.reading():
            rows = raw.frame.select("malformed", sources.raw_json().alias("json")).collect()
        raw.findings()
        assert all(row["json"] for row in rows)


FIELD = st.text(
    st.characters(codec="utf-8", exclude_categories=["C", "Z"], exclude_characters='"\\,'), min_size=1, max_size=9
)
ROW = st.tuples(st.integers(1, 10**9), st.lists(FIELD, min_size=1, max_size=3), st.booleans())


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ROW, min_size=1, max_size=30))
def test_what_is_written_right_is_read_right(
    spark: SparkSession, tmp_path: Path, rows: list[tuple[int, list[str], bool]]
) -> None:
    """Fields with quotes, separators and line breaks, quoted as RFC 4180 says."""
    wanted = [(str(number), ', "and"\n'.join(words) if is_odd else words[0]) for number, words, is_odd in rows]
    quoted = ['{},"{}"'.format(number, text.replace('"', '""')) for number, text in wanted]
    path = tmp_path / "p.csv"
    path.write_text("id,name\n" + "\n".join(quoted) + "\n", encoding="utf-8")
    found = read(spark, path).frame.select("malformed", "raw.id", "raw.name").collect()
    assert [(row["id"], row["name"]) for row in found] == wanted
    assert {row["malformed"] for row in found} == {None}
