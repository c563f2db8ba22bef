"""Publishing a run: its serving index, a shop's Postgres where one is set, then the pointers that readers follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from shelfkin.artifacts import (
    FORMAT_VERSION,
    Manifest,
    Root,
    RunPaths,
    content_key,
    manifest_content,
    manifest_with,
    utc_now,
)
from shelfkin.errors import ArtifactError, GateError
from shelfkin.serving.build_index import write_index
from shelfkin.serving.index import LAYOUT
from shelfkin.serving.run_note import run_note
from shelfkin.settings import PostgresTarget
from shelfkin.tables import PUBLISHED

if TYPE_CHECKING:
    from shelfkin.serving.postgres_publish import PostgresPublish

STAGE = "publish_recommendations"


@dataclass(frozen=True)
class PublishResult:
    """What `publish_run` did."""

    manifest: Manifest
    published: bool
    is_latest: bool
    note: str
    log_lines: tuple[str, ...]

    def xcom(self) -> dict[str, Any]:
        """Return the scalars for XCom."""
        said = {"published": self.published, "is_latest": self.is_latest, "note": self.note}
        return {**self.manifest.xcom(), **said}


def publish_run(
    paths: RunPaths,
    manifest_uris: Sequence[str],
    *,
    publish: bool,
    override_gate: bool = False,
    postgres: PostgresTarget | None = None,
) -> PublishResult:
    """Check a finished run, build its serving index and move the published pointers to it.

    The tables were written under paths of their own and are never touched again, so a reader that follows a pointer
    sees one whole run. ``as_of=<date>.json`` always moves; ``latest.json`` moves only forward in as_of, and an equal
    as_of replaces it.

    Postgres goes first: it can fail in many ways, two puts of a small file in few. If it fails, no pointer has moved;
    if a put fails, Postgres goes back to the run before. A process that is killed between the two leaves Postgres one
    whole run ahead, and the task's next try brings the pointers after it.

    Parameters
    ----------
    manifest_uris
        Manifests of all stages of the run.
    publish
        False makes a what-if run: the index is built, no pointer moves, Postgres isn't touched.
    override_gate
        Publish although evaluate_recommenders' gate refuses this run.
    postgres
        Database to publish to as well; it gets what becomes the latest.

    Raises
    ------
    ArtifactError
        A manifest belongs to another run, or no stage wrote one of the tables.
    GateError
        The lists are worse than a baseline or than what is published; nothing has moved.
    PublishError, PublishUnavailableError
        The database refused, or was not to be had.
    """
    started_at = utc_now()
    manifests = {manifest.stage: manifest for manifest in (Manifest.read(paths.root, uri) for uri in manifest_uris)}
    _check_same_run(paths, manifests)
    pointer = _pointer(paths, manifests)
    if not paths.root.exists(pointer["serving_index"]):
        write_index(paths, manifests, pointer["serving_index"])
    if publish and not override_gate:
        _check_gate(pointer["metrics"])
    is_latest = publish and _is_newest(paths) and not paths.root.exists(paused_uri(paths.root, paths.store))
    with in_postgres(postgres if is_latest else None, paths, manifests) as postgres_publish:
        if publish:
            paths.root.put_json(paths.published_uri(), pointer)
        if is_latest:
            paths.root.put_json(paths.latest_uri(), pointer)
    content = manifest_content(
        paths,
        STAGE,
        manifests,
        started_at,
        parameters={"publish": publish, "override_gate": override_gate},
        tables={},
        plots={},
        counts={},
        metrics={
            "serving_index": pointer["serving_index"],
            "postgres_run": postgres_publish.run if postgres_publish else None,
        },
    )
    paths.root.put_json(paths.manifest_uri(STAGE), content)
    return PublishResult(
        manifest=Manifest.read(paths.root, paths.manifest_uri(STAGE)),
        published=publish,
        is_latest=is_latest,
        note=run_note(manifests, published=publish, is_latest=is_latest),
        log_lines=(
            *_log_lines(paths, pointer, publish, is_latest),
            *(postgres_publish.lines if postgres_publish else ()),
        ),
    )


def _check_same_run(paths: RunPaths, manifests: Mapping[str, Manifest]) -> None:
    for manifest in manifests.values():
        run = {name: manifest.content[name] for name in paths.identity()}
        if run != paths.identity():
            raise ArtifactError(f"{manifest.uri} belongs to run {run}, not to {paths.identity()}.")


def _pointer(paths: RunPaths, manifests: Mapping[str, Manifest]) -> dict[str, Any]:
    """Return the content of a pointer file: where the run's tables and its index are, and how good its lists are."""
    evaluated = manifests.get("evaluate_recommenders")
    tables = {table: manifest_with(manifests, table) for table in PUBLISHED}
    return {
        "format_version": FORMAT_VERSION,
        **paths.identity(),
        "tables": {
            table: {"path": manifest.table_uri(table), "rows": manifest.rows(table)}
            for table, manifest in tables.items()
        },
        "serving_index": f"{paths.attempt_uri(STAGE, 'index')}/{content_key(manifests)}.v{LAYOUT}.sqlite",
        "manifests": {stage: manifest.uri for stage, manifest in sorted(manifests.items())},
        "metrics": dict(evaluated.content["metrics"]) if evaluated else {},
        "published_at": utc_now(),
    }


def paused_uri(root: Root, store: str) -> str:
    """Return where it stands that readers of a store are to keep what they have (`rollback.pause`)."""
    return root.join("stores", store, "published", "paused.json")


def in_postgres(
    postgres: PostgresTarget | None, paths: RunPaths, manifests: Mapping[str, Manifest], *, go_back: bool = False
) -> AbstractContextManager[PostgresPublish | None]:
    """Serve a run from Postgres, if there is one, while the block moves the pointers (`published_to_postgres`)."""
    if postgres is None:
        return nullcontext()
    # Imported only here: an installation without a database needs no libpq.
    from shelfkin.serving.postgres_publish import published_to_postgres

    return published_to_postgres(postgres, paths, manifests, content_key(manifests), go_back=go_back)


def _check_gate(metrics: Mapping[str, Any]) -> None:
    if metrics.get("gate") == "refuse":
        raise GateError(
            f"Nothing was published: {metrics['gate_reason']}.",
            next_step="Look at the run's recommender_metrics and quarantine counts. To publish all the same, run again "
            "with the Param override_gate, or clear this task of a run that has it.",
        )


def _is_newest(paths: RunPaths) -> bool:
    if not paths.root.exists(paths.latest_uri()):
        return True
    latest = paths.root.read_json(paths.latest_uri())
    return paths.as_of >= date.fromisoformat(latest["as_of"])


def _log_lines(paths: RunPaths, pointer: Mapping[str, Any], publish: bool, is_latest: bool) -> list[str]:
    lines = [f"{table}: {entry['rows']:,} rows at {entry['path']}" for table, entry in pointer["tables"].items()]
    if not publish:
        return [*lines, "What-if run: nothing was published."]
    if is_latest:
        return [*lines, f"Published as of {paths.as_of}: {paths.latest_uri()}"]
    pause = paused_uri(paths.root, paths.store)
    if paths.root.exists(pause):
        content = paths.root.read_json(pause)
        why = f"publishing was paused by {content['by']} at {content['since']}: {content['why']}"
    else:
        why = "latest.json names a newer as_of and stays"
    return [*lines, f"Published as of {paths.as_of}: {paths.published_uri()} ({why})"]
