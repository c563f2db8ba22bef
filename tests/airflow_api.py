"""Airflow's REST API, and shelfkin's pages beside it, as somebody with a login uses them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx

DAG_ID = "product_recommendations"
DEADLINE_S = 1500


class Api:
    """Airflow's REST API with the login that `up` printed."""

    def __init__(self, url: str, password: str) -> None:
        self.url = url
        self.token = ""
        self.token = self.call("POST", "/auth/token", {"username": "admin", "password": password})["access_token"]

    def call(self, method: str, path: str, body: dict[str, Any] | None = None, **headers: str) -> dict[str, Any]:
        headers |= {"Authorization": f"Bearer {self.token}"} if self.token else {}
        response = httpx.request(method, self.url + path, json=body, headers=headers, timeout=30)
        response.raise_for_status()
        return dict(response.json())

    def page(self, path: str) -> str:
        """Return a page of shelfkin's."""
        headers = {"Authorization": f"Bearer {self.token}", "accept": "text/html"}
        response = httpx.get(f"{self.url}/shelfkin{path}", headers=headers, timeout=30)
        response.raise_for_status()
        return response.text

    def press(self, path: str, body: dict[str, Any]) -> None:
        """Send what a button of shelfkin's pages sends."""
        self.call("POST", f"/shelfkin{path}", body, **{"x-shelfkin": "page", "accept": "application/json"})

    def wait_for_backfill(self, look: Callable[[], None] = lambda: None, dag_id: str = DAG_ID) -> None:
        """Wait until the newest backfill, of up to five days, has ended, and call `look` meanwhile."""
        deadline = time.monotonic() + 2 * DEADLINE_S
        while time.monotonic() < deadline:
            look()
            newest = self.call("GET", f"/api/v2/backfills?dag_id={dag_id}&order_by=-id&limit=1")["backfills"][0]
            if newest["completed_at"] is not None:
                return
            time.sleep(3)
        raise TimeoutError(f"the backfill did not end within {2 * DEADLINE_S} s")

    def wait_for(self, run_id: str, dag_id: str = DAG_ID) -> str:
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            state = self.call("GET", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}")["state"]
            if state in ("success", "failed"):
                return str(state)
            time.sleep(3)
        raise TimeoutError(f"{run_id} did not end within {DEADLINE_S} s")
