"""Keep Spark's classes as Java has read and checked them, so that every stage starts in half the time.

    bin/share_spark_classes.py          written to `spark_submit.SPARK_CLASSES`; `make setup` does it

By Java's dynamic class data sharing (JEP 350): a short Spark app runs, and the classes that it loaded are written to an
archive on exit. Java uses an archive only with the Java and the jars that it was made with, and does without otherwise,
so that nothing depends on it: where it can't be made this says so and succeeds.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from shelfkin.spark_submit import DRIVER_JAVA_OPTIONS, SPARK_CLASSES

TIMEOUT_S = 300


def main() -> int:
    """Make the archive."""
    SPARK_CLASSES.parent.mkdir(parents=True, exist_ok=True)
    made = SPARK_CLASSES.with_suffix(".new")
    options = f'{DRIVER_JAVA_OPTIONS} -Xlog:disable "-XX:ArchiveClassesAtExit={made}"'
    bin_dir = Path(sys.executable).parent
    env = {**os.environ, "PATH": f"{bin_dir}{os.pathsep}{os.environ['PATH']}", "PYSPARK_PYTHON": sys.executable}
    submit = [
        *(str(bin_dir / "spark-submit"), "--master", "local[2]", "--driver-memory", "1g"),
        *("--conf", "spark.ui.enabled=false", "--conf", "spark.log.level=ERROR"),
        *("--conf", f"spark.driver.extraJavaOptions={options}"),
        *(__file__, "app"),
    ]
    made.unlink(missing_ok=True)
    try:
        done = subprocess.run(submit, capture_output=True, text=True, timeout=TIMEOUT_S, env=env, check=False)
        failed = "" if done.returncode == 0 and made.is_file() else done.stderr[-500:] or f"status {done.returncode}"
    except (OSError, subprocess.TimeoutExpired) as error:
        failed = str(error)
    if failed:
        made.unlink(missing_ok=True)
        print(f"Spark will start a little slower: its classes could not be archived ({failed.strip()})")
        return 0
    made.replace(SPARK_CLASSES)
    return 0


def app() -> None:
    """Do a little of all that the stages do."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F  # noqa: N812

    from shelfkin.spark import build_session

    session = build_session("share-spark-classes")
    with tempfile.TemporaryDirectory() as folder:
        rows = [(f"u{n % 7}", f"p{n % 11}", float(n), n % 3 == 0) for n in range(200)]
        session.createDataFrame(rows, "user string, product string, value double, flag boolean").repartition(
            3, "user"
        ).write.parquet(f"{folder}/table")
        table = session.read.parquet(f"{folder}/table").persist()
        products = table.select("product").distinct().withColumn("name", F.upper(F.trim("product")))
        table.join(F.broadcast(products), "product").groupBy("user").agg(
            F.sum("value"), F.countDistinct("product"), F.sort_array(F.collect_list(F.struct("value", "product")))
        ).toPandas()
        newest = F.row_number().over(Window.partitionBy("product").orderBy(F.desc("value")))
        kept = table.withColumn("place", newest).filter("place = 1").withColumn("day", F.to_date(F.lit("2026-01-01")))
        kept.mapInArrow(lambda batches: batches, kept.schema).sortWithinPartitions("user").coalesce(1).write.json(
            f"{folder}/rows"
        )
        session.read.option("header", True).csv(f"{folder}/rows").count()
        table.unpersist()
    session.stop()


if __name__ == "__main__":
    if sys.argv[1:] == ["app"]:
        app()
    else:
        sys.exit(main())
