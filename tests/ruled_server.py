"""An embedding server that answers by rules, over real HTTP: the first rule that fits a request answers it.

A rule is a dict. ``if`` says when it fits: ``holds`` (one of the inputs is this text), ``inputs_over`` and
``characters_over`` (the request is larger), ``request`` (only the one of this number, from 1). Its answer: ``status``,
``headers`` (a list: pairs, also twice the same name) and ``json`` or ``text`` as the body. Without a body it is a right
answer but for ``vectors`` (by text: ``zeros`` or ``NaN``), ``format`` (``base64`` or ``float``), ``index`` (``absent``,
``all 0``, ``from 1`` or null) and ``headers``.
"""

from __future__ import annotations

import base64
import contextlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

import numpy as np

from embedding_server import DIMENSIONS, vector_of
from loopback import listening


@dataclass
class RuledServer:
    """The rules, and the requests so far: the times and the texts."""

    rules: list[dict[str, Any]]
    base_url: str = ""
    seen: list[tuple[float, list[str]]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def rule_for(self, texts: list[str], number: int) -> dict[str, Any]:
        return next((rule for rule in self.rules if _fits(rule.get("if", {}), texts, number)), {"status": 200})


def _fits(wanted: dict[str, Any], texts: list[str], number: int) -> bool:
    tests = {
        "holds": lambda text: text in texts,
        "inputs_over": lambda most: len(texts) > most,
        "characters_over": lambda most: sum(map(len, texts)) > most,
        "request": lambda n: number == n,
    }
    return all(tests[name](value) for name, value in wanted.items())


def _body(rule: dict[str, Any], texts: list[str]) -> bytes:
    if "json" in rule:
        return json.dumps(rule["json"]).encode()
    if "text" in rule:
        return str(rule["text"]).encode()
    strange = {"zeros": np.zeros(DIMENSIONS, np.float32), "NaN": np.full(DIMENSIONS, np.nan, np.float32)}
    data = []
    for index, text in enumerate(texts):
        told = rule.get("vectors", {}).get(text)
        vector = strange[told] if told else vector_of(text)
        as_floats = rule.get("format") in ("float", "floats", "list")
        entry = {"embedding": vector.tolist() if as_floats else base64.b64encode(vector.tobytes()).decode()}
        numbers = {"right": {"index": index}, "all 0": {"index": 0}, "from 1": {"index": index + 1}, "absent": {}}
        data.append({**entry, **numbers.get(rule.get("index", "right"), {"index": None})})
    return json.dumps({"data": data, "usage": {"total_tokens": len(texts)}}).encode()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_of_rules: RuledServer

    def do_POST(self) -> None:
        texts = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["input"]
        shared = self.server_of_rules
        with shared.lock:
            shared.seen.append((time.monotonic(), texts))
            number = len(shared.seen)
        rule = shared.rule_for(texts, number)
        body = _body(rule, texts)
        self.send_response(rule["status"])
        headers = rule.get("headers", {})
        for name, value in headers.items() if isinstance(headers, dict) else headers:
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json" if "text" not in rule else "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: object) -> None:
        pass


@contextlib.contextmanager
def running_ruled_server(rules: list[dict[str, Any]]) -> Iterator[RuledServer]:
    shared = RuledServer(rules)
    handler = type("Handler", (_Handler,), {"server_of_rules": shared})
    with listening(handler) as shared.base_url:
        yield shared
