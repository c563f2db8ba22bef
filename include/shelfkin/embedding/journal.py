"""The write-ahead journal of one embedding run: what was about to be sent, and what became of it.

A request's line is on storage before it is sent, so that a run that is killed at any moment leaves a full account:
whatever has a line and no outcome may have been billed. Lines lie in numbered, immutable files below
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
_TRIES, _PAUSE_S = 3, 2.0
# A writer on another machine that has written nothing for so long is dead: a request ends within its time-out.
_DEAD_AFTER = timedelta(minutes=15)


@dataclass(frozen=True)
class Journal:
    """One run's journal.

    Attributes
    ----------
    uri
        Folder of the journal.
    """

    root: Root
    uri: str

    @property
    def name(self) -> str:
        """The journal's name, which its shards carry too."""
        return posixpath.basename(self.uri)

    def open(self, manifest: str, *, until_ended: bool = False) -> None:
        """Say who writes this journal.

        Parameters
        ----------
        manifest
            Path of the manifest that the run will write, relative to the root. It names the run: two tries of one run
            never live at the same time.
        until_ended
            Whether it stays open when its writer dies: a batch is under way until somebody has read its answers.
        """
        self._say(
            "owner",
            until_ended=until_ended,
            manifest=manifest,
            host=socket.gethostname(),
            pid=os.getpid(),
            opened_at=utc_now(),
        )

    def end(self) -> None:
        """Say that the writer has ended."""
        self._say("ended")

    def take(self, manifest: str) -> None:
        """Say that the ledger of another run, whose manifest this is, takes this journal in."""
        self._say("taken", manifest=manifest)

    def claims(self) -> list[str]:
        """Return the manifests whose ledgers hold this journal once they are written."""
        return [said["manifest"] for said in (self._said("owner"), self._said("taken")) if said is not None]

    def may_live(self, manifest: str, now: datetime | None = None) -> bool:
        """Whether the journal's writer may still be at work, as seen by the run that will write `manifest`."""
        owner = self._said("owner")
        if owner is None or self._said("ended") is not None:
            return False
        if owner["until_ended"]:
            return True
        if owner["manifest"] == manifest:
            return False
        if owner["host"] == socket.gethostname():
            return _process_exists(owner["pid"])
        newest = max([owner["opened_at"], *(line["at"] for line in self.lines() if "at" in line)])
        return (now or datetime.now(UTC)) - datetime.fromisoformat(newest) < _DEAD_AFTER

    def put(self, number: int, lines: list[dict[str, Any]]) -> None:
        """Write one file of lines."""
        data = b"".join(json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in lines)
        self.root.put_bytes(posixpath.join(self.uri, "ledger", f"{number:08d}.jsonl"), data)

    def lines(self) -> Iterator[dict[str, Any]]:
        """Yield all lines in the order in which they were written."""
        folder = posixpath.join(self.uri, "ledger")
        for name in self.root.names(folder):
            if name.endswith(".jsonl"):  # anything else is a temporary file of a put that was cut off
                for line in self.root.read_bytes(posixpath.join(folder, name)).splitlines():
                    yield json.loads(line)

    def delete(self) -> None:
        """Delete the journal: its lines first, so that lines without an owner never remain."""
        for part in (posixpath.join(self.uri, "ledger"), self.uri):
            with contextlib.suppress(FileNotFoundError):  # another run was at it too
                self.root.fs.rm(part, recursive=True)

    def _say(self, what: str, **content: Any) -> None:
        self.root.put_json(posixpath.join(self.uri, f"{what}.json"), content)

    def _said(self, what: str) -> dict[str, Any] | None:
        uri = posixpath.join(self.uri, f"{what}.json")
        return self.root.read_json(uri) if self.root.exists(uri) else None


class JournalWriter:
    """Writes a journal's lines from an event loop; `write` returns once its line is on storage."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self._pending: list[dict[str, Any]] = []
        self._turn = asyncio.Lock()
        self._number = 0
        self._written_at = float("-inf")
        self._broken: Exception | None = None

    async def write(self, line: dict[str, Any]) -> None:
        """Write one line, and all that came in meanwhile; raises what the storage raises."""
        self._pending.append(line)
        async with self._turn:
            if self._broken is not None:
                raise self._broken
            if any(pending is line for pending in self._pending):  # otherwise it went with another's file
                clock = asyncio.get_running_loop().time
                await asyncio.sleep(self._written_at + _APART_S - clock())
                await self._flush()
                self._written_at = clock()

    def note(self, line: dict[str, Any]) -> None:
        """Write one line with the next file, without waiting for it."""
        self._pending.append(line)

    async def close(self) -> None:
        """Write the last notes; of one that is lost the ledger says what its shard says, or that it was in flight."""
        with contextlib.suppress(Exception):
            await self._flush()

    async def _flush(self) -> None:
        """Write what is pending as one file; a storage's hiccup must not end a run of hours."""
        lines, self._pending = self._pending, []
        if not lines:
            return
        self._number += 1
        wait = wait_random_exponential(max=_PAUSE_S)
        put = Retrying(stop=stop_after_attempt(_TRIES), wait=wait, reraise=True).wraps(self.journal.put)
        try:
            await asyncio.to_thread(put, self._number, lines)
        except Exception as error:
            self._broken = error  # whoever waits for one of these lines must hear of it
            raise


def _process_exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
