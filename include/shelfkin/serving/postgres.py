"""Publishing a run's tables to a shop's Postgres: rows go in beside those that are served, then one row moves.

Every table holds the rows of several runs, keyed by run first. ``served``, a table of one row, says which run is
shown, and shops read views that follow it. Loading a run and moving that row are one transaction of ordinary rows,
without any change of a table's definition: what a statement sees, and what a REPEATABLE READ transaction sees, is one
whole run, and nobody waits for anybody (docs/decisions/0018).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from shelfkin.artifacts import Manifest, RunPaths
from shelfkin.errors import ArtifactError, OptionError, PublishError, PublishUnavailableError
from shelfkin.serving.postgres_connection import connected
from shelfkin.serving.postgres_tables import PUBLISHED_TABLES, PublishedTable, copy_rows
from shelfkin.serving.reading import manifest_with, table_dataset
from shelfkin.settings import PostgresTarget

LAYOUT = "shelfkin published tables, layout 1"

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


@dataclass(frozen=True)
class _Served:
    """The run that readers see."""

    run: int
    as_of: date


@contextmanager
def published_to_postgres(
    target: PostgresTarget, paths: RunPaths, manifests: Mapping[str, Manifest], content: str
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

    Raises
    ------
    PublishError, PublishUnavailableError
        The database refused, or was not to be had; nothing has changed.
    ArtifactError
        The run's tables don't hold what their manifests say.
    """
    names = _Names(paths.store)
    with connected(target.url, f"shelfkin publish {paths.store}") as db:
        _configure(db)
        done = PostgresPublish()
        before = _load_and_serve(db, names, paths, manifests, content, done)
        try:
            yield done
        except BaseException as error:
            if done.run is not None:
                _take_back(db, names, done.run, before, error)
            raise
        done.lines += _remove_old_runs(db, names, target.keep_runs)


class _Names:
    """Quoted names of one store's schema and what is in it."""

    def __init__(self, store: str) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", store):
            raise OptionError(f"Store name {store!r} can't name a schema.")
        self.store = store
        # Not the bare name: a shop may well have a schema of its own that is called like its store.
        self.schema_name = f"shelfkin_{store}"
        self.schema = sql.Identifier(self.schema_name)

    def __call__(self, name: str) -> sql.Identifier:
        return sql.Identifier(self.schema_name, name)

    def all_runs(self, table: PublishedTable) -> sql.Identifier:
        """The table behind a view: the rows of every run that is kept."""
        return self(f"all_{table.name}")


def _configure(db: psycopg.Connection) -> None:
    # Whatever this role's defaults are for its web requests, a load takes longer.
    db.execute("SET statement_timeout = 0")
    db.execute("SET idle_in_transaction_session_timeout = 0")
    db.execute(sql.SQL("SET lock_timeout = {}").format(sql.Literal(f"{_WAIT_FOR_OTHERS_S}s")))
    # A publisher that vanished with its network must not hold the store's lock for hours.
    db.execute("SET tcp_keepalives_idle = 60")


def _load_and_serve(
    db: psycopg.Connection,
    names: _Names,
    paths: RunPaths,
    manifests: Mapping[str, Manifest],
    content: str,
    done: PostgresPublish,
) -> _Served | None:
    """Bring a run into the database and serve it, all or nothing; return what was served before."""
    with db.transaction():
        _wait_for_other_publishes(db, names)
        _ensure_layout(db, names)
        before = _served(db, names)
        if before is not None and before.as_of > paths.as_of:
            done.lines.append(f"Postgres serves as of {before.as_of} and keeps it; this run wasn't loaded.")
            return before
        run = _find_run(db, names, paths.run_id, content)
        if run is None:
            run, rows = _load(db, names, paths, manifests, content)
            done.lines.append(f"Postgres: {sum(rows.values()):,} rows loaded into schema {names.schema_name}")
        db.execute(
            sql.SQL("INSERT INTO {} (run) VALUES (%s) ON CONFLICT (one) DO UPDATE SET run = excluded.run").format(
                names("served")
            ),
            [run],
        )
    done.run = run
    done.lines.append(f"Postgres serves as of {paths.as_of} as run {run}")
    return before


def _wait_for_other_publishes(db: psycopg.Connection, names: _Names) -> None:
    try:
        db.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [names.schema_name])
    except psycopg.errors.LockNotAvailable:
        raise PublishUnavailableError(
            f"Another publish of store {names.store} has been under way for more than {_WAIT_FOR_OTHERS_S} s.",
            next_step="Wait until it has ended; Airflow tries again.",
        ) from None


def _ensure_layout(db: psycopg.Connection, names: _Names) -> None:
    """Make schema, tables and views where they aren't there yet; they stay for good, and so do grants on them."""
    found = db.execute(
        "SELECT to_regnamespace(%s) IS NOT NULL, obj_description(to_regclass(%s), 'pg_class')",
        [names.schema_name, f"{names.schema_name}.runs"],
    ).fetchone()
    has_schema, layout = found or (False, None)
    if layout == LAYOUT:
        return
    if layout is not None:
        raise PublishError(
            f"Schema {names.schema_name} holds {layout!r}; this version writes {LAYOUT!r}.",
            next_step=f"Rename or drop the schema: DROP SCHEMA {names.schema_name} CASCADE; the next publish makes it "
            "anew.",
        )
    if not has_schema:
        # Only then: even IF NOT EXISTS asks for the right to create schemas.
        db.execute(sql.SQL("CREATE SCHEMA {}").format(names.schema))
    db.execute(
        sql.SQL(
            "CREATE TABLE {} (run int4 PRIMARY KEY, run_id text NOT NULL, as_of date NOT NULL, content text NOT NULL, "
            "rows jsonb NOT NULL, published_at timestamptz NOT NULL DEFAULT now())"
        ).format(names("runs"))
    )
    db.execute(sql.SQL("COMMENT ON TABLE {} IS {}").format(names("runs"), sql.Literal(LAYOUT)))
    db.execute(
        sql.SQL(
            "CREATE TABLE {} (one bool PRIMARY KEY DEFAULT true CHECK (one), run int4 NOT NULL REFERENCES {})"
        ).format(names("served"), names("runs"))
    )
    db.execute(
        sql.SQL(
            "CREATE VIEW {} AS SELECT run, run_id, as_of, published_at FROM {} WHERE run = (SELECT run FROM {})"
        ).format(names("served_run"), names("runs"), names("served"))
    )
    for table in PUBLISHED_TABLES:
        _create_table(db, names, table)


