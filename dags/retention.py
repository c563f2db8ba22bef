"""# Retention

Every day, for every shop: removes old runs and the rows that were turned away long ago, as the `retention` of the
shop's profile says (nothing without one), and erases customers who are to be forgotten wherever they are still found.
What readers get, the newest runs, and runs that changed within the last week stay. The same by command: `make prune`
and `make forget`.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.sdk import DAG, Param

from shelfkin.settings import Settings
from shelfkin_airflow.notifications import RunNotifier
from shelfkin_airflow.retention import RetentionOperator

stores = [profile.store for profile in Settings.from_env().profiles()[0] if profile.enabled]
if stores:
    with DAG(
        dag_id="retention",
        dag_display_name="Retention: prune and forget",
        doc_md=__doc__,
        schedule="45 2 * * *",
        start_date=datetime(2024, 1, 1),
        catchup=False,
        max_active_runs=1,
        params={
            "store": Param(
                "", type="string", enum=["", *stores], title="Shop", description="Only this one; blank: all."
            )
        },
        tags=["shelfkin"],
        default_args={
            "owner": "shelfkin",
            "retries": 2,
            "retry_delay": timedelta(minutes=5),
            "execution_timeout": timedelta(hours=2),
            "on_failure_callback": RunNotifier(),
        },
    ) as dag:
        for store in stores:
            # The pool of publishing: no pointer moves meanwhile but by somebody's hand.
            RetentionOperator(task_id=store, store=store, only="{{ params.store }}", pool="publishing")
