"""The indexes of a run: one DuckDB file that answers questions without scanning parquet, and one for sessions."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb

from shelfkin import tables
from shelfkin.artifacts import Manifest, Root, RunPaths
from shelfkin.errors import ArtifactError
from shelfkin.serving.reading import table_dataset
from shelfkin.serving.session_index import SessionIndex, build_session_index

# What a look-up asks for, and the order that lets DuckDB skip blocks: its zone maps work on sorted columns.
_SORTED_BY = {
    tables.PRODUCTS: "product_id",
    tables.CLUSTERS: "cluster_id",
    tables.PRODUCT_CLUSTERS: "product_id",
    tables.SIMILAR_PRODUCTS: "product_id, rank",
    tables.PRODUCT_VARIANTS: "variant_group, product_id",
    tables.USER_RECOMMENDATIONS: "user_id, rank",
    tables.POPULAR_PRODUCTS: "scope, rank",
    tables.RECOMMENDER_METRICS: "cut, task, metric, k, model",
}

RECENT_EVENTS_PER_USER = 20


def build_indexes(paths: RunPaths, manifests: Mapping[str, Manifest], uri: str, session_uri: str) -> None:
    """Write the serving index of a run as one file at `uri`, and its session index as one at `session_uri`.

    The serving index holds the published tables, sorted by what look-ups ask for, ``recent_events`` (each known user's
    last 20 events) and ``run`` (one row that names the run).

    Parameters
    ----------
    manifests
        Stage name to manifest; every table of `_SORTED_BY` that one of them names goes in.
    """
    with tempfile.TemporaryDirectory(prefix="shelfkin-index-") as folder:
        local = Path(folder) / "index.duckdb"
        with duckdb.connect(str(local)) as db:
            for manifest in manifests.values():
                for table, order in _SORTED_BY.items():
                    if table in manifest.content["tables"]:
                        _copy_table(db, manifest, table, f"SELECT * FROM source ORDER BY {order}")
                if tables.EVENTS in manifest.content["tables"]:
                    _copy_table(db, manifest, tables.EVENTS, _RECENT_EVENTS, as_table="recent_events")
            db.execute(
                "CREATE TABLE run AS SELECT ?::VARCHAR AS store, ?::DATE AS as_of, ?::VARCHAR AS run_id",
                [paths.store, paths.as_of, paths.run_id],
            )
            session = Path(folder) / "session.sqlite"
            build_session_index(db, session)
        paths.root.put_file(session, session_uri)
        paths.root.put_file(local, uri)


_RECENT_EVENTS = f"""
    SELECT user_id, product_id, event_type, occurred_at, quantity
    FROM source WHERE user_id IS NOT NULL
    QUALIFY row_number() OVER (PARTITION BY user_id ORDER BY occurred_at DESC, product_id) <= {RECENT_EVENTS_PER_USER}
    ORDER BY user_id, occurred_at DESC, product_id
"""


def _copy_table(
    db: duckdb.DuckDBPyConnection, manifest: Manifest, table: str, query: str, as_table: str | None = None
) -> None:
    db.register("source", table_dataset(manifest, table))
    db.execute(f"CREATE TABLE {as_table or table} AS {query}")
    db.unregister("source")


def open_index(root: Root, uri: str, cache: Path) -> duckdb.DuckDBPyConnection:
    """Return a read-only connection to a serving index; a remote one is copied to `cache` once.

    Threads don't share a connection: each takes ``connection.cursor()``.

    Parameters
    ----------
    cache
        Folder for copies of remote indexes; files there are named by the index's URI.
    """
    return duckdb.connect(str(_local_copy(root, uri, cache)), read_only=True)


def open_session_index(root: Root, pointer: Mapping[str, Any], cache: Path) -> SessionIndex:
    """Return the session index that a published pointer names; a remote one is copied to `cache` once.

    Raises
    ------
    ArtifactError
        The run was published by a version that made none, or the file is gone.
    """
    uri = pointer.get("session_index")
    if uri is None or not root.exists(uri):
        lacks = "has no session index" if uri is None else f"names {uri}, which is gone"
        raise ArtifactError(
            f"The published run {pointer['run_id']} of store {pointer['store']} {lacks}.",
            next_step="Publish again: clear the run's task publish_recommendations, or make a new run.",
        )
    return SessionIndex(_local_copy(root, uri, cache))


def _local_copy(root: Root, uri: str, cache: Path) -> Path:
    if root.is_local:
        return Path(uri.removeprefix("file://"))
    local = cache / root.relative(uri).replace("/", "__")
    if not local.exists():
        cache.mkdir(parents=True, exist_ok=True)
        # A name of its own: two processes may fetch at the same time.
        partial = local.with_suffix(f".{os.getpid()}.part")
        root.fs.get_file(uri, str(partial))
        partial.replace(local)
    return local
