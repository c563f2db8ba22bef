"""Erasing customers from a shop's Postgres: from the lists of every run that is kept there."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg
from psycopg import sql

from shelfkin import tables
from shelfkin.erased_users import ErasedUsers
from shelfkin.serving.postgres_connection import connected
from shelfkin.serving.postgres_layout import LAYOUT, PUBLISHED_TABLES, StoreSchema
from shelfkin.serving.postgres_publish import configure, wait_for_other_publishes
from shelfkin.settings import PostgresTarget


def erase_from_postgres(
    target: PostgresTarget, store: str, erased: ErasedUsers, keys: Sequence[tuple[str, str, str]], *, do: bool
) -> int:
    """Remove the rows of erased customers from every run in the database, and return how many they are.

    One transaction: a reader sees the lists with them or without. The vacuum afterwards frees the rows' room; the
    server's own log and backups are kept as long as its administrator says.

    Parameters
    ----------
    keys
        Run id, and the old and new key of its content, of runs whose manifests changed: they are known again then.
    """
    schema = StoreSchema(store)
    with connected(target.url, f"shelfkin forget {store}") as db:
        configure(db)
        layout = db.execute("SELECT obj_description(to_regclass(%s), 'pg_class')", [f"{schema.name}.runs"]).fetchone()
        if layout != (LAYOUT,):
            return 0
        lists = next(table for table in PUBLISHED_TABLES if table.name == tables.USER_RECOMMENDATIONS)
        names = {"lists": schema.all_runs(lists)}
        if not do:
            query = schema.statement("SELECT count(*) FROM {lists} WHERE {erased}", erased=_IS_ERASED, **names)
            return int(db.execute(query, _values(erased)).fetchone()[0])  # type: ignore[index]
        with db.transaction():
            wait_for_other_publishes(db, schema)
            query = schema.statement("DELETE FROM {lists} WHERE {erased}", erased=_IS_ERASED, **names)
            n = db.execute(query, _values(erased)).rowcount
            _describe(db, schema, names, keys)
        db.execute(schema.statement("VACUUM (ANALYZE, TRUNCATE false) {lists}", **names))
        return n


_IS_ERASED = sql.SQL("encode(sha256(convert_to(%s || user_id, 'UTF8')), 'hex') = ANY(%s)")


def _values(erased: ErasedUsers) -> list[object]:
    return [erased.salt, sorted(erased.hashes)]


def _describe(
    db: psycopg.Connection,
    schema: StoreSchema,
    names: dict[str, sql.Identifier],
    keys: Sequence[tuple[str, str, str]],
) -> None:
    """Let the list of runs say how many rows are left, and know a run by what its manifests say now."""
    for run_id, old, new in keys:
        change = schema.statement("UPDATE {runs} SET content = %s WHERE run_id = %s AND content = %s")
        db.execute(change, [new, run_id, old])
    db.execute(
        schema.statement(
            "UPDATE {runs} r SET rows = r.rows || jsonb_build_object('user_recommendations', n) "
            "FROM (SELECT runs.run, (SELECT count(*) FROM {lists} l WHERE l.run = runs.run) AS n "
            "FROM {runs} runs) counted "
            "WHERE counted.run = r.run AND r.rows ->> 'user_recommendations' IS DISTINCT FROM n::text",
            **names,
        )
    )
