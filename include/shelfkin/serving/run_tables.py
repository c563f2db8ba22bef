"""A run's tables as pyarrow datasets, from whatever file system holds the artifacts."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow.dataset as ds

from shelfkin.artifacts import Manifest
from shelfkin.errors import ArtifactError


def table_dataset(manifest: Manifest, table: str) -> ds.Dataset:
    """Return a table of a stage; through fsspec, so that any root that Spark can write to is readable here."""
    path = manifest.root.fs._strip_protocol(manifest.table_uri(table))
    return ds.dataset(path, format="parquet", filesystem=manifest.root.fs)


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
