"""What the installation is made of: the lock's age and hashes, known vulnerabilities, and licences.

pip-audit has an environment of its own, so that it is no dependency. Where its data is out of reach, this says so.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import defaultdict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
LOCK = PROJECT / "requirements.lock"
PIP_AUDIT = "pip-audit==2.10.1"


def main() -> int:
    """Print the audit; return 1 if a line has no hash or a vulnerability is known, else 0."""
    entries = locked(LOCK.read_text())
    unhashed = sorted(name for name, n_hashes in entries.items() if not n_hashes)
    print(f"requirements.lock: {len(entries)} packages, {_age()}; without a hash: {', '.join(unhashed) or 'none'}.")
    print("Licences:")
    for licence, names in sorted(licences(entries).items(), key=lambda item: (-len(item[1]), item[0])):
        print(f"  {len(names):>4}  {licence}: {', '.join(names[:6])}{' ...' if len(names) > 6 else ''}")
    found = _vulnerabilities()
    if found is None:
        print("Known vulnerabilities: NOT LOOKED UP, because osv.dev can't be reached from here.")
        return bool(unhashed)
    print(f"Known vulnerabilities: {len(found)}.")
    for line in found:
        print(f"  {line}")
    return bool(unhashed or found)


def locked(text: str) -> dict[str, int]:
    """Return the number of hashes of each package in the text of a lock."""
    entries = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)
    return {entry.split("==")[0]: entry.count("--hash=sha256:") for entry in entries if "==" in entry.split("\n")[0]}


def licences(names: Any) -> dict[str, list[str]]:
    """Return installed packages by the licence that each says it has."""
    found = defaultdict(list)
    for name in sorted(names):
        try:
            about = metadata.metadata(name)
        except metadata.PackageNotFoundError:
            found["not installed on this platform"].append(name)
            continue
        classifiers = about.get_all("Classifier") or []
        classified = [line.split(" :: ")[-1] for line in classifiers if line.startswith("License")]
        # Some put the whole text of their licence there.
        said = {key: str(about[key]) if key in about else "" for key in ("License", "License-Expression")}
        written = said["License"].strip().partition("\n")[0][:60]
        found[said["License-Expression"] or " or ".join(classified) or written or "not said"].append(name)
    return dict(found)


def _age() -> str:
    shown = ["git", "log", "-1", "--format=%ct", "--", str(LOCK)]
    done = subprocess.run(shown, cwd=PROJECT, capture_output=True, text=True, check=False)
    if not done.stdout.strip():
        return "of unknown age"
    resolved = datetime.fromtimestamp(int(done.stdout), UTC)
    return f"resolved on {resolved:%Y-%m-%d}, {(datetime.now(UTC) - resolved).days} days ago"


def _vulnerabilities() -> list[str] | None:
    """Return a line for each vulnerability that is known of a locked package; None if that can't be looked up."""
    uv = Path(sys.executable).with_name("uv")
    words = [str(uv), "tool", "run", PIP_AUDIT, "--requirement", str(LOCK), "--no-deps", "--disable-pip", "--strict"]
    # Of packages that PyPI doesn't answer for, its own service says that nothing is known.
    words += ["--vulnerability-service", "osv", "--format", "json", "--progress-spinner", "off"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except ValueError:
        return None
    return [
        f"{each['name']} {each['version']}: {one['id']}, mended in {', '.join(one['fix_versions']) or 'no version'}"
        for each in packages
        for one in each.get("vulns", [])
    ]


if __name__ == "__main__":
    sys.exit(main())
