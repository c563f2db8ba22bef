"""Times in every form of ISO 8601 and Postgres, and as numbers."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession
from pyspark.sql import functions as F  # noqa: N812

from shelfkin import sources
from shelfkin.profile import Source, Sourced
from shelfkin.values.times import timestamp
from values.reading import raw_texts

pytestmark = pytest.mark.spark

# In a shop of London's: in July one hour ahead of UTC.
TIMES = {
    "2011-07-01 10:00:00": "2011-07-01 09:00",
    "2011-12-01T10:00:00": "2011-12-01 10:00",
    "2011-07-01 10:00": "2011-07-01 09:00",
    "2011-07-01": "2011-06-30 23:00",
    "2011-7-1 9:05": "2011-07-01 08:05",
    "2011-07-01 10:00:00Z": "2011-07-01 10:00",
    "2011-07-01t10:00:00z": "2011-07-01 10:00",
    "2011-07-01 10:00Z": "2011-07-01 10:00",
    "2011-07-01 10:00:00+00": "2011-07-01 10:00",
    "2011-07-01 10:00:00+02": "2011-07-01 08:00",
    "2011-07-01 10:00:00-3": "2011-07-01 13:00",
    "2011-07-01T10:00:00+0530": "2011-07-01 04:30",
    "2011-07-01 10:00:00 -03:30": "2011-07-01 13:30",
    "2011-07-01 10:00:00\u221203:30": "2011-07-01 13:30",
    "2011-07-01 10:00:00.5+02:00": "2011-07-01 08:00",
    "2011-07-01T10:00:00,123456789+02:00": "2011-07-01 08:00",
    "2011-07-01 10:00:00-00:01:15": "2011-07-01 10:01",
    "2011-07-01 10:00:00 UTC": "2011-07-01 10:00",
    "2011-07-01 10:00:00 GMT": "2011-07-01 10:00",
    "2011-07-01 10:00:00 GMT+2": "2011-07-01 08:00",
    "2011-07-01 10:00:00 UTC-05:00": "2011-07-01 15:00",
    "2011-07-01 10:00:00 CEST": "2011-07-01 08:00",
    "2011-01-01 10:00:00 EST": "2011-01-01 15:00",
    "2011-07-01 10:00:00 pdt": "2011-07-01 17:00",
    "2011-07-01 10:00:00 Europe/Berlin": "2011-07-01 08:00",
    "2011-01-01T10:00 America/Argentina/Buenos_Aires": "2011-01-01 13:00",
    "2011-07-01T10:00+02:00[Europe/Paris]": "2011-07-01 08:00",
    "2011-07-01T10:00[Asia/Tokyo]": "2011-07-01 01:00",
    "2011-07-01+02:00": "2011-06-30 22:00",
    "2011-07-01Z": "2011-07-01 00:00",
    "20110701T100000Z": "2011-07-01 10:00",
    "20110701T1000+0200": "2011-07-01 08:00",
    "2011/07/01 10:00": "2011-07-01 09:00",
    "01.07.2011 10:00": "2011-07-01 09:00",
    "1.7.2011": "2011-06-30 23:00",
    # Zones that nobody knows, or that are several, and what is no time.
    "2011-07-01 10:00:00 Nowhere/Town": None,
    "2011-07-01 10:00:00 IST": None,
    "2011-07-01 10:00:00 XYZ": None,
    "2011-07-01 10:00:00 PM": None,
    "2011-07-01 10:00:00 +25:00": None,
    "2011-02-30": None,
    "2011-07-01 25:00": None,
    "31.13.2011": None,
    "07/01/2011": None,
    "12:30": None,
    "2011": None,
    "yesterday": None,
    # Numbers since 1970.
    "999999999": "2001-09-09 01:46",
    "1322733600": "2011-12-01 10:00",
    "1322733600.75": "2011-12-01 10:00",
    "1.3227336E9": "2011-12-01 10:00",
    "1322733600000": "2011-12-01 10:00",
    "1.3227336E12": "2011-12-01 10:00",
    "1322733600000000": "2011-12-01 10:00",
    "1322733600000000000": "2011-12-01 10:00",
    "-1322733600": "1928-02-01 14:00",
    # Compact dates are no such numbers, and can't be told from them.
    "20111201": None,
    "20111201100000": None,
    "20111201100000123": None,
}


def times(spark: SparkSession, texts: list[str], timezone: str, pattern: str | None = None) -> dict[str, Any]:
    raw = raw_texts(spark, texts)
    at = F.date_format(timestamp(raw, "x", pattern, timezone), "yyyy-MM-dd HH:mm").alias("at")
    return {row["text:x"]: row["at"] for row in raw.frame.select(F.col("`text:x`"), at).collect()}


def test_times_as_people_and_machines_write_them(spark: SparkSession) -> None:
    assert times(spark, list(TIMES), "Europe/London") == TIMES


def test_a_pattern_of_the_profile_wins(spark: SparkSession) -> None:
    found = times(spark, ["20111201", "1322733600", "2011-12-01"], "UTC", "yyyyMMdd")
    assert found == {"20111201": "2011-12-01 00:00", "1322733600": None, "2011-12-01": None}
    # Here the pattern holds the offset, so that the shop's zone says nothing.
    american = times(spark, ["07/01/2011 10:00 +0200"], "Europe/London", "MM/dd/yyyy HH:mm Z")
    assert list(american.values()) == ["2011-07-01 08:00"]


ZONES = ("Europe/Berlin", "America/St_Johns", "Asia/Kathmandu", "UTC")
FORMS = (
    lambda t: t.isoformat(),
    lambda t: t.isoformat(" "),
    lambda t: t.isoformat().replace("+00:00", "Z"),
    lambda t: t.isoformat().replace(".", ","),
    lambda t: f"{t:%Y-%m-%d %H:%M:%S.%f%z}",
    lambda t: f"{t:%Y-%m-%d %H:%M:%S.%f} {t:%z}",
    lambda t: f"{t:%Y-%m-%dT%H:%M:%S.%f}000{t:%z}",
    lambda t: f"{t:%Y-%m-%d %H:%M:%S.%f} {t.tzinfo}" if isinstance(t.tzinfo, ZoneInfo) else t.isoformat(),
    lambda t: f"{t.astimezone(UTC):%Y%m%dT%H%M%S}.{t.microsecond:06}Z",
    lambda t: f"{t.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f} UTC",
    lambda t: f"{t.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}+00",
    lambda t: str((t - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)),
    lambda t: f"{(t - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)}000",
)


@settings(max_examples=3, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.datetimes(datetime(1990, 1, 1), datetime(2060, 1, 1)),
            st.sampled_from([ZoneInfo(name) for name in ZONES])
            | st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes))),
        ),
        min_size=20,
        max_size=20,
    )
)
def test_every_form_of_a_moment_reads_back(spark: SparkSession, moments: list[tuple[datetime, Any]]) -> None:
    expected = {}
    for naive, zone in moments:
        # An hour that a clock shows twice has two meanings.
        moment = naive.replace(tzinfo=UTC).astimezone(zone)
        if moment.utcoffset() != moment.replace(fold=1 - moment.fold).utcoffset():
            continue
        for form in FORMS:
            expected[form(moment)] = naive.isoformat(" ", "microseconds")
    raw = raw_texts(spark, expected)
    at = F.date_format(timestamp(raw, "x", None, "Asia/Tokyo"), "yyyy-MM-dd HH:mm:ss.SSSSSS").alias("at")
    assert {row["text:x"]: row["at"] for row in raw.frame.select(F.col("`text:x`"), at).collect()} == expected


@settings(max_examples=2, deadline=None)
@given(
    st.lists(st.text("0123456789-+:.,TZ /[]UTCeuropa", max_size=25) | st.text(max_size=20), min_size=150, max_size=150)
)
def test_any_text_is_a_time_or_none(spark: SparkSession, texts: list[str]) -> None:
    raw = raw_texts(spark, texts)
    assert raw.frame.where(timestamp(raw, "x", None, "Europe/Berlin") < "0001-01-01").count() == 0


def test_times_of_typed_columns(spark: SparkSession, tmp_path: Path) -> None:
    frame = spark.createDataFrame(
        [(1322733600, 1322733600000, 1322733600000007, 1322733600000007999, 1322733600.5, float("nan"))],
        "s bigint, ms bigint, us bigint, ns bigint, float double, none double",
    )
    frame = frame.withColumn("ntz", F.lit(datetime(2011, 7, 1, 10)).cast("timestamp_ntz"))
    path = str(tmp_path / "t.parquet")
    frame.write.parquet(path)
    wanted = {name: name for name in frame.columns}
    section = Sourced(source=Source(path=path, format="parquet"))
    table = sources.read_rows(spark, section, "events", wanted, str, date(2024, 1, 1))
    columns = [
        F.date_format(timestamp(table, name, None, "Europe/London"), "yyyy-MM-dd HH:mm:ss.SSSSSS") for name in wanted
    ]
    row = table.frame.select(*columns).head()
    assert row is not None
    ten = "2011-12-01 10:00:00"
    exact = [f"{ten}.000000", f"{ten}.000000", f"{ten}.000007", f"{ten}.000007", f"{ten}.500000", None]
    assert list(row) == [*exact, "2011-07-01 09:00:00.000000"]
