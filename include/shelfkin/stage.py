"""The frame that every Spark app shares: flags, inputs, tables, manifest, error.json and progress.

An app is a thin command line around one function of this shape::

    def run(stage: Stage) -> None: ...

    if __name__ == "__main__":
        main("clean_catalog", run, inputs=())
"""

from __future__ import annotations

import argparse
import hashlib
import io
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import cached_property
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shelfkin import __version__, spark
from shelfkin.artifacts import FORMAT_VERSION, Manifest, Root, RunPaths, check_reconciled, utc_now
from shelfkin.errors import ArtifactError, OptionError, ShelfkinError, without_controls
from shelfkin.settings import Settings, StoreProfile, resolve_path
from shelfkin.tables import SCHEMAS

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pyspark.sql import DataFrame, SparkSession

log = logging.getLogger("shelfkin")


@dataclass
class Stage:
    """One run of one stage: what it may read, and where it puts what it made.

    Attributes
    ----------
    options
        The app's own flags.
    counts
        Row counts for the manifest. With ``rows_in`` they must reconcile (`artifacts.check_reconciled`).
    metrics
        Figures for the manifest; flat scalars among them are shown in XCom.
    """

    name: str
    paths: RunPaths
    profile: StoreProfile
    settings: Settings
    attempt: str
    options: argparse.Namespace
    inputs: dict[str, Manifest]
    counts: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, dict[str, Any]] = field(default_factory=dict)
    plots: dict[str, str] = field(default_factory=dict)
    started_at: str = field(default_factory=utc_now)

    @cached_property
    def spark(self) -> SparkSession:
        """The Spark session, started at first use: arguments are checked before a JVM is kept busy."""
        return spark.build_session(self.name)

    @property
    def as_of(self) -> date:
        """The run's date."""
        return self.paths.as_of

    @property
    def cutoff(self) -> datetime:
        """Midnight UTC of as_of: only what happened strictly before it is known."""
        return datetime(self.as_of.year, self.as_of.month, self.as_of.day, tzinfo=UTC)

    def source_path(self, path: str) -> str:
        """Return a path of the profile as an absolute path or URI."""
        return resolve_path(path, self.settings.stores_dir, self.settings.path_variables())

    def progress(self, message: str, *args: object) -> None:
        """Tell a person who follows the task log what is going on."""
        log.info(message, *args)

    def table_uri(self, table: str) -> str:
        """Return the folder that this attempt writes a table to."""
        return f"{self.paths.attempt_uri(self.name, self.attempt)}/{table}"

    def input_uri(self, stage: str, table: str) -> str:
        """Return the folder of an input table."""
        return self.inputs[stage].table_uri(table)

    def read(self, stage: str, table: str) -> DataFrame:
        """Return a table of an input stage."""
        return self.spark.read.parquet(self.input_uri(stage, table))

    def write(self, table: str, frame: DataFrame, n_files: int | None = None) -> int:
        """Write a table, record it in the manifest and return its number of rows.

        A contract table gets its contract's columns and types. `n_files` coalesces small results, so that readers
        don't open hundreds of tiny files.
        """
        if table in SCHEMAS:
            frame = spark.conform(frame, table)
        if n_files is not None:
            frame = frame.coalesce(n_files)
        uri = self.table_uri(table)
        frame.write.mode("overwrite").parquet(uri)
        written = self.spark.read.schema(frame.schema).parquet(uri)
        rows = written.count()
        self.tables[table] = {
            "path": self.paths.root.relative(uri),
            "rows": rows,
            "schema": {field.name: field.dataType.simpleString() for field in frame.schema},
        }
        self.progress("wrote %s: %s rows", table, f"{rows:,}")
        return rows

    def write_empty(self, table: str) -> None:
        """Write a contract table without rows, for a store that lacks the data for it."""
        self.write(table, spark.empty_table(self.spark, table), n_files=1)

    def save_figure(self, name: str, figure: Figure) -> None:
        """Write a picture as PNG beside the tables and record it in the manifest."""
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        uri = f"{self.paths.attempt_uri(self.name, self.attempt)}/plots/{name}.png"
        self.paths.root.put_bytes(uri, buffer.getvalue())
        self.plots[name] = self.paths.root.relative(uri)

    def manifest(self) -> dict[str, Any]:
        """Return the manifest's content."""
        return {
            "format_version": FORMAT_VERSION,
            "stage": self.name,
            "store": self.profile.store,
            "run_id": self.paths.run_id,
            "as_of": self.as_of.isoformat(),
            "inputs": {
                name: {"manifest": self.paths.root.relative(found.uri), "sha256": found.sha256}
                for name, found in sorted(self.inputs.items())
            },
            "parameters": dict(sorted(vars(self.options).items())),
            "code_version": code_version(),
            "tables": self.tables,
            "plots": self.plots,
            "counts": self.counts,
            "metrics": self.metrics,
            "started_at": self.started_at,
            "finished_at": utc_now(),
        }


