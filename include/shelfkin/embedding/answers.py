"""Vectors out of an answer, checked before they are believed.

The SDK's own parser is bypassed: it is slower, and a wrong count, order, length or a NaN passes it silently.
"""

from __future__ import annotations

import binascii
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from shelfkin.embedding.failures import RequestFailedError, unusable

FloatArray = npt.NDArray[np.float32]


def read_answer(body: bytes, n_texts: int, dimensions: int | None) -> tuple[FloatArray, int | None]:
    """Return vectors (float32, n_texts x d, in the order of the texts) and total tokens (None: not said).

    Raises
    ------
    RequestFailedError
        ``unusable``: not JSON (truncated, HTML), or wrong count, index, length or a value that isn't finite.
    """
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
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


def _vectors(content: Any, n_texts: int, dimensions: int | None) -> FloatArray:
    data = content.get("data") if isinstance(content, dict) else None
    if not isinstance(data, list) or not all(isinstance(entry, dict) for entry in data):
        raise unusable("a body without a list `data`")
    embeddings: dict[Any, Any] = {str(entry.get("index")): entry.get("embedding") for entry in data}
    if len(data) != n_texts or embeddings.keys() != {str(index) for index in range(n_texts)}:
        raise unusable(f"{len(data)} vectors for {n_texts} texts, or indexes that are not 0..{n_texts - 1}")
    rows = [_raw(embeddings[str(index)]) for index in range(n_texts)]
    lengths = {len(row) // 4 for row in rows}
    if len(lengths) != 1 or (dimensions is not None and lengths != {dimensions}) or 0 in lengths:
        raise unusable(f"vectors of length {sorted(lengths)}; expected {dimensions or 'one length'}")
    vectors = np.frombuffer(b"".join(rows), dtype="<f4").reshape(n_texts, -1)
    if not np.isfinite(vectors).all():
        raise unusable("a vector holds NaN or infinity")
    return vectors


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
