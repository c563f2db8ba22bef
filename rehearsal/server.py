"""The rehearsal server: OpenAI's embedding protocol with quotas, latency, faults and a bill of its own.

Its vectors are made from the texts' hashes: the same for the same text, and without meaning. ``GET /account`` returns
what it has billed and refused so far, ``POST /settings`` changes any setting while it runs.
"""

from __future__ import annotations

import base64
import collections
import hashlib
import json
import random
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from rehearsal.batches import BatchDesk
from shelfkin.embedding.tokens import counter_of

_MAX_INPUTS, _MAX_TOKENS, _MAX_TOKENS_PER_INPUT = 2048, 300_000, 8192
_BASIS_ROWS = 4096
HANG_S = 3600.0

# Faults that a request may meet, drawn at random. The first group is refused before any work and costs nothing; the
# second is worked on and billed, but its answer is lost or of no use.
FREE_FAULTS = ("status_408", "status_409", "status_429", "status_500", "status_503")
BILLED_FAULTS = ("hang", "reset", "cut_off", "not_json", "html", "too_few", "wrong_length", "not_a_number")


@dataclass
class Settings:
    """How the server behaves.

    Attributes
    ----------
    requests_per_minute, tokens_per_minute
        The quota; None: no limit. Buckets start full and refill all the time.
    burst_s
        Seconds' worth of the quota that a bucket holds. A request that is larger is let through when it is full.
    latency_s, latency_s_per_1000_tokens
        Time that an answer takes.
    faults
        Probability of each kind of fault (`FREE_FAULTS`, `BILLED_FAULTS`).
    hang_s
        How long the fault ``hang`` waits.
    poison
        Texts that contain this are refused with a 400.
    terminal
        ``insufficient_quota``, ``bad_key``, ``no_permission`` or ``unknown_model``: every request is refused so.
    headers
        Whether answers name the limits.
    batch_s
        Time that a batch takes.
    batch_expiring_share
        Share of a batch's requests that aren't done in time.
    batch_enqueued_tokens
        Tokens that may wait in batches at the same time.
    """

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    burst_s: float = 60.0
    latency_s: float = 0.0
    latency_s_per_1000_tokens: float = 0.0
    dimensions: int = 1536
    faults: dict[str, float] = field(default_factory=dict)
    hang_s: float = HANG_S
    poison: str | None = None
    terminal: str | None = None
    headers: bool = True
    batch_s: float = 0.2
    batch_expiring_share: float = 0.0
    batch_enqueued_tokens: int | None = None
    seed: int = 0


@dataclass
class Account:
    """What the server has done; tokens are counted as billed when work on them begins."""

    requests: int = 0
    answered: int = 0
    texts_billed: int = 0
    tokens_billed: int = 0
    rate_limited: int = 0
    refused: int = 0
    terminal: int = 0
    faults: dict[str, int] = field(default_factory=lambda: collections.defaultdict(int))
    batch_texts_billed: int = 0
    batch_tokens_billed: int = 0
    wasted_tokens: int = 0
    tokens_by_second: dict[int, int] = field(default_factory=lambda: collections.defaultdict(int))
    requests_by_second: dict[int, int] = field(default_factory=lambda: collections.defaultdict(int))
    first_terminal_at: float | None = None
    last_request_at: float | None = None


