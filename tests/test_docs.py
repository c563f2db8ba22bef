"""What the docs name is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
ROOTS = [PROJECT, PROJECT / "include", PROJECT / "include" / "shelfkin"]
# Decisions tell of their day.
SECURITY = PROJECT / "SECURITY.md"
PAGES = [PROJECT / "README.md", SECURITY, *sorted((PROJECT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_a_page_names_exist(page: Path) -> None:
    named = re.findall(r"`([a-z_/]+/[a-z_]+\.(?:py|toml|yaml))`", page.read_text())
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())
    missing = [name for name in named if not any((root / name).exists() for root in ROOTS)]
    missing += [link for link in links if not (page.parent / link).exists()]
    assert missing == []


def test_every_claim_of_the_security_page_has_its_tests() -> None:
    claims = re.findall(r"^\| (.*) \| (`tests/.*`) \|$", SECURITY.read_text(), re.MULTILINE)
    named = [tuple(each.split("::")) for _, tests in claims for each in re.findall(r"`([^`]+)`", tests)]
    assert len(claims) > 30
    assert [f"{path}::{name}" for path, name in named if f"def {name}(" not in (PROJECT / path).read_text()] == []
