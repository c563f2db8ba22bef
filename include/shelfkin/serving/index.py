"""The serving index: one DuckDB file per run that answers look-ups without scanning parquet."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import duckdb
import pyarrow.dataset as ds

from shelfkin import tables
from shelfkin.artifacts import Manifest, Root, RunPaths

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


def build_index(paths: RunPaths, manifests: Mapping[str, Manifest], uri: str) -> None:
    """Write the serving index of a run as one file at `uri`.

    It holds the published tables, sorted by what look-ups ask for, ``recent_events`` (each known user's last 20
    events) and ``run`` (one row that names the run).

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
    # The view goes through pyarrow and fsspec, so that any artifact root that Spark can write is readable here.
    path = manifest.root.fs._strip_protocol(manifest.table_uri(table))
    db.register("source", ds.dataset(path, format="parquet", filesystem=manifest.root.fs))
    db.execute(f"CREATE TABLE {as_table or table} AS {query}")
    db.unregister("source")


def open_index(root: Root, uri: str, cache: Path) -> duckdb.DuckDBPyConnection:
    """Return a read-only connection to an index; a remote one is copied to `cache` once.

    Parameters
    ----------
    cache
        Folder for copies of remote indexes; files there are named by the index's URI.
    """
    if root.is_local:
        return duckdb.connect(uri.removeprefix("file://"), read_only=True)
    local = cache / root.relative(uri).replace("/", "__")
    if not local.exists():
        cache.mkdir(parents=True, exist_ok=True)
        partial = local.with_suffix(".part")
        root.fs.get_file(uri, str(partial))
        partial.replace(local)
    return duckdb.connect(str(local), read_only=True)
