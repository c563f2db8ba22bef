"""A serving index without erased customers."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
import zlib
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from shelfkin.artifacts import Root
from shelfkin.erased_users import ErasedUsers
from shelfkin.serving.index import LAYOUT


@dataclass(frozen=True)
class CleanIndex:
    """What became of an index that held erased customers.

    Attributes
    ----------
    is_readable
        False: it is of a version that nobody reads any more, and was left alone.
    """

    n_users: int
    is_readable: bool = True


def index_without(root: Root, uri: str, erased: ErasedUsers, places: Sequence[str] = ()) -> CleanIndex | None:
    """Put a serving index without erased customers to `places`, if it holds any; None if it holds none of them."""
    with tempfile.TemporaryDirectory(prefix="shelfkin-erase-") as folder:
        local = Path(folder) / "index.sqlite"
        root.fs.get_file(uri, str(local))
        try:
            with closing(sqlite3.connect(local)) as db:
                if db.execute("PRAGMA user_version").fetchone() != (LAYOUT,):
                    return CleanIndex(1, is_readable=False)
                ids = erased.among(user_id for (user_id,) in db.execute("SELECT user_id FROM user"))
                if not ids:
                    return None
                _delete_users(db, ids)
        except sqlite3.DatabaseError:
            return CleanIndex(1, is_readable=False)
        for place in places:
            root.put_file(Path(shutil.copyfile(local, local.with_suffix(".copy"))), place)
        return CleanIndex(len(ids))


def _delete_users(db: sqlite3.Connection, ids: Iterable[str]) -> None:
    db.executescript("PRAGMA journal_mode = OFF; PRAGMA secure_delete = ON;")
    for user_id in ids:
        ((packed,),) = db.execute("SELECT packed FROM user WHERE user_id = ?", [user_id]).fetchall()
        listed = [(one["product_id"],) for one in json.loads(zlib.decompress(packed))["recommendations"]]
        db.executemany("UPDATE product SET n_lists = n_lists - 1 WHERE product_id = ? AND n_lists > 0", listed)
        db.execute("DELETE FROM user WHERE user_id = ?", [user_id])
        if listed:
            change = "json_set(content, '$.n_users_with_lists', content ->> '$.n_users_with_lists' - 1)"
            db.execute(f"UPDATE document SET content = {change} WHERE name = 'run'")
    # Without gaps: examples are found by number.
    db.execute("CREATE TEMP TABLE numbered (old INTEGER PRIMARY KEY, new INTEGER)")
    db.execute("INSERT INTO numbered SELECT number, row_number() OVER (ORDER BY number) FROM user")
    db.execute("UPDATE user SET number = -number")
    db.execute("UPDATE user SET number = (SELECT new FROM numbered WHERE old = -number)")
    db.execute("DROP TABLE numbered")
    db.commit()
    db.execute("VACUUM")
