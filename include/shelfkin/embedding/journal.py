"""The write-ahead journal of one embedding run: what was about to be sent, and what became of it.

A permit's line is on storage before the permit is given, so that a run that is killed at any moment leaves a full
account: whatever has a permit and no outcome may have been billed. Lines lie in numbered, immutable files below
``journals/<journal>/ledger/``, because object stores can't append; lines that come in while a file is being written
share the next one (group commit; Gray & Reuter 1992, section 9.4).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import posixpath
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from tenacity import Retrying, stop_after_attempt, wait_random_exponential

from shelfkin.artifacts import Root, utc_now

# Files of a busy run are at least this far apart, so that an hour at thousands of requests a minute is not a file each.
_APART_S = 0.05
_TRIES = 3
HEARTBEAT_S = 30.0
_DEAD_AFTER = timedelta(seconds=4 * HEARTBEAT_S)


@dataclass(frozen=True)
class Journal:
    """One run's journal.

    Attributes
    ----------
    uri
        Folder of the journal.
    """

    root_uri: str
    uri: str

    @property
    def name(self) -> str:
        """The journal's name, which its shards carry too."""
        return posixpath.basename(self.uri)

    @property
    def root(self) -> Root:
        """The artifact root (made anew, because a file system doesn't travel between processes)."""
        return Root(self.root_uri)

    def open(self, run: str, manifest: str, *, until_ended: bool = False) -> None:
        """Say who writes this journal.

        Parameters
        ----------
        run
            The run's name: two tries of one run never live at the same time.
        manifest
            Path of the manifest that the run will write, relative to the root.
        until_ended
            Whether it stays open when its writer dies: a batch is under way until somebody has read its answers.
        """
        self.root.put_json(
            posixpath.join(self.uri, "owner.json"),
            {
                "run": run,
                "until_ended": until_ended,
                "manifest": manifest,
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "opened_at": utc_now(),
            },
        )
        self.beat()

    def beat(self) -> None:
        """Say that the writer lives."""
        self.root.put_json(posixpath.join(self.uri, "heartbeat.json"), {"at": utc_now()})

    def end(self) -> None:
        """Say that the writer has ended."""
        self.root.put_json(posixpath.join(self.uri, "ended.json"), {"at": utc_now()})

    def owner(self) -> dict[str, Any] | None:
        """Return who writes this journal, or None if that was never said."""
        uri = posixpath.join(self.uri, "owner.json")
        return self.root.read_json(uri) if self.root.exists(uri) else None

    def delete(self) -> None:
        """Delete the journal: its lines first, so that lines without an owner never remain."""
        for part in (posixpath.join(self.uri, "ledger"), self.uri):
            with contextlib.suppress(FileNotFoundError):  # another run was at it too
                self.root.fs.rm(part, recursive=True)

    def take(self, manifest: str) -> None:
        """Say that the ledger of another run, whose manifest this is, takes this journal in."""
        self.root.put_json(posixpath.join(self.uri, "taken.json"), {"manifest": manifest, "at": utc_now()})

    def taken_by(self) -> dict[str, Any] | None:
        """Return whose ledger takes this journal in, or None."""
        uri = posixpath.join(self.uri, "taken.json")
        return self.root.read_json(uri) if self.root.exists(uri) else None

    def may_live(self, run: str, now: datetime | None = None) -> bool:
        """Whether the journal's writer may still be at work, as seen by another try named `run`."""
        owner = self.owner()
        if owner is None or self.root.exists(posixpath.join(self.uri, "ended.json")):
            return False
        if owner["until_ended"]:
            return True
        if owner["run"] == run:
            return False
        if owner["host"] == socket.gethostname():
            return _process_exists(owner["pid"])
        uri = posixpath.join(self.uri, "heartbeat.json")
        beat = self.root.read_json(uri)["at"] if self.root.exists(uri) else owner["opened_at"]
        return (now or datetime.now(UTC)) - datetime.fromisoformat(beat) < _DEAD_AFTER

    def put(self, number: int, lines: list[dict[str, Any]]) -> None:
        """Write one file of lines."""
        data = b"".join(json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in lines)
        self.root.put_bytes(posixpath.join(self.uri, "ledger", f"{number:08d}.jsonl"), data)

    def lines(self) -> Iterator[dict[str, Any]]:
        """Yield all lines in the order in which they were written."""
        root, folder = self.root, posixpath.join(self.uri, "ledger")
        try:
            found = root.fs.ls(folder, detail=False, refresh=True)
        except FileNotFoundError:
            return
        for name in sorted(posixpath.basename(path) for path in found):
            if name.endswith(".jsonl"):  # anything else is a temporary file of a put that was cut off
                for line in root.read_bytes(posixpath.join(folder, name)).splitlines():
                    yield json.loads(line)


class JournalWriter:
    """Writes a journal's lines from an event loop; `write` returns once its line is on storage."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._pending: list[tuple[dict[str, Any], asyncio.Future[None] | None]] = []
        self._wake = asyncio.Event()
        self._number = 0
        self._closing = False

    async def write(self, line: dict[str, Any]) -> None:
        """Write one line; raises what the storage raises."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pending.append((line, done))
        self._wake.set()
        await done

    def note(self, line: dict[str, Any]) -> None:
        """Write one line with the next file, without waiting for it."""
        self._pending.append((line, None))
        self._wake.set()

    async def run(self) -> None:
        """Write files until `close`."""
        loop = asyncio.get_running_loop()
        while not (self._closing and not self._pending):
            await self._wake.wait()
            self._wake.clear()
            batch, self._pending = self._pending, []
            if not batch:
                continue
            self._number += 1
            try:
                await loop.run_in_executor(None, self._put, [line for line, _ in batch])
            except Exception as error:  # noqa: BLE001 - whoever waits for the line must hear of it
                for _, done in batch:
                    if done is not None and not done.done():
                        done.set_exception(error)
            else:
                for _, done in batch:
                    if done is not None and not done.done():
                        done.set_result(None)
            await asyncio.sleep(_APART_S)

    def _put(self, lines: list[dict[str, Any]]) -> None:
        """Put one file; a storage's hiccup must not end a run of hours."""
        for attempt in Retrying(stop=stop_after_attempt(_TRIES), wait=wait_random_exponential(max=2), reraise=True):
            with attempt:
                self._journal.put(self._number, lines)

    def close(self) -> None:
        """Let `run` end after what is pending."""
        self._closing = True
        self._wake.set()


def _process_exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
