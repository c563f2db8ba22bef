"""Vectors out of an answer, checked before they are believed.

The SDK's own parser is bypassed: it is slower, and a wrong count, order, length or a NaN passes it silently. A vector
that holds NaN or infinity, or only zeros, has no direction: its row is NaN, and the others are as good as ever.
"""

from __future__ import annotations

import binascii
import json
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from shelfkin.embedding.failures import RequestFailedError, unusable
from shelfkin.embedding.packing import Text
from shelfkin.errors import EmbeddingError

FloatArray = npt.NDArray[np.float32]


def read_answer(body: bytes, n_texts: int, dimensions: int | None) -> tuple[FloatArray, int | None]:
    """Return vectors (float32, n_texts x d, in the order of the texts) and total tokens (None: not said).

    Raises
    ------
    RequestFailedError
        ``unusable``: not JSON (truncated, HTML), wrong count, index or length, or no vector with a direction.
        ``terminal``: indexes that never tell which vector is whose.
    """
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        try:
            content = json.loads(body)  # takes NaN and Infinity, which aren't JSON
        except ValueError:
            raise unusable(f"a body of {len(body)} bytes that is not JSON") from None
    return read_vectors(content, n_texts, dimensions)


def read_vectors(content: Any, n_texts: int, dimensions: int | None) -> tuple[FloatArray, int | None]:
    """Return what `read_answer` does, of an answer that is parsed already."""
    usage = content.get("usage") if isinstance(content, dict) else None
    tokens = usage.get("total_tokens") if isinstance(usage, dict) else None
    n_tokens = tokens if isinstance(tokens, int) else None
    try:
        return _vectors(content, n_texts, dimensions), n_tokens
    except RequestFailedError as error:
        error.billed = n_tokens
        raise


def usable_rows(texts: list[Text], vectors: FloatArray) -> tuple[list[Text], FloatArray, list[Text]]:
    """Return the texts that have a vector, these vectors, and the texts that have none."""
    usable = np.isfinite(vectors[:, 0])
    if usable.all():
        return texts, vectors, []
    kept = [text for text, is_usable in zip(texts, usable, strict=True) if is_usable]
    return kept, vectors[usable], [text for text, is_usable in zip(texts, usable, strict=True) if not is_usable]


def _vectors(content: Any, n_texts: int, dimensions: int | None) -> FloatArray:
    data = content.get("data") if isinstance(content, dict) else None
    if not isinstance(data, list) or not all(isinstance(entry, dict) for entry in data):
        raise unusable("a body without a list `data`")
    if len(data) != n_texts:
        raise unusable(f"{len(data)} vectors for {n_texts} texts")
    rows = [_raw(entry.get("embedding")) for entry in _in_order(data)]
    lengths = {len(row) // 4 for row in rows}
    if len(lengths) != 1 or (dimensions is not None and lengths != {dimensions}) or 0 in lengths:
        raise unusable(f"vectors of length {sorted(lengths)}; expected {dimensions or 'one length'}")
    vectors = np.frombuffer(b"".join(rows), dtype="<f4").reshape(n_texts, -1)
    directed = np.isfinite(vectors).all(axis=1) & vectors.any(axis=1)
    if not directed.any():
        raise unusable("vectors that hold NaN or infinity, or only zeros")
    return vectors if directed.all() else np.where(directed[:, None], vectors, np.float32(np.nan))


def _in_order(data: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the entries in the order of the texts, by their indexes; without any, as they come."""
    indexes = [entry.get("index") for entry in data]
    if len(data) == 1 or all(index is None for index in indexes):
        return data
    by_index = dict(zip(map(str, indexes), data, strict=True))
    try:
        return [by_index[str(number)] for number in range(len(data))]
    except KeyError:
        said = f"indexes that are not 0..{len(data) - 1}"
    if len(by_index) > 1 and str(len(data)) not in by_index:
        raise unusable(said)  # torn, unlike all the same or a count from 1
    raise RequestFailedError(
        "terminal",
        said,
        200,
        error=EmbeddingError(
            f"The server's answer has {said}: nothing tells which vector is whose.",
            next_step="Set embedding.max_inputs_per_request to 1 in the store profile.",
        ),
    )


def _raw(embedding: Any) -> bytes:
    """Return little-endian float32 bytes of base64, or of a list of numbers from a server that ignores the format."""
    try:
        if isinstance(embedding, str):
            raw = binascii.a2b_base64(embedding, strict_mode=True)
            if len(raw) % 4 == 0:
                return raw
        elif isinstance(embedding, list):
            numbers = np.asarray(embedding, dtype="<f4")
            if numbers.ndim == 1:
                return numbers.tobytes()
    except (binascii.Error, ValueError, TypeError):
        pass
    raise unusable("a vector that is neither base64 of float32 nor a list of numbers")
