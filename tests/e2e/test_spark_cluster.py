"""Drill: the same run on a Spark standalone cluster, by changing only the connection."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pyspark
import pytest

from installation import Installation
from rehearsal.server import Settings, running_rehearsal_server

pytestmark = [pytest.mark.slow, pytest.mark.spark, pytest.mark.airflow]

SPARK_CLASS = Path(pyspark.__file__).parent / "bin" / "spark-class"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.5)
    raise TimeoutError(f"nothing listens on port {port}")


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A master and two workers of one core each, from the pip package, on loopback."""
    folder = tmp_path_factory.mktemp("cluster")
    port = free_port()
    environment = {**os.environ, "SPARK_LOCAL_IP": "127.0.0.1", "SPARK_LOG_DIR": str(folder)}
    deploy = "org.apache.spark.deploy"
    started: list[subprocess.Popen[bytes]] = []

    def start(*words: str) -> None:
        log = (folder / f"{len(started)}.log").open("wb")
        started.append(
            subprocess.Popen([str(SPARK_CLASS), *words], env=environment, stdout=log, stderr=subprocess.STDOUT)
        )

    start(f"{deploy}.master.Master", "--host", "127.0.0.1", "--port", str(port), "--webui-port", str(free_port()))
    try:
        wait_for_port(port)
        for number in range(2):
            start(
                f"{deploy}.worker.Worker",
                *("--host", "127.0.0.1", "--cores", "1", "--memory", "2g", "--webui-port", str(free_port())),
                *("--work-dir", str(folder / f"worker{number}"), f"spark://127.0.0.1:{port}"),
            )
        yield port
    finally:
        for process in reversed(started):
            process.terminate()
        psutil.wait_procs([psutil.Process(process.pid) for process in started if process.poll() is None], timeout=20)
        for process in started:
            process.kill()
            process.wait()


def test_only_the_connection_changes(installation: Installation, master: int) -> None:
    connection = json.dumps({"conn_type": "spark", "host": "spark://127.0.0.1", "port": master})
    run = installation.airflow("run", "--as-of", "2024-06-01", AIRFLOW_CONN_SPARK_DEFAULT=connection)
    assert run.returncode == 0, run.stdout[-4000:]
    artifacts = Path(installation.environment["ARTIFACT_ROOT"]) / "stores/corner_shop"
    on_cluster = json.loads((artifacts / "published/latest.json").read_text())

    local = installation.airflow("run", "--as-of", "2024-06-01")
    assert local.returncode == 0, local.stdout[-4000:]
    in_one_process = json.loads((artifacts / "published/latest.json").read_text())
    assert on_cluster["run_id"] != in_one_process["run_id"]

    import pyarrow.dataset as ds

    for table in on_cluster["tables"]:
        found, expected = (
            sorted(map(repr, ds.dataset(pointer["tables"][table]["path"], format="parquet").to_table().to_pylist()))
            for pointer in (on_cluster, in_one_process)
        )
        assert found == expected, table


def test_requests_leave_from_the_driver_of_a_cluster(installation: Installation, master: int) -> None:
    connection = json.dumps({"conn_type": "spark", "host": "spark://127.0.0.1", "port": master})
    with running_rehearsal_server(Settings(dimensions=16, requests_per_minute=600)) as (server, base_url):
        run = installation.airflow(
            "run",
            *("--as-of", "2024-06-01", "--conf", json.dumps({"model": "text-embedding-3-small", "dimensions": 16})),
            AIRFLOW_CONN_SPARK_DEFAULT=connection,
            OPENAI_BASE_URL=base_url,
        )
        assert run.returncode == 0, run.stdout[-4000:]
        published = json.loads(
            (Path(installation.environment["ARTIFACT_ROOT"]) / "stores/corner_shop/published/latest.json").read_text()
        )
        run_folder = Path(published["tables"]["clusters"]["path"]).parents[2]
        metrics = json.loads((run_folder / "embed_products/manifest.json").read_text())["metrics"]
        assert metrics["tokens"] == server.account.tokens_billed > 0
        assert metrics["limit_requests_per_minute"] == 600 and server.account.rate_limited == 0
