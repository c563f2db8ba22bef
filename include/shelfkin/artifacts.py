"""Paths, manifests, pointers and lineage: the only code that knows the layout under the artifact root.

Any fsspec URI can be the root. Nothing here relies on rename on object stores: an object put is atomic there, and on a
local disk a temporary file is swapped in with ``os.replace``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import posixpath
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec

from shelfkin.errors import ArtifactError, ReconciliationError, ShelfkinError, without_controls
from shelfkin.json_object import json_object

if TYPE_CHECKING:
    import pyarrow.dataset as ds

FORMAT_VERSION = 1
XCOM_LIMIT_BYTES = 2048


def run_slug(run_id: str) -> str:
    """Return a path-safe name for a run id: [A-Za-z0-9_-] only, plus a hash that keeps two ids apart.

    Raw run ids hold ``:`` and ``+``, which Hadoop paths and Spark globs refuse.
    """
    safe = re.sub(r"[^A-Za-z0-9_-]+", "-", run_id).strip("-")[:80]
    return f"{safe}-{hashlib.sha256(run_id.encode()).hexdigest()[:8]}"


def sha256_hex(data: bytes) -> str:
    """Return the SHA-256 of `data` as 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True)
class Root:
    """The artifact root: an fsspec file system and the paths below one URI."""

    uri: str

    @classmethod
    def at(cls, location: str) -> Root:
        """Return the root at a URI or a local path (made absolute, without a trailing slash)."""
        if "://" not in location:
            location = str(Path(location).expanduser().resolve())
        return cls(location.rstrip("/"))

    @cached_property
    def fs(self) -> fsspec.AbstractFileSystem:
        """The file system that holds the root."""
        return fsspec.core.url_to_fs(self.uri)[0]

    @property
    def is_local(self) -> bool:
        """Whether the root is a folder of this machine."""
        return "://" not in self.uri or self.uri.startswith("file://")

    def join(self, *parts: str) -> str:
        """Return the URI of a path below the root."""
        return posixpath.join(self.uri, *parts)

    def relative(self, uri: str) -> str:
        """Return `uri` relative to the root; raises ArtifactError if it lies elsewhere."""
        prefix = self.uri + "/"
        if not uri.startswith(prefix):
            raise ArtifactError(f"{uri} does not lie under the artifact root {self.uri}.")
        return uri[len(prefix) :]

    def exists(self, uri: str) -> bool:
        """Whether something stands at `uri`."""
        return bool(self.fs.exists(uri))

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder as storage has them now, sorted; none if there is no such folder."""
        try:
            paths = self.fs.ls(folder, detail=False, refresh=True)
        except FileNotFoundError:
            return []
        return sorted(posixpath.basename(str(path).rstrip("/")) for path in paths)

    def read_bytes(self, uri: str) -> bytes:
        """Return the content of one file; raises ArtifactError if it isn't there."""
        try:
            return bytes(self.fs.cat_file(uri))
        except FileNotFoundError as error:
            raise ArtifactError(
                f"{uri} does not exist.", next_step="Run the stage that writes it, or check the path."
            ) from error

    def read_json(self, uri: str) -> dict[str, Any]:
        """Return one JSON object; raises ArtifactError if it is missing or not an object."""
        return json_object(self.read_bytes(uri), uri, ArtifactError)

    def put_bytes(self, uri: str, data: bytes) -> None:
        """Write one file so that a reader sees either the old content or the whole new one."""
        if not self.is_local:
            self.fs.pipe_file(uri, data)
            return
        target = local_path(uri)
        with _finished_file(target.parent, data) as temporary:
            temporary.replace(target)

    def put_json(self, uri: str, content: dict[str, Any]) -> None:
        """Write one JSON object atomically."""
        self.put_bytes(uri, _json_bytes(content))

    def put_json_if_absent(self, uri: str, content: dict[str, Any]) -> bool:
        """Write one JSON object unless something stands there already; return whether it was written.

        On a local disk the temporary file is hard-linked into place, which fails if the name is taken. On object
        stores fsspec's ``mode="create"`` asks for a conditional put where the back end has one.
        """
        data = _json_bytes(content)
        try:
            if self.is_local:
                target = local_path(uri)
                with _finished_file(target.parent, data) as temporary:
                    os.link(temporary, target)
            else:
                self.fs.pipe_file(uri, data, mode="create")
        except FileExistsError:
            return False
        return True

    def put_file(self, local: Path, uri: str) -> None:
        """Move one finished local file to `uri`, so that a reader sees nothing or all of it."""
        if not self.is_local:
            self.fs.put_file(str(local), uri)
            local.unlink()
            return
        target = local_path(uri)
        target.parent.mkdir(parents=True, exist_ok=True)
        # The temporary file may be on another disk, where a rename would not be atomic.
        beside = target.with_name(f".put-{target.name}-{os.getpid()}")
        shutil.move(local, beside)
        beside.replace(target)

    def remove(self, uri: str) -> None:
        """Remove one file, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            self.fs.rm_file(uri)


def local_path(uri: str) -> Path:
    """Return the path of a file on this machine."""
    return Path(uri.removeprefix("file://"))


@contextlib.contextmanager
def _finished_file(folder: Path, data: bytes) -> Iterator[Path]:
    """Write `data` to a temporary file on disk in `folder`; whatever is left of it afterwards is removed."""
    folder.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=folder, prefix=".put-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files private; artifacts are read by other users of the shop's machine.
        Path(name).chmod(0o644)
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def _json_bytes(content: dict[str, Any]) -> bytes:
    return json.dumps(content, indent=2, ensure_ascii=False, default=_jsonable).encode() + b"\n"


def _jsonable(value: object) -> object:
    if isinstance(value, datetime | date):
        return value.isoformat()
    if hasattr(value, "item"):  # NumPy scalars
        return value.item()
    raise TypeError(f"{type(value).__name__} can't go into a manifest")


@dataclass(frozen=True)
class RunPaths:
    """Where one run of one store writes.

    Parameters
    ----------
    root
        The artifact root.
    store
        The store's slug.
    as_of
        The run's date: only what was known before its midnight UTC is used.
    run_id
        Airflow's run id, or any other unique name.
    """

    root: Root
    store: str
    as_of: date
    run_id: str

    @property
    def store_uri(self) -> str:
        """Folder of everything of this store."""
        return self.root.join("stores", self.store)

    def identity(self) -> dict[str, str]:
        """Return store, run_id and as_of, as manifests and pointers name their run."""
        return {"store": self.store, "run_id": self.run_id, "as_of": self.as_of.isoformat()}

    @property
    def run_uri(self) -> str:
        """Folder of everything of this run."""
        return posixpath.join(self.store_uri, "runs", f"as_of={self.as_of.isoformat()}", run_slug(self.run_id))

    def manifest_uri(self, stage: str) -> str:
        """Where the manifest of a stage of this run stands once the stage has succeeded."""
        return posixpath.join(self.run_uri, stage, "manifest.json")

    def error_uri(self, stage: str) -> str:
        """Where the error of a stage's last failed attempt stands."""
        return posixpath.join(self.run_uri, stage, "error.json")

    def attempt_uri(self, stage: str, attempt: str) -> str:
        """Folder of one attempt's tables and plots; a retry never overwrites what a reader may hold."""
        return posixpath.join(self.run_uri, stage, attempt)

    def published_uri(self) -> str:
        """The pointer of this as_of."""
        return self._dated_uri("published", self.as_of)

    def latest_uri(self) -> str:
        """The pointer that readers follow."""
        return latest_pointer_uri(self.root, self.store)

    def lineage_uri(self) -> str:
        """The cluster identities as of this date."""
        return self._dated_uri("lineage", self.as_of)

    def earlier(self, kind: str, n: int) -> list[dict[str, Any]]:
        """Return the `n` newest of the store's ``published`` or ``lineage`` files of days before as_of, newest first.

        As many as there are, if they are fewer.
        """
        days = [day for day in _dates(self.root, self.store, kind) if day < self.as_of]
        return [self.root.read_json(self._dated_uri(kind, day)) for day in reversed(days[-n:])]

    def _dated_uri(self, kind: str, day: date) -> str:
        return posixpath.join(self.store_uri, kind, f"as_of={day.isoformat()}.json")


