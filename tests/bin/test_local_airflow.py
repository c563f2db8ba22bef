"""What setting up does with a metadata database that somebody else keeps."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "bin" / "local_airflow.py"


def test_setup_leaves_a_database_alone_that_a_url_names(tmp_path: Path) -> None:
    # Nothing listens on port 1: whoever asked it would fail.
    url = "postgresql+psycopg2://nobody@127.0.0.1:1/none"
    home = tmp_path / "home"
    environment = {**os.environ, "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": url, "AIRFLOW_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "setup"], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "prepared by the first run" in done.stdout
    assert not home.exists()
