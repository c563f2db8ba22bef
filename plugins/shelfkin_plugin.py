"""What Airflow loads: pages and where in its own UI they stand, the note of a run, and the deadline of a shop."""

from __future__ import annotations

from typing import Any, ClassVar

from airflow.plugins_manager import AirflowPlugin

from shelfkin_airflow import run_note
from shelfkin_airflow.deadline import PublishBy
from shelfkin_airflow.timetable import CronWithCatchup
from shelfkin_airflow.ui.app import URL_PREFIX, app


def _view(name: str, destination: str, route: str, page: str) -> dict[str, Any]:
    # `href` is relative: Airflow may be served below a path of its own.
    return {
        "name": name,
        "destination": destination,
        "url_route": f"shelfkin-{route}",
        "href": f"{URL_PREFIX.lstrip('/')}/{page}",
    }


class ShelfkinPlugin(AirflowPlugin):
    """Pages for shops, runs and tasks, and the schedule of shops."""

    name = "shelfkin"
    timetables: ClassVar[list[type[CronWithCatchup]]] = [CronWithCatchup]
    fastapi_apps: ClassVar[list[dict[str, Any]]] = [{"app": app, "url_prefix": URL_PREFIX, "name": "shelfkin"}]
    listeners: ClassVar[list[Any]] = [run_note]
    deadline_references: ClassVar[list[Any]] = [PublishBy]
    external_views: ClassVar[list[dict[str, Any]]] = [
        _view("Recommendations", "nav", "shops", "shops"),
        _view("Shop", "dag", "shop", "dags/{DAG_ID}"),
        _view("Result", "dag_run", "result", "dags/{DAG_ID}/runs/{RUN_ID}"),
        _view("Report", "task_instance", "report", "dags/{DAG_ID}/runs/{RUN_ID}/tasks/{TASK_ID}"),
    ]
