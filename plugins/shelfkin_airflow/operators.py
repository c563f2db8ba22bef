"""Operators: one that submits a stage to Spark and hands its manifest on, and one that publishes a run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk import Asset, AssetAlias, BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowRescheduleException
from airflow.sdk.log import mask_secret

from shelfkin.artifacts import Manifest, Root, RunPaths, failure_account
from shelfkin.errors import GateError, ShelfkinError
from shelfkin.packaging import package_zip
from shelfkin.profile import resolve_path
from shelfkin.run_progress import report, reported
from shelfkin.settings import Settings
from shelfkin.snapshots import is_delivered

if TYPE_CHECKING:
    from airflow.sdk import Context

    from shelfkin.serving.publish import PublishResult

# Seconds between two looks at an older day of the same backfill.
_POLL_INTERVAL_S = 20
# And at the place where a catalogue is delivered.
_CATALOGUE_INTERVAL_S = 60


class SparkStageOperator(SparkSubmitOperator):
    """Submit ``spark_apps/<task_id>.py``, then push its manifest's path and scalars to XCom.

    ``SparkSubmitOperator.execute`` returns None and reports every failure as "Error code is: 1". This one reads the
    manifest that the stage wrote and, on failure, the stage's ``error.json``: the message becomes the last lines of
    the task log, and a kind that another try can't mend becomes `AirflowFailException`.

    Parameters
    ----------
    of_run
        ``store``, ``as_of`` and ``run_id``, which name the run in the artifact layout (templated).
    folders
        ``artifact_root``, ``stores_dir`` and ``data_dir``: where artifacts, store profiles and the demo's raw data are.
    stage_flags
        The stage's own flags, as ``["--k", "auto"]`` (templated).
    input_manifests
        Manifest URIs of the stages this one reads (templated; usually ``other.output["manifest"]``).
    in_date_order
        Wait until older days of the same backfill have ended. A backfill has its own ``max_active_runs``, 10 unless
        told otherwise, but cluster identity passes from day to day. A failed day counts as ended, so that it doesn't
        hold up the rest.
    waits_for_catalogue
        Wait until the catalogue's snapshot of the day before is there, as long as the profile's ``catalog.wait_hours``.
    """

    template_fields: Sequence[str] = (
        *(name for name in SparkSubmitOperator.template_fields if name != "application_args"),
        "of_run",
        "stage_flags",
        "input_manifests",
    )

    def __init__(
        self,
        *,
        spark_apps_dir: str,
        folders: Mapping[str, str],
        of_run: Mapping[str, str],
        stage_flags: Sequence[str] = (),
        input_manifests: Sequence[Any] = (),
        in_date_order: bool = False,
        waits_for_catalogue: bool = False,
        **kwargs: Any,
    ) -> None:
        task_id = kwargs["task_id"]
        kwargs.setdefault("name", f"shelfkin-{task_id}")
        super().__init__(
            application=str(Path(spark_apps_dir) / f"{task_id}.py"), multiple_outputs=True, durable=False, **kwargs
        )
        self.folders = dict(folders)
        self.of_run = dict(of_run)
        self.stage_flags = list(stage_flags)
        self.input_manifests = list(input_manifests)
        self.in_date_order = in_date_order
        self.waits_for_catalogue = waits_for_catalogue

    @cached_property
    def paths(self) -> RunPaths:
        """Where the run's artifacts are; only after templates are rendered."""
        return run_paths(self.folders["artifact_root"], **self.of_run)

    def command_line(self, try_number: int) -> list[str]:
        """Return the stage's arguments."""
        named = [*self.of_run.items(), ("attempt", try_number), *self.folders.items()]
        named += [("input", manifest) for manifest in self.input_manifests]
        arguments = [word for name, value in named for word in (f"--{name.replace('_', '-')}", str(value))]
        return arguments + [str(flag) for flag in self.stage_flags]

    def execute(self, context: Context) -> dict[str, Any]:  # type: ignore[override]
        """Run the stage and return ``{manifest, manifest_sha256, rows_*, scalars}``."""
        # Whoever is notified of a failure must not read the error of the try before it.
        self.paths.root.remove(self.paths.error_uri(self.task_id))
        if self.in_date_order:
            wait_for_older_days(context)
        if self.waits_for_catalogue:
            self._wait_for_catalogue(context)
        with reported(self.task_id):
            self._submit(context)
        manifest = Manifest.read(self.paths.root, self.paths.manifest_uri(self.task_id))
        message = manifest.xcom()
        self.log.info("%s: %s", self.task_id, ", ".join(f"{key}={value}" for key, value in message.items()))
        return message

    def _wait_for_catalogue(self, context: Context) -> None:
        # A person who triggers a run, or a backfill, wants it now.
        if _run_type(context["dag_run"]) != "scheduled":
            return
        environment = {"SHELFKIN_STORES_DIR": self.folders["stores_dir"], "SHELFKIN_DATA": self.folders["data_dir"]}
        settings = Settings.from_env({**os.environ, **environment})
        catalog = settings.profile(self.paths.store).catalog
        end = context["dag_run"].data_interval_end
        if not catalog.wait_hours or end is None:
            return
        wanted = self.paths.as_of - timedelta(days=1)
        dated = (path for source in catalog.sources.values() if source.is_dated for path in source.paths)
        templates = [resolve_path(path, settings.stores_dir, settings.path_variables()) for path in dated]
        missing = [template for template in templates if not is_delivered(template, wanted)]
        if not missing:
            return
        if datetime.now(UTC) < end + timedelta(hours=catalog.wait_hours):
            self.log.info("Waiting for the snapshot of %s: %s", wanted, ", ".join(missing))
            raise AirflowRescheduleException(datetime.now(UTC) + timedelta(seconds=_CATALOGUE_INTERVAL_S))
        self.log.warning("No snapshot of %s came in %s hours; the newest is read", wanted, catalog.wait_hours)

    def _submit(self, context: Context) -> None:
        require_java()
        self.application_args = self.command_line(context["ti"].try_number)
        airflow_home = Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser()
        self.py_files = str(package_zip(airflow_home / "py_files"))
        try:
            super().execute(context)
        except AirflowException:
            self._explain_failure()
            raise

    def _explain_failure(self) -> None:
        """Raise with the stage's own account of its failure, as AirflowFailException if a retry is no use.

        ``from None``: the chained "Error code is: 1" with its whole command line would bury what a person needs.
        """
        uri = self.paths.error_uri(self.task_id)
        if not self.paths.root.exists(uri):
            return
        account = self.paths.root.read_json(uri)
        text = f"{self.task_id} failed ({account['kind']}): {account['message']}"
        if account.get("next_step"):
            text += f"\nNext step: {account['next_step']}"
        raise (AirflowException if account["retryable"] else AirflowFailException)(text) from None


