"""Erasing customers from what a store's runs have left behind: tables, serving indexes, accounts of failures.

New files are written beside the old ones; then manifests name them, then pointers; then the old files go. Killed at any
moment, it is completed by doing it again: every step looks at what is there.
"""

from __future__ import annotations

import os
import posixpath
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa

from shelfkin.artifacts import (
    Manifest,
    Root,
    RunPaths,
    content_key,
    latest_pointer_uri,
    published_days,
    utc_now,
)
from shelfkin.erased_users import WITHHELD as WITHHELD_TEXT
from shelfkin.erased_users import ErasedUsers
from shelfkin.errors import ArtifactError
from shelfkin.profile import IdRule, StoreProfile
from shelfkin.serving.erasing_cuts import erasing_cut
from shelfkin.serving.index import LAYOUT
from shelfkin.serving.index_erasure import index_without
from shelfkin.serving.retention import last_change, run_folders
from shelfkin.serving.table_rewrite import WITHHELD, Rewrite, lost_rows, rewrite, rewritten
from shelfkin.settings import PostgresTarget, Settings

# What no manifest names yet may be what a stage is writing.
AT_WORK = timedelta(hours=1)


@dataclass
class Erasure:
    """What was erased, or would be.

    Attributes
    ----------
    rows
        Rows by table; of the serving index and of Postgres by ``serving_index`` and ``postgres``. Rows that stay
        without a text that named somebody are ``texts``.
    runs
        Folders of the runs that held any.
    at_work
        Folders that hold some and changed within the last hour: a stage may be at work on them.
    """

    rows: Counter[str] = field(default_factory=Counter)
    runs: set[str] = field(default_factory=set)
    at_work: list[str] = field(default_factory=list)

    def account(self) -> dict[str, Any]:
        """Return what is recorded."""
        return {"rows": dict(sorted(self.rows.items())), "n_runs": len(self.runs)}


def erased_users(root: Root, profile: StoreProfile) -> ErasedUsers:
    """Return the customers of a store who were erased."""
    return ErasedUsers.of(root, profile.store, profile.events.user_id) if profile.events else ErasedUsers()


def erase(
    root: Root,
    profile: StoreProfile,
    erased: ErasedUsers,
    postgres: PostgresTarget | None = None,
    *,
    do: bool,
    now: datetime | None = None,
) -> Erasure:
    """Erase customers from every run of a store, and from its Postgres.

    Readers see whole tables and indexes of one run all along: the index at its old place is replaced by one without
    the customers as well, for whoever still follows the old pointer. A query over Parquet files that is under way when
    they go fails, and finds the new ones when it asks again.

    Parameters
    ----------
    do
        False: nothing is changed; the answer says what would be.

    Raises
    ------
    ArtifactError
        A run's manifests can't be read; the others are done.
    PublishError, PublishUnavailableError
        The database refused, or was not to be had; the files are done, and doing it again completes it.
    """
    done = Erasure()
    keys: list[tuple[str, str, str]] = []
    failed = []
    for folder in run_folders(root, profile.store):
        try:
            keys += _Run(root, profile, erased, folder, done, do, now or datetime.now(UTC)).erase()
        except ArtifactError as error:
            failed.append(f"{folder}: {error.message}")
    if postgres is not None:
        # Imported only here: an installation without a database needs no libpq.
        from shelfkin.serving.postgres_erasure import erase_from_postgres

        done.rows["postgres"] += erase_from_postgres(postgres, profile.store, erased, keys, do=do)
    if failed:
        raise ArtifactError(
            f"{len(failed)} runs can't be read, and may hold customers who are to be forgotten: {'; '.join(failed)}",
            next_step="Remove these folders, or mend them, and do it again; all other runs are done.",
        )
    done.rows = +done.rows
    return done


