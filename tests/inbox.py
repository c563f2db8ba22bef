"""A webhook for tests: a real server that keeps what it gets."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

from loopback import listening


class Inbox(BaseHTTPRequestHandler):
    """A webhook that keeps what it gets, and answers with `status`; None: never."""

    status: int | None = 200
    got: list[dict[str, Any]]
    released: threading.Event

    def do_POST(self) -> None:
        if self.status is None:
            self.released.wait(20)
            return
        self.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Keep quiet."""


@contextlib.contextmanager
def open_inbox() -> Iterator[tuple[type[Inbox], str]]:
    """Listen while the block lasts; yield the inbox, and its URL with a secret in it."""

    class Ours(Inbox):
        got: list[dict[str, Any]] = []  # noqa: RUF012 - this class is one test's
        released = threading.Event()

    with listening(Ours) as url:
        yield Ours, f"{url}/T0P/5ECRET?token=c0ffee"
        Ours.released.set()
