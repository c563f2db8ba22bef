"""A stage as a program: the flags that every Spark app shares, and what it leaves behind when it fails.

Each module of `shelfkin.stages` holds one `App`; ``spark_apps/<stage>.py`` calls its `main`::

    APP = App("clean_catalog", run, description=__doc__)
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from importlib import import_module
from typing import Any

from shelfkin.artifacts import Manifest, Root, RunPaths, check_reconciled, failure_account
from shelfkin.errors import ArtifactError, OptionError, ShelfkinError, UnexpectedError, without_controls
from shelfkin.run_progress import ProgressHandler
from shelfkin.settings import Settings
from shelfkin.stage import Stage

log = logging.getLogger("shelfkin")


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


def _shared_flags(name: str) -> argparse.ArgumentParser:
    """Return a parser of the flags that every stage has."""
    parser = _Parser(prog=name, add_help=False, allow_abbrev=False)
    parser.add_argument("--store", required=True, help="name of the store profile")
    parser.add_argument("--stores-dir", help="folder of store profiles (default: SHELFKIN_STORES_DIR)")
    parser.add_argument("--artifact-root", help="path or URI of all artifacts (default: ARTIFACT_ROOT)")
    parser.add_argument("--data-dir", help="folder of raw demo data (default: SHELFKIN_DATA)")
    parser.add_argument("--as-of", required=True, type=parse_as_of, help="use only what was known before this date")
    parser.add_argument("--run-id", required=True, help="unique name of the run")
    parser.add_argument("--attempt", default="1", help="number of this try; each try writes to its own folder")
    parser.add_argument("--input", action="append", default=[], help="manifest of a stage that this one reads")
    return parser


@dataclass(frozen=True)
class App:
    """One stage as a program: its flags, the manifests that it needs, and the work it does.

    Parameters
    ----------
    name
        Stage name: task id, app file and artifact folder.
    run
        The stage's work.
    inputs
        Names of the stages whose manifests must be given with ``--input``.
    optional_inputs
        Those whose manifests may be given too.
    add_flags
        Adds the stage's own flags.
    description
        What ``--help`` says; the stage's module docstring.
    """

    name: str
    run: Callable[[Stage], None]
    inputs: tuple[str, ...] = ()
    optional_inputs: tuple[str, ...] = ()
    add_flags: Callable[[argparse.ArgumentParser], None] | None = None
    description: str | None = None

    def main(self, argv: Sequence[str] | None = None) -> None:
        """Parse flags, read inputs, do the stage's work, and write its manifest.

        On failure it leaves ``error.json`` where the operator looks for it, prints the message as the last lines and
        exits with status 1.
        """
        _configure_logging()
        shared = _shared_flags(self.name)
        parser = _Parser(
            prog=self.name,
            description=self.description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            parents=[shared],
        )
        if self.add_flags is not None:
            self.add_flags(parser)
        arguments = list(sys.argv[1:] if argv is None else argv)
        started = time.monotonic()
        try:
            options = vars(parser.parse_args(arguments))
            flags, _ = shared.parse_known_args(arguments)
            own = {key: value for key, value in options.items() if key not in flags}
            stage = _open_stage(self.name, flags, argparse.Namespace(**own), self.inputs, self.optional_inputs)
            # A retry must not find the error of the try before it.
            stage.paths.root.remove(stage.paths.error_uri(self.name))
            log.info("%s for store %s as of %s", self.name, stage.profile.store, stage.as_of)
            self.run(stage)
            check_reconciled(self.name, stage.counts)
            stage.paths.root.put_json(stage.paths.manifest_uri(self.name), stage.manifest())
            log.info("%s done in %.0f s", self.name, time.monotonic() - started)
        except Exception as error:  # noqa: BLE001 - the last frame of a program: everything becomes error.json
            _report_failure(self.name, _failed_paths(shared, arguments), error)
            raise SystemExit(1) from None


def app_of(stage: str) -> App:
    """Return a stage as a program. Its module is imported only now: each stage needs other libraries."""
    app: App = import_module(f"shelfkin.stages.{stage}").APP
    return app


def _configure_logging() -> None:
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(asctime)s %(name)s %(message)s", force=True)
    logging.getLogger().addHandler(ProgressHandler())
    for handler in logging.getLogger().handlers:
        handler.addFilter(_made_printable)
    for noisy in ("py4j", "httpx", "httpx2", "matplotlib", "fontTools", "faiss"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _made_printable(record: logging.LogRecord) -> bool:
    """Take out of a log line what could steer a terminal or forge a line: it may quote the shop's own text."""
    # What is wrong with a profile stands in several lines.
    keep = "\n" if record.levelno >= logging.ERROR else ""
    record.msg, record.args = without_controls(record.getMessage(), keep=keep), None
    return True


def check_not_in_the_future(as_of: date) -> None:
    """Raise OptionError for a date that has not begun: what is known before it isn't known yet.

    Published once, such a date would also keep every later day from becoming the latest.
    """
    today = datetime.now(UTC).date()
    if as_of > today:
        raise OptionError(
            f"as_of={as_of} lies in the future; today is {today} (UTC).", next_step="Choose today or an earlier date."
        )


def _open_stage(
    name: str,
    flags: argparse.Namespace,
    options: argparse.Namespace,
    needed: Sequence[str],
    wanted: Sequence[str],
) -> Stage:
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
    return Stage(
        name=name,
        paths=RunPaths(root, flags.store, flags.as_of, flags.run_id),
        profile=settings.profile(flags.store),
        settings=settings,
        attempt=f"attempt-{flags.attempt}-{os.urandom(3).hex()}",
        options=options,
        inputs={stage: given[stage] for stage in (*needed, *wanted) if stage in given},
    )


def _report_failure(name: str, paths: RunPaths | None, error: Exception) -> None:
    if not isinstance(error, ShelfkinError):
        trace = without_controls("".join(traceback.format_exception(error)), keep="\n\t")
        print(trace, file=sys.stderr, end="", flush=True)
        # It may be a lost executor or a network fault: let Airflow try again.
        message = f"{type(error).__name__}: {error}"[:600]
        error = UnexpectedError(message, next_step="Read the traceback in the task log.")
    content = failure_account(name, error)
    if paths is not None:
        paths.root.put_json(paths.error_uri(name), content)
    log.error("%s failed (%s): %s", name, content["kind"], content["message"])
    if content["next_step"]:
        log.error("Next step: %s", content["next_step"])


def _failed_paths(shared: argparse.ArgumentParser, arguments: Sequence[str]) -> RunPaths | None:
    """Return where a run's error.json goes, also when a stage's own flags were refused."""
    try:
        flags, _ = shared.parse_known_args(arguments)
    except OptionError:
        return None
    root = Root.at(flags.artifact_root or Settings.from_env().artifact_root)
    return RunPaths(root, flags.store, flags.as_of, flags.run_id)
