"""What the vector store knows of batches: texts (``batches/<key>.parquet``) and how far each has come (``.json``).

A batch is written down before it is submitted, so that a run that is killed at any moment is continued.
"""

from __future__ import annotations

import io
import posixpath
import uuid
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from shelfkin.artifacts import utc_now
from shelfkin.embedding.packing import Text
from shelfkin.embedding.vector_store import VectorStore


@dataclass
class Batch:
    """One batch as its record tells it.

    Attributes
    ----------
    key
        Random; it stands in the batch's metadata.
    batch_id
        The server's name, once it is known.
    ended
        The last status, once it was read and its answers are stored.
    """

    key: str
    n_texts: int
    n_tokens: int
    submitted_at: str | None = None
    batch_id: str | None = None
    ended: str | None = None


@dataclass(frozen=True)
class BatchRecords:
    """The records of one vector store."""

    store: VectorStore

    def under_way(self) -> list[Batch]:
        """Return batches that were submitted and may still bring answers, oldest first."""
        return [batch for batch in self._all() if batch.ended is None and batch.submitted_at is not None]

    def drop_prepared(self) -> None:
        """Drop batches that were prepared and never submitted: their texts may not be wanted any more."""
        for batch in self._all():
            if batch.ended is None and batch.submitted_at is None:
                for kind in ("json", "parquet"):
                    self.store.root.fs.rm_file(self._uri(batch, kind))

    def prepare(self, requests: list[list[Text]]) -> Batch:
        """Write down a batch of requests: answers come by number, and limits may change until they do."""
        texts = [text for request in requests for text in request]
        rows = [{"request": number, **vars(text)} for number, request in enumerate(requests) for text in request]
        # The same texts may have to go again, as another batch.
        batch = Batch(uuid.uuid4().hex, len(texts), sum(text.n_tokens for text in texts))
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows), buffer)
        self.store.root.put_bytes(self._uri(batch, "parquet"), buffer.getvalue())
        self.put(batch)
        return batch

    def requests(self, batch: Batch) -> dict[int, list[Text]]:
        """Return a batch's texts by request number."""
        data = io.BytesIO(self.store.root.read_bytes(self._uri(batch, "parquet")))
        requests: dict[int, list[Text]] = {}
        for row in pq.read_table(data).to_pylist():
            requests.setdefault(row.pop("request"), []).append(Text(**row))
        return requests

    def submitting(self, batch: Batch) -> None:
        """Say that a batch is about to be submitted."""
        batch.submitted_at = utc_now()
        self.put(batch)

    def end(self, batch: Batch, status: str) -> None:
        """Say that a batch's answers are stored; its texts go."""
        batch.ended = status
        self.put(batch)
        self.store.root.fs.rm_file(self._uri(batch, "parquet"))

    def put(self, batch: Batch) -> None:
        """Write down how far a batch has come."""
        self.store.root.put_json(self._uri(batch, "json"), vars(batch))

    def _all(self) -> list[Batch]:
        root, folder = self.store.root, self.store.join("batches")
        uris = [posixpath.join(folder, name) for name in root.names(folder) if name.endswith(".json")]
        records = [Batch(**root.read_json(uri)) for uri in uris]
        return sorted(records, key=lambda batch: batch.submitted_at or "~")

    def _uri(self, batch: Batch, kind: str) -> str:
        return self.store.join("batches", f"{batch.key}.{kind}")
