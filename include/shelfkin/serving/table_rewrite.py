"""Taking rows out of a finished stage's tables: new files beside the old ones, then the manifest, then the old go."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from shelfkin.artifacts import Manifest, Root, check_reconciled
from shelfkin.tables import EVENTS

# Of rows that stay, and of which only a text went.
WITHHELD = "withheld"


@dataclass(frozen=True)
class Cut:
    """What a table loses.

    Attributes
    ----------
    columns
        What `apply` needs to find the rows; None: all.
    apply
        Returns the rows that stay, and how many went by the reason that stands in them ("" where there is none);
        `WITHHELD` counts rows that stay without their text.
    """

    columns: Sequence[str] | None
    apply: Callable[[pa.Table], tuple[pa.Table, Counter[str]]]


@dataclass
class Rewrite:
    """New files of a stage's tables that no manifest names yet.

    Attributes
    ----------
    paths
        Folder of the new files by table, relative to the root.
    lost
        What went, by table.
    """

    paths: dict[str, str] = field(default_factory=dict)
    lost: dict[str, Counter[str]] = field(default_factory=dict)

    def rows(self, table: str) -> int:
        """Return how many rows of a table went."""
        return self.lost[table].total() - self.lost[table][WITHHELD]


def lost_rows(root: Root, folder: str, cut: Cut) -> dict[str, Counter[str]]:
    """Return what a table's files lose, by file; files that lose nothing are left out."""
    lost = {path: cut.apply(_read(root, path, cut.columns))[1] for path in _files(root, folder)}
    return {path: counts for path, counts in lost.items() if counts}


def rewrite(root: Root, manifest: Manifest, table: str, cut: Cut, attempt: str, made: Rewrite, *, do: bool) -> None:
    """Write a table anew without what it loses, if it loses anything; `made` says where. Files that lose nothing are
    copied as they are."""
    old = manifest.table_uri(table)
    lost = lost_rows(root, old, cut)
    if not lost:
        return
    made.lost[table] = sum(lost.values(), Counter())
    new = posixpath.join(posixpath.dirname(manifest.uri), attempt, table)
    made.paths[table] = root.relative(new)
    for path in _files(root, old) if do else ():
        target = posixpath.join(new, posixpath.basename(path))
        if path not in lost:
            root.put_bytes(target, root.read_bytes(path))
            continue
        rows = _read(root, path, None)
        buffer = pa.BufferOutputStream()
        pq.write_table(cut.apply(rows)[0], buffer, compression="snappy")
        root.put_bytes(target, buffer.getvalue().to_pybytes())


def rewritten(manifest: Manifest, made: Rewrite, counted_as: str, note: dict[str, Any]) -> dict[str, Any]:
    """Return a manifest's content that names the new files, with counts that add up again.

    Parameters
    ----------
    counted_as
        The count that rows go to which were kept or quarantined; blank: counts tell of what was read, and stay.
    note
        Added to the list ``rewritten``, with the rows that went and the hash of the manifest as it was.
    """
    content = dict(manifest.content)
    tables, counts = dict(content["tables"]), dict(content.get("counts") or {})
    for table, path in made.paths.items():
        tables[table] = {**tables[table], "path": path, "rows": tables[table]["rows"] - made.rows(table)}
        if counted_as and "rows_in" in counts and (table == EVENTS or table.endswith("_quarantine")):
            part = "kept" if table == EVENTS else "quarantined"
            counts[part] -= made.rows(table)
            counts[counted_as] = counts.get(counted_as, 0) + made.rows(table)
            if part == "quarantined":
                by_reason = Counter(counts.get("quarantined_by_reason") or {})
                by_reason.subtract({reason: n for reason, n in made.lost[table].items() if reason != WITHHELD})
                counts["quarantined_by_reason"] = {reason: n for reason, n in by_reason.items() if n}
    check_reconciled(manifest.stage, counts)
    entry = {**note, "rows": {table: made.rows(table) for table in made.paths}, "manifest_was": manifest.sha256}
    return {**content, "tables": tables, "counts": counts, "rewritten": [*content.get("rewritten", []), entry]}


def _files(root: Root, folder: str) -> list[str]:
    return sorted(_uri(root, path) for path in root.fs.find(folder) if path.endswith(".parquet"))


def _uri(root: Root, path: str) -> str:
    return path if root.is_local else root.fs.unstrip_protocol(path)


def _read(root: Root, path: str, columns: Sequence[str] | None) -> pa.Table:
    with root.fs.open(path, "rb") as file, pq.ParquetFile(file) as parquet:
        return parquet.read(columns=list(columns) if columns else None)
