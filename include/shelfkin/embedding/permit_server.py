"""The coordinator's port: an asyncio server in a thread of the driver. It lets the job's own tasks ask, nobody else.

Messages are JSON lines; nothing is unpickled, and the API key never travels.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import secrets
import threading
from typing import Any

from shelfkin.embedding.coordinator import Coordinator
from shelfkin.embedding.journal import HEARTBEAT_S, Journal, JournalWriter
from shelfkin.embedding.permits import Address, keep_alive, proof
from shelfkin.errors import EmbeddingError

log = logging.getLogger("shelfkin.embedding")

_LINE_LIMIT_BYTES = 2**20
_HANDSHAKE_S = 20.0


class PermitServer:
    """Serves one coordinator, and keeps its journal.

    Parameters
    ----------
    coordinator
        Answers what tasks ask.
    journal
        Where its permits are written.
    """

    def __init__(self, coordinator: Coordinator, journal: Journal) -> None:
        self._coordinator, self._journal = coordinator, journal
        self._token = secrets.token_hex(32)
        self._n_connections = 0
        self._serving: set[asyncio.Task[None]] = set()

    def start(self, bind: str, port: int, advertised: str) -> Address:
        """Open the port in a thread and return the address for the tasks.

        Raises
        ------
        EmbeddingError
            The address can't be bound.
        """
        started = threading.Event()
        outcome: list[int | OSError] = []

        async def serve() -> None:
            self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
            writer = JournalWriter(self._journal)
            self._coordinator.begin(writer)
            try:
                server = await asyncio.start_server(self._serve, bind, port, limit=_LINE_LIMIT_BYTES)
            except OSError as error:
                outcome.append(error)
                return
            outcome.append(server.sockets[0].getsockname()[1])
            background = [asyncio.create_task(writer.run()), asyncio.create_task(self._beat())]
            started.set()
            await self._end.wait()
            server.close()
            for task in (background[1], *self._serving):
                task.cancel()
            writer.close()
            await background[0]

        def run() -> None:
            try:
                asyncio.run(serve())
            finally:
                started.set()

        self._thread = threading.Thread(target=run, name="embedding-quota", daemon=True)
        self._thread.start()
        started.wait()
        if not outcome or isinstance(outcome[0], OSError):
            raise EmbeddingError(
                f"The quota coordinator can't listen on {bind}:{port} ({outcome[0] if outcome else 'it ended'}).",
                next_step="Set embedding.coordinator_port to a free port, or spark.driver.bindAddress.",
            )
        return Address(advertised, outcome[0], self._token)

    def close(self) -> None:
        """Close the port and write what is pending in the journal."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._n_connections += 1
        number = self._n_connections
        task = asyncio.current_task()
        if task is not None:
            self._serving.add(task)
        keep_alive(writer.get_extra_info("socket"))
        try:
            if await asyncio.wait_for(self._admit(reader, writer), _HANDSHAKE_S):
                while line := await reader.readline():
                    answering = asyncio.ensure_future(self._coordinator.answer(number, json.loads(line)))
                    if await _hangs_up_first(reader, answering):
                        break
                    writer.write(json.dumps(answering.result()).encode() + b"\n")
                    await writer.drain()
        except (TimeoutError, OSError, ValueError, KeyError, TypeError, asyncio.CancelledError):
            # A peer that breaks off, times out or talks nonsense loses its connection, and nothing else.
            pass
        finally:
            if task is not None:
                self._serving.discard(task)
            self._coordinator.lose(number)
            writer.close()

    async def _admit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Let in only who knows the token, and prove that we know it: both sides answer the other's challenge."""
        ours = secrets.token_hex(16)
        writer.write(json.dumps({"challenge": ours}).encode() + b"\n")
        await writer.drain()
        answer = json.loads(await reader.readline())
        if not hmac.compare_digest(str(answer["proof"]), proof(self._token, "task", ours)):
            log.warning("a connection without the job's token was refused")
            return False
        writer.write(json.dumps({"proof": proof(self._token, "driver", str(answer["challenge"]))}).encode() + b"\n")
        await writer.drain()
        return True

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            try:
                await self._loop.run_in_executor(None, self._journal.beat)
            except OSError as error:  # the next beat may succeed; four missed ones make the journal look dead
                log.warning("the journal's heartbeat could not be written (%s)", error)


async def _hangs_up_first(reader: asyncio.StreamReader, answering: asyncio.Future[Any]) -> bool:
    """Wait for an answer; return whether the peer broke off before it came.

    A task says nothing while it waits: whatever comes is the end of its line. Left unnoticed, a dead task would get a
    permit in its turn.
    """
    hanging_up = asyncio.ensure_future(reader.read(1))
    try:
        await asyncio.wait({answering, hanging_up}, return_when=asyncio.FIRST_COMPLETED)
        return not answering.done()
    finally:
        for future in (answering, hanging_up):
            future.cancel()
        await asyncio.gather(hanging_up, return_exceptions=True)
