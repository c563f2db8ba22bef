"""An embedding server on the event loop's own clock: quotas, latency and scripted failures, without a socket."""

from __future__ import annotations

import asyncio
import base64
import random
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from shelfkin.embedding.client import Answer
from shelfkin.embedding.failures import RequestFailedError, Status

DIMENSIONS = 2


def vector_of(text: str) -> np.ndarray:
    return np.array([len(text), sum(text.encode())], np.float32)


def failure(status: Status, http_status: int | None = None, **more: Any) -> RequestFailedError:
    return RequestFailedError(status, more.pop("said", f"HTTP {http_status}"), http_status=http_status, **more)


@dataclass
class Sent:
    """One request as the server saw it."""

    at: float
    texts: list[str]
    name: str
    n_tokens: int
    admitted: bool = False


@dataclass
class SimulatedServer:
    """Stands where the sender expects a client.

    Attributes
    ----------
    script
        What happens to the first requests: an exception, a number of seconds that the answer takes, or None.
    burst_s
        Seconds' worth of quota that may come at once.
    strict
        Whether a request that is larger than a full bucket is always refused.
    names_limits
        Whether answers have headers.
    """

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    burst_s: float = 60.0
    strict: bool = False
    latency_s: float = 0.5
    names_limits: bool = True
    tokens_per_text: int = 10
    largest_request: int | None = None
    script: list[Any] = field(default_factory=list)
    poison: set[str] = field(default_factory=set)
    sent: list[Sent] = field(default_factory=list)
    under_way: int = 0
    most_under_way: int = 0
    _levels: dict[str, tuple[float, float]] = field(default_factory=dict)
    _random: random.Random = field(default_factory=lambda: random.Random(1))

    async def send(self, texts: list[str], *, name: str = "") -> Answer:
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            return await self._answer(texts, name)
        finally:
            self.under_way -= 1

    async def _answer(self, texts: list[str], name: str) -> Answer:
        await asyncio.sleep(self._random.uniform(0.01, 0.06))  # on the way
        request = Sent(asyncio.get_running_loop().time(), texts, name, self.tokens_per_text * len(texts))
        self.sent.append(request)
        latency_s, event = self.latency_s, self.script.pop(0) if self.script else None
        if isinstance(event, Exception):
            raise event
        if event is not None:
            latency_s = float(event)
        if self.poison & set(texts):
            raise failure("refused", 400, said="HTTP 400: '$.input' is invalid")
        if self.largest_request is not None and request.n_tokens > self.largest_request:
            raise failure("rate_limited", 429)
        wait_s, headers = self._admit(request)
        if wait_s > 0:
            raise failure("rate_limited", 429, headers={**headers, "retry-after-ms": str(int(wait_s * 1000) + 1)})
        await asyncio.sleep(latency_s)
        data = [
            {"index": index, "embedding": base64.b64encode(vector_of(text).tobytes()).decode()}
            for index, text in enumerate(texts)
        ]
        body = orjson.dumps({"data": data, "usage": {"total_tokens": request.n_tokens}})
        return Answer(body, headers, latency_s)

    def _admit(self, request: Sent) -> tuple[float, dict[str, str]]:
        """Return the seconds to wait (0: let through) and the headers."""
        limits = {"requests": self.requests_per_minute, "tokens": self.tokens_per_minute}
        costs = {"requests": 1.0, "tokens": float(request.n_tokens)}
        known = {kind: limit for kind, limit in limits.items() if limit is not None}
        levels, waits = {}, [0.0]
        for kind, limit in known.items():
            holds = limit * self.burst_s / 60
            level, at = self._levels.get(kind, (holds, request.at))
            levels[kind] = min(holds, level + (request.at - at) * limit / 60)
            cost = costs[kind] if self.strict else min(costs[kind], holds)
            waits.append((cost - levels[kind]) / limit * 60)
        request.admitted = max(waits) <= 0
        headers: dict[str, str] = {}
        for kind, limit in known.items():
            left = levels[kind] - (costs[kind] if request.admitted else 0.0)
            self._levels[kind] = (left, request.at)
            headers[f"x-ratelimit-limit-{kind}"] = f"{limit:.0f}"
            headers[f"x-ratelimit-remaining-{kind}"] = f"{max(0.0, left):.0f}"
            headers[f"x-ratelimit-reset-{kind}"] = f"{(limit * self.burst_s / 60 - left) / limit * 60:.3f}s"
        return max(waits), headers if self.names_limits else {}

    def share_of_tokens(self, begin_s: float, end_s: float) -> float:
        """Share of the token limit that was used in a span of time after the first request."""
        assert self.tokens_per_minute is not None
        first = self.sent[0].at
        used = sum(one.n_tokens for one in self.sent if one.admitted and begin_s <= one.at - first < end_s)
        return used / (end_s - begin_s) * 60 / self.tokens_per_minute