def latest_pointer_uri(root: Root, store: str) -> str:
    """Return where a store's ``published/latest.json`` stands."""
    return root.join("stores", store, "published", "latest.json")


def forecast_uri(root: Root, store: str) -> str:
    """Return where the newest forecast of a backfill of a store stands."""
    return root.join("stores", store, "backfill", "forecast.json")


def lineage_dates(root: Root, store: str) -> list[date]:
    """Return the dates that have a lineage, oldest first."""
    return _dates(root, store, "lineage")


def published_days(root: Root, store: str) -> list[date]:
    """Return the dates that were published, oldest first."""
    return _dates(root, store, "published")


def _dates(root: Root, store: str, kind: str) -> list[date]:
    names = root.names(root.join("stores", store, kind))
    matches = [re.fullmatch(r"as_of=(\d{4}-\d{2}-\d{2})\.json", name) for name in names]
    return sorted(date.fromisoformat(match.group(1)) for match in matches if match)


def predecessor_lineage(paths: RunPaths) -> dict[str, Any] | None:
    """Return the newest lineage older than this run's as_of, or None on the first run."""
    return next(iter(paths.earlier("lineage", 1)), None)


def published_before(paths: RunPaths, n: int = 1) -> list[dict[str, Any]]:
    """Return the `n` newest published pointers older than this run's as_of, or as many as there are, newest first."""
    return paths.earlier("published", n)


