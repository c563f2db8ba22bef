"""What is installed: every line of the lock by its hash."""

from __future__ import annotations

from audit import LOCK, licences, locked


def test_every_package_is_locked_to_a_version_and_its_hashes() -> None:
    entries = locked(LOCK.read_text())
    assert len(entries) > 150 and "pyspark" in entries
    assert [name for name, n_hashes in entries.items() if n_hashes == 0] == []
    assert locked("loose==1.0\nkept==2.0 \\\n    --hash=sha256:00\n    # via x\n") == {"loose": 0, "kept": 1}


def test_licences_are_those_that_packages_say() -> None:
    assert licences(["numpy", "no-such-package"])["not installed on this platform"] == ["no-such-package"]
    assert any("BSD" in licence for licence, names in licences(["numpy"]).items() if names == ["numpy"])
