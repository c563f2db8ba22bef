"""The content-addressed vector store: immutable parquet shards, and numbered generations that list them.

Layout below ``{artifact_root}/vectors/<provider>/<model>/<dimensions>/``::

    shards/<journal>/<batch key>-<rows>.parquet    text_hash, vector; sorted by text_hash
    generations/<number>.json                      the shards that a reader of this generation sees
    journals/<journal>/stop.json                   why a run's tasks must send no more requests

A shard is written by a worker as soon as its request is answered; it counts for readers once a generation lists it.
Shards of a run that was killed are found again by listing and adopted by the next run.
"""

from __future__ import annotations

import hashlib
import io
import logging
import posixpath
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from shelfkin.artifacts import Root, sha256_hex, utc_now
from shelfkin.embedding.provider import Provider
from shelfkin.errors import ArtifactError

log = logging.getLogger("shelfkin.embedding")

FORMAT_VERSION = 1
SHARD_SCHEMA = pa.schema([("text_hash", pa.string()), ("vector", pa.list_(pa.float32()))])
SHARD_DDL = "text_hash string, vector array<float>"
_SHARD_NAME = re.compile(r"([0-9a-f]{40})-(\d+)\.parquet")
_MAX_COMMIT_TRIES = 100


@dataclass(frozen=True)
class Shard:
    """One immutable file of vectors; `path` is relative to the store's folder, `sha256` is of its bytes."""

    path: str
    rows: int
    sha256: str


@dataclass(frozen=True)
class Generation:
    """A numbered, immutable list of shards. Generation 0 is the empty store."""

    number: int
    shards: tuple[Shard, ...]