def published_pointer(root: Root, uri: str) -> dict[str, Any]:
    """Return the content of a published pointer; raises ArtifactError if it is missing or of another format version."""
    content = root.read_json(uri)
    _check_format(content, uri, "Publish that day again with this version of shelfkin.")
    return content


def _check_format(content: Mapping[str, Any], uri: str, next_step: str) -> None:
    found = content.get("format_version")
    if found != FORMAT_VERSION:
        raise ArtifactError(
            f"{uri} has format_version {found!r}; this code reads {FORMAT_VERSION}.", next_step=next_step
        )


@dataclass(frozen=True)
class Manifest:
    """What a stage that succeeded left behind."""

    root: Root
    uri: str
    sha256: str
    content: dict[str, Any]

    @classmethod
    def read(cls, root: Root, uri: str) -> Manifest:
        """Read a manifest; raises ArtifactError if it is missing or of another format version."""
        # Read once: a hash of one version beside the content of another would be worse than no hash.
        data = root.read_bytes(uri)
        content = json_object(data, uri, ArtifactError)
        _check_format(content, uri, "Run the stage again with this version of shelfkin.")
        return cls(root, uri, sha256_hex(data), content)

    @property
    def stage(self) -> str:
        """The stage that wrote it."""
        return str(self.content["stage"])

    def table_uri(self, table: str) -> str:
        """Return the absolute URI of a table's folder; raises ArtifactError if the stage has no such table."""
        try:
            return self.root.join(self.content["tables"][table]["path"])
        except KeyError:
            known = ", ".join(sorted(self.content["tables"])) or "none"
            raise ArtifactError(f"{self.uri} names no table {table!r}; it has: {known}.") from None

    def dataset(self, table: str) -> ds.Dataset:
        """Return a table for pyarrow; through fsspec, so that any root that Spark can write to is readable here."""
        # Here: the DAG processor imports this module, and reads no table.
        import pyarrow.dataset as ds

        path = self.root.fs._strip_protocol(self.table_uri(table))
        return ds.dataset(path, format="parquet", filesystem=self.root.fs)

    def rows(self, table: str) -> int:
        """Return the number of rows of a table."""
        return int(self.content["tables"][table]["rows"])

    def xcom(self) -> dict[str, Any]:
        """Return what goes through XCom: the path, its hash, row counts and the stage's own scalars, never data."""
        scalars = {
            key: value
            for key, value in self.content["metrics"].items()
            if value is None or isinstance(value, bool | int | float | str)
        }
        rows = {f"rows_{name}": table["rows"] for name, table in self.content["tables"].items()}
        message = {"manifest": self.uri, "manifest_sha256": self.sha256, **rows, **scalars}
        size = len(json.dumps(message).encode())
        if size > XCOM_LIMIT_BYTES:
            raise ArtifactError(f"{self.stage} would push {size} bytes through XCom; the limit is {XCOM_LIMIT_BYTES}.")
        return message