class RehearsalServer:
    """The server's state, shared by the threads of its connections."""

    def __init__(self, settings: Settings, *, keep_texts: bool = False) -> None:
        self.settings, self.account = settings, Account()
        self.lock = threading.Lock()
        self.texts: list[str] | None = [] if keep_texts else None
        self.authorizations: set[str] = set()
        self._random = random.Random(settings.seed)
        self.batches = BatchDesk(self._batch_answer, lambda: self.settings)
        self._levels: dict[str, tuple[float, float]] = {}
        self._bases: dict[int, npt.NDArray[np.float32]] = {}

    def draw_fault(self) -> str | None:
        """Return the fault of the next request, or None."""
        with self.lock:
            point = self._random.random()
        for name, probability in self.settings.faults.items():
            if point < probability:
                return name
            point -= probability
        return None

    def admit(self, n_tokens: int) -> tuple[bool, float, dict[str, str]]:
        """Take a request's share of the quota; return whether there was enough, seconds to wait if not, and headers."""
        settings, now = self.settings, time.monotonic()
        with self.lock:
            kinds = [
                ("requests", settings.requests_per_minute, 1.0),
                ("tokens", settings.tokens_per_minute, float(n_tokens)),
            ]
            levels: dict[str, tuple[float, float, float]] = {}
            holds = {kind: limit * settings.burst_s / 60 for kind, limit, _ in kinds if limit is not None}
            for kind, limit, cost in kinds:
                if limit is not None:
                    level, at = self._levels.get(kind, (holds[kind], now))
                    levels[kind] = (min(holds[kind], level + (now - at) * limit / 60), limit, cost)
            lacking = [(min(cost, holds[kind]) - level) / limit for kind, (level, limit, cost) in levels.items()]
            wait_s = max([0.0, *lacking]) * 60
            admitted = wait_s <= 0
            headers: dict[str, str] = {}
            for kind, (level, limit, cost) in levels.items():
                left = level - cost if admitted else level
                self._levels[kind] = (left, now)
                headers[f"x-ratelimit-limit-{kind}"] = f"{limit:.0f}"
                headers[f"x-ratelimit-remaining-{kind}"] = f"{max(0.0, left):.0f}"
                headers[f"x-ratelimit-reset-{kind}"] = _duration((holds[kind] - left) / limit * 60)
        return admitted, wait_s, headers if settings.headers else {}

    def bill(self, n_texts: int, n_tokens: int, *, wasted: bool) -> None:
        """Count a request that is worked on."""
        with self.lock:
            self.account.texts_billed += n_texts
            self.account.tokens_billed += n_tokens
            self.account.wasted_tokens += n_tokens if wasted else 0
            self.account.tokens_by_second[int(time.time())] += n_tokens
            self.account.requests_by_second[int(time.time())] += 1

    def vectors(self, texts: list[str], dimensions: int) -> npt.NDArray[np.float32]:
        """Return unit vectors (float32, n x d) made from the texts' hashes."""
        basis = self._basis(dimensions)
        digests = np.frombuffer(b"".join(hashlib.sha256(text.encode()).digest()[:8] for text in texts), dtype="<u4")
        rows = (digests % _BASIS_ROWS).reshape(-1, 2)
        mixed = basis[rows[:, 0]] + np.float32(0.5) * basis[rows[:, 1]]
        unit: npt.NDArray[np.float32] = mixed / np.linalg.norm(mixed, axis=1, keepdims=True)
        return unit.astype(np.float32)

    def _batch_answer(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Answer one request of a batch, and bill it."""
        texts = list(body["input"])
        sizes = counter_of("openai", str(body["model"]))(texts)
        problem = _problem(texts, sizes, self.settings.poison)
        if problem:
            return 400, {"error": {"message": problem, "type": "invalid_request_error", "param": None, "code": None}}
        with self.lock:
            self.account.batch_texts_billed += len(texts)
            self.account.batch_tokens_billed += sum(sizes)
        vectors = self.vectors(texts, int(body.get("dimensions") or self.settings.dimensions))
        answer: dict[str, Any] = orjson.loads(
            _answer(vectors, body.get("encoding_format") == "base64", str(body["model"]), sum(sizes))
        )
        return 200, answer

    def _basis(self, dimensions: int) -> npt.NDArray[np.float32]:
        if dimensions not in self._bases:
            raw = np.random.default_rng(7).standard_normal((_BASIS_ROWS, dimensions), dtype=np.float32)
            self._bases[dimensions] = raw / np.linalg.norm(raw, axis=1, keepdims=True)
        return self._bases[dimensions]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # One write per answer: with Nagle's algorithm on, small ones would wait for the client's acknowledgement.
    disable_nagle_algorithm = True
    wbufsize = -1
    shared: RehearsalServer

    def do_GET(self) -> None:
        if self.path == "/account":
            with self.shared.lock:
                content = json.dumps(vars(self.shared.account)).encode()
            self._reply(200, content)
        elif self.path.startswith(("/v1/files/", "/v1/batches")):
            self._reply(*self.shared.batches.get(self.path))
        else:
            self._refuse(404, "not_found", f"no such address: {self.path}")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/settings":
            for name, value in json.loads(body).items():
                setattr(self.shared.settings, name, value)
            self._reply(200, b"{}")
        elif self.path == "/v1/embeddings":
            self._embeddings(body)
        elif self.path in ("/v1/files", "/v1/batches"):
            self._reply(*self.shared.batches.post(self.path, body, self.headers.get("Content-Type", "")))
        else:
            self._refuse(404, "not_found", f"no such address: {self.path}")

    def _embeddings(self, body: bytes) -> None:
        shared, settings, account = self.shared, self.shared.settings, self.shared.account
        with shared.lock:
            account.requests += 1
            shared.authorizations.add(self.headers.get("Authorization", ""))
            account.last_request_at = time.time()
        wanted = orjson.loads(body)
        texts = [wanted["input"]] if isinstance(wanted["input"], str) else wanted["input"]
        sizes = counter_of("openai", str(wanted["model"]))(texts)
        n_tokens = sum(sizes)
        if settings.terminal:
            with shared.lock:
                account.terminal += 1
                account.first_terminal_at = account.first_terminal_at or time.time()
            return self._refuse(*_TERMINAL[settings.terminal])
        fault = shared.draw_fault()
        if fault:
            with shared.lock:
                account.faults[fault] += 1
        if fault in FREE_FAULTS:
            return self._refuse(int(fault[-3:]), "injected", "an injected fault")
        problem = _problem(texts, sizes, settings.poison)
        if problem:
            with shared.lock:
                account.refused += 1
            return self._refuse(400, "invalid_request_error", problem)
        admitted, wait_s, limits = shared.admit(n_tokens)
        if not admitted:
            with shared.lock:
                account.rate_limited += 1
            waits = {"retry-after-ms": f"{wait_s * 1000:.0f}", "retry-after": f"{max(1, round(wait_s))}"}
            return self._refuse(429, "rate_limit_exceeded", "Rate limit reached.", {**limits, **waits})
        shared.bill(len(texts), n_tokens, wasted=fault is not None)
        if shared.texts is not None:
            with shared.lock:
                shared.texts += texts
        time.sleep(settings.latency_s + settings.latency_s_per_1000_tokens * n_tokens / 1000)
        dimensions = int(wanted.get("dimensions") or settings.dimensions)
        vectors = shared.vectors(texts, dimensions)
        as_text = wanted.get("encoding_format") == "base64"
        if fault is not None:
            self._spoil(fault, vectors, as_text, str(wanted["model"]), n_tokens, limits)
            return
        self._reply(200, _answer(vectors, as_text, str(wanted["model"]), n_tokens), limits)
        with shared.lock:
            account.answered += 1

    def _spoil(
        self,
        fault: str,
        vectors: npt.NDArray[np.float32],
        as_text: bool,
        model: str,
        n_tokens: int,
        limits: dict[str, str],
    ) -> None:
        """Give an answer that was worked on, but is lost or of no use."""
        if fault == "too_few":
            vectors = vectors[:-1]
        elif fault == "wrong_length":
            vectors = vectors[:, :-1]
        elif fault == "not_a_number":
            vectors = vectors.copy()
            vectors[0, 0] = np.nan
        content = _answer(vectors, as_text, model, n_tokens)
        if fault == "hang":
            time.sleep(self.shared.settings.hang_s)
            self.close_connection = True
        elif fault == "reset":
            # Linger 0 turns close into a TCP reset.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
        elif fault == "cut_off":
            self._reply(200, content[: len(content) // 2], limits, length=len(content))
            self.close_connection = True
        elif fault == "not_json":
            self._reply(200, content[: len(content) // 2], limits)
        elif fault == "html":
            self._reply(200, b"<html><body>Bad gateway</body></html>", limits)
        else:
            self._reply(200, content, limits)

    def _refuse(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        error = {"message": message, "type": code, "param": None, "code": code}
        self._reply(status, json.dumps({"error": error}).encode(), headers)

    def _reply(
        self, status: int, data: bytes, headers: dict[str, str] | None = None, length: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("x-request-id", f"rehearsal-{random.getrandbits(48):012x}")
        self.send_header("Content-Length", str(len(data) if length is None else length))
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()

    def log_message(self, *_args: object) -> None:
        pass


_TERMINAL = {
    "insufficient_quota": (429, "insufficient_quota", "You exceeded your current quota."),
    "bad_key": (401, "invalid_api_key", "Incorrect API key provided."),
    "no_permission": (403, "model_not_allowed", "The project may not use this model."),
    "unknown_model": (404, "model_not_found", "The model does not exist."),
}


def _problem(texts: list[str], sizes: list[int], poison: str | None) -> str | None:
    """Return why the request is not acceptable, as OpenAI's API would say, or None."""
    if not 0 < len(texts) <= _MAX_INPUTS:
        return f"input holds {len(texts)} texts; the limits are 1 and {_MAX_INPUTS}."
    if sum(sizes) > _MAX_TOKENS:
        return f"Requested {sum(sizes)} tokens, max {_MAX_TOKENS} tokens per request."
    if max(sizes) > _MAX_TOKENS_PER_INPUT:
        return f"This model's maximum input length is {_MAX_TOKENS_PER_INPUT} tokens."
    if not all(texts) or (poison and any(poison in text for text in texts)):
        return "'$.input' is invalid."
    return None


def _answer(vectors: npt.NDArray[np.float32], as_text: bool, model: str, n_tokens: int) -> bytes:
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": base64.b64encode(row.astype("<f4").tobytes()).decode() if as_text else row,
        }
        for index, row in enumerate(vectors)
    ]
    usage = {"prompt_tokens": n_tokens, "total_tokens": n_tokens}
    content = {"object": "list", "model": model, "data": data, "usage": usage}
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)


def _duration(seconds: float) -> str:
    """Return a time as OpenAI's headers write it: 20ms, 8.64s, 6m0s."""
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    return f"{seconds:.3f}s" if seconds < 60 else f"{seconds // 60:.0f}m{seconds % 60:.0f}s"


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a handler may hang on purpose
    request_queue_size = 256

    def handle_error(self, *_args: object) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(*_args)  # type: ignore[arg-type]


@contextmanager
def running_rehearsal_server(
    settings: Settings, *, host: str = "127.0.0.1", port: int = 0, keep_texts: bool = False
) -> Iterator[tuple[RehearsalServer, str]]:
    """Serve in this process while the block lasts; yields the server's state and its base URL (ending in /v1)."""
    shared = RehearsalServer(settings, keep_texts=keep_texts)
    handler = type("Handler", (_Handler,), {"shared": shared})
    with _HttpServer((host, port), handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield shared, f"http://{host}:{http.server_address[1]}/v1"
        finally:
            http.shutdown()
            thread.join()
