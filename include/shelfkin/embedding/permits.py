"""A task's line to the quota coordinator: claim a partition, get permits, hand them back."""

from __future__ import annotations

import hmac
import json
import secrets
import socket
import threading
from dataclasses import dataclass
from typing import Any

from shelfkin.errors import EmbeddingError

_CONNECT_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Address:
    """Where tasks find the coordinator, and the token that lets them in. It travels in the task's closure."""

    host: str
    port: int
    token: str


def proof(token: str, side: str, challenge: str) -> str:
    """Return the answer to a challenge: HMAC-SHA256 keyed by the token (RFC 2104); `side` keeps echoes from working."""
    return hmac.new(token.encode(), f"{side}:{challenge}".encode(), "sha256").hexdigest()


def keep_alive(connection: socket.socket) -> None:
    """Have a dead machine on the other end noticed within half a minute, although nothing is sent."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # The names differ between systems; where one is missing, the system's own patience (hours) holds.
    for name, value in (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 30_000)):
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


class PermitLine:
    """One connection to the coordinator, used by one thread at a time.

    Raises
    ------
    OSError
        The coordinator can't be reached.
    EmbeddingError
        What answers there doesn't know the job's token.
    """

    def __init__(self, address: Address) -> None:
        self._socket = socket.create_connection((address.host, address.port), timeout=_CONNECT_TIMEOUT_S)
        keep_alive(self._socket)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._socket.makefile("rb")
        challenge, ours = self._read()["challenge"], secrets.token_hex(16)
        self._send({"proof": proof(address.token, "task", challenge), "challenge": ours})
        if self._read().get("proof") != proof(address.token, "driver", ours):
            raise EmbeddingError("What listens at the coordinator's address isn't this job's driver.")
        self._socket.settimeout(None)  # a permit may take as long as the quota says

    def ask(self, kind: str, **message: Any) -> dict[str, Any]:
        """Send one message and return the answer: a hint for the next request, and what was asked for."""
        self._send({"ask": kind, **message})
        return self._read()

    def close(self) -> None:
        """Hang up; what this line still holds goes back."""
        self._file.close()
        self._socket.close()

    def _send(self, message: dict[str, Any]) -> None:
        self._socket.sendall(json.dumps(message).encode() + b"\n")

    def _read(self) -> dict[str, Any]:
        line = self._file.readline()
        if not line:
            raise ConnectionError("the quota coordinator hung up")
        answer: dict[str, Any] = json.loads(line)
        return answer


class PermitLines:
    """The lines of one task's threads; each thread has its own."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._lines: list[PermitLine] = []
        self._mine = threading.local()
        self._lock = threading.Lock()

    def __enter__(self) -> PermitLines:
        return self

    def __exit__(self, *_exc: object) -> None:
        for line in self._lines:
            line.close()

    @property
    def line(self) -> PermitLine:
        """This thread's line, opened at first use."""
        line: PermitLine | None = getattr(self._mine, "line", None)
        if line is None:
            line = self._mine.line = PermitLine(self._address)
            with self._lock:
                self._lines.append(line)
        return line
