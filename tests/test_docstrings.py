"""Examples in docstrings give what they say."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import pytest

LIBRARY = Path(__file__).resolve().parents[1] / "include"
WITH_EXAMPLES = sorted(path for path in LIBRARY.rglob("shelfkin/**/*.py") if ">>> " in path.read_text())


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=lambda path: path.stem)
def test_examples_hold(path: Path) -> None:
    module = import_module(".".join(path.relative_to(LIBRARY).with_suffix("").parts))
    result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.attempted > 0
    assert result.failed == 0
