"""The zip that executors get."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

from shelfkin.packaging import code_version, package_zip


def test_equal_content_gives_the_same_file(tmp_path: Path) -> None:
    first = package_zip(tmp_path / "a")
    second = package_zip(tmp_path / "b")
    assert first.name == second.name
    assert first.read_bytes() == second.read_bytes()
    assert [path.name for path in (tmp_path / "a").iterdir()] == [first.name]


def test_it_holds_the_package_and_its_data_but_no_caches(tmp_path: Path) -> None:
    names = zipfile.ZipFile(package_zip(tmp_path)).namelist()
    assert "shelfkin/stage.py" in names
    assert "shelfkin/embedding/data/vocab.txt" in names
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]


def test_the_code_version_is_the_same_from_the_zip(tmp_path: Path) -> None:
    code = "import shelfkin, shelfkin.packaging as s; print(shelfkin.__file__); print(s.code_version())"
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(package_zip(tmp_path))},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    origin, version = result.stdout.split()
    assert ".zip" in origin
    assert version == code_version()
