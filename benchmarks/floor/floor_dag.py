"""# Floor

As many Spark tasks as `product_recommendations` has, one after the other, each with the least that a stage can do.
`make bench-demo` runs it beside the demo.
"""

from __future__ import annotations

import os

from airflow.sdk import DAG

from shelfkin.settings import Settings
from shelfkin.stages import STAGES
from shelfkin_airflow.operators import SparkStageOperator

settings = Settings.from_env()
with DAG(dag_id="floor", doc_md=__doc__, schedule=None, tags=["shelfkin"], default_args={"owner": "shelfkin"}):
    before: list[SparkStageOperator] = []
    for stage in STAGES:
        task = SparkStageOperator(
            task_id=stage,
            spark_apps_dir=os.environ["FLOOR_APPS"],
            folders=settings.folders,
            of_run={"store": "titles_only", "as_of": "2026-01-01", "run_id": "{{ run_id }}"},
            input_manifests=[task.output["manifest"] for task in before],
            conf=settings.spark_conf,
            driver_memory=settings.driver_memory,
        )
        before = [task]
