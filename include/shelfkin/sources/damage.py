"""Notice what reading has damaged: text that was decoded by another encoding than its own, and escapes taken for text.

Both are counted while the stage reads the rows anyway; only where something was found are the files' bytes looked at.
"""

from __future__ import annotations

import codecs
import logging
from collections.abc import Mapping, Sequence

from pyspark.sql import Column, DataFrame, Observation, SparkSession
from pyspark.sql import functions as F  # noqa: N812
from pyspark.sql import types as T  # noqa: N812

from shelfkin.errors import SourceError
from shelfkin.profile import Source
from shelfkin.sources.files import Head, heads, open_stream
from shelfkin.sources.raw_table import quoted

log = logging.getLogger("shelfkin")

_CHUNK_BYTES = 1 << 20
_LIKELY = ("utf-8", "cp1252")


def marks(frame: DataFrame) -> list[Column]:
    """Return the aggregates that count damaged rows of text: `n_undecoded` and `n_backslashes`."""
    texts = [F.col(quoted(field.name)) for field in frame.schema if isinstance(field.dataType, T.StringType)]
    row = F.concat_ws("\x1f", *texts)
    return [
        F.count_if(F.contains(row, F.lit("\ufffd"))).alias("n_undecoded"),
        F.count_if(F.contains(row, F.lit('\\"'))).alias("n_backslashes"),
    ]


def observed(frame: DataFrame) -> tuple[DataFrame, Observation]:
    """Return the frame, and what counts its damaged rows during the first action on it."""
    observation = Observation()
    return frame.observe(observation, *marks(frame)), observation


def check(
    session: SparkSession, source: Source, paths: Sequence[str], counts: Mapping[str, int], key: str
) -> dict[str, int]:
    """Say what was found, and return it for the manifest.

    Raises
    ------
    SourceError
        A file is in another encoding than it was read in.
    """
    found = {}
    if counts["n_backslashes"] and source.escape is None:
        log.warning(
            "%s: %s rows hold a backslash before a quote. If quotes are escaped so, set %s.escape: '\\' in the profile",
            ", ".join(paths),
            f"{counts['n_backslashes']:,}",
            key,
        )
        found["n_rows_with_backslash_before_quote"] = counts["n_backslashes"]
    if counts["n_undecoded"]:
        for head in heads(session, paths, key, source.encoding):
            _check_bytes(session, head, key)
        found["n_rows_with_unreadable_letters"] = counts["n_undecoded"]
    return found


def _check_bytes(session: SparkSession, head: Head, key: str) -> None:
    """Look through a file for bytes that its encoding doesn't know."""
    wrong, right, first, context = _decoded(session, head)
    if not wrong:
        return  # The file itself holds U+FFFD: it was damaged before.
    other = next((name for name in _LIKELY if name != head.charset.python and _fits(context, name)), "latin-1")
    where = f"{head.path} ({key}) can't be decoded as {head.charset.python}: {wrong:,} bytes, first in line {first}"
    shown = context.decode(other, errors="replace").strip()[:60]
    if wrong > right:
        raise SourceError(
            f"{where}; as {other} it reads {shown!r}.",
            next_step=f"Set {key}.encoding in the profile, for example {other}.",
        )
    log.warning("%s; letters are lost there. %s.encoding names the encoding", where, key)


def _fits(raw: bytes, name: str) -> bool:
    try:
        raw.decode(name)
    except UnicodeDecodeError:
        return False
    return True


def _decoded(session: SparkSession, head: Head) -> tuple[int, int, int, bytes]:
    """Return the number of errors, of right letters beyond ASCII, the line of the first error, and the bytes there."""
    errors: list[bytes] = []

    def counted(error: UnicodeError) -> tuple[str, int]:
        assert isinstance(error, UnicodeDecodeError)  # noqa: S101 - for mypy: a decoder raises no other
        line = error.object[max(0, error.start - 20) : error.end + 20]
        errors.append(line)
        return "\ue000", error.end

    codecs.register_error("shelfkin-count", counted)
    decoder = codecs.getincrementaldecoder(head.charset.python)("shelfkin-count")
    lines, first, right = 1, 0, 0
    with open_stream(session, head.path) as stream:
        while True:
            chunk = bytes(stream.readNBytes(_CHUNK_BYTES))
            had = len(errors)
            text = decoder.decode(chunk, final=not chunk)
            if errors and not first:
                first = lines + text[: text.index("\ue000")].count("\n")
            lines += text.count("\n")
            right += sum(not sign.isascii() for sign in text) - (len(errors) - had) if not text.isascii() else 0
            if not chunk:
                return len(errors), right, first, errors[0] if errors else b""