def _create_table(db: psycopg.Connection, names: _Names, table: PublishedTable) -> None:
    columns = sql.SQL(", ").join(
        sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(kind)) for name, kind in table.columns.items()
    )
    # Run first: rows of a run arrive in the order of the key, at one end of the index, and leave its pages empty.
    db.execute(
        sql.SQL("CREATE TABLE {} (run int4, {}, PRIMARY KEY (run, {}))").format(
            names.all_runs(table), columns, _listed(table.key)
        )
    )
    if table.index:
        db.execute(sql.SQL("CREATE INDEX ON {} (run, {})").format(names.all_runs(table), _listed(table.index)))
    db.execute(
        sql.SQL("CREATE VIEW {} AS SELECT {}, run FROM {} WHERE run = (SELECT run FROM {})").format(
            names(table.name), _listed(tuple(table.columns)), names.all_runs(table), names("served")
        )
    )


def _listed(columns: tuple[str, ...]) -> sql.Composable:
    return sql.SQL(", ").join(map(sql.Identifier, columns))


def _served(db: psycopg.Connection, names: _Names) -> _Served | None:
    row = db.execute(sql.SQL("SELECT run, as_of FROM {}").format(names("served_run"))).fetchone()
    return _Served(*row) if row else None


def _find_run(db: psycopg.Connection, names: _Names, run_id: str, content: str) -> int | None:
    row = db.execute(
        sql.SQL("SELECT max(run) FROM {} WHERE run_id = %s AND content = %s").format(names("runs")), [run_id, content]
    ).fetchone()
    return row[0] if row else None


def _load(
    db: psycopg.Connection, names: _Names, paths: RunPaths, manifests: Mapping[str, Manifest], content: str
) -> tuple[int, dict[str, int]]:
    """Copy all tables in under a new number, which no reader asks for yet; return it and the rows of each table."""
    row = db.execute(sql.SQL("SELECT coalesce(max(run), 0) + 1 FROM {}").format(names("runs"))).fetchone()
    run = int(row[0]) if row else 1
    rows = {}
    for table in PUBLISHED_TABLES:
        manifest = manifest_with(manifests, table.name)
        copied = copy_rows(db, table, names.all_runs(table), run, table_dataset(manifest, table.name))
        if copied != manifest.rows(table.name):
            raise ArtifactError(
                f"Table {table.name} has {copied:,} rows, but {manifest.uri} says {manifest.rows(table.name):,}.",
                next_step="Clear the run and let every stage run.",
            )
        rows[table.name] = copied
    db.execute(
        sql.SQL("INSERT INTO {} (run, run_id, as_of, content, rows) VALUES (%s, %s, %s, %s, %s)").format(names("runs")),
        [run, paths.run_id, paths.as_of, content, Jsonb(rows)],
    )
    return run, rows


def _take_back(db: psycopg.Connection, names: _Names, run: int, before: _Served | None, error: BaseException) -> None:
    """Serve the run before this one again, unless somebody has moved on meanwhile."""
    try:
        if before is None:
            db.execute(sql.SQL("DELETE FROM {} WHERE run = %s").format(names("served")), [run])
        else:
            db.execute(sql.SQL("UPDATE {} SET run = %s WHERE run = %s").format(names("served")), [before.run, run])
    except psycopg.Error:
        error.add_note(
            f"Postgres serves run {run} all the same: it went away before that could be taken back. "
            "Next step: clear the task, which brings pointers and tables together."
        )


def _remove_old_runs(db: psycopg.Connection, names: _Names, keep_runs: int) -> list[str]:
    """Remove all runs but the newest `keep_runs` and the served one, and make their room free for the next.

    A transaction that began earlier still sees the removed rows. The vacuum gives no room back to the disk, because
    that would take a lock that readers wait for.
    """
    try:
        with db.transaction():
            removed = db.execute(
                sql.SQL(
                    "SELECT run FROM {runs} WHERE run NOT IN (SELECT run FROM {served}) "
                    "AND run NOT IN (SELECT run FROM {runs} ORDER BY run DESC LIMIT %s)"
                ).format(runs=names("runs"), served=names("served")),
                [keep_runs],
            ).fetchall()
            old = [run for (run,) in removed]
            for relation in (*map(names.all_runs, PUBLISHED_TABLES), names("runs")):
                db.execute(sql.SQL("DELETE FROM {} WHERE run = ANY(%s)").format(relation), [old])
        for table in PUBLISHED_TABLES:
            db.execute(sql.SQL("VACUUM (ANALYZE, TRUNCATE false) {}").format(names.all_runs(table)))
    except psycopg.Error as error:
        why = error.sqlstate or "connection lost"
        return [f"Postgres: old runs were not removed ({why}); the next publish does it."]
    return []
