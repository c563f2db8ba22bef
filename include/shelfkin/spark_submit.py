"""What spark-submit is told of a stage's driver: Java options and settings of Spark.

Settings that results depend on stand in `shelfkin.spark`. This module imports no pyspark: the DAG processor reads it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from shelfkin.errors import ProfileError
from shelfkin.json_object import json_object

# What `make setup` keeps of Spark's classes for its next starts (`bin/share_spark_classes.py`), if it could.
SPARK_CLASSES = Path(sys.prefix) / "share" / "shelfkin" / "spark-classes.jsa"
# On two cores a stage of a minute takes 14% less time with the parallel collector than with Java's default. The second
# compiler's thresholds are 20 times Java's own: most of what such a stage runs is run too seldom to earn back the time
# of compiling it twice (decision 0029).
DRIVER_JAVA_OPTIONS = (
    "-XX:+UseParallelGC -XX:Tier4InvocationThreshold=100000 -XX:Tier4MinInvocationThreshold=12000 "
    "-XX:Tier4CompileThreshold=300000 -XX:Tier4BackEdgeThreshold=800000"
)
_CONF = {
    # The UI of a job that lives for a minute is of no use and costs a Jetty server; WARN keeps a task log readable.
    "spark.ui.enabled": "false",
    "spark.log.level": "WARN",
    # No limit: how large a catalogue may be is checked by `driver_memory`, before its vectors are paid for. Spark's own
    # 1 GB would stop a run in its sixth stage.
    "spark.driver.maxResultSize": "0",
}


def submit_conf(extra: str | None) -> dict[str, str]:
    """Return the settings for ``spark-submit --conf``.

    Parameters
    ----------
    extra
        ``SHELFKIN_SPARK_CONF``: a JSON object of further settings, which win over ours; blank or None for none.
    """
    given = json_object(extra or "{}", "SHELFKIN_SPARK_CONF", ProfileError)
    ours = {**_CONF, "spark.driver.extraJavaOptions": f"{DRIVER_JAVA_OPTIONS} {shared_classes()}".rstrip()}
    return ours | {key: str(value) for key, value in given.items()}


def shared_classes() -> str:
    """Return the Java option that takes Spark's classes from the file that `make setup` keeps; blank without it."""
    # Another Java than the one that it was made with does without, and need not say so.
    quiet = "-Xshare:auto -Xlog:disable -Xlog:all=error:stderr"
    return f'"-XX:SharedArchiveFile={SPARK_CLASSES}" {quiet}' if SPARK_CLASSES.is_file() else ""
