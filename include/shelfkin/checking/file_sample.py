"""A small copy of a large file: its first rows, and rows of random places further on."""

from __future__ import annotations

import csv
import glob
import gzip
import io
import random
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from shelfkin.profile import Source

# Of a smaller file, everything is read.
WHOLE_BYTES = 2 << 20
_HEAD_BYTES = 512 << 10
_BLOCK_BYTES = 64 << 10
_BLOCKS = 8
_UNPACKED_MB = 256
_LINES = ("csv", "tsv", "jsonl")


@dataclass
class Sampler:
    """Replaces large text files by copies of some of their rows; says what it took.

    Attributes
    ----------
    folder
        Where copies go.
    notes
        One sentence per file that isn't read as a whole.
    """

    folder: Path
    notes: list[str] = field(default_factory=list)

    def sampled(self, source: Source, paths: list[str]) -> list[str]:
        """Return paths to read in place of a source's resolved paths; other file systems and formats stay whole."""
        return [self._copy(source, Path(each)) for path in paths for each in self._files(source, path)]

    def _files(self, source: Source, path: str) -> list[str]:
        if "://" in path or source.format not in _LINES or Path(path).exists():
            return [path]
        return sorted(glob.glob(path)) or [path]  # noqa: PTH207

    def _copy(self, source: Source, path: Path) -> str:
        if source.format not in _LINES or not path.is_file() or path.stat().st_size <= WHOLE_BYTES:
            return str(path)
        name, path = path.name, _unpacked(path, self.folder)
        with path.open("rb") as file:
            head = _whole_records(file.read(_HEAD_BYTES), source)
        blocks = [] if "16" in source.encoding else _later_blocks(path, source, head)
        copy = self.folder / f"{len(self.notes)}-{path.name}"
        copy.write_bytes(head + b"".join(blocks))
        rows = sum(block.count(b"\n") for block in [head, *blocks])
        where = f"some from {len(blocks)} places further on" if blocks else "no others"
        self.notes.append(f"{name}: {rows:,} rows, the first {head.count(bytes([10])):,} and {where}")
        return str(copy)


def _unpacked(path: Path, folder: Path) -> Path:
    """Return a file as plain bytes: of a packed one, a copy of its first bytes."""
    if path.suffix != ".gz":
        return path
    copy = folder / path.name.removesuffix(".gz")
    with gzip.open(path) as packed, copy.open("wb") as file:
        for block in islice(iter(lambda: packed.read(1 << 20), b""), _UNPACKED_MB):
            file.write(block)
    return copy


def _whole_records(block: bytes, source: Source) -> bytes:
    """Return a block up to the last line break outside of quotes."""
    quote = source.quote.encode()
    end = block.rfind(b"\n")
    while source.format != "jsonl" and end > 0 and block.count(quote, 0, end) % 2:
        end = block.rfind(b"\n", 0, end)
    return block[: end + 1] if end > 0 else block


def _later_blocks(path: Path, source: Source, head: bytes) -> list[bytes]:
    """Return whole lines of random places and of the end; where lines don't fall into the columns, none."""
    size = path.stat().st_size
    places = random.Random(7)
    n_cells = _cells(head.split(b"\n", 1)[0], source)
    found: list[bytes] = []
    with path.open("rb") as file:
        last = max(len(head), size - _BLOCK_BYTES)
        for start in [*sorted(places.randint(len(head), last) for _ in range(_BLOCKS)), last]:
            file.seek(start)
            block = file.read(_BLOCK_BYTES)
            lines = block[block.find(b"\n") + 1 : block.rfind(b"\n") + 1]
            if source.format == "jsonl" or _cells(lines, source) == n_cells:
                found.append(lines)
    return found


def _cells(lines: bytes, source: Source) -> set[int]:
    """Return the numbers of fields that lines have."""
    text = lines.decode(source.encoding, errors="replace")
    separator = source.separator or ("\t" if source.format == "tsv" else ",")
    escape = source.escape if source.escape not in (None, source.quote) else None
    try:
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator, quotechar=source.quote, escapechar=escape)
        return {len(row) for row in rows if row}
    except (csv.Error, TypeError):
        return set()
