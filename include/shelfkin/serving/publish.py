"""Publishing a run: its indexes, a shop's Postgres where one is set, then the pointers that readers follow."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from shelfkin.artifacts import FORMAT_VERSION, Manifest, RunPaths, sha256_hex, utc_now
from shelfkin.errors import ArtifactError, GateError
from shelfkin.serving.index import build_indexes
from shelfkin.settings import PostgresTarget
from shelfkin.tables import PUBLISHED

if TYPE_CHECKING:
    from shelfkin.serving.postgres import PostgresPublish

STAGE = "publish_recommendations"


@dataclass(frozen=True)
class PublishResult:
    """What `publish_run` did."""

    manifest: Manifest
    published: bool
    is_latest: bool
    log_lines: tuple[str, ...]

    def xcom(self) -> dict[str, Any]:
        """Return the scalars for XCom."""
        return {**self.manifest.xcom(), "published": self.published, "is_latest": self.is_latest}


def publish_run(
    paths: RunPaths,
    manifest_uris: Sequence[str],
    *,
    publish: bool,
    override_gate: bool = False,
    postgres: PostgresTarget | None = None,
) -> PublishResult:
    """Check a finished run, build its indexes and move the published pointers to it.

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
        False makes a what-if run: the indexes are built, no pointer moves, Postgres isn't touched.
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
    found = _published_tables(manifests)
    content_key = _content_key(manifests)
    index_uri = f"{paths.attempt_uri(STAGE, 'index')}/{content_key}.duckdb"
    session_uri = f"{paths.attempt_uri(STAGE, 'index')}/{content_key}.sqlite"
    # The serving index is written last: where it stands, both do.
    if not paths.root.exists(index_uri):
        build_indexes(paths, manifests, index_uri, session_uri)
    metrics = _metrics(manifests)
    if publish and not override_gate:
        _check_gate(metrics)
    pointer = {
        "format_version": FORMAT_VERSION,
        "store": paths.store,
        "as_of": paths.as_of.isoformat(),
        "run_id": paths.run_id,
        "tables": found,
        "serving_index": index_uri,
        "session_index": session_uri,
        "manifests": {stage: manifest.uri for stage, manifest in sorted(manifests.items())},
        "metrics": metrics,
        "published_at": utc_now(),
    }
    is_latest = publish and _is_newest(paths)
    database: AbstractContextManager[PostgresPublish | None] = nullcontext()
    if is_latest and postgres is not None:
        # Imported only here: an installation without a database needs no libpq.
        from shelfkin.serving.postgres import published_to_postgres

        database = published_to_postgres(postgres, paths, manifests, content_key)
    with database as in_postgres:
        if publish:
            paths.root.put_json(paths.published_uri(), pointer)
        if is_latest:
            paths.root.put_json(paths.latest_uri(), pointer)
    content = {
        "format_version": FORMAT_VERSION,
        "stage": STAGE,
        "store": paths.store,
        "run_id": paths.run_id,
        "as_of": paths.as_of.isoformat(),
        "inputs": {
            stage: {"manifest": paths.root.relative(manifest.uri), "sha256": manifest.sha256}
            for stage, manifest in sorted(manifests.items())
        },
        "parameters": {"publish": publish, "override_gate": override_gate},
        "tables": {},
        "plots": {},
        "counts": {},
        "metrics": {
            "serving_index": index_uri,
            "session_index": session_uri,
            "postgres_run": in_postgres.run if in_postgres else None,
        },
        "started_at": started_at,
        "finished_at": utc_now(),
    }
    paths.root.put_json(paths.manifest_uri(STAGE), content)
    return PublishResult(
        manifest=Manifest.read(paths.root, paths.manifest_uri(STAGE)),
        published=publish,
        is_latest=is_latest,
        log_lines=(*_log_lines(paths, found, publish, is_latest), *(in_postgres.lines if in_postgres else ())),
    )


def _check_same_run(paths: RunPaths, manifests: dict[str, Manifest]) -> None:
    for manifest in manifests.values():
        seen = (manifest.content["store"], manifest.content["as_of"], manifest.content["run_id"])
        expected = (paths.store, paths.as_of.isoformat(), paths.run_id)
        if seen != expected:
            raise ArtifactError(f"{manifest.uri} belongs to run {seen}, not to {expected}.")


def _published_tables(manifests: dict[str, Manifest]) -> dict[str, dict[str, Any]]:
    found = {
        table: {"path": manifest.table_uri(table), "rows": manifest.rows(table)}
        for table in PUBLISHED
        for manifest in manifests.values()
        if table in manifest.content["tables"]
    }
    missing = sorted(set(PUBLISHED) - set(found))
    if missing:
        raise ArtifactError(
            f"No stage of this run wrote {', '.join(missing)}.", next_step="Clear the run and let every stage run."
        )
    return found


def _content_key(manifests: dict[str, Manifest]) -> str:
    """Name the index by what went in: a cleared and repeated run gets another file, a retry finds its own."""
    joined = "".join(manifest.sha256 for _, manifest in sorted(manifests.items()))
    return sha256_hex(joined.encode())[:16]


def _metrics(manifests: dict[str, Manifest]) -> dict[str, Any]:
    evaluated = manifests.get("evaluate_recommenders")
    return dict(evaluated.content["metrics"]) if evaluated else {}


def _check_gate(metrics: dict[str, Any]) -> None:
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


def _log_lines(paths: RunPaths, found: dict[str, dict[str, Any]], publish: bool, is_latest: bool) -> list[str]:
    lines = [f"{table}: {entry['rows']:,} rows at {entry['path']}" for table, entry in found.items()]
    if not publish:
        return [*lines, "What-if run: nothing was published."]
    where = paths.latest_uri() if is_latest else f"{paths.published_uri()} (latest.json names a newer as_of and stays)"
    return [*lines, f"Published as of {paths.as_of}: {where}"]