@dataclass(frozen=True)
class VectorStore:
    """The vectors of one provider, model and length. Small enough to travel in a task's closure.

    Attributes
    ----------
    uri
        The store's folder.
    """

    root_uri: str
    uri: str

    @classmethod
    def of(cls, root: Root, provider: Provider) -> VectorStore:
        """Return the store of a provider's vectors under an artifact root."""
        return cls(root.uri, root.join("vectors", provider.slug, provider.model_slug, provider.dimensions_slug))

    @property
    def root(self) -> Root:
        """The artifact root (made anew, because a file system doesn't travel between processes)."""
        return Root(self.root_uri)

    def join(self, *parts: str) -> str:
        """Return the URI of a path below the store."""
        return posixpath.join(self.uri, *parts)

    def latest(self) -> Generation:
        """Return the newest generation."""
        number = max(self._generation_numbers(), default=0)
        return self.generation(number)

    def generation(self, number: int) -> Generation:
        """Return one generation; raises ArtifactError if it doesn't exist."""
        if number == 0:
            return Generation(0, ())
        content = self.root.read_json(self._generation_uri(number))
        if content.get("format_version") != FORMAT_VERSION:
            raise ArtifactError(f"{self._generation_uri(number)} has another format version than {FORMAT_VERSION}.")
        return Generation(number, tuple(Shard(**shard) for shard in content["shards"]))

    def shard_uris(self, generation: Generation) -> list[str]:
        """Return the files that a reader of a generation reads."""
        return [self.join(shard.path) for shard in generation.shards]

    def write_shard(self, journal: str, hashes: Sequence[str], vectors: npt.NDArray[np.float32]) -> Shard:
        """Write one answered batch (float32 of shape (n, d)), in one atomic put; return its entry."""
        order = sorted(range(len(hashes)), key=lambda row: hashes[row])
        table = pa.table(
            [pa.array([hashes[row] for row in order], pa.string()), _list_array(vectors[order])], schema=SHARD_SCHEMA
        )
        buffer = io.BytesIO()
        # Embedding bytes are close to random: compression costs time and saves nothing worth it.
        pq.write_table(table, buffer, compression="none", use_dictionary=False, write_page_checksum=True)
        data = buffer.getvalue()
        path = shard_path(journal, hashes)
        self.root.put_bytes(self.join(path), data)
        return Shard(path, len(hashes), sha256_hex(data))

    def find_shard(self, journal: str, hashes: Sequence[str]) -> Shard | None:
        """Return the shard of exactly this batch if an earlier try of the same task wrote it."""
        path = shard_path(journal, hashes)
        return self._verified(path) if self.root.exists(self.join(path)) else None

    def listed_rows(self, journal: str) -> int:
        """Return the vectors that a run has written so far, from the names of its shards."""
        return sum(rows for _, rows in self._list_shards(journal))

    def commit(self, shards: Iterable[Shard]) -> Generation:
        """Add shards in a new generation; return the newest generation, unchanged if it has them all.

        Two writers may race for a number: the put is if-absent, and the loser adds its shards to the winner's list.
        """
        shards = list(shards)
        for _ in range(_MAX_COMMIT_TRIES):
            base = self.latest()
            known = {shard.path for shard in base.shards}
            added = {shard.path: shard for shard in shards if shard.path not in known}
            if not added:
                return base
            union = tuple(sorted((*base.shards, *added.values()), key=lambda shard: shard.path))
            content = {
                "format_version": FORMAT_VERSION,
                "created_at": utc_now(),
                "rows": sum(shard.rows for shard in union),
                "shards": [vars(shard) for shard in union],
            }
            if self.root.put_json_if_absent(self._generation_uri(base.number + 1), content):
                return Generation(base.number + 1, union)
        raise ArtifactError(
            f"{self.uri}: {_MAX_COMMIT_TRIES} other writers came first; no generation could be added.",
            next_step="Run the task again: its vectors are kept.",
        )

    def adopt_orphans(self) -> Generation:
        """Commit finished shards that no generation lists, as a killed run leaves them; set torn ones aside."""
        base = self.latest()
        known = {shard.path for shard in base.shards}
        found = [self._verified(path) for path, _ in self._list_shards() if path not in known]
        return self.commit(shard for shard in found if shard is not None)

    def stop(self, journal: str, reason: dict[str, Any]) -> None:
        """Tell all tasks of a run to send no more requests; the first reason stays."""
        self.root.put_json_if_absent(self._stop_uri(journal), reason)

    def stop_reason(self, journal: str) -> dict[str, Any] | None:
        """Return why a run must stop, or None."""
        return self.root.read_json(self._stop_uri(journal)) if self.root.exists(self._stop_uri(journal)) else None

    def _stop_uri(self, journal: str) -> str:
        return self.join("journals", journal, "stop.json")

    def _generation_uri(self, number: int) -> str:
        return self.join("generations", f"{number:08d}.json")

    def _generation_numbers(self) -> list[int]:
        names = [posixpath.basename(path) for path in self._ls("generations")]
        return [int(name.removesuffix(".json")) for name in names if re.fullmatch(r"\d{8}\.json", name)]

    def _ls(self, *parts: str) -> list[str]:
        root, folder = self.root, self.join(*parts)
        try:
            return [str(path) for path in root.fs.ls(folder, detail=False, refresh=True)]
        except FileNotFoundError:
            return []

    def _list_shards(self, journal: str | None = None) -> list[tuple[str, int]]:
        journals = [journal] if journal else [posixpath.basename(path) for path in self._ls("shards")]
        listed = []
        for name in journals:
            for path in self._ls("shards", name):
                match = _SHARD_NAME.fullmatch(posixpath.basename(path))
                if match:  # anything else is a temporary file of a put that was cut off
                    listed.append((posixpath.join("shards", name, match.group(0)), int(match.group(2))))
        return sorted(listed)

    def _verified(self, path: str) -> Shard | None:
        """Return the entry of a whole shard; None, with a warning, for one that can't be read or lacks rows."""
        data = self.root.read_bytes(self.join(path))
        try:
            rows = pq.read_table(io.BytesIO(data), schema=SHARD_SCHEMA, page_checksum_verification=True).num_rows
        except (pa.ArrowException, OSError) as error:
            log.warning("%s is torn and set aside; its texts are embedded again (%s)", path, error)
            return None
        expected = int(_SHARD_NAME.fullmatch(posixpath.basename(path)).group(2))  # type: ignore[union-attr]
        if rows != expected:
            log.warning("%s holds %d rows instead of %d and is set aside", path, rows, expected)
            return None
        return Shard(path, rows, sha256_hex(data))


def shard_path(journal: str, hashes: Sequence[str]) -> str:
    """Return the name of a batch's shard: the same batch of the same run has the same name."""
    key = hashlib.sha256("\n".join(sorted(hashes)).encode()).hexdigest()[:40]
    return posixpath.join("shards", journal, f"{key}-{len(hashes)}.parquet")


def _list_array(vectors: npt.NDArray[np.float32]) -> pa.Array:
    n_rows, dimensions = vectors.shape
    offsets = pa.array(np.arange(0, (n_rows + 1) * dimensions, dimensions, dtype=np.int32))
    values = pa.array(np.ascontiguousarray(vectors, dtype=np.float32).reshape(-1), pa.float32())
    return pa.ListArray.from_arrays(offsets, values)
