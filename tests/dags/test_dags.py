"""Integrity and policy of every DAG, and the exact command lines that reach spark-submit."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import subprocess
import sys
import traceback
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pendulum
import pytest
import yaml
from airflow.sdk import DAG
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowRescheduleException,
    ParamValidationError,
)
from airflow.serialization.decoders import decode_timetable
from airflow.serialization.encoders import encode_timetable
from airflow.timetables import interval
from airflow.timetables.base import DataInterval, TimeRestriction
from airflow.utils.types import DagRunType

from finished_run import stamped_rows, write_run
from shelfkin.artifacts import FORMAT_VERSION
from shelfkin.errors import PublishUnavailableError
from shelfkin.settings import Settings
from shelfkin.stages import STAGES
from shelfkin_airflow import operators
from shelfkin_airflow.notifications import RunNotifier
from shelfkin_airflow.operators import PublishOperator, SparkStageOperator
from shelfkin_airflow.timetable import CronWithCatchup

pytestmark = pytest.mark.airflow

PROJECT = Path(__file__).resolve().parents[2]
DAG_FILE = PROJECT / "dags" / "product_recommendations.py"


def load_dag_file() -> ModuleType:
    spec = importlib.util.spec_from_file_location("dags_under_test", DAG_FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def dags_of(module: ModuleType) -> dict[str, DAG]:
    return {value.dag_id: value for value in vars(module).values() if isinstance(value, DAG)}


@pytest.fixture(scope="module")
def dags() -> dict[str, DAG]:
    return dags_of(load_dag_file())


def test_the_default_store_has_the_plain_name_and_every_other_its_own(dags: dict[str, DAG]) -> None:
    assert set(dags) == {
        "product_recommendations",
        "product_recommendations__living_shop",
        "product_recommendations__online_retail",
        "product_recommendations__titles_only",
    }


def test_edges_are_the_documented_flow(dags: dict[str, DAG]) -> None:
    dag = dags["product_recommendations"]
    edges = {task.task_id: sorted(task.upstream_task_ids) for task in dag.tasks}
    assert edges == {
        "clean_catalog": [],
        "clean_events": [],
        "embed_products": ["clean_catalog", "clean_events"],
        "select_k": ["embed_products"],
        "cluster_products": ["clean_catalog", "embed_products", "select_k"],
        "evaluate_recommenders": ["clean_catalog", "clean_events", "cluster_products", "embed_products"],
        "build_recommendations": [
            "clean_catalog",
            "clean_events",
            "cluster_products",
            "embed_products",
            "evaluate_recommenders",
        ],
        "publish_recommendations": sorted(STAGES),
    }


def test_policy_of_every_dag_and_task(dags: dict[str, DAG]) -> None:
    for dag in dags.values():
        assert dag.max_active_runs == 1
        assert not dag.catchup
        assert "shelfkin" in dag.tags
        assert dag.doc_md and "make show" in dag.doc_md
        for task in dag.tasks:
            where = f"{dag.dag_id}.{task.task_id}"
            assert task.owner == "shelfkin", where
            assert task.retries and task.retries >= 1, where
            assert task.execution_timeout is not None and task.execution_timeout <= timedelta(hours=12), where
            pools = {"embed_products": "embedding", "publish_recommendations": "publishing"}
            assert task.pool == pools.get(task.task_id, "default_pool"), where


def test_every_stage_has_an_app_of_its_name(dags: dict[str, DAG]) -> None:
    for task in dags["product_recommendations"].tasks:
        if isinstance(task, SparkStageOperator):
            assert task.application == str(PROJECT / "spark_apps" / f"{task.task_id}.py")
            assert Path(task.application).is_file()


def test_every_param_describes_itself(dags: dict[str, DAG]) -> None:
    params = dags["product_recommendations"].params
    for name in params:
        schema = params.get_param(name).schema
        assert (schema.get("title") and schema.get("description")) or params.get_param(name).description, name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("as_of", "01.11.2011"),
        ("k", 1),
        ("k", 10_000),
        ("k", "many"),
        ("list_length", 0),
        ("repurchase", "sometimes"),
        ("publish", "yes"),
        ("model", "--conf spark.x=1"),
        ("dimensions", -5),
        ("ranker_windows", 13),
    ],
)
def test_invalid_params_are_refused(dags: dict[str, DAG], name: str, value: Any) -> None:
    with pytest.raises(ParamValidationError):
        dags["product_recommendations"].params.get_param(name).resolve(value)


def test_the_common_fields_come_first_and_the_rest_stands_in_sections(dags: dict[str, DAG]) -> None:
    params = dags["product_recommendations"].params
    sections = [params.get_param(name).schema.get("section") for name in params]
    assert list(params)[:3] == ["as_of", "publish", "list_length"]
    assert sections[:3] == [None] * 3 and all(sections[3:])
    # A section that is left and entered again would stand twice.
    assert len([one for one, before in zip(sections, [None, *sections], strict=False) if one != before]) == 3


def write_store(folder: Path, **changes: Any) -> None:
    profile = yaml.safe_load((PROJECT / "include" / "stores" / "online_retail.yaml").read_text())
    profile.update(changes)
    (folder / f"{profile['store']}.yaml").write_text(yaml.safe_dump(profile))


def test_a_scheduled_store_gets_a_data_interval_timetable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_store(tmp_path, store="daily_shop", schedule="0 3 * * *", start_date="2011-10-01")
    monkeypatch.setenv("SHELFKIN_STORES_DIR", str(tmp_path))
    dag = dags_of(load_dag_file())["product_recommendations__daily_shop"]
    # As the scheduler reads it, by a class that the plugin makes known.
    timetable = decode_timetable(encode_timetable(dag.timetable))
    assert type(timetable).__qualname__ == "CronWithCatchup"
    # The shop is in London, where summer time was an hour ahead; the cron line is on its clock.
    assert dag.start_date == datetime(2011, 9, 30, 23, tzinfo=UTC)
    assert timetable.serialize() == {"expression": "0 3 * * *", "timezone": "Europe/London", "catchup_runs": 1}
    # A scheduled run takes the end of its data interval; the form's default would override it.
    assert dag.params["as_of"] is None


@pytest.mark.parametrize(
    ("catchup_runs", "last_end", "first"),
    [
        (1, None, "2026-03-29"),
        (3, None, "2026-03-27"),
        # A pause of a month: the newest three, and not the rest.
        (3, "2026-03-01", "2026-03-27"),
        # Nothing was missed but the newest.
        (3, "2026-03-29", "2026-03-29"),
        # Never before the shop's first day.
        (9, None, "2026-03-25"),
    ],
)
def test_a_pause_is_made_up_for_by_the_newest_runs(
    catchup_runs: int, last_end: str | None, first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    timetable = CronWithCatchup("0 3 * * *", "Europe/Berlin", catchup_runs)
    # Summer time began on the 29th: an interval of 23 hours.
    at_3 = {day: pendulum.datetime(2026, 3, day, 3, tz="Europe/Berlin") for day in range(1, 31)}
    ended = at_3[date.fromisoformat(last_end).day] if last_end else None
    last = DataInterval(ended.subtract(days=1), ended) if ended else None
    monkeypatch.setattr(interval, "utcnow", lambda: at_3[30].add(hours=2))
    restriction = TimeRestriction(pendulum.datetime(2026, 3, 25, tz="Europe/Berlin"), None, catchup=False)
    info = timetable.next_dagrun_info(last_automated_data_interval=last, restriction=restriction)
    assert info is not None and info.data_interval.start == at_3[date.fromisoformat(first).day]


def test_a_disabled_store_has_no_dag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_store(tmp_path, store="closed_shop", enabled=False)
    monkeypatch.setenv("SHELFKIN_STORES_DIR", str(tmp_path))
    assert dags_of(load_dag_file()) == {}


def test_parsing_the_dag_file_imports_neither_pyspark_nor_the_stages() -> None:
    code = (
        "import sys, runpy; sys.path.insert(0, 'plugins'); runpy.run_path('dags/product_recommendations.py')\n"
        "heavy = ('pyspark', 'sklearn', 'duckdb', 'matplotlib', 'openai', 'psycopg')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert result.stdout.strip().splitlines()[-1] == "[]"


class Submitted(Exception):  # noqa: N818 - not an error: it ends a submission at its edge
    """Raised in place of starting spark-submit, with the command line that would have run."""


def rendered(dag: DAG, task_id: str, **params: Any) -> SparkStageOperator:
    """Return a stage with its templates rendered as Airflow would for a manual run."""
    task = dag.get_task(task_id)
    assert isinstance(task, SparkStageOperator)
    task.input_manifests = [f"/artifacts/{name}/manifest.json" for name in sorted(task.upstream_task_ids)]
    context = {
        "params": {**{name: dag.params[name] for name in dag.params}, **params},
        "run_id": "manual__2011-11-01T00:00:00+00:00",
        "data_interval_end": None,
        "dag_run": SimpleNamespace(run_after=datetime(2011, 11, 1, 8, tzinfo=UTC), run_type="manual"),
        "ti": SimpleNamespace(try_number=2),
    }
    task.render_template_fields(context)
    task.test_context = context  # type: ignore[attr-defined]
    return task


def submitted_command(task: SparkStageOperator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    from airflow.providers.apache.spark.hooks.spark_submit import SparkSubmitHook

    def capture(hook: SparkSubmitHook, application: str = "", **_: Any) -> None:
        raise Submitted(hook._build_spark_submit_command(application))

    monkeypatch.setattr(SparkSubmitHook, "submit", capture)
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    with pytest.raises(Submitted) as caught:
        task.execute(task.test_context)  # type: ignore[attr-defined]
    return caught.value.args[0]


def golden(command: list[str], tmp_path: Path) -> str:
    text = "\n".join(command) + "\n"
    for path, name in ((str(tmp_path), "<tmp>"), (str(PROJECT), "<project>")):
        text = text.replace(path, name)
    return (
        "\n".join("<package>.zip" if line.startswith("<tmp>/py_files/") else line for line in text.splitlines()) + "\n"
    )


@pytest.mark.parametrize("task_id", STAGES)
def test_spark_submit_command_lines_are_golden(task_id: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """This is what a cluster sees. After a change that is meant, write the files anew with UPDATE_GOLDEN=1."""
    monkeypatch.setenv("ARTIFACT_ROOT", str(tmp_path / "artifacts"))
    monkeypatch.setattr("shelfkin.spark_submit.SPARK_CLASSES", tmp_path / "none")
    dag = dags_of(load_dag_file())["product_recommendations__online_retail"]
    task = rendered(dag, task_id, as_of="2011-11-01", k=24, repurchase="exclude", model=None)
    command = submitted_command(task, monkeypatch, tmp_path)
    expected = PROJECT / "tests" / "golden" / f"{task_id}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        expected.write_text(golden(command, tmp_path))
    assert golden(command, tmp_path) == expected.read_text()


def test_a_cluster_is_a_change_of_one_connection(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ARTIFACT_ROOT", str(tmp_path / "artifacts"))
    monkeypatch.setenv(
        "AIRFLOW_CONN_SPARK_DEFAULT", '{"conn_type": "spark", "host": "spark://127.0.0.1", "port": 7077}'
    )
    dag = dags_of(load_dag_file())["product_recommendations__online_retail"]
    command = submitted_command(rendered(dag, "select_k"), monkeypatch, tmp_path)
    assert command[command.index("--master") + 1] == "spark://127.0.0.1:7077"


def test_no_secret_reaches_the_command_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ARTIFACT_ROOT", str(tmp_path / "artifacts"))
    monkeypatch.setenv("OPENAI_API_KEY", "key-that-must-not-travel")
    dag = dags_of(load_dag_file())["product_recommendations"]
    command = submitted_command(rendered(dag, "embed_products"), monkeypatch, tmp_path)
    assert "key-that-must-not-travel" not in " ".join(command)


def test_as_of_falls_back_to_the_run_date_and_never_needs_a_logical_date(monkeypatch: pytest.MonkeyPatch) -> None:
    dag = dags_of(load_dag_file())["product_recommendations"]
    assert rendered(dag, "select_k", as_of=None).of_run["as_of"] == "2011-11-01"


def failing_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, account: dict[str, Any] | None
) -> SparkStageOperator:
    """A stage whose spark-submit fails the way the provider reports it, after the app left its error.json."""
    from airflow.providers.apache.spark.hooks.spark_submit import SparkSubmitHook

    monkeypatch.setenv("ARTIFACT_ROOT", str(tmp_path / "artifacts"))
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    task = rendered(dags_of(load_dag_file())["product_recommendations"], "clean_events")

    def fail(hook: SparkSubmitHook, application: str = "", **_: Any) -> None:
        if account is not None:
            task.paths.root.put_json(task.paths.error_uri("clean_events"), account)
        raise AirflowException("Cannot execute: spark-submit ... Error code is: 1.")

    monkeypatch.setattr(SparkSubmitHook, "submit", fail)
    return task


ACCOUNT = {
    "kind": "source",
    "retryable": False,
    "message": "There is no file shop.csv.",
    "next_step": "Put the file there.",
}


def test_a_terminal_failure_says_what_to_do_and_is_not_retried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = failing_stage(tmp_path, monkeypatch, ACCOUNT)
    with pytest.raises(AirflowFailException) as caught:
        task.execute(task.test_context)  # type: ignore[attr-defined]
    assert str(caught.value).splitlines() == [
        "clean_events failed (source): There is no file shop.csv.",
        "Next step: Put the file there.",
    ]


def test_a_retryable_failure_stays_retryable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = failing_stage(tmp_path, monkeypatch, {**ACCOUNT, "retryable": True})
    with pytest.raises(AirflowException) as caught:
        task.execute(task.test_context)  # type: ignore[attr-defined]
    assert not isinstance(caught.value, AirflowFailException)


def test_the_error_of_an_earlier_try_is_not_reported_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = failing_stage(tmp_path, monkeypatch, None)
    task.paths.root.put_json(task.paths.error_uri("clean_events"), ACCOUNT)
    with pytest.raises(AirflowException, match="Error code is: 1"):
        task.execute(task.test_context)  # type: ignore[attr-defined]


def test_without_java_the_message_names_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(AirflowFailException, match="openjdk-17-jre-headless"):
        operators.require_java()


@pytest.mark.parametrize(
    ("run_type", "older_runs", "waits"), [("backfill", True, True), ("backfill", False, False), ("manual", True, False)]
)
def test_a_backfilled_day_waits_for_older_days_only(run_type: str, older_runs: bool, waits: bool) -> None:
    ti = SimpleNamespace(
        get_previous_dagrun=lambda state: SimpleNamespace() if older_runs and state == "running" else None
    )
    context: Any = {"dag_run": SimpleNamespace(run_type=run_type), "ti": ti}
    if waits:
        with pytest.raises(AirflowRescheduleException):
            operators.wait_for_older_days(context)
    else:
        operators.wait_for_older_days(context)


@pytest.mark.parametrize(
    ("run_type", "hours_ago", "there", "waits"),
    [
        ("scheduled", 1, False, True),
        ("scheduled", 1, True, False),
        # Longer than the profile's six hours: with the newest that there is.
        ("scheduled", 7, False, False),
        ("backfill", 1, False, False),
        ("manual", 1, False, False),
    ],
)
def test_a_scheduled_run_waits_for_the_catalogue_of_the_day_before(
    run_type: str, hours_ago: int, there: bool, waits: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = {
        "kind": "dated_snapshots",
        "source": {"path": str(tmp_path / "p-{snapshot_date}.csv")},
        "fields": {"product_id": "id", "title": "title"},
        "wait_hours": 6,
    }
    write_store(tmp_path, store="daily_shop", schedule="0 3 * * *", start_date="2011-10-01", catalog=catalog)
    monkeypatch.setenv("SHELFKIN_STORES_DIR", str(tmp_path))
    task = rendered(dags_of(load_dag_file())["product_recommendations__daily_shop"], "clean_catalog")
    day_before = task.paths.as_of - timedelta(days=1)
    (tmp_path / f"p-{day_before - timedelta(days=1)}.csv").touch()
    if there:
        (tmp_path / f"p-{day_before}.csv").touch()
    end = datetime.now(UTC) - timedelta(hours=hours_ago)
    context: Any = {"dag_run": SimpleNamespace(run_type=run_type, data_interval_end=end)}
    if waits:
        with pytest.raises(AirflowRescheduleException):
            task._wait_for_catalogue(context)
    else:
        task._wait_for_catalogue(context)


def test_the_stage_pushes_the_manifest_it_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.providers.apache.spark.hooks.spark_submit import SparkSubmitHook

    monkeypatch.setenv("ARTIFACT_ROOT", str(tmp_path / "artifacts"))
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    task = rendered(dags_of(load_dag_file())["product_recommendations"], "select_k")

    def succeed(hook: SparkSubmitHook, application: str = "", **_: Any) -> None:
        task.paths.root.put_json(
            task.paths.manifest_uri("select_k"),
            {"format_version": FORMAT_VERSION, "stage": "select_k", "tables": {}, "metrics": {"k": 24}},
        )

    monkeypatch.setattr(SparkSubmitHook, "submit", succeed)
    message = task.execute(task.test_context)  # type: ignore[attr-defined]
    assert message["manifest"] == task.paths.manifest_uri("select_k")
    assert message["k"] == 24


def test_publish_sends_its_asset_through_an_alias() -> None:
    """A plain outlet would send the event for a what-if run too."""
    dag = dags_of(load_dag_file())["product_recommendations"]
    publish = dag.get_task("publish_recommendations")
    assert isinstance(publish, PublishOperator)
    assert [outlet.name for outlet in publish.outlets] == ["complete_journey_published"]
    assert operators.published_asset("complete_journey").uri == "shelfkin://published/complete_journey"


def test_settings_of_this_file_are_those_of_the_environment() -> None:
    assert (
        Settings.from_env({"SHELFKIN_SPARK_CONF": '{"spark.executor.cores": 4}'}).spark_conf["spark.executor.cores"]
        == "4"
    )


def test_a_backfill_that_runs_backwards_is_refused() -> None:
    """With run_backwards the older day is queued while the newer one runs; waiting for it could last for ever."""
    older = SimpleNamespace(run_type="backfill", run_id="backfill__2011-10-31")
    ti = SimpleNamespace(get_previous_dagrun=lambda state: older if state == "queued" else None)
    context: Any = {"dag_run": SimpleNamespace(run_type="backfill"), "ti": ti}
    with pytest.raises(AirflowFailException, match="backfill__2011-10-31 is still queued"):
        operators.wait_for_older_days(context)


def test_only_a_scheduled_store_is_told_how_to_backfill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_store(tmp_path, store="daily_shop", schedule="0 3 * * *", start_date="2011-10-01")
    write_store(tmp_path, store="frozen_shop")
    monkeypatch.setenv("SHELFKIN_STORES_DIR", str(tmp_path))
    dags = dags_of(load_dag_file())
    assert "--dag-id product_recommendations__daily_shop" in str(dags["product_recommendations__daily_shop"].doc_md)
    assert "backfill create" not in str(dags["product_recommendations__frozen_shop"].doc_md)


def test_the_password_of_a_shops_database_and_the_webhook_stand_in_no_dag(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    monkeypatch.setenv("SHELFKIN_PUBLISH_POSTGRES", "postgresql://keeper:c0ffee@127.0.0.1:1/shop")
    monkeypatch.setenv("SHELFKIN_NOTIFY_WEBHOOK", "https://hooks.example/c0ffee")
    module = load_dag_file()
    assert module.SETTINGS.publish_postgres is not None and module.SETTINGS.notify_webhook is not None
    for dag in dags_of(module).values():
        assert "c0ffee" not in json.dumps(DagSerialization.to_dict(dag))
        assert "c0ffee" not in repr([vars(task) for task in dag.tasks])


def test_every_failure_is_told(dags: dict[str, DAG]) -> None:
    for dag in dags.values():
        for task in dag.tasks:
            assert [type(told) for told in task.on_failure_callback] == [RunNotifier], task.task_id


def test_a_shop_with_publish_by_has_a_deadline_that_airflow_can_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.serialization.decoders import decode_deadline_alert
    from airflow.serialization.encoders import encode_deadline_alert

    daily = {"schedule": "0 3 * * *", "start_date": "2011-10-01", "timezone": "Europe/London"}
    write_store(tmp_path, store="timely_shop", publish_by="06:00", **daily)
    write_store(tmp_path, store="easy_shop", **daily)
    monkeypatch.setenv("SHELFKIN_STORES_DIR", str(tmp_path))
    dags = dags_of(load_dag_file())
    assert not dags["product_recommendations__easy_shop"].deadline
    (alert,) = dags["product_recommendations__timely_shop"].deadline
    read_back = decode_deadline_alert(encode_deadline_alert(alert))
    assert read_back.callback.path == "shelfkin_airflow.notifications.RunNotifier"

    def due(run_type: DagRunType, run_after: datetime) -> datetime | None:
        run = SimpleNamespace(run_type=run_type, run_after=run_after)
        session: Any = SimpleNamespace(scalars=lambda _: SimpleNamespace(one=lambda: run))
        return read_back.reference.evaluate_with(session=session, interval=alert.interval, dag_id="d", run_id="r")

    now = datetime.now(UTC)
    deadline = due(DagRunType.SCHEDULED, now)
    assert deadline is not None and now < deadline <= now + timedelta(days=1)
    assert deadline.astimezone(ZoneInfo("Europe/London")).strftime("%H:%M") == "06:00"
    assert due(DagRunType.SCHEDULED, now - timedelta(days=3)) is None
    assert due(DagRunType.MANUAL, now) is None and due(DagRunType.BACKFILL_JOB, now) is None


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("postgresql://keeper:c0ffee@127.0.0.1:1/shop", PublishUnavailableError),
        ("postgresql://keeper:%zzc0ffee@127.0.0.1:1/shop", AirflowFailException),
        ("keeper:c0ffee@127.0.0.1", AirflowFailException),
    ],
)
def test_a_database_that_can_not_be_had_fails_the_task_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, kind: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("SHELFKIN_PUBLISH_POSTGRES", url)
    paths, uris = write_run(tmp_path, stamped_rows(1))
    publish = PublishOperator(
        task_id="publish_recommendations",
        artifact_root=str(tmp_path),
        of_run=paths.identity(),
        publish="True",
        input_manifests=uris,
    )
    with pytest.raises(kind) as caught:
        publish.execute({})
    shown = "".join(traceback.format_exception(caught.value)) + caplog.text
    assert "Next step: " in shown and "c0ffee" not in shown
    assert not paths.root.exists(paths.latest_uri()) and not paths.root.exists(paths.published_uri())
