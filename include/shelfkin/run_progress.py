"""The progress of a run for a person who follows it from a terminal: one JSON object per line of a file.

Stages and operators report to the file that ``SHELFKIN_PROGRESS_FILE`` names; ``bin/local_airflow.py run`` sets the
variable and shows what arrives, so that it needn't understand Airflow's log. Without the variable nothing is written.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

PROGRESS_FILE = "SHELFKIN_PROGRESS_FILE"


def report(kind: Literal["task", "line", "failure"], text: str) -> None:
    """Append to the run's progress that a task starts, a line of it, or why it failed."""
    path = os.environ.get(PROGRESS_FILE)
    if path:
        # Nothing that only serves a reader may end a run.
        with contextlib.suppress(OSError), Path(path).open("a") as file:
            file.write(json.dumps([kind, text]) + "\n")


@contextlib.contextmanager
def reported(task_id: str) -> Iterator[None]:
    """Report that a task starts and, if the block fails, why."""
    report("task", task_id)
    try:
        yield
    except Exception as error:
        report("failure", str(error))
        raise


class ProgressHandler(logging.Handler):
    """Reports what the logger ``shelfkin`` says, but not its children, with the time of day."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(asctime)s  %(message)s", datefmt="%H:%M:%S"))
        self.addFilter(lambda record: record.name == "shelfkin")

    def emit(self, record: logging.LogRecord) -> None:
        """Report one record."""
        report("line", self.format(record))
