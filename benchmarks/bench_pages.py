"""The pages in Airflow: what each route takes, what the index behind them costs, and whether the server's memory grows.

    make bench-pages                          a made-up shop of 1,000,000 products and 200,000 customers
    make bench-pages STORE=online_retail      the newest published run of a store

The server is Airflow's API server in a process of its own, with its login and permissions, on loopback; it is asked
over HTTP, one question after the other. Products, customers and what is typed are drawn at random. The memory is the
process's resident set after so many requests of all routes in turn.
"""

from __future__ import annotations

import argparse
import os
import random
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import numpy as np
import psutil

from bench_serving import draw_questions, made_up_shop, tables_of_run
from shelfkin.artifacts import FORMAT_VERSION, Root, RunPaths, latest_pointer_uri
from shelfkin.serving.build_index import TABLES
from shelfkin.serving.publish import publish_run
from shelfkin.settings import Settings

N_CALLS = 200
MEMORY_AT = (100, 1_000, 10_000)
PROJECT = Path(__file__).resolve().parents[1]
MADE_UP = "made_up"
PROFILE = f"""store: {MADE_UP}
title: Made up
timezone: UTC
catalog: {{kind: snapshot, source: {{path: p.csv}}, fields: {{product_id: id, title: title}}}}
"""
RUN_ID = "manual__2026-01-01T00:00:00+00:00"
STAGE_OF = {
    "products": "clean_catalog",
    "events": "clean_events",
    "product_clusters": "cluster_products",
    "clusters": "cluster_products",
    "cluster_projection": "cluster_products",
    "recommender_metrics": "evaluate_recommenders",
}
METRICS = {"gate": "pass", "gate_reason": "a made-up shop", "task": "all", "horizon_days": 14, "cut": "2025-12-01"}
Addresses = dict[str, list[str]]


def publish_made_up_shop(root: Root, folder: Path, n_products: int, n_customers: int) -> None:
    """Write a made-up shop's tables, manifests and lineage as the stages do, publish it, print the seconds."""
    paths = RunPaths(root, MADE_UP, date(2026, 1, 1), RUN_ID)
    described: dict[str, dict[str, Any]] = {}
    with made_up_shop(folder, n_products, n_customers) as db:
        db.execute(
            "CREATE TABLE product_variants AS SELECT product_id, product_id AS variant_group FROM products LIMIT 0"
        )
        for table in (*TABLES, "product_variants"):
            stage = STAGE_OF.get(table, "build_recommendations")
            place = Path(paths.attempt_uri(stage, "1")) / table
            place.mkdir(parents=True)
            db.execute(f"COPY {table} TO '{place}/part-0.parquet'")
            ((rows,),) = db.execute(f"SELECT count(*) FROM {table}").fetchall()
            described.setdefault(stage, {})[table] = {"path": root.relative(str(place)), "rows": rows}
        clusters = [
            dict(zip(("cluster_id", "name"), row, strict=True))
            for row in db.execute("SELECT cluster_id, name FROM clusters").fetchall()
        ]
    for stage, tables in described.items():
        content = {"tables": tables, "plots": {}, "counts": {}}
        content["metrics"] = METRICS if stage == "evaluate_recommenders" else {}
        root.put_json(
            paths.manifest_uri(stage), {"format_version": FORMAT_VERSION, "stage": stage, **paths.identity(), **content}
        )
    rng = random.Random(0)
    for cluster in clusters:
        cluster["centroid"] = [round(rng.gauss(0, 0.05), 6) for _ in range(384)]
    root.put_json(paths.lineage_uri(), {"format_version": 2, **paths.identity(), "clusters": clusters})
    began = time.perf_counter()
    publish_run(paths, [paths.manifest_uri(stage) for stage in described], publish=True)
    print(f"published in {time.perf_counter() - began:.0f} s, almost all of it for the index")


def addresses(root: Root, settings: Settings, store: str) -> Addresses:
    """Return addresses to ask for, by route."""
    with tables_of_run(store) as tables:
        questions = draw_questions(tables, N_CALLS)
        clusters = [row[0] for row in tables.execute("SELECT cluster_id FROM clusters WHERE size > 0").fetchall()]
    pointer = root.read_json(latest_pointer_uri(root, store))
    dag = f"/shelfkin/dags/{settings.dag_id(store)}"
    run = f"{dag}/runs/{quote(pointer['run_id'], safe='')}"
    products = [urlencode({"id": one}) for one in questions["a product by id"]]
    customers = [urlencode({"id": one}) for one in questions["a user's list"]]
    rng = random.Random(1)
    found = {
        "shops": ["/shelfkin/shops"],
        "shop": [dag],
        "backfill": [f"{dag}/backfill"],
        "run": [run],
        "task": [f"{run}/tasks/{stage}" for stage in pointer["manifests"]],
        "clusters": [f"{dag}/clusters"],
        "map.bin": [f"{dag}/map.bin"],
        "titles": [f"{dag}/titles?number={1 + rng.randrange(pointer['tables']['products']['rows'])}" for _ in products],
        "cluster": [f"{dag}/clusters/{rng.choice(clusters)}" for _ in products],
        "search": [f"{dag}/search?" + urlencode({"q": one}) for one in questions["search: beginnings of words"]],
        "search, one letter": [f"{dag}/search?q={one}" for one in questions["search: one letter"]],
        "product": [f"{dag}/product?{one}" for one in products],
        "customer": [f"{dag}/customer?{one}" for one in customers],
        "session": [f"{dag}/session?" + urlencode({"id": one}, True) for one in questions["a list for a session"]],
        "customer.csv": [f"{dag}/customer.csv?{one}" for one in customers],
        "product.csv": [f"{dag}/product.csv?{one}" for one in products],
        "clusters.csv": [f"{dag}/clusters.csv"],
    }
    plots = [
        f"{run}/tasks/{stage}/plots/{plot}.png"
        for stage, uri in pointer["manifests"].items()
        for plot in root.read_json(uri)["plots"]
    ]
    return {route: some for route, some in {**found, "picture": plots}.items() if some}


