"""One Spark session for every test that needs one, and small helpers that hide no assertions."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """The shared local session: two threads, few partitions, no UI."""
    os.environ["PYSPARK_PYTHON"] = sys.executable
    from shelfkin.spark import build_session
    from shelfkin.spark_submit import shared_classes

    session = build_session(
        "tests",
        {
            "spark.master": "local[2]",
            "spark.ui.enabled": "false",
            "spark.sql.shuffle.partitions": "2",
            "spark.default.parallelism": "2",
            # Adaptive plans and generated code cost small tables a third of their time. The whole runs of tests/e2e, in
            # processes of their own, keep both.
            "spark.sql.adaptive.enabled": "false",
            "spark.sql.codegen.wholeStage": "false",
            "spark.sql.codegen.factoryMode": "NO_CODEGEN",
            "spark.driver.memory": "2g",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.driver.host": "127.0.0.1",
            "spark.sql.warehouse.dir": str(tmp_path_factory.mktemp("warehouse")),
            "spark.driver.extraJavaOptions": f"-XX:+UseSerialGC -XX:TieredStopAtLevel=1 {shared_classes()}",
        },
    )
    # Its connections close when Python ends, and would say so to a stream that pytest has closed.
    logging.getLogger("py4j").setLevel(logging.WARNING)
    yield session
    session.stop()


@pytest.fixture(scope="session")
def reference_data() -> Path:
    """The folder of the reference data sets; skips where this machine has none."""
    folder = os.environ.get("SHELFKIN_REFERENCE_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("set SHELFKIN_REFERENCE_DATA to the folder of the reference data sets (see README)")
    return Path(folder)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, so that no worker is left with one at the end: whole runs, then Spark, then the rest."""

    def place(item: pytest.Item) -> int:
        return 0 if item.get_closest_marker("e2e") else 1 if item.get_closest_marker("spark") else 2

    items.sort(key=place)
