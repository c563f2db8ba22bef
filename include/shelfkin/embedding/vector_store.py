"""The content-addressed vector store: immutable parquet shards, and numbered generations that list them.

Layout below ``{artifact_root}/vectors/<provider>/<model>/<dimensions>/``::

    shards/<journal>/<name>-<rows>.parquet   text_hash, vector, refused; sorted by text_hash
    generations/<number>.json                the shards that a reader of this generation sees
    journals/<journal>/                      what a run was about to send, and what became of it (journal)

A shard is written as soon as its request is answered; it counts for readers once a generation lists it.
Shards of a run that was killed are found again by listing and adopted by the next run. A text that the server refuses
for good has a row too, without a vector and with the reason, so that it isn't sent again every day.
"""

from __future__ import annotations

import io
import json
import logging
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from shelfkin.artifacts import Root, sha256_hex, utc_now
from shelfkin.embedding.journal import Journal
from shelfkin.embedding.provider import Provider
from shelfkin.errors import ArtifactError

log = logging.getLogger("shelfkin.embedding")

FORMAT_VERSION = 2
SHARD_SCHEMA = pa.schema([("text_hash", pa.string()), ("vector", pa.list_(pa.float32())), ("refused", pa.string())])
SHARD_DDL = "text_hash string, vector array<float>, refused string"
# In a shard's metadata: what it belongs to, and what its requests cost.
META_STORE, META_REQUESTS = b"shelfkin.store", b"shelfkin.requests"
_SHARD_NAME = re.compile(r"[A-Za-z0-9_-]+-(\d+)\.parquet")
_MAX_COMMIT_TRIES = 100
# More than this isn't a torn file, but a missing mount or a half-done restore: paying again must be a choice.
_MAX_DAMAGED_SHARE = 0.25


@dataclass(frozen=True)
class Shard:
    """One immutable file of vectors.

    Attributes
    ----------
    path
        Relative to the store's folder.
    rows, size
        Rows, and bytes of the file.
    sha256
        Of the file's bytes.
    """

    path: str
    rows: int
    size: int
    sha256: str