class PublishOperator(BaseOperator):
    """Move the published pointer of a store to this run, build its serving index and announce it as an Asset event.

    The database of ``SHELFKIN_PUBLISH_POSTGRES`` is read from the environment when the task runs: as an argument, its
    password would stand in the serialised DAG.

    Parameters
    ----------
    of_run
        ``store``, ``as_of`` and ``run_id`` (templated).
    publish
        Templated; ``False`` makes a what-if run: the index is built, no pointer moves, no Asset event is sent.
    override_gate
        Templated; ``True`` publishes although the gate of evaluate_recommenders refuses the run.
    input_manifests
        Manifest URIs of every stage of the run (templated).
    """

    template_fields: Sequence[str] = ("of_run", "publish", "override_gate", "input_manifests")

    def __init__(
        self,
        *,
        artifact_root: str,
        of_run: Mapping[str, str],
        publish: str,
        override_gate: str = "False",
        input_manifests: Sequence[Any],
        **kwargs: Any,
    ) -> None:
        super().__init__(multiple_outputs=True, outlets=[published_alias(of_run["store"])], **kwargs)
        self.artifact_root = artifact_root
        self.of_run = dict(of_run)
        self.publish = publish
        self.override_gate = override_gate
        self.input_manifests = list(input_manifests)

    def execute(self, context: Context) -> dict[str, Any]:
        """Publish, and return the pointer's path and whether ``latest.json`` moved."""
        with reported(self.task_id):
            result = self._publish(context)
            for line in result.log_lines:
                self.log.info(line)
                report("line", line)
        if result.published:
            store, as_of, run_id = (self.of_run[name] for name in ("store", "as_of", "run_id"))
            context["outlet_events"][published_alias(store)].add(
                published_asset(store), extra={"as_of": as_of, "run_id": run_id}
            )
        return result.xcom()

    def _publish(self, context: Context) -> PublishResult:
        from shelfkin.serving.erasure import erase_from_run
        from shelfkin.serving.publish import publish_run

        paths = run_paths(self.artifact_root, **self.of_run)
        paths.root.remove(paths.error_uri(self.task_id))
        try:
            settings = Settings.from_env()
            erase_from_run(paths, settings)
            postgres = settings.publish_postgres
            if postgres is not None:
                mask_secret(postgres.url.get_secret_value())
            return publish_run(
                paths,
                [str(uri) for uri in self.input_manifests],
                publish=self.publish == "True",
                override_gate=self.override_gate == "True",
                postgres=postgres,
            )
        except ShelfkinError as error:
            paths.root.put_json(paths.error_uri(self.task_id), failure_account(self.task_id, error))
            if error.retryable:
                raise
            if isinstance(error, GateError):
                context["ti"].xcom_push(key="note", value=f"{error.message}\n{error.next_step}"[:1000])
            # `from None`: the message is made to be shown; what lies behind it may not be.
            raise AirflowFailException(f"{self.task_id} failed ({error.kind}): {error}") from None


