"""The nightly DAG: a task for each shop, which prunes by its profile and completes what was to be forgotten."""

from __future__ import annotations

import airflow_home  # noqa: F401  isort: skip
import importlib.util
import shutil
from datetime import date, timedelta
from pathlib import Path

import pytest
from airflow.sdk import DAG

from finished_run import stamped_rows, write_run
from shelfkin.artifacts import Root, published_days
from shelfkin.erased_users import ErasedUsers, record_erased
from shelfkin.serving.publish import publish_run

pytestmark = pytest.mark.airflow

DAG_FILE = Path(__file__).resolve().parents[2] / "dags" / "retention.py"
PROFILE = """
store: shop
title: Shop
catalog: {kind: snapshot, source: {path: p.csv}, fields: {product_id: id, title: title}}
events: {source: {path: e.csv}, fields: {user_id: u, product_id: id, occurred_at: at}}
retention: {published_days: 7}
"""


def test_each_shop_is_tidied_by_its_own_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stores, artifacts = tmp_path / "stores", tmp_path / "artifacts"
    stores.mkdir()
    (stores / "shop.yaml").write_text(PROFILE)
    (stores / "other.yaml").write_text(PROFILE.replace("store: shop", "store: other"))
    (stores / "off.yaml").write_text(PROFILE.replace("store: shop", "store: off\nenabled: false"))
    monkeypatch.setenv("ARTIFACT_ROOT", str(artifacts))
    monkeypatch.setenv("SHELFKIN_STORES_DIR", str(stores))
    monkeypatch.delenv("SHELFKIN_PUBLISH_POSTGRES", raising=False)
    paths, uris = write_run(artifacts, stamped_rows(1), as_of="2024-06-08")
    publish_run(paths, uris, publish=True)
    for n in range(1, 8):
        day = date(2024, 6, 8) - timedelta(days=n)
        shutil.copy(paths.published_uri(), Path(paths.published_uri()).with_name(f"as_of={day}.json"))
    root = Root.at(str(artifacts))
    record_erased(root, "shop", ErasedUsers.of(root, "shop", ErasedUsers().rule).only("u3"), "ada", "ticket 12")

    spec = importlib.util.spec_from_file_location("retention_under_test", DAG_FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (dag,) = [found for found in vars(module).values() if isinstance(found, DAG)]
    assert sorted(dag.task_ids) == ["other", "shop"]
    assert all(task.pool == "publishing" and task.retries and task.on_failure_callback for task in dag.tasks)
    task = dag.get_task("shop")
    task.only = "other"
    task.execute({})
    assert len(published_days(root, "shop")) == 8
    task.only = ""
    task.execute({})
    assert len(published_days(root, "shop")) == 7
    assert not [one for one in artifacts.rglob("*.parquet") if b"u3" in one.read_bytes()]
    dag.get_task("other").execute({})
