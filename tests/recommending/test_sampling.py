"""Samples by a salted hash."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from shelfkin.recommending.sampling import sampled

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.spark


def test_about_as_many_keys_as_wanted_stay_whole(spark: SparkSession) -> None:
    table = spark.createDataFrame([(f"u{n}", line) for n in range(2_000) for line in range(2)], "user_id string, n int")

    def drawn(n: int, n_wanted: int, salt: str) -> set[str]:
        rows = [row["user_id"] for row in sampled(table, "user_id", n, n_wanted, salt).collect()]
        assert len(rows) == 2 * len(set(rows))  # both lines of a user, or none
        return set(rows)

    one, other = drawn(2_000, 500, "one"), drawn(2_000, 500, "other")
    # The standard deviation of the number is 19.
    assert 400 < len(one) < 600
    assert one == drawn(2_000, 500, "one")
    # Another purpose is another sample: a quarter of it is in the first by chance.
    assert len(one & other) < 200
    assert len(drawn(2_000, 2_000, "all")) == 2_000
    # Shares below 1 of 10,000 are no empty table: of 2,000,000 ids, 5,000 of 100,000,000 are 100.
    assert 50 < sampled(spark.range(2_000_000), "id", 100_000_000, 5_000, "small").count() < 150