def code_version() -> str:
    """Return the package version and a hash of its source, the same from a folder and from a zip on an executor."""
    digest = hashlib.sha256()

    def walk(node: Traversable, prefix: str) -> None:
        for child in sorted(node.iterdir(), key=lambda entry: entry.name):
            if child.is_dir():
                walk(child, f"{prefix}{child.name}/")
            elif child.name.endswith(".py"):
                digest.update(f"{prefix}{child.name}\0".encode() + child.read_bytes())

    walk(resources.files("shelfkin"), "")
    return f"{__version__}+{digest.hexdigest()[:12]}"


def parse_as_of(text: str) -> date:
    """Return a date from YYYY-MM-DD; raises argparse.ArgumentTypeError otherwise."""
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a date like 2011-11-01") from error


def optional(convert: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return a flag type for which the empty string means "as the store profile says".

    The DAG always passes every flag, so that a command line has one shape; a Param left blank arrives as ``""``.
    """

    def parse(text: str) -> Any:
        return None if text == "" else convert(text)

    parse.__name__ = convert.__name__
    return parse


class _Parser(argparse.ArgumentParser):
    """A parser whose refusals are OptionErrors, so that they reach error.json like any other."""

    def error(self, message: str) -> None:  # type: ignore[override]
        raise OptionError(f"{self.prog}: {message}.", next_step=f"See `python spark_apps/{self.prog}.py --help`.")


def _parser(name: str, description: str | None) -> argparse.ArgumentParser:
    parser = _Parser(prog=name, description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", required=True, help="name of the store profile")
    parser.add_argument("--stores-dir", help="folder of store profiles (default: SHELFKIN_STORES_DIR)")
    parser.add_argument("--artifact-root", help="path or URI of all artifacts (default: ARTIFACT_ROOT)")
    parser.add_argument("--data-dir", help="folder of raw demo data (default: SHELFKIN_DATA)")
    parser.add_argument("--as-of", required=True, type=parse_as_of, help="use only what was known before this date")
    parser.add_argument("--run-id", required=True, help="unique name of the run")
    parser.add_argument("--attempt", default="1", help="number of this try; each try writes to its own folder")
    parser.add_argument("--input", action="append", default=[], help="manifest of a stage that this one reads")
    return parser


_FRAME_FLAGS = {"store", "stores_dir", "artifact_root", "data_dir", "as_of", "run_id", "attempt", "input"}


def main(
    name: str,
    run: Callable[[Stage], None],
    *,
    inputs: Sequence[str] = (),
    add_flags: Callable[[argparse.ArgumentParser], None] | None = None,
    description: str | None = None,
    argv: Sequence[str] | None = None,
) -> None:
    """Run one stage as a program: parse flags, read inputs, call `run`, write the manifest.

    On failure it leaves ``error.json`` where the operator looks for it, prints the message as the last lines and
    exits with status 1.

    Parameters
    ----------
    name
        Stage name: task id, app file and artifact folder.
    run
        The stage's work.
    inputs
        Names of the stages whose manifests must be given with ``--input``.
    add_flags
        Adds the stage's own flags.
    """
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(asctime)s %(name)s %(message)s", force=True)
    for noisy in ("py4j", "httpx", "httpx2", "matplotlib", "fontTools"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    parser = _parser(name, description)
    if add_flags is not None:
        add_flags(parser)
    arguments = list(sys.argv[1:] if argv is None else argv)
    started = time.monotonic()
    try:
        flags = parser.parse_args(arguments)
        stage = _open_stage(name, flags, inputs)
        # A retry must not find the error of the try before it.
        _remove_error(stage.paths, name)
        log.info("%s for store %s as of %s", name, stage.profile.store, stage.as_of)
        run(stage)
        check_reconciled(name, stage.counts)
        stage.paths.root.put_json(stage.paths.manifest_uri(name), stage.manifest())
        log.info("%s done in %.0f s", name, time.monotonic() - started)
    except Exception as error:  # noqa: BLE001 - the last frame of a program: everything becomes error.json
        _report_failure(name, arguments, error)
        raise SystemExit(1) from None


def check_not_in_the_future(as_of: date) -> None:
    """Raise OptionError for a date that has not begun: what is known before it isn't known yet.

    Published once, such a date would also keep every later day from becoming the latest.
    """
    today = datetime.now(UTC).date()
    if as_of > today:
        raise OptionError(
            f"as_of={as_of} lies in the future; today is {today} (UTC).", next_step="Choose today or an earlier date."
        )


def _open_stage(name: str, flags: argparse.Namespace, needed: Sequence[str]) -> Stage:
    check_not_in_the_future(flags.as_of)
    # Flags, not defaults: on a worker this package runs from a zip, and knows nothing of the project's folders.
    given_folders = {
        "SHELFKIN_STORES_DIR": flags.stores_dir,
        "ARTIFACT_ROOT": flags.artifact_root,
        "SHELFKIN_DATA": flags.data_dir,
    }
    settings = Settings.from_env({**os.environ, **{name: value for name, value in given_folders.items() if value}})
    root = Root.at(settings.artifact_root)
    manifests = [Manifest.read(root, uri) for uri in flags.input]
    given = {manifest.stage: manifest for manifest in manifests}
    missing = [stage for stage in needed if stage not in given]
    if missing:
        raise ArtifactError(
            f"{name} needs the manifests of {', '.join(missing)}; it was given {', '.join(given) or 'none'}.",
            next_step="Pass --input <manifest.json> for each.",
        )
    own = argparse.Namespace(**{key: value for key, value in vars(flags).items() if key not in _FRAME_FLAGS})
    return Stage(
        name=name,
        paths=RunPaths(root, flags.store, flags.as_of, flags.run_id),
        profile=settings.profile(flags.store),
        settings=settings,
        attempt=f"attempt-{flags.attempt}-{os.urandom(3).hex()}",
        options=own,
        inputs={stage: given[stage] for stage in needed},
    )


def _remove_error(paths: RunPaths, name: str) -> None:
    uri = paths.error_uri(name)
    if paths.root.exists(uri):
        paths.root.fs.rm_file(uri)


def _report_failure(name: str, arguments: Sequence[str], error: Exception) -> None:
    known = isinstance(error, ShelfkinError)
    if not known:
        print(
            without_controls("".join(traceback.format_exception(error)), keep="\n\t"),
            file=sys.stderr,
            end="",
            flush=True,
        )
    content = {
        "stage": name,
        "kind": error.kind if isinstance(error, ShelfkinError) else "unexpected",
        # What we didn't foresee may be a lost executor or a network fault: let Airflow try again.
        "retryable": error.retryable if isinstance(error, ShelfkinError) else True,
        "message": error.message if isinstance(error, ShelfkinError) else _first_lines(error),
        "next_step": error.next_step if isinstance(error, ShelfkinError) else "Read the traceback in the task log.",
        "failed_at": utc_now(),
    }
    # A net under the places that quote shop text: whatever still gets here can't rewrite the reader's terminal.
    content |= {key: without_controls(str(content[key]), keep="\n") for key in ("message", "next_step")}
    uri = _error_uri(name, arguments)
    if uri is not None:
        root, path = uri
        root.put_json(path, content)
    log.error("%s failed (%s): %s", name, content["kind"], content["message"])
    if content["next_step"]:
        log.error("Next step: %s", content["next_step"])


def _first_lines(error: Exception, limit: int = 600) -> str:
    return f"{type(error).__name__}: {error}"[:limit]


def _error_uri(name: str, arguments: Sequence[str]) -> tuple[Root, str] | None:
    """Find where error.json goes even when the flags as a whole were refused."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    for flag in ("--store", "--artifact-root", "--as-of", "--run-id"):
        parser.add_argument(flag)
    try:
        found, _ = parser.parse_known_args(list(arguments))
        as_of = parse_as_of(found.as_of or "")
    except (argparse.ArgumentError, argparse.ArgumentTypeError):
        return None
    if not found.store or not found.run_id:
        return None
    root = Root.at(found.artifact_root or Settings.from_env().artifact_root)
    return root, RunPaths(root, found.store, as_of, found.run_id).error_uri(name)


def local_path(uri: str) -> Path | None:
    """Return the local path of a URI, or None if it lies elsewhere."""
    if uri.startswith("file://"):
        return Path(uri.removeprefix("file://"))
    return None if "://" in uri else Path(uri)
