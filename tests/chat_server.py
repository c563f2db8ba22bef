"""A chat server for tests, over real HTTP on a loopback port: it says what the test tells it to."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

from loopback import listening


class Server:
    """A chat server: `reply` is (status, body) of every request; `seen` are their headers and bodies."""

    def __init__(self, base_url: str) -> None:
        self.base_url, self.reply, self.seen = base_url, (200, b""), list[tuple[str, dict[str, Any]]]()

    def say(self, content: Any) -> None:
        self.reply = (200, json.dumps({"choices": [{"message": {"role": "assistant", "content": content}}]}).encode())


@contextlib.contextmanager
def running() -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            found.seen.append((self.headers["Authorization"], body))
            status, answer = found.reply
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.send_header("Retry-After-Ms", "1")
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    with listening(Handler) as base_url:
        found = Server(base_url)
        yield found
