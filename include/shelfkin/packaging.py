"""The package as one zip for Spark executors, named by its content, and the version of its code."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterator
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from shelfkin import __version__
from shelfkin.artifacts import Root, sha256_hex

# The oldest moment a zip can hold: with it, the same content always gives the same bytes.
_EPOCH = (1980, 1, 1, 0, 0, 0)


def package_zip(folder: Path) -> Path:
    """Write ``shelfkin-<hash>.zip`` into a folder unless it is there already, and return its path.

    Executors cache shipped files by name; a name made of the content can never serve yesterday's code.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in _files():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), content, zipfile.ZIP_DEFLATED)
    data = buffer.getvalue()
    target = folder / f"shelfkin-{sha256_hex(data)[:16]}.zip"
    if not target.exists():
        Root.at(str(folder)).put_bytes(str(target), data)
    return target


def code_version() -> str:
    """Return the package version and a hash of its files, the same from a folder and from a zip on an executor."""
    digest = hashlib.sha256()
    for name, content in _files():
        digest.update(name.encode() + b"\0" + content)
    return f"{__version__}+{digest.hexdigest()[:12]}"


def _files() -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the package's files, in one order, without Python's caches."""
    folders: list[tuple[str, Traversable]] = [("shelfkin", resources.files("shelfkin"))]
    while folders:
        prefix, folder = folders.pop()
        for child in sorted(folder.iterdir(), key=lambda entry: entry.name):
            name = f"{prefix}/{child.name}"
            if child.is_file() and not name.endswith(".pyc"):
                yield name, child.read_bytes()
            elif child.is_dir():
                folders.append((name, child))
