"""The least that a stage can do: read its input's manifest, write a table of one row and a manifest of its own."""

from __future__ import annotations

from pathlib import Path

from shelfkin.app import App
from shelfkin.stage import Stage
from shelfkin.stages import STAGES

NAME = Path(__file__).stem
BEFORE = STAGES[max(STAGES.index(NAME) - 1, 0)] if NAME in STAGES else NAME


def run(stage: Stage) -> None:
    n_tables = sum(len(manifest.content["tables"]) for manifest in stage.inputs.values())
    stage.write("floor", stage.spark.createDataFrame([(stage.name, n_tables)], "stage string, n_tables int"), n_files=1)


if __name__ == "__main__":
    App(NAME, run, optional_inputs=(BEFORE,), description=__doc__).main()
