"""Publishing a run's tables to a shop's Postgres: rows go in beside those that are served, then one row moves.

Loading a run and moving that row are one transaction of ordinary rows, without any change of a table's definition: what
a statement sees, and what a REPEATABLE READ transaction sees, is one whole run, and nobody waits for anybody
(docs/decisions/0018).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from typing import NamedTuple

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from shelfkin.artifacts import Manifest, RunPaths, manifest_with
from shelfkin.errors import ArtifactError, PublishUnavailableError
from shelfkin.serving.postgres_connection import connected
from shelfkin.serving.postgres_copy import copy_rows
from shelfkin.serving.postgres_layout import PUBLISHED_TABLES, StoreSchema, ensure_layout
from shelfkin.settings import PostgresTarget

# For another publish of the same store, also one whose client is gone and whose server hasn't noticed yet; and for an
# administrator who locks a table, to index it for instance. Readers take no lock that a publish waits for.
_WAIT_FOR_OTHERS_S = 30


@dataclass
class PostgresPublish:
    """What publishing did.

    Attributes
    ----------
    run
        Number of the run in the database, or None where a newer as_of is served there.
    lines
        What a person wants to read in the log.
    """

    run: int | None = None
    lines: list[str] = field(default_factory=list)


class _ServedRun(NamedTuple):
    """The run that readers see."""

    run: int
    as_of: date


@contextmanager
def published_to_postgres(
    target: PostgresTarget, paths: RunPaths, manifests: Mapping[str, Manifest], content: str, *, go_back: bool = False
) -> Iterator[PostgresPublish]:
    """Serve a run from Postgres, and go back to the run before it if the block fails.

    The block is where the pointer files move. Whatever fails here or there leaves the old tables served: loading and
    moving on are one transaction, and a failing block takes the move back. Old runs are removed after the block;
    trouble with that is a line of the log, no error.

    Parameters
    ----------
    manifests
        Stage name to manifest of the run.
    content
        Hash of all that was published. A run with this id and content that is there already isn't loaded again.
    go_back
        Serve it also in place of a newer as_of.

    Raises
    ------
    PublishError, PublishUnavailableError
        The database refused, or was not to be had; nothing has changed.
    ArtifactError
        The run's tables don't hold what their manifests say.
    """
    schema = StoreSchema(paths.store)
    with connected(target.url, f"shelfkin publish {paths.store}") as db:
        configure(db)
        done = PostgresPublish()
        before = _load_and_serve(db, schema, paths, manifests, content, done, go_back)
        try:
            yield done
        except BaseException as error:
            if done.run is not None:
                _take_back(db, schema, done.run, before, error)
            raise
        done.lines += _remove_old_runs(db, schema, target.keep_runs)


def configure(db: psycopg.Connection) -> None:
    # Whatever this role's defaults are for its web requests, a load takes longer.
    db.execute("SET statement_timeout = 0")
    db.execute("SET idle_in_transaction_session_timeout = 0")
    db.execute(f"SET lock_timeout = '{_WAIT_FOR_OTHERS_S}s'")
    # A publisher that vanished with its network must not hold the store's lock for hours.
    db.execute("SET tcp_keepalives_idle = 60")


def _load_and_serve(
    db: psycopg.Connection,
    schema: StoreSchema,
    paths: RunPaths,
    manifests: Mapping[str, Manifest],
    content: str,
    done: PostgresPublish,
    go_back: bool,
) -> _ServedRun | None:
    """Bring a run into the database and serve it, all or nothing; return what was served before."""
    with db.transaction():
        wait_for_other_publishes(db, schema)
        ensure_layout(db, schema)
        row = db.execute(schema.statement("SELECT run, as_of FROM {served_run}")).fetchone()
        before = _ServedRun(*row) if row else None
        if before is not None and before.as_of > paths.as_of and not go_back:
            done.lines.append(f"Postgres serves as of {before.as_of} and keeps it; this run wasn't loaded.")
            return before
        run = _number_of(db, schema, paths.run_id, content)
        if run is None:
            run, n_rows = _load(db, schema, paths, manifests, content)
            done.lines.append(f"Postgres: {n_rows:,} rows loaded into schema {schema.name}")
        db.execute(
            schema.statement(
                "INSERT INTO {served} (run) VALUES (%s) ON CONFLICT (one) DO UPDATE SET run = excluded.run"
            ),
            [run],
        )
    done.run = run
    done.lines.append(f"Postgres serves as of {paths.as_of} as run {run}")
    return before


def wait_for_other_publishes(db: psycopg.Connection, schema: StoreSchema) -> None:
    try:
        db.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [schema.name])
    except psycopg.errors.LockNotAvailable:
        raise PublishUnavailableError(
            f"Another publish of store {schema.store} has been under way for more than {_WAIT_FOR_OTHERS_S} s.",
            next_step="Wait until it has ended; Airflow tries again.",
        ) from None


def _number_of(db: psycopg.Connection, schema: StoreSchema, run_id: str, content: str) -> int | None:
    """Return the number of a run that is in the database already."""
    same = schema.statement("SELECT max(run) FROM {runs} WHERE run_id = %s AND content = %s")
    row = db.execute(same, [run_id, content]).fetchone()
    return row[0] if row else None


def _load(
    db: psycopg.Connection, schema: StoreSchema, paths: RunPaths, manifests: Mapping[str, Manifest], content: str
) -> tuple[int, int]:
    """Copy all tables in under a new number, which no reader asks for yet; return it and how many rows they have."""
    row = db.execute(schema.statement("SELECT coalesce(max(run), 0) + 1 FROM {runs}")).fetchone()
    run = int(row[0]) if row else 1
    rows = {}
    for table in PUBLISHED_TABLES:
        manifest = manifest_with(manifests, table.name)
        rows[table.name] = copy_rows(db, schema, table, run, manifest.dataset(table.name))
        if rows[table.name] != manifest.rows(table.name):
            raise ArtifactError(
                f"Table {table.name} has {rows[table.name]:,} rows, but {manifest.uri} says "
                f"{manifest.rows(table.name):,}.",
                next_step="Clear the run and let every stage run.",
            )
    db.execute(
        schema.statement("INSERT INTO {runs} (run, run_id, as_of, content, rows) VALUES (%s, %s, %s, %s, %s)"),
        [run, paths.run_id, paths.as_of, content, Jsonb(rows)],
    )
    return run, sum(rows.values())


def _take_back(
    db: psycopg.Connection, schema: StoreSchema, run: int, before: _ServedRun | None, error: BaseException
) -> None:
    """Serve the run before this one again, unless somebody has moved on meanwhile."""
    try:
        if before is None:
            db.execute(schema.statement("DELETE FROM {served} WHERE run = %s"), [run])
        else:
            db.execute(schema.statement("UPDATE {served} SET run = %s WHERE run = %s"), [before.run, run])
    except psycopg.Error:
        error.add_note(
            f"Postgres serves run {run} all the same: it went away before that could be taken back. "
            "Next step: clear the task, which brings pointers and tables together."
        )


def _remove_old_runs(db: psycopg.Connection, schema: StoreSchema, keep_runs: int) -> list[str]:
    """Remove all runs but the newest `keep_runs` and the served one, and make their room free for the next.

    A transaction that began earlier still sees the removed rows. The vacuum gives no room back to the disk, because
    that would take a lock that readers wait for.
    """
    old_runs = schema.statement(
        "SELECT run FROM {runs} WHERE run NOT IN (SELECT run FROM {served}) "
        "AND run NOT IN (SELECT run FROM {runs} ORDER BY run DESC LIMIT %s)"
    )
    try:
        with db.transaction():
            old = [run for (run,) in db.execute(old_runs, [keep_runs]).fetchall()]
            for table in (*map(schema.all_runs, PUBLISHED_TABLES), sql.Identifier(schema.name, "runs")):
                db.execute(schema.statement("DELETE FROM {table} WHERE run = ANY(%s)", table=table), [old])
        for table in map(schema.all_runs, PUBLISHED_TABLES):
            db.execute(schema.statement("VACUUM (ANALYZE, TRUNCATE false) {table}", table=table))
    except psycopg.Error as error:
        why = error.sqlstate or "connection lost"
        return [f"Postgres: old runs were not removed ({why}); the next publish does it."]
    return []
