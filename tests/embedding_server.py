"""A small embedding server that misbehaves on demand, over real HTTP on a loopback port."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

import numpy as np

from loopback import listening

DIMENSIONS = 8


def vector_of(text: str) -> np.ndarray:
    """The vector that the server gives a text: unit norm, from its hash alone."""
    raw = np.frombuffer(hashlib.sha256(text.encode()).digest(), dtype=np.uint8)[:DIMENSIONS].astype(np.float64) - 127.5
    return (raw / np.linalg.norm(raw)).astype(np.float32)


def entries(texts: list[str]) -> list[dict[str, Any]]:
    return [
        {"object": "embedding", "index": i, "embedding": base64.b64encode(vector_of(t).tobytes()).decode()}
        for i, t in enumerate(texts)
    ]


def answer(data: list[dict[str, Any]], n_tokens: int = 7) -> bytes:
    return json.dumps({"object": "list", "data": data, "usage": {"total_tokens": n_tokens}}).encode()


@dataclass
class Seen:
    at: float
    authorization: str
    body: dict[str, Any]


Fault = Callable[["Handler", list[str]], None]


@dataclass
class Server:
    """What the test scripts (`faults`, one per request, then good answers) and what it asks afterwards (`seen`)."""

    base_url: str = ""
    faults: list[Fault] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    poison: str | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def texts(self) -> list[str]:
        return [text for request in self.seen for text in request.body["input"]]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    scripted: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.scripted.lock:
            self.scripted.seen.append(Seen(time.monotonic(), self.headers.get("Authorization", ""), body))
            fault = self.scripted.faults.pop(0) if self.scripted.faults else None
        if fault is None and self.scripted.poison and any(self.scripted.poison in text for text in body["input"]):
            fault = refuse(400, "invalid_request_error", "'$.input' is invalid.")
        if fault is None:
            self.reply(200, answer(entries(body["input"])))
        else:
            fault(self, body["input"])

    def reply(self, status: int, data: bytes, headers: dict[str, str] | None = None, length: int | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data) if length is None else length))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_args: object) -> None:
        pass


def refuse(status: int, code: str | None = None, message: str = "no", headers: dict[str, str] | None = None) -> Fault:
    content = json.dumps({"error": {"message": message, "type": code, "param": None, "code": code}}).encode()
    return lambda handler, texts: handler.reply(status, content, headers)


def reset(handler: Handler, texts: list[str]) -> None:
    # Linger 0 turns close into a TCP reset.
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()
    handler.close_connection = True


def cut_off(handler: Handler, texts: list[str]) -> None:
    data = answer(entries(texts))
    handler.reply(200, data[: len(data) // 2], length=len(data))
    handler.close_connection = True


def truncated_json(handler: Handler, texts: list[str]) -> None:
    data = answer(entries(texts))
    handler.reply(200, data[: len(data) // 2])


def html(handler: Handler, texts: list[str]) -> None:
    handler.reply(200, b"<html><body>Gateway</body></html>", {"Content-Type": "text/html"})


def too_few(handler: Handler, texts: list[str]) -> None:
    handler.reply(200, answer(entries(texts)[:-1]))


def no_data(handler: Handler, texts: list[str]) -> None:
    handler.reply(200, answer([]))


def same_index_twice(handler: Handler, texts: list[str]) -> None:
    handler.reply(200, answer([{**entry, "index": min(i, 1)} for i, entry in enumerate(entries(texts))]))


def not_a_number(handler: Handler, texts: list[str]) -> None:
    vector = np.full(DIMENSIONS, np.nan, np.float32)
    broken = base64.b64encode(vector.tobytes()).decode()
    handler.reply(200, answer([{**entry, "embedding": broken} for entry in entries(texts)]))


def too_short(handler: Handler, texts: list[str]) -> None:
    short = [{**entry, "embedding": base64.b64encode(b"\0\0\x80?" * 3).decode()} for entry in entries(texts)]
    handler.reply(200, answer(short))


def shuffled(handler: Handler, texts: list[str]) -> None:
    handler.reply(200, answer(entries(texts)[::-1]))


def as_floats(handler: Handler, texts: list[str]) -> None:
    handler.reply(200, answer([{"index": i, "embedding": vector_of(t).tolist()} for i, t in enumerate(texts)]))


@contextlib.contextmanager
def running_server() -> Iterator[Server]:
    scripted = Server()
    handler = type("ScriptedHandler", (Handler,), {"scripted": scripted})
    with listening(handler) as scripted.base_url:
        yield scripted
