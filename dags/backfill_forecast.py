"""# Forecast of a backfill

Says what a backfill of a shop would change and embed, before it is made: every day is cleaned as its run would clean it
today, and compared with what is published for it. Nothing is embedded or published. The page **Shop**, **Backfill**
triggers it and shows what it found.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from airflow.sdk import DAG, Param

from shelfkin.settings import Settings
from shelfkin_airflow.operators import SparkStageOperator

PROJECT = Path(__file__).resolve().parents[1]

settings = Settings.from_env()
stores = [profile.store for profile in settings.profiles()[0] if profile.enabled and profile.schedule]
if stores:
    with DAG(
        dag_id="backfill_forecast",
        dag_display_name="Forecast of a backfill",
        doc_md=__doc__,
        schedule=None,
        max_active_runs=1,
        params={
            "store": Param(stores[0], type="string", enum=stores, title="Shop", description="Whose days."),
            "from_day": Param(type="string", format="date", title="First day", description="As of this date."),
            "to_day": Param(type="string", format="date", title="Last day", description="As of this date."),
        },
        tags=["shelfkin"],
        default_args={"owner": "shelfkin", "retries": 1, "execution_timeout": timedelta(hours=2)},
    ):
        SparkStageOperator(
            task_id="forecast_backfill",
            spark_apps_dir=str(PROJECT / "spark_apps"),
            folders=settings.folders,
            of_run={"store": "{{ params.store }}", "as_of": "{{ params.to_day }}", "run_id": "{{ run_id }}"},
            stage_flags=["--from-day", "{{ params.from_day }}"],
            conf=settings.spark_conf,
            driver_memory=settings.driver_memory,
        )