def published_asset(store: str) -> Asset:
    """Return the Asset that other DAGs can be scheduled on: a store's published recommendations."""
    return Asset(name=f"{store}_recommendations", uri=f"shelfkin://published/{store}")


def published_alias(store: str) -> AssetAlias:
    """Return the alias through which the event is sent only when something was published."""
    return AssetAlias(name=f"{store}_published")


def run_paths(artifact_root: str, store: str, as_of: str, run_id: str) -> RunPaths:
    """Return where a run is; raises AirflowFailException if the template of as_of rendered to no date."""
    try:
        return RunPaths(Root.at(artifact_root), store, date.fromisoformat(as_of), run_id)
    except ValueError as error:
        raise AirflowFailException(
            f"as_of={as_of!r} is not a date like 2011-11-01. Correct the Param as_of."
        ) from error


def require_java() -> None:
    """Raise AirflowFailException unless spark-submit will find a Java runtime."""
    home = os.environ.get("JAVA_HOME")
    if (home and (Path(home) / "bin" / "java").exists()) or shutil.which("java"):
        return
    raise AirflowFailException(
        f"Spark needs Java 17, but there is no `java` on PATH and JAVA_HOME is {home!r}.\n"
        "Next step: install a Java 17 runtime (Debian/Ubuntu: apt-get install openjdk-17-jre-headless; "
        "macOS: brew install openjdk@17) and set JAVA_HOME if it isn't on PATH."
    )


def _run_type(run: Any) -> str:
    return str(getattr(run.run_type, "value", run.run_type))


def wait_for_older_days(context: Context) -> None:
    """Put a backfilled day back in line while an older run of its DAG is still running.

    Raises
    ------
    AirflowRescheduleException
        An older day runs; the task frees its slot and looks again later.
    AirflowFailException
        An older day of a backfill still waits for its turn: the backfill runs backwards. Waiting for it could last for
        ever, because it may wait for us.
    """
    if _run_type(context["dag_run"]) != "backfill":
        return
    older = context["ti"].get_previous_dagrun(state="running")
    if older is not None:
        raise AirflowRescheduleException(datetime.now(UTC) + timedelta(seconds=_POLL_INTERVAL_S))
    waiting = context["ti"].get_previous_dagrun(state="queued")
    if waiting is not None and _run_type(waiting) == "backfill":
        raise AirflowFailException(
            f"The older day {waiting.run_id} is still queued, and cluster ids pass from day to day.\n"
            "Next step: create the backfill without --run-backwards; if the older day was cleared, clear this one "
            "after it."
        )
