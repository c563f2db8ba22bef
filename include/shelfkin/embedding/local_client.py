"""The bundled model in the place of a server: it answers the sender's requests in this process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from shelfkin.embedding.answers import FloatArray
from shelfkin.embedding.minilm import MiniLM


@dataclass(frozen=True)
class LocalAnswer:
    """Vectors that were computed here; as `client.Answer` to the sender."""

    vectors: FloatArray
    n_tokens: int
    latency_s: float
    headers: Mapping[str, str] = field(default_factory=dict)

    def read(self, _n_texts: int, _dimensions: int | None) -> tuple[FloatArray, int]:
        """Return vectors and tokens."""
        return self.vectors, self.n_tokens


class LocalClient:
    """Stands where `client.EmbeddingClient` does, over the bundled model."""

    def __init__(self) -> None:
        self._model = MiniLM()
        # One request at a time: it already uses all threads, and two at once only fight for the caches.
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> LocalClient:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        pass

    async def send(self, texts: list[str], *, name: str = "") -> LocalAnswer:
        """Embed the texts of one request."""
        started = time.monotonic()
        async with self._turn:
            embedded = await asyncio.to_thread(self._model.embed, texts)
        return LocalAnswer(*embedded, time.monotonic() - started)
