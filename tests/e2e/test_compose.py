"""Drill: docker-compose.yaml without Docker: its commands, environment and health checks, one process a service."""

from __future__ import annotations

import os
import re
import secrets
import shlex
import socket
import subprocess
import sys
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest

from compose_file import PROJECT, Service, example_variables, load, services
from embedded_postgres import embedded_postgres
from installation import temporary_folder
from small_shop import STORE, write_shop

pytestmark = [pytest.mark.slow, pytest.mark.spark, pytest.mark.airflow]

DAG_ID = "product_recommendations"
START_S, RUN_S = 240, 1_200
# Ports that the file leaves at Airflow's own choice, one of each in a container of its own.
AIRFLOW_PORTS = {
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_PORT": "8974",
    "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": "8793",
    "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": "8794",
}


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@dataclass
class Machine:
    """Containers' names, ports and folders, and what stands for them here."""

    folder: Path
    stores: Path
    variables: dict[str, str]
    socket_folder: str
    ports: dict[str, str] = field(default_factory=dict)
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def port(self, key: str) -> str:
        """Return the port here of ``service:port`` there."""
        return self.ports.setdefault(key, free_port())

    def here(self, text: str, service: str) -> str:
        """Return a text of the file with this machine's names in place of the containers'."""
        text = re.sub(r"@postgres:5432/(\w+)", rf"@/\1?host={self.socket_folder}", text)
        text = re.sub(r"\b(api-server|spark-master):(\d+)", lambda at: f"127.0.0.1:{self.port(at[0])}", text)
        text = re.sub(r"(127\.0\.0\.1|-port) ?[: ](\d{4,5})\b", lambda at: self._own_port(at, service), text)
        loopback = text.replace("0.0.0.0", "127.0.0.1").replace("--host spark-master", "--host 127.0.0.1")  # noqa: S104
        moved = loopback.replace("/opt/shelfkin", str(PROJECT)).replace("/opt/airflow", f"{self.folder}/home")
        return moved.replace("/opt/", f"{self.folder}/")

    def _own_port(self, at: re.Match[str], service: str) -> str:
        if at[2] in self.ports.values():
            return at[0]
        # The one port that people open as well.
        owner = "api-server" if at[2] == "8080" else service
        return at[0].replace(at[2], self.port(f"{owner}:{at[2]}"))

    def environment(self, name: str, service: Service) -> dict[str, str]:
        """Return the environment of a service: the image's, the file's, and what a container needn't be told."""
        image = dict(re.findall(r"^ *(?:ENV )?([A-Z_]+)=(\S+)", (PROJECT / "Dockerfile").read_text(), flags=re.M))
        kept = {word: os.environ[word] for word in ("HOME", "LANG", "JAVA_HOME") if word in os.environ}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        named = {key: self.here(value, name) for key, value in {**image, **service.environment}.items()}
        ports = {key: self.port(f"{name}:{port}") for key, port in AIRFLOW_PORTS.items()}
        shop = {"SHELFKIN_STORES_DIR": str(self.stores), "SHELFKIN_DEFAULT_STORE": STORE}
        small = {"SPARK_LOCAL_IP": "127.0.0.1", "SHELFKIN_SPARK_CONF": '{"spark.sql.shuffle.partitions": "2"}'}
        return {**kept, **named, **ports, **shop, **small, "PATH": path, "PYSPARK_PYTHON": sys.executable}

    def start(self, name: str, service: Service, number: int = 0) -> None:
        """Start one container's process."""
        own = f"{name}{number}" if number else name
        log = (self.folder / f"{own}.log").open("wb")
        self.running[own] = subprocess.Popen(
            shlex.split(self.here(shlex.join(service.command), own)),
            env=self.environment(own, service),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def wait_until_healthy(self, name: str, service: Service, number: int = 0) -> None:
        """Run the file's own health check until it succeeds."""
        own = f"{name}{number}" if number else name
        kind, *words = service.content["healthcheck"]["test"]
        command = ["sh", "-c", words[0]] if kind == "CMD-SHELL" else words
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            assert self.running[own].poll() is None, self.tail(own)
            done = subprocess.run(
                [self.here(word, own) for word in command],
                env=self.environment(own, service),
                capture_output=True,
                check=False,
            )
            if done.returncode == 0:
                return
            time.sleep(2)
        raise TimeoutError(f"{own} is not healthy: {done.stderr.decode()[-800:]}\n{self.tail(own)}")

    def tail(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")[-3_000:]

    def stop(self) -> None:
        """End every process with what it started."""
        family: list[psutil.Process] = []
        for process in self.running.values():
            if process.poll() is None:
                root = psutil.Process(process.pid)
                family += [*root.children(recursive=True), root]
        for process_ in family:
            if process_.is_running():
                process_.terminate()
        for process_ in psutil.wait_procs(family, timeout=30)[1]:
            process_.kill()
        for process in self.running.values():
            process.wait()


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with temporary_folder() as folder, embedded_postgres() as url:
        variables = {name: secrets.token_hex(24) for name in example_variables() if not name.startswith("OPENAI")}
        variables |= {"FERNET_KEY": urlsafe_b64encode(os.urandom(32)).decode(), "SHELFKIN_DRIVER_MEMORY": "2g"}
        variables |= {"SHELFKIN_NOTIFY_WEBHOOK": "", "SHELFKIN_NOTIFIERS": ""}
        with psycopg.connect(url, autocommit=True) as db:
            db.execute("CREATE ROLE airflow LOGIN SUPERUSER")
            db.execute("CREATE DATABASE airflow OWNER airflow")
            for statement in load(variables)["configs"]["shop_database"]["content"].strip().split("\n"):
                db.execute(statement)
            socket_folder = db.info.host
        for name in ("home/logs", "artifacts", "data"):
            (folder / name).mkdir(parents=True)
        machine = Machine(folder, write_shop(folder), variables, socket_folder)
        try:
            yield machine
        finally:
            machine.stop()


def test_a_run_goes_through_every_service(machine: Machine) -> None:
    parts = services(machine.variables)
    init = parts.pop("init")
    machine.start("init", init)
    assert machine.running["init"].wait(timeout=START_S) == 0, machine.tail("init")
    parts.pop("postgres")
    copies = {
        (name, number): part
        for name, part in parts.items()
        for number in range(part.content.get("deploy", {}).get("replicas", 1))
    }
    for (name, number), part in copies.items():
        machine.start(name, part, number)
    for (name, number), part in copies.items():
        machine.wait_until_healthy(name, part, number)

    url = f"http://127.0.0.1:{machine.port('api-server:8080')}"
    assert httpx.get(f"{url}/shelfkin/dags/{DAG_ID}", timeout=30).status_code == 401
    login = {"username": "admin", "password": machine.variables["ADMIN_PASSWORD"]}
    token = httpx.post(f"{url}/auth/token", json=login, timeout=30).raise_for_status().json()["access_token"]
    client = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=30)
    dag = f"/api/v2/dags/{DAG_ID}"
    deadline = time.monotonic() + START_S
    while client.get(dag).status_code != 200:
        assert time.monotonic() < deadline, machine.tail("dag-processor")
        time.sleep(2)
    client.patch(dag, json={"is_paused": False}).raise_for_status()
    body = {"logical_date": None, "conf": {"as_of": "2024-06-01", "ranker_windows": 1}}
    run_id = client.post(f"{dag}/dagRuns", json=body).raise_for_status().json()["dag_run_id"]
    state, deadline = "queued", time.monotonic() + RUN_S
    while state not in ("success", "failed"):
        assert time.monotonic() < deadline, machine.tail("scheduler")
        time.sleep(3)
        state = client.get(f"{dag}/dagRuns/{run_id}").raise_for_status().json()["state"]
    assert state == "success", machine.tail("scheduler")

    # The stages ran on the cluster: each was an application of the master, on both workers.
    spark = httpx.get(f"http://127.0.0.1:{machine.port('spark-master:8081')}/json/", timeout=30).json()
    assert len(spark["workers"]) == 2
    assert len(spark["completedapps"]) == 7 and {app["cores"] for app in spark["completedapps"]} == {2}
    # The pages show it.
    page = client.get(f"/shelfkin/dags/{DAG_ID}").raise_for_status().text
    assert "2024-06-01" in page
    # The shop's database has the run.
    with psycopg.connect(f"postgresql://shop@/shop?host={machine.socket_folder}") as db:
        rows = db.execute("SELECT count(*) FROM shelfkin_corner_shop.user_recommendations").fetchone()
    assert rows is not None and rows[0] >= 500
    # A task's log can be read through the API server.
    log = client.get(f"{dag}/dagRuns/{run_id}/taskInstances/select_k/logs/1").raise_for_status().text
    assert "select_k done" in log
    # The passwords are in no log of any service.
    for name in ("ADMIN_PASSWORD", "SHOP_PASSWORD", "JWT_SECRET", "API_SECRET_KEY", "FERNET_KEY"):
        for file in machine.folder.rglob("*.log"):
            assert machine.variables[name] not in file.read_text(errors="replace"), (name, file.name)
