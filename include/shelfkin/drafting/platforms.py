"""Known exports: a draft that is the platform's example, with the paths of the files at hand."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from shelfkin.drafting.field_names import word_list
from shelfkin.drafting.shop_file import ShopFile

EXAMPLES = Path(__file__).resolve().parents[2] / "stores" / "examples"


def known_platform(files: Sequence[ShopFile]) -> tuple[str, dict[str, ShopFile]] | None:
    """Return the platform whose tables these files are, with the file of each path of its example; None for others."""
    for platform, tables in word_list("platforms").items():
        found = {path: [each for each in files if _has(each, columns)] for path, columns in tables.items()}
        taken = {id(fitting[0]) for fitting in found.values() if len(fitting) == 1}
        if len(taken) == len(tables) == len(files):
            return platform, {path: fitting[0] for path, fitting in found.items()}
    return None


def _has(file: ShopFile, columns: list[str]) -> bool:
    # What is written otherwise than the example says (semicolons, another encoding) needs a draft of its own.
    otherwise = (
        set(file.source) - {"format", "options"} - ({"separator"} if file.source.get("separator") == "\t" else set())
    )
    return set(columns) <= set(file.expressions) and not otherwise


def draft_of_example(store: str, platform: str, files: dict[str, ShopFile]) -> str:
    """Return the platform's example with this store's name and paths, its comments kept."""
    text = (EXAMPLES / f"{platform}.yaml").read_text(encoding="utf-8")
    # What the example says of when it runs isn't true of this shop.
    body = re.sub(r"^(schedule|start_date|default_as_of|max_staleness_days): .*\n", "", text, flags=re.MULTILINE)
    body = re.sub(r"\A(#.*\n)+", "", body)
    for path, file in files.items():
        body = body.replace(f'"{path}"', path).replace(
            path, '"' + file.path.replace("\\", "\\\\").replace('"', '\\"') + '"'
        )
        if "format" in file.source:
            body = re.sub(r"format: (parquet|jsonl)", f"format: {file.source['format']}", body)
        if "options" in file.source:
            body = re.sub(r"rowTag: \w+", f"rowTag: {file.source['options']['rowTag']}", body)
    named = ", ".join(f"{Path(file.path).name} ({file.rows:,} rows)" for file in files.values())
    return (
        f"# Drafted from {named}: they have the columns of the example {platform}.\n"
        "# Not sure, so look here first:\n#   - timezone and currency are the example's\n"
        f"# Then see what it makes of your rows: make check STORE={store}\n"
        + re.sub(r"^store: .*", f"store: {store}", body, count=1, flags=re.MULTILINE)
    )
