"""Airflow's own API server in this process, with the plugin loaded as it loads it, and a published run to look at."""

from __future__ import annotations

import airflow_home  # noqa: F401  isort: skip
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import select

from finished_run import Rows, stamped_rows, write_run
from shelfkin import tables
from shelfkin.artifacts import RunPaths
from shelfkin.serving.publish import publish_run

DAG_ID = "product_recommendations__shop"
RUN_ID = "manual__2024-06-02T08:00:00+00:00"
# What a title may be: markup, quotes, a formula, a change of direction, an escape, very long, emoji.
HOSTILE = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(2)'>",
    '=HYPERLINK("http://evil")',
    "left\u202etfel \u2066isolated",
    "bell \x07 and \x1b[31m red",
    "long " * 1000,
    "🐦‍🔥 {{ 7 * 7 }} {% raw %}",
]

Client = Callable[[str | None], TestClient]


def hostile_rows() -> Rows:
    """Return a shop whose ids and texts are the worst that a shop could write."""
    rows = stamped_rows(3, n_products=10)
    ids = [row["product_id"] for row in rows[tables.PRODUCTS]]
    for row, title in zip(rows[tables.PRODUCTS], HOSTILE, strict=False):
        row |= {"title": title, "brand": title[:60], "category_path": [title[:60]], "text_hash": title}
    rows[tables.CLUSTERS][0] |= {"name": HOSTILE[0], "top_terms": HOSTILE[:5], "representative_product_ids": ids[:7]}
    rows[tables.CLUSTER_PROJECTION] = [
        {"text_hash": text, "cluster_id": 1, "x": float(place), "y": place % 3.0} for place, text in enumerate(HOSTILE)
    ]
    moment = datetime(2024, 5, 3, 12, tzinfo=UTC)
    rows[tables.EVENTS] = [
        {"user_id": "u0", "product_id": ids[0], "event_type": "purchase", "occurred_at": moment, "quantity": 1.0}
    ] * 2
    rows[tables.USER_RECOMMENDATIONS][0] |= {"strategy": "repurchase"}
    return rows


def write_profile(folder: Path, store: str, title: str) -> None:
    """Write a store's profile, of which pages show the title."""
    folder.mkdir(exist_ok=True)
    (folder / f"{store}.yaml").write_text(
        f"store: {store}\ntitle: {title}\ntimezone: UTC\n"
        "catalog: {kind: snapshot, source: {path: p.csv}, fields: {product_id: id, title: title}}\n"
        "events: {source: {path: e.csv}, fields: {user_id: u, product_id: id, occurred_at: at}}\n"
    )


