"""# Product recommendations

Turns a shop's raw catalogue and event log into **product clusters**, **similar products** and **personal
recommendations**, as of one date.

| task | what it does |
|---|---|
| `clean_catalog`, `clean_events` | repair and check the raw data; what can't be used goes to quarantine with a reason |
| `embed_products` | one vector per distinct product text, from OpenAI, a compatible server or the bundled model |
| `select_k` | tries a range of cluster counts and chooses one, with reasons |
| `cluster_products` | k-means on unit vectors; names the clusters; keeps their ids from day to day |
| `evaluate_recommenders` | learns to rank from past windows; scores our lists beside strong baselines on the newest |
| `build_recommendations` | similar products, personal lists with reasons, popular products |
| `publish_recommendations` | if the gate lets it, fills the shop's Postgres, moves the pointer, sends the Asset event |

**as_of** is the run's date, midnight UTC: only what was known before it is used. Scheduled runs and backfills take the
end of their data interval, the last midnight UTC before it; a manual run takes the Param, and without it the end of its
data interval. The `schedule` is on the clock of the profile's `timezone`.

**Look at the result** with `make show STORE=<store>`. Every task's XCom holds the path of its manifest and the figures
that matter. **If a task fails**, its last log lines say what was wrong and what to do next.

"""

from __future__ import annotations

import warnings
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from airflow.sdk import DAG, DeadlineAlert, Param, SyncCallback

from shelfkin.profile import StoreProfile
from shelfkin.run_form import run_form
from shelfkin.settings import Settings
from shelfkin_airflow.deadline import PublishBy
from shelfkin_airflow.notifications import RunNotifier
from shelfkin_airflow.operators import PublishOperator, SparkStageOperator
from shelfkin_airflow.timetable import CronWithCatchup

PROJECT = Path(__file__).resolve().parents[1]
EMBEDDING_POOL = "embedding"
PUBLISHING_POOL = "publishing"

BACKFILL_DOC = """
**To backfill**: the tab Shop, page Backfill, says what that would change, and does it. By command:
`airflow backfill create --dag-id {dag_id} --from-date 2026-01-01 --to-date 2026-01-03`. Days run in date order, oldest
first, and only texts that changed are embedded again.
"""

FROZEN_DOC = """
This store's profile has no `schedule`: it runs only when triggered, and Airflow backfills only scheduled DAGs.
"""

AS_OF = "{{ params.as_of or ((data_interval_end or dag_run.run_after) | ds) }}"


def flags(*params: str) -> list[str]:
    """Return a stage's flags, each the template of the Param of its name; one that is left blank is an empty flag."""
    return [
        word
        for name in params
        for word in (f"--{name.replace('_', '-')}", f"{{{{ '' if params.{name} is none else params.{name} }}}}")
    ]


def late_alert(profile: StoreProfile) -> DeadlineAlert | None:
    """Return the alert for a scheduled run that hasn't ended by the shop's ``publish_by``."""
    if profile.publish_by is None:
        return None
    return DeadlineAlert(
        name=f"published by {profile.publish_by}",
        reference=PublishBy(profile.publish_by, profile.timezone),
        interval=timedelta(0),
        callback=SyncCallback(RunNotifier),
    )


def recommendations_dag(profile: StoreProfile, settings: Settings) -> DAG:
    """Return one store's DAG: wiring only, every stage is a Spark app of the task's name."""
    dag_id, zone = settings.dag_id(profile.store), ZoneInfo(profile.timezone)
    dag = DAG(
        dag_id=dag_id,
        dag_display_name=f"Recommendations: {profile.title}",
        description=f"Clusters, similar products and recommendations for {profile.title}",
        doc_md=(__doc__ or "") + (BACKFILL_DOC.format(dag_id=dag_id) if profile.schedule else FROZEN_DOC),
        schedule=CronWithCatchup(profile.schedule, profile.timezone, profile.catchup_runs)
        if profile.schedule
        else None,
        start_date=datetime.combine(profile.start_date, datetime.min.time(), zone) if profile.start_date else None,
        catchup=False,  # beyond the schedule's own
        max_active_runs=1,
        params={name: Param(**field) for name, field in run_form(profile).items()},
        deadline=late_alert(profile),
        tags=["shelfkin", profile.store],
        default_args={
            "owner": "shelfkin",
            "retries": 2,
            "retry_delay": timedelta(minutes=1),
            "retry_exponential_backoff": True,
            "max_retry_delay": timedelta(minutes=15),
            "execution_timeout": timedelta(hours=2),
            "on_failure_callback": RunNotifier(),
        },
    )
    of_run = {"store": profile.store, "as_of": AS_OF, "run_id": "{{ run_id }}"}
    with dag:

        def stage(
            task_id: str, reads: tuple[SparkStageOperator, ...], stage_flags: list[str], **kwargs: Any
        ) -> SparkStageOperator:
            return SparkStageOperator(
                task_id=task_id,
                spark_apps_dir=str(PROJECT / "spark_apps"),
                folders=settings.folders,
                of_run=of_run,
                stage_flags=stage_flags,
                input_manifests=[upstream.output["manifest"] for upstream in reads],
                conf=settings.spark_conf,
                driver_memory=settings.driver_memory,
                **kwargs,
            )

        lists = flags("list_length", "repurchase", "repurchase_after_days")
        embedding = flags("model", "dimensions", "budget_usd")

        catalog = stage("clean_catalog", (), [], in_date_order=True, waits_for_catalogue=True)
        events = stage("clean_events", (), [], in_date_order=True)
        # One slot: two stages that embed at the same time would each believe that they own the API quota.
        vectors = stage(
            "embed_products", (catalog, events), embedding, pool=EMBEDDING_POOL, execution_timeout=timedelta(hours=12)
        )
        chosen_k = stage("select_k", (vectors,), flags("k"))
        clusters = stage("cluster_products", (catalog, vectors, chosen_k), [])
        metrics = stage("evaluate_recommenders", (catalog, events, vectors, clusters), lists + flags("ranker_windows"))
        tables = stage("build_recommendations", (catalog, events, vectors, clusters, metrics), lists)
        PublishOperator(
            task_id="publish_recommendations",
            # One slot: the pointer is read, then moved, and a backfill may run beside a scheduled day.
            pool=PUBLISHING_POOL,
            artifact_root=settings.artifact_root,
            of_run=of_run,
            publish="{{ params.publish }}",
            override_gate="{{ params.override_gate }}",
            input_manifests=[
                upstream.output["manifest"]
                for upstream in (catalog, events, vectors, chosen_k, clusters, metrics, tables)
            ],
        )
    return dag


SETTINGS = Settings.from_env()
profiles, problems = SETTINGS.profiles()
for profile in profiles:
    if profile.enabled:
        globals()[f"dag_{profile.store}"] = recommendations_dag(profile, SETTINGS)
for problem in problems:
    # An error here would take the DAGs of every other store down; store_profiles.py shows it as one of its own.
    warnings.warn(problem, stacklevel=1)