def erase_from_run(paths: RunPaths, settings: Settings) -> Erasure:
    """Erase the store's erased customers from a run that ends now: they may have been erased while it was made."""
    done = Erasure()
    if not ErasedUsers.of(paths.root, paths.store, IdRule()):
        return done
    profile = settings.profile(paths.store)
    erased = erased_users(paths.root, profile)
    _Run(paths.root, profile, erased, paths.run_uri, done, True, datetime.now(UTC)).erase()
    return done


@dataclass
class _Run:
    """One run's folder."""

    root: Root
    profile: StoreProfile
    erased: ErasedUsers
    folder: str
    done: Erasure
    do: bool
    now: datetime

    def erase(self) -> list[tuple[str, str, str]]:
        """Erase, and return the run's id with the old and the new key of what it publishes, if it changed."""
        before = Counter(self.done.rows)
        attempt = f"erased-{self.now:%Y%m%d}-{os.urandom(3).hex()}"
        manifests = self._manifests()
        old_key, gone = content_key(_stages(manifests)), []
        for manifest in manifests.values():
            made = Rewrite()
            for table in manifest.content["tables"]:
                cut = erasing_cut(table, self.profile, self.erased)
                if cut and self.root.exists(manifest.table_uri(table)):
                    rewrite(self.root, manifest, table, cut, attempt, made, do=self.do)
                    if table in made.paths:
                        gone.append(manifest.table_uri(table))
                        self._count(table, made.lost[table])
            if made.paths and self.do:
                content = rewritten(manifest, made, "erased", {"why": "customers were erased", "at": utc_now()})
                self.root.put_json(manifest.uri, content)
        if self.do:
            manifests = self._manifests()
        new_key = content_key(_stages(manifests))
        gone += self._indexes(manifests, new_key, attempt)
        self._errors()
        self._unnamed(manifests, gone)
        for uri in gone if self.do else ():
            if self.root.exists(uri):
                self.root.fs.rm(uri, recursive=True)
        if self.done.rows != before:
            self.done.runs.add(self.folder)
        run_id = next((manifest.content["run_id"] for manifest in manifests.values()), "")
        return [(run_id, old_key, new_key)] if old_key != new_key else []

    def _manifests(self) -> dict[str, Manifest]:
        uris = (posixpath.join(self.folder, stage, "manifest.json") for stage in self.root.names(self.folder))
        found = (Manifest.read(self.root, uri) for uri in uris if self.root.exists(uri))
        return {manifest.stage: manifest for manifest in found}

    def _count(self, table: str, lost: Counter[str]) -> None:
        self.done.rows[table] += lost.total() - lost[WITHHELD]
        self.done.rows["texts"] += lost[WITHHELD]

    def _indexes(self, manifests: dict[str, Manifest], key: str, attempt: str) -> list[str]:
        """Erase from the run's serving index, and let the run's pointers follow; return files that are to go."""
        publish = next((one for one in manifests.values() if "serving_index" in one.content["metrics"]), None)
        pointers = self._pointers()
        old = {str(pointer["serving_index"]) for pointer in pointers.values()}
        old |= {str(publish.content["metrics"]["serving_index"])} if publish else set()
        moved, gone = {}, []
        for uri in sorted(old):
            if not self.root.exists(uri):
                continue
            beside = posixpath.dirname(uri)
            new = posixpath.join(beside, f"{key}.v{LAYOUT}.sqlite")
            new = posixpath.join(beside, f"{attempt}.v{LAYOUT}.sqlite") if new in old else new
            clean = index_without(self.root, uri, self.erased, (new, uri) if self.do else ())
            if clean is None:
                continue
            self.done.rows["serving_index"] += clean.n_users
            if clean.is_readable:
                moved[uri] = new
            else:
                gone.append(uri)
        if self.do:
            self._point(manifests, publish, pointers, moved)
        return gone

    def _point(
        self,
        manifests: dict[str, Manifest],
        publish: Manifest | None,
        pointers: dict[str, dict[str, Any]],
        moved: dict[str, str],
    ) -> None:
        if publish is not None and (new := moved.get(publish.content["metrics"]["serving_index"])):
            metrics = {**publish.content["metrics"], "serving_index": new}
            self.root.put_json(publish.uri, {**publish.content, "metrics": metrics})
        entries = {
            table: {"path": manifest.table_uri(table), "rows": manifest.rows(table)}
            for manifest in manifests.values()
            for table in manifest.content["tables"]
        }
        for uri, pointer in pointers.items():
            named = {table: entries.get(table, entry) for table, entry in pointer["tables"].items()}
            index = moved.get(pointer["serving_index"], pointer["serving_index"])
            # Read again: a day that was published meanwhile stays.
            if self.root.read_json(uri)["run_id"] == pointer["run_id"]:
                moved_on = {**pointer, "tables": named, "serving_index": index}
                if moved_on != pointer:
                    self.root.put_json(uri, moved_on)

    def _pointers(self) -> dict[str, dict[str, Any]]:
        """Return the pointers that name this run, by where they stand."""
        store, day = self.profile.store, date.fromisoformat(self.folder.split("/as_of=")[-1][:10])
        uris = [latest_pointer_uri(self.root, store)]
        uris += [RunPaths(self.root, store, day, "").published_uri()] if day in published_days(self.root, store) else []
        found = {uri: self.root.read_json(uri) for uri in uris if self.root.exists(uri)}
        return {
            uri: pointer
            for uri, pointer in found.items()
            if pointer["as_of"] == day.isoformat()
            and RunPaths(self.root, store, day, pointer["run_id"]).run_uri == self.folder
        }

    def _errors(self) -> None:
        for stage in self.root.names(self.folder):
            uri = posixpath.join(self.folder, stage, "error.json")
            if not self.root.exists(uri):
                continue
            account = self.root.read_json(uri)
            if self.erased.mentioned(f"{account.get('message')}\n{account.get('next_step')}"):
                self.done.rows["texts"] += 1
                if self.do:
                    self.root.put_json(uri, {**account, "message": WITHHELD_TEXT, "next_step": ""})

    def _unnamed(self, manifests: dict[str, Manifest], gone: list[str]) -> None:
        """Find what failed and replaced tries left behind: nobody reads it, so it goes as a whole."""
        named = {one.table_uri(table) for one in manifests.values() for table in one.content["tables"]}
        named |= {str(one.content["metrics"].get("serving_index")) for one in manifests.values()}
        named |= {str(pointer["serving_index"]) for pointer in self._pointers().values()} | set(gone)
        for uri in sorted(self._tables_and_indexes() - named):
            n = self._n_unnamed(uri)
            if not n:
                continue
            if last_change(self.root, uri) > self.now - AT_WORK:
                self.done.at_work.append(uri)
                continue
            self.done.rows["of unfinished tries"] += n
            gone.append(uri)

    def _tables_and_indexes(self) -> set[str]:
        """Return the folders of tables, and the files of indexes, that stand in this run's folder."""
        found = set()
        prefix = self.root.fs._strip_protocol(self.folder)
        for path in self.root.fs.find(self.folder):
            parts = path[len(prefix) :].strip("/").split("/")
            if len(parts) > 3 and path.endswith(".parquet"):
                found.add(posixpath.join(self.folder, *parts[:3]))
            elif path.endswith((".sqlite", ".duckdb")):
                found.add(posixpath.join(self.folder, *parts))
        return found

    def _n_unnamed(self, uri: str) -> int:
        if uri.endswith((".sqlite", ".duckdb")):
            clean = index_without(self.root, uri, self.erased)
            return clean.n_users if clean else 0
        cut = erasing_cut(posixpath.basename(uri), self.profile, self.erased)
        try:
            return sum(lost.total() for lost in lost_rows(self.root, uri, cut).values()) if cut else 0
        except (pa.ArrowException, OSError):
            return 1  # Torn: nobody can say what it holds.


def _stages(manifests: dict[str, Manifest]) -> dict[str, Manifest]:
    return {stage: one for stage, one in manifests.items() if "serving_index" not in one.content["metrics"]}
