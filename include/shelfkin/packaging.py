"""The package as one zip for Spark executors, named by its content."""

from __future__ import annotations

import hashlib
import io
import zipfile
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

# The oldest moment a zip can hold: with it, the same content always gives the same bytes.
_EPOCH = (1980, 1, 1, 0, 0, 0)


def package_zip(folder: Path) -> Path:
    """Write ``shelfkin-<hash>.zip`` into a folder unless it is there already, and return its path.

    Executors cache shipped files by name; a name made of the content can never serve yesterday's code.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in _files(resources.files("shelfkin"), "shelfkin/"):
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), content, zipfile.ZIP_DEFLATED)
    data = buffer.getvalue()
    target = folder / f"shelfkin-{hashlib.sha256(data).hexdigest()[:16]}.zip"
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        temporary = target.with_suffix(f".{id(buffer):x}.tmp")
        temporary.write_bytes(data)
        temporary.replace(target)
    return target


def _files(node: Traversable, prefix: str) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    for child in sorted(node.iterdir(), key=lambda entry: entry.name):
        if child.is_dir():
            if child.name != "__pycache__":
                found += _files(child, f"{prefix}{child.name}/")
        elif not child.name.endswith(".pyc"):
            found.append((f"{prefix}{child.name}", child.read_bytes()))
    return found
