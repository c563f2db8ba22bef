"""The whole DAG, run from the command line as `make run` does it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from installation import Installation

pytestmark = [pytest.mark.e2e, pytest.mark.spark, pytest.mark.airflow]


def test_a_run_publishes_and_can_be_looked_at(installation: Installation) -> None:
    conf = {"repurchase": "exclude", "list_length": 7, "ranker_windows": 1}
    run = installation.airflow("run", "--as-of", "2024-06-01", "--conf", json.dumps(conf))
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]
    for task in ("clean_catalog", "embed_products", "build_recommendations", "publish_recommendations"):
        assert f"== {task}" in run.stdout
    assert "product_recommendations succeeded" in run.stdout

    # What a run leaves in the database, `make up` finds: a paused DAG would keep a triggered run waiting for ever.
    assert installation.query("select is_paused from dag where dag_id = 'product_recommendations'") == [(False,)]

    pointer_path = Path(installation.environment["ARTIFACT_ROOT"]) / "stores/corner_shop/published/latest.json"
    pointer = json.loads(pointer_path.read_text())
    assert pointer["as_of"] == "2024-06-01"
    # 60 customers, 7 products each: the Params reached the Spark apps.
    assert pointer["tables"]["user_recommendations"]["rows"] == 420
    assert pointer["metrics"]["ranker_windows"] == 1

    shown = installation.call("-m", "shelfkin", "show")
    assert shown.returncode == 0, shown.stderr
    assert "CLUSTERS (" in shown.stdout and "CUSTOMER C" in shown.stdout

    asked = installation.call("-m", "shelfkin", "recommend", "--recent", "S001,S020")
    assert asked.returncode == 0, asked.stderr
    recommended = asked.stdout.split("Recommended:")[1]
    assert "[S001]" not in recommended and "[S020]" not in recommended and recommended.count("[S") == 10


def test_a_failed_run_ends_with_the_reason_and_the_next_step(installation: Installation) -> None:
    # The catalogue: without it hardly a stage is left to run, without events all that cluster still would.
    catalogue = installation.stores / "data" / "products.csv"
    hidden = catalogue.rename(catalogue.with_suffix(".hidden"))
    try:
        run = installation.airflow("run", "--as-of", "2024-06-01")
    finally:
        hidden.rename(catalogue)
    assert run.returncode != 0
    last = run.stdout.strip().splitlines()[-3:]
    assert last[0].startswith("clean_catalog failed (source):") and "products.csv" in last[0]
    assert last[1].startswith("Next step: ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--store", "corner_shpo"), "known stores: corner_shop"),
        (("--as-of", "2024-13-01"), "AS_OF='2024-13-01' is not a date"),
        (("--conf", "{repurchase: exclude}"), "CONF is not valid JSON"),
    ],
)
def test_mistakes_are_refused_before_anything_starts(
    installation: Installation, words: tuple[str, ...], message: str
) -> None:
    run = installation.airflow("run", *words)
    assert run.returncode == 2
    assert message in run.stderr
    assert "Next step: " in run.stderr