@dataclass(frozen=True)
class Generation:
    """A numbered, immutable list of shards. Generation 0 is the empty store.

    Attributes
    ----------
    shards
        What a reader reads.
    retired
        When (ISO 8601) which files were replaced by merged ones, by path. They stay for readers of older generations.
    """

    number: int
    shards: tuple[Shard, ...]
    retired: Mapping[str, str] = field(default_factory=dict)


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
    def key(self) -> str:
        """Provider, model and vector length: what all vectors here have in common."""
        return "/".join(self.uri.rsplit("/", 3)[1:])

    @property
    def root(self) -> Root:
        """The artifact root (made anew, because a file system doesn't travel between processes)."""
        return Root(self.root_uri)

    def join(self, *parts: str) -> str:
        """Return the URI of a path below the store."""
        return posixpath.join(self.uri, *parts)

    def latest(self) -> Generation:
        """Return the newest generation."""
        names = [name for name in self.root.names(self.join("generations")) if re.fullmatch(r"\d{8}\.json", name)]
        return self.generation(int(names[-1].removesuffix(".json")) if names else 0)

    def generation(self, number: int) -> Generation:
        """Return one generation; raises ArtifactError if it doesn't exist."""
        if number == 0:
            return Generation(0, ())
        content = self.root.read_json(self._generation_uri(number))
        if content.get("format_version") != FORMAT_VERSION:
            raise ArtifactError(
                f"{self._generation_uri(number)} has another format version than {FORMAT_VERSION}.",
                next_step="Move the folder away; its texts are then embedded anew.",
            )
        return Generation(number, tuple(Shard(**shard) for shard in content["shards"]), content["retired"])

    def write_shard(
        self,
        journal: str,
        name: str,
        hashes: Sequence[str],
        vectors: npt.NDArray[np.float32],
        requests: Sequence[dict[str, Any]] = (),
    ) -> Shard:
        """Write one answered request (float32 of shape (n, d)) in one atomic put; return its entry.

        Parameters
        ----------
        name
            Of the request; unique within the journal.
        requests
            The ledger lines of the requests that brought them, kept in the shard: all are on storage, or nothing is.
        """
        return self.write_rows(
            journal, name, _rows(hashes, _list_array(vectors), pa.nulls(len(hashes), pa.string())), requests
        )

    def write_refused(self, journal: str, refused: Mapping[str, str]) -> Shard:
        """Write the texts that the server refused for good in this run, with its words."""
        nothing = pa.nulls(len(refused), pa.list_(pa.float32()))
        return self.write_rows(journal, "refused", _rows(refused, nothing, pa.array(refused.values(), pa.string())))

    def known_dimensions(self) -> int | None:
        """Return the length of the vectors in the newest generation, or None if it has none."""
        for shard in self.latest().shards:
            data = io.BytesIO(self.root.read_bytes(self.join(shard.path)))
            vectors = pq.read_table(data, columns=["vector"])["vector"]
            lengths = pc.list_value_length(vectors.drop_null())
            if len(lengths):
                return int(lengths[0].as_py())
        return None

    def write_rows(self, folder: str, name: str, rows: pa.Table, requests: Sequence[dict[str, Any]] = ()) -> Shard:
        """Write a shard of rows in `SHARD_SCHEMA`, sorted by text_hash, in one atomic put."""
        meta = {META_STORE: self.key.encode(), META_REQUESTS: json.dumps(list(requests)).encode()}
        buffer = io.BytesIO()
        # Embedding bytes are close to random: compression costs time and saves nothing worth it.
        pq.write_table(
            rows.replace_schema_metadata(meta),
            buffer,
            compression="none",
            use_dictionary=False,
            write_page_checksum=True,
        )
        data = buffer.getvalue()
        path = posixpath.join("shards", folder, f"{name}-{rows.num_rows}.parquet")
        self.root.put_bytes(self.join(path), data)
        return Shard(path, rows.num_rows, len(data), sha256_hex(data))

    def commit(
        self, shards: Iterable[Shard], *, instead_of: Iterable[Shard] = (), forget: Iterable[str] = ()
    ) -> Generation:
        """Add shards in a new generation; return the newest generation, unchanged if there is nothing to change.

        Two writers may race for a number: the put is if-absent, and the loser makes its change to the winner's list.

        Parameters
        ----------
        instead_of
            Shards that the new ones replace; they are listed as retired.
        forget
            Paths that are neither listed nor retired any more.
        """
        shards, replaced, forgotten = list(shards), {shard.path for shard in instead_of}, set(forget)
        for _ in range(_MAX_COMMIT_TRIES):
            base = self.latest()
            known = {shard.path: shard for shard in base.shards}
            wanted = {**known, **{shard.path: shard for shard in shards if shard.path not in base.retired}}
            listed = {path: shard for path, shard in wanted.items() if path not in replaced | forgotten}
            retired = {**base.retired, **{path: utc_now() for path in replaced & known.keys()}}
            retired = {path: at for path, at in retired.items() if path not in forgotten}
            if listed.keys() == known.keys() and retired == base.retired:
                return base
            union = tuple(sorted(listed.values(), key=lambda shard: shard.path))
            content = {
                "format_version": FORMAT_VERSION,
                "created_at": utc_now(),
                "rows": sum(shard.rows for shard in union),
                "shards": [vars(shard) for shard in union],
                "retired": retired,
            }
            if self.root.put_json_if_absent(self._generation_uri(base.number + 1), content):
                return Generation(base.number + 1, union, retired)
        raise ArtifactError(
            f"{self.uri}: {_MAX_COMMIT_TRIES} other writers came first; no generation could be added.",
            next_step="Run the task again: its vectors are kept.",
        )

    def adopt_orphans(self) -> Generation:
        """Commit finished shards that no generation lists, as a killed run leaves them; set torn ones aside."""
        base = self.latest()
        known = {shard.path for shard in base.shards} | base.retired.keys()
        # Merged files hold nothing that isn't in the files they were made from.
        found = [
            self._verified(path)
            for path in self._list_shards()
            if path not in known and not posixpath.basename(path).startswith("compact-")
        ]
        return self.commit(shard for shard in found if shard is not None)

    def set_damaged_aside(self) -> Generation:
        """Drop listed shards whose file is gone or has another size; their texts are embedded again."""
        base = self.latest()
        root, folders = self.root, {posixpath.dirname(shard.path) for shard in base.shards}
        sizes = {
            posixpath.join(folder, posixpath.basename(str(entry["name"]))): entry["size"]
            for folder in folders
            if root.exists(self.join(folder))
            for entry in root.fs.ls(self.join(folder), detail=True, refresh=True)
        }
        damaged = [shard for shard in base.shards if sizes.get(shard.path) != shard.size]
        if len(damaged) > max(1, _MAX_DAMAGED_SHARE * len(base.shards)):
            raise ArtifactError(
                f"{len(damaged)} of {len(base.shards)} files of the vector store {self.uri} are gone or torn.",
                next_step="Restore them or check the mount. To embed everything anew, move the folder away.",
            )
        for shard in damaged:
            found = f"has {sizes[shard.path]} bytes instead of {shard.size}" if shard.path in sizes else "is gone"
            log.warning("%s %s and is set aside; its texts are embedded again", shard.path, found)
        return self.commit([], forget=[shard.path for shard in damaged])

    def collect_garbage(self, before: datetime) -> int:
        """Delete files that were retired before a moment; return how many."""
        base = self.latest()
        old = [path for path, at in base.retired.items() if datetime.fromisoformat(at) < before]
        # First the files, then the list: killed in between, the next call finds them again.
        for path in old:
            if self.root.exists(self.join(path)):
                self.root.fs.rm_file(self.join(path))
        self.commit([], forget=old)
        return len(old)

    def orphan_requests(self, journal: str) -> list[dict[str, Any]]:
        """Return the ledger lines kept in a journal's shards, each with its shard's entry."""
        lines = []
        for path in self._list_shards(journal):
            shard = self._verified(path)
            if shard is not None:
                meta = pq.read_schema(io.BytesIO(self.root.read_bytes(self.join(path)))).metadata or {}
                lines += [{**line, "shard": vars(shard)} for line in json.loads(meta.get(META_REQUESTS, b"[]"))]
        return lines

    def journals(self) -> list[Journal]:
        """Return the journals of all runs that ever sent a request, oldest first."""
        return [self.journal(name) for name in self.root.names(self.join("journals"))]

    def journal(self, name: str) -> Journal:
        """Return one run's journal."""
        return Journal(self.root, self.join("journals", name))

    def _generation_uri(self, number: int) -> str:
        return self.join("generations", f"{number:08d}.json")

    def _list_shards(self, journal: str | None = None) -> list[str]:
        return [
            posixpath.join("shards", folder, name)
            for folder in ([journal] if journal else self.root.names(self.join("shards")))
            for name in self.root.names(self.join("shards", folder))
            if _SHARD_NAME.fullmatch(name)  # anything else is a temporary file of a put that was cut off
        ]

    def _verified(self, path: str) -> Shard | None:
        """Return the entry of a whole shard of this store; None, with a warning, for any other file."""
        data = self.root.read_bytes(self.join(path))
        try:
            table = pq.read_table(io.BytesIO(data), page_checksum_verification=True)
        except (pa.ArrowException, OSError) as error:
            log.warning("%s is torn and set aside; its texts are embedded again (%s)", path, error)
            return None
        expected = int(_SHARD_NAME.fullmatch(posixpath.basename(path)).group(1))  # type: ignore[union-attr]
        if table.num_rows != expected:
            log.warning("%s holds %d rows instead of %d and is set aside", path, table.num_rows, expected)
            return None
        belongs_to = (table.schema.metadata or {}).get(META_STORE, b"").decode()
        if belongs_to != self.key or not table.schema.equals(SHARD_SCHEMA):
            log.warning("%s belongs to %r, not to %r, and is set aside", path, belongs_to, self.key)
            return None
        return Shard(path, table.num_rows, len(data), sha256_hex(data))


def _rows(hashes: Iterable[str], vectors: pa.Array, refused: pa.Array) -> pa.Table:
    """Return a table in `SHARD_SCHEMA`, sorted by text_hash."""
    columns = [pa.array(hashes, pa.string()), vectors, refused]
    return pa.table(columns, schema=SHARD_SCHEMA).sort_by("text_hash")


def _list_array(vectors: npt.NDArray[np.float32]) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1]).cast(
        SHARD_SCHEMA.field("vector").type
    )
