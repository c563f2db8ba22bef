"""The installation that the end-to-end tests of a module share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from installation import Installation, temporary_folder
from small_shop import write_shop


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    with temporary_folder() as folder:
        yield Installation(folder, write_shop(folder))