def manifest_content(
    paths: RunPaths, stage: str, inputs: Mapping[str, Manifest], started_at: str, **parts: Any
) -> dict[str, Any]:
    """Return the content of the manifest of a stage that ends now; `parts` are what the stage says of itself."""
    return {
        "format_version": FORMAT_VERSION,
        "stage": stage,
        **paths.identity(),
        "inputs": {
            name: {"manifest": paths.root.relative(manifest.uri), "sha256": manifest.sha256}
            for name, manifest in sorted(inputs.items())
        },
        **parts,
        "started_at": started_at,
        "finished_at": utc_now(),
    }


def manifest_with(manifests: Mapping[str, Manifest], table: str) -> Manifest:
    """Return the manifest of the stage that wrote a table.

    Raises
    ------
    ArtifactError
        No stage of the run did.
    """
    for manifest in manifests.values():
        if table in manifest.content["tables"]:
            return manifest
    raise ArtifactError(
        f"No stage of this run wrote {table}.", next_step="Clear the run in Airflow and let every stage run."
    )


def content_key(manifests: Mapping[str, Manifest]) -> str:
    """Name what is published by what went in: a cleared and repeated run gets another key, a retry finds its own."""
    joined = "".join(manifest.sha256 for _, manifest in sorted(manifests.items()))
    return sha256_hex(joined.encode())[:16]


def check_reconciled(stage: str, counts: dict[str, Any]) -> None:
    """Raise ReconciliationError unless every row that came in is accounted for.

    A stage that reads raw rows counts ``rows_in``; then
    rows_in = kept + quarantined + merged + netted + ignored + after_as_of + erased, where `merged` rows were folded
    into a kept one, `netted` rows are cancellations and the purchases they undo, `ignored` rows are of event types that
    the profile doesn't want, `after_as_of` rows weren't known yet, and `erased` rows are of forgotten customers.
    """
    if "rows_in" not in counts:
        return
    names = ("kept", "quarantined", "merged", "netted", "ignored", "after_as_of", "erased")
    parts = {name: int(counts.get(name, 0)) for name in names}
    if sum(parts.values()) != int(counts["rows_in"]):
        raise ReconciliationError(
            f"{stage}: {counts['rows_in']} rows came in, but {parts} add up to {sum(parts.values())}.",
            next_step="Report this as a bug with the stage's manifest.",
        )
    by_reason = counts.get("quarantined_by_reason", {})
    if sum(by_reason.values()) != parts["quarantined"]:
        raise ReconciliationError(
            f"{stage}: quarantine reasons add up to {sum(by_reason.values())}, not to {parts['quarantined']}."
        )


def failure_account(stage: str, error: ShelfkinError) -> dict[str, Any]:
    """Return the content of an ``error.json``: why a try failed, for its operator, its page and who is notified."""
    return {
        "stage": stage,
        "kind": error.kind,
        "retryable": error.retryable,
        # A net under the places that quote shop text: whatever still gets here can't rewrite the reader's terminal.
        "message": without_controls(error.message, keep="\n"),
        "next_step": without_controls(error.next_step, keep="\n"),
        "failed_at": utc_now(),
    }


def utc_now() -> str:
    """Return the present moment as an ISO 8601 string in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
