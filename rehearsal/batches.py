"""The rehearsal server's Batch API: files, batches, time, expiry and a queue limit."""

from __future__ import annotations

import email
import email.policy
import itertools
import json
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

Reply = tuple[int, bytes]
_MAX_INPUTS, _MAX_FILE_BYTES = 50_000, 200 * 10**6


class BatchTimes(Protocol):
    """What a batch's course depends on (see `server.Settings`)."""

    batch_s: float
    batch_expiring_share: float
    batch_enqueued_tokens: int | None


class BatchDesk:
    """Takes files and batches, and works on a batch when its time has come.

    Parameters
    ----------
    answer
        Answers one request: HTTP status and body.
    settings
        Returns the server's settings.
    """

    def __init__(
        self, answer: Callable[[dict[str, Any]], tuple[int, dict[str, Any]]], settings: Callable[[], BatchTimes]
    ) -> None:
        self._answer, self._settings = answer, settings
        self._files: dict[str, bytes] = {}
        self._batches: dict[str, dict[str, Any]] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    @property
    def created(self) -> int:
        """Batches that were ever created."""
        return len(self._batches)

    def post(self, path: str, body: bytes, content_type: str) -> Reply:
        """Answer POST /v1/files and /v1/batches."""
        if path == "/v1/files":
            content = _uploaded_file(body, content_type)
            if len(content) > _MAX_FILE_BYTES:
                return _error(400, f"The file has {len(content)} bytes, max {_MAX_FILE_BYTES}.")
            return _json({"id": self._keep(content), "object": "file", "bytes": len(content), "purpose": "batch"})
        wanted = json.loads(body)
        with self._lock:
            batch = self._new_batch(wanted)
            self._batches[batch["id"]] = batch
        return _json(_public(batch))

    def get(self, path: str) -> Reply:
        """Answer GET /v1/batches, /v1/batches/{id} and /v1/files/{id}/content."""
        parts = path.split("?")[0].strip("/").split("/")
        with self._lock:
            if parts[1] == "files" and len(parts) == 4 and parts[2] in self._files:
                return 200, self._files[parts[2]]
            for batch in self._batches.values():
                self._work(batch)
            if parts[1] == "batches" and len(parts) == 2:
                newest_first = [_public(batch) for batch in reversed(self._batches.values())]
                return _json({"object": "list", "data": newest_first, "has_more": False})
            if parts[1] == "batches" and parts[2] in self._batches:
                return _json(_public(self._batches[parts[2]]))
        return _error(404, f"no such address: {path}")

    def _new_batch(self, wanted: dict[str, Any]) -> dict[str, Any]:
        requests = [json.loads(line) for line in self._files[wanted["input_file_id"]].splitlines()]
        n_inputs = sum(len(request["body"]["input"]) for request in requests)
        n_bytes = sum(len(text) for request in requests for text in request["body"]["input"])
        batch = {
            "id": f"batch_{next(self._numbers)}",
            "object": "batch",
            "endpoint": wanted["endpoint"],
            "completion_window": wanted["completion_window"],
            "input_file_id": wanted["input_file_id"],
            "created_at": int(time.time()),
            "metadata": wanted.get("metadata"),
            "status": "in_progress",
            "_requests": requests,
            "_size": n_bytes // 4,
            "_ready_at": time.monotonic() + self._settings().batch_s,
        }
        limit = self._settings().batch_enqueued_tokens
        waiting = sum(one["_size"] for one in self._batches.values() if one["status"] == "in_progress")
        if n_inputs > _MAX_INPUTS:
            batch |= _failed("invalid_request", f"{n_inputs} inputs, max {_MAX_INPUTS}")
        elif limit is not None and waiting + batch["_size"] > limit:
            batch |= _failed("token_limit_exceeded", "Enqueued token limit reached.")
        return batch

    def _work(self, batch: dict[str, Any]) -> None:
        if batch["status"] != "in_progress" or time.monotonic() < batch["_ready_at"]:
            return
        requests = batch["_requests"]
        n_in_time = round(len(requests) * (1 - self._settings().batch_expiring_share))
        good: list[dict[str, Any]] = []
        bad: list[dict[str, Any]] = []
        for number, request in enumerate(requests):
            line: dict[str, Any] = {"id": f"line_{number}", "custom_id": request["custom_id"]}
            if number >= n_in_time:
                bad.append({**line, "response": None, "error": {"code": "batch_expired", "message": "not in time"}})
                continue
            status, body = self._answer(request["body"])
            answered = {**line, "response": {"status_code": status, "request_id": "r", "body": body}, "error": None}
            (good if status == 200 else bad).append(answered)
        # In no order that anybody may rely on.
        batch["output_file_id"] = self._keep(_lines(good[::-1])) if good else None
        batch["error_file_id"] = self._keep(_lines(bad)) if bad else None
        batch["status"] = "completed" if n_in_time == len(requests) else "expired"

    def _keep(self, content: bytes) -> str:
        name = f"file-{next(self._numbers)}"
        self._files[name] = content
        return name


def _uploaded_file(body: bytes, content_type: str) -> bytes:
    """Return the field ``file`` of a multipart body (RFC 7578, which is MIME)."""
    head = f"Content-Type: {content_type}\r\n\r\n".encode()
    message = email.message_from_bytes(head + body, policy=email.policy.HTTP)
    for part in message.iter_parts():
        if part.get_param("name", header="content-disposition") == "file":
            return bytes(part.get_payload(decode=True) or b"")
    return b""


def _failed(code: str, message: str) -> dict[str, Any]:
    return {"status": "failed", "errors": {"object": "list", "data": [{"code": code, "message": message}]}}


def _public(batch: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in batch.items() if not name.startswith("_")}


def _lines(content: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in content)


def _json(content: dict[str, Any]) -> Reply:
    return 200, json.dumps(content).encode()


def _error(status: int, message: str) -> Reply:
    return status, json.dumps({"error": {"message": message, "type": "invalid_request_error", "code": None}}).encode()