# Of the module: what it sets in the environment must not outlast these tests.
@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    """Airflow's API server over one published shop, one without any run, and one whose files are broken."""
    from airflow import settings
    from airflow.api_fastapi.app import create_app
    from airflow.models import import_all_models
    from airflow.models.base import Base

    folder = tmp_path_factory.mktemp("ui")
    write_profile(folder / "stores", "shop", "<b>Shop</b> & Söhne")
    write_profile(folder / "stores", "empty", "Nothing yet")
    write_profile(folder / "stores", "broken", "Broken files")
    metrics = {
        "gate": "pass",
        "gate_reason": "no baseline is better beyond noise over 7 users",
        "task": "all",
        "ndcg_at_10": 3.0,
        "horizon_days": 14,
        "cut": "2024-01-01",
        "secret_word": HOSTILE[0],
    }
    paths, uris = write_run(folder / "artifacts", hostile_rows(), run_id=RUN_ID, metrics=metrics)
    _add_report(paths)
    publish_run(paths, uris, publish=True)
    _break(folder / "artifacts" / "stores" / "broken" / "published")
    import_all_models()
    settings.configure_orm()
    Base.metadata.create_all(settings.engine)
    _add_run(DAG_ID, RUN_ID, {"as_of": "2024-06-01"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ARTIFACT_ROOT", str(folder / "artifacts"))
        patch.setenv("SHELFKIN_STORES_DIR", str(folder / "stores"))
        yield create_app(apps="core")


@pytest.fixture(scope="module")
def token(app: FastAPI) -> Callable[[str], str]:
    """What a browser has as its cookie ``_token`` after somebody of a role logged in."""
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

    return lambda role: get_auth_manager().generate_jwt(SimpleAuthManagerUser(username="someone", role=role or None))


@pytest.fixture(scope="module")
def client(app: FastAPI, token: Callable[[str], str]) -> Client:
    """A client without a login (None), or with one of a role (``""``: a user without any permission)."""

    def client_of(role: str | None) -> TestClient:
        made = TestClient(app, raise_server_exceptions=True, headers={"accept": "text/html"})
        if role is not None:
            made.cookies.set("_token", token(role))
        return made

    return client_of


def _break(published: Path) -> None:
    """Publish a day that was cut off, one of a later version, and one whose index is no database."""
    published.mkdir(parents=True)
    (published / "as_of=2024-05-01.json").write_text('{"format_version": 1, "run_id": ')
    (published / "as_of=2024-05-02.json").write_text('{"format_version": 99}')
    (published / "index.sqlite").write_text("no database " * 100)
    entry = {"path": "gone", "rows": 1}
    pointer = {
        "format_version": 1,
        "store": "broken",
        "run_id": "r",
        "as_of": "2024-06-01",
        "published_at": "2024-06-02T00:00:00Z",
        "serving_index": str(published / "index.sqlite"),
        "tables": {"products": entry},
        "metrics": {},
    }
    for name in ("as_of=2024-06-01.json", "latest.json"):
        (published / name).write_text(json.dumps(pointer))


def _add_report(paths: RunPaths) -> None:
    """Let clean_catalog have left its report, with the worst that fields and titles could hold."""
    schema = pa.schema(
        {
            **dict.fromkeys(("topic", "name"), pa.string()),
            **dict.fromkeys(("rows", "read", "empty", "unread"), pa.int64()),
            "examples": pa.list_(pa.string()),
        }
    )
    lines = [
        {"topic": "field", "name": "price", "rows": 10, "read": 7, "empty": 0, "unread": 3, "examples": HOSTILE[:2]},
        {"topic": "field", "name": "title", "rows": 10, "read": 10, "empty": 0, "unread": 0, "examples": HOSTILE},
        *(
            {"topic": "repeated_title", "name": title, "rows": 2, "read": 0, "empty": 0, "unread": 0, "examples": []}
            for title in HOSTILE
        ),
    ]
    folder = Path(paths.attempt_uri("clean_catalog", "report")) / tables.PRODUCTS_REPORT
    folder.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(lines, schema=schema), folder / "part-0.parquet")
    uri = paths.manifest_uri("clean_catalog")
    manifest = paths.root.read_json(uri)
    manifest["tables"][tables.PRODUCTS_REPORT] = {"path": paths.root.relative(str(folder)), "rows": len(lines)}
    paths.root.put_json(uri, manifest)


def _add_run(dag_id: str, run_id: str, conf: dict[str, Any]) -> None:
    from airflow import settings
    from airflow.models.dag import DagModel
    from airflow.models.dagbundle import DagBundleModel
    from airflow.models.dagrun import DagRun
    from airflow.utils.types import DagRunTriggeredByType, DagRunType

    moment = datetime(2024, 6, 2, 8, tzinfo=UTC)
    with settings.Session() as session:
        # Another module of this process may have been here.
        if session.scalar(select(DagRun).where(DagRun.run_id == run_id)):
            return
        session.add(DagBundleModel(name="shops"))
        session.flush()
        for store in ("shop", "empty", "broken"):
            session.add(DagModel(dag_id=f"product_recommendations__{store}", bundle_name="shops", fileloc="dag.py"))
        session.flush()
        session.add(
            DagRun(
                dag_id=dag_id,
                run_id=run_id,
                conf=conf,
                run_after=moment,
                run_type=DagRunType.MANUAL,
                triggered_by=DagRunTriggeredByType.TEST,
            )
        )
        session.commit()
