"""Time formats that would read another time than is written are refused when the profile is read."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F  # noqa: N812

from shelfkin.drafting.field_names import word_list
from shelfkin.time_patterns import check_time_pattern

READ = {
    "d/M/yyyy H:mm": ("2/5/2024 14:30", "2024-05-02 14:30:00"),
    "MM/dd/yyyy hh:mm:ss a": ("05/02/2024 12:30:09 AM", "2024-05-02 00:30:09"),
    "yyyy-MM-dd'T'HH:mm:ss.SSSXXX": ("2024-05-02T14:30:09.500+02:00", "2024-05-02 12:30:09.5"),
    "yyyy-MM-dd'T'HH:mm:ss'Z'": ("2024-05-02T14:30:09Z", "2024-05-02 14:30:09"),
    "yyyy-MM-dd HH:mm:ss 'UTC'": ("2024-05-02 14:30:09 UTC", "2024-05-02 14:30:09"),
    "yyyy-MM-dd[ HH:mm[:ss]]": ("2024-05-02 14:30", "2024-05-02 14:30:00"),
    "[yyyy-MM-dd][dd.MM.yyyy]": ("02.05.2024", "2024-05-02 00:00:00"),
    "yyyyMMdd": ("20240502", "2024-05-02 00:00:00"),
    "yyyyDDD": ("2024123", "2024-05-02 00:00:00"),
    "d MMM yy": ("2 May 24", "2024-05-02 00:00:00"),
}


@pytest.mark.spark
def test_what_passes_reads_what_is_written(spark: SparkSession) -> None:
    for pattern, (written, expected) in READ.items():
        column = F.try_to_timestamp(F.lit(written), F.lit(check_time_pattern(pattern))).cast("string")
        assert spark.range(1).select(column).head()[0] == expected, pattern  # type: ignore[index]


@pytest.mark.spark
def test_what_a_draft_may_write_reads_what_python_writes(spark: SparkSession) -> None:
    formats = word_list("time_formats")
    moment = datetime(2024, 3, 9, 17, 7, 5, tzinfo=UTC)
    pairs = [(day + clock, f"{one}{other}") for clock, other in formats["clocks"] for day, one in formats["dates"]]
    texts = {pattern: moment.strftime(python) for pattern, python in pairs}
    columns = [
        F.try_to_timestamp(F.lit(text), F.lit(check_time_pattern(pattern))).cast("string").alias(pattern)
        for pattern, text in texts.items()
    ]
    read = spark.range(1).select(*columns).head()
    for pattern, python in pairs:
        again = datetime.strptime(texts[pattern], python).replace(tzinfo=None)
        assert read is not None
        assert read[pattern] == f"{again:%Y-%m-%d %H:%M:%S}", (pattern, texts[pattern])


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("DD/MM/YYYY", ["dd", "yyyy"]),
        ("yyyy-MM-DD", ["dd"]),
        ("dd-MM-uuuu", ["the year is yyyy"]),
        ("MM/dd/yyyy hh:mm:ss", ["needs a", "HH"]),
        ("MM/dd/yyyy K:mm", ["needs a"]),
        ("dd.MM.yyyy HH:mm a", ["goes with hh"]),
        ("yyyy-mm-dd", ["the month is missing: MM"]),
        ("yyyy-MM-dd HH:MM", ["minutes mm"]),
        ("yyyy-MM-dd HH:mm:SS", ["seconds are ss"]),
        ("yyyy-MM-ddTHH:mm", ["in quotes: 'T'"]),
        ("EEEE, d MMMM yyyy", ["weekdays"]),
        ("yyyy-MM-dd mm:ss", ["the hours are missing"]),
        ("yyyy-MM HH:mm", ["the day is missing"]),
        ("yyyy-MM-dd 'at HH:mm", ["without its other half"]),
        ("yyyy-MM-dd [HH:mm", ["[ and ]"]),
        ("yyyy-MMMMM-dd", ["too long"]),
        ("yyyy", ["the month is missing"]),
        *(
            (word, ["seconds or milliseconds since 1970"])
            for word in ("epoch_s", "unix", "ISO", "auto", "", "%d.%m.%Y")
        ),
    ],
)
def test_what_would_read_another_time_is_refused(pattern: str, said: list[str]) -> None:
    with pytest.raises(ValueError) as refused:
        check_time_pattern(pattern)
    assert all(word in str(refused.value) for word in said), refused.value
