"""The note of a run in Airflow, written by the scheduler when the run ends.

Tasks have no way to write one: they speak to Airflow's execution API, which can read notes and not set them. So the
publishing task leaves the note as an XCom, and this listener, which runs in the scheduler within its own transaction,
puts it where people see it.
"""

from __future__ import annotations

from airflow.listeners import hookimpl
from airflow.models.dagrun import DagRun
from airflow.models.xcom import XComModel
from sqlalchemy.orm import object_session

NOTE = "note"
_PUBLISH = "publish_recommendations"


@hookimpl
def on_dag_run_success(dag_run: DagRun) -> None:
    """Take over what the publishing task says of the run."""
    _write_note(dag_run)


@hookimpl
def on_dag_run_failed(dag_run: DagRun) -> None:
    """Take over why the publishing task refused."""
    _write_note(dag_run)


def _write_note(dag_run: DagRun) -> None:
    session = object_session(dag_run)
    left = XComModel.get_many(run_id=dag_run.run_id, key=NOTE, task_ids=_PUBLISH, dag_ids=dag_run.dag_id)
    found = session.scalars(left).first() if session is not None else None
    by_person = dag_run.dag_run_note is not None and dag_run.dag_run_note.user_id is not None
    if found is not None and not by_person:
        dag_run.note = XComModel.deserialize_value(found)
