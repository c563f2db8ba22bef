"""The installation that the end-to-end tests of a module share."""

from __future__ import annotations

import pytest

from installation import Installation
from small_shop import write_shop


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    folder = tmp_path_factory.mktemp("installation")
    return Installation(folder, write_shop(folder))