def serve(port: int, store: str) -> None:
    """Be Airflow's API server, with one run in its database; prints the token of somebody who may read everything."""
    import uvicorn
    from airflow import settings
    from airflow.api_fastapi.app import create_app, get_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    from airflow.models import import_all_models
    from airflow.models.base import Base
    from airflow.models.dagrun import DagRun
    from airflow.utils.types import DagRunTriggeredByType, DagRunType

    import_all_models()
    settings.configure_orm()
    Base.metadata.create_all(settings.engine)
    ours = Settings.from_env()
    root = Root.at(ours.artifact_root)
    pointer = root.read_json(latest_pointer_uri(root, store))
    with settings.Session() as session:
        session.add(
            DagRun(
                dag_id=ours.dag_id(store),
                run_id=pointer["run_id"],
                conf={"as_of": pointer["as_of"]},
                run_after=datetime.now(UTC),
                run_type=DagRunType.MANUAL,
                triggered_by=DagRunTriggeredByType.TEST,
            )
        )
        session.commit()
    app = create_app(apps="core")
    print(get_auth_manager().generate_jwt(SimpleAuthManagerUser(username="bench", role="VIEWER")), flush=True)
    # Without the work of Airflow's own start and end, and without a line for every request.
    uvicorn.run(app, host="127.0.0.1", port=port, lifespan="off", log_level="warning")


@contextmanager
def server(folder: Path, store: str) -> Iterator[tuple[httpx.Client, psutil.Process]]:
    """Start the server, and yield a client with a login and the server's process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    home = folder / "airflow"
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(PROJECT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(64),
    }
    home.mkdir()
    words = [sys.executable, __file__, "--serve", str(port), "--store", store]
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            token = next(line for line in process.stdout if line.startswith("ey")).strip()
            base = f"http://127.0.0.1:{port}"
            cookies = {"_token": token}
            with httpx.Client(base_url=base, cookies=cookies, headers={"accept": "text/html"}, timeout=60) as client:
                _wait_for(client, process)
                yield client, psutil.Process(process.pid)
        finally:
            process.terminate()


def _wait_for(client: httpx.Client, process: subprocess.Popen[str]) -> None:
    while process.poll() is None:
        try:
            client.get("/shelfkin/static/theme.js").raise_for_status()
            return
        except httpx.TransportError:
            time.sleep(0.2)
    raise SystemExit(f"The server ended with code {process.returncode}.")


def timed(client: httpx.Client, address: str) -> float:
    """Return the milliseconds until the whole answer is there."""
    began = time.perf_counter()
    client.get(address).raise_for_status()
    return 1000 * (time.perf_counter() - began)


def report_speed(client: httpx.Client, process: psutil.Process, asked: Addresses) -> None:
    """Print what each route takes; the server's own CPU time is the same on a busy machine, the rest is not."""
    print(f"{'route':24}{'calls':>8}{'first':>9}{'p50':>9}{'p95':>9}{'max':>9}{'CPU':>9}   (milliseconds)")
    for route, some in asked.items():
        first = timed(client, some[0])
        used = sum(process.cpu_times()[:2])
        spent = [timed(client, some[call % len(some)]) for call in range(N_CALLS)]
        cpu = 1000 * (sum(process.cpu_times()[:2]) - used) / N_CALLS
        p50, p95 = np.percentile(spent, [50, 95])
        print(f"{route:24}{N_CALLS:>8}{first:>9.1f}{p50:>9.1f}{p95:>9.1f}{max(spent):>9.1f}{cpu:>9.1f}", flush=True)


def report_memory(client: httpx.Client, process: psutil.Process, asked: Addresses) -> None:
    print(f"memory before: {process.memory_info().rss / 2**20:,.0f} MiB")
    routes = list(asked.values())
    for call in range(max(MEMORY_AT)):
        some = routes[call % len(routes)]
        client.get(some[call // len(routes) % len(some)]).raise_for_status()
        if call + 1 in MEMORY_AT:
            print(f"memory after {call + 1:>6,} requests: {process.memory_info().rss / 2**20:,.0f} MiB", flush=True)


def measure(folder: Path, store: str) -> None:
    settings = Settings.from_env()
    root = Root.at(settings.artifact_root)
    index = root.read_json(latest_pointer_uri(root, store))["serving_index"]
    print(f"index: {root.fs.size(index) / 2**20:,.0f} MiB")
    asked = addresses(root, settings, store)
    with server(folder, store) as (client, process):
        report_speed(client, process, asked)
        report_memory(client, process, asked)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", default="")
    parser.add_argument("--products", type=int, default=1_000_000)
    parser.add_argument("--customers", type=int, default=200_000)
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.serve:
        serve(flags.serve, flags.store)
        return
    with tempfile.TemporaryDirectory(prefix="bench-pages-") as name:
        folder = Path(name)
        if not flags.store:
            stores = folder / "stores"
            stores.mkdir()
            (stores / f"{MADE_UP}.yaml").write_text(PROFILE)
            os.environ |= {"ARTIFACT_ROOT": str(folder / "artifacts"), "SHELFKIN_STORES_DIR": str(stores)}
            root = Root.at(os.environ["ARTIFACT_ROOT"])
            publish_made_up_shop(root, folder, flags.products, flags.customers)
        measure(folder, flags.store or MADE_UP)


if __name__ == "__main__":
    main()
