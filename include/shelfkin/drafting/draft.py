"""Write the draft of a store profile, with a comment on what was seen and what wasn't sure."""

from __future__ import annotations

import glob
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import yaml

from shelfkin.drafting.column_facts import column_facts
from shelfkin.drafting.id_join import examples
from shelfkin.drafting.plan import Plan, Section, decimal_mark, make_plan, source_of
from shelfkin.drafting.platforms import draft_of_example, known_platform
from shelfkin.drafting.query import query_columns, write_query
from shelfkin.drafting.recognise import Recognised, recognise
from shelfkin.drafting.shop_file import open_file, remove_folder, strange_lines
from shelfkin.errors import OptionError, ProfileError, without_controls
from shelfkin.profile_file import load_profile


def draft_profile(store: str, patterns: Sequence[str], stores_dir: Path, force: bool) -> Path:
    """Write ``<stores_dir>/<store>.yaml`` from a shop's files, and return its path.

    Raises
    ------
    OptionError
        There are no such files, or the profile exists and `force` isn't set.
    SourceError
        A file can't be read, or none holds anything like a product id.
    """
    path = stores_dir / f"{store}.yaml"
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", store):
        raise OptionError(
            f"{store!r} is no name for a store.", next_step="Use a-z, 0-9 and _, up to 40, a letter first."
        )
    if path.exists() and not force:
        raise OptionError(f"{path} exists.", next_step="Choose another STORE, or overwrite it with FORCE=1.")
    folder = Path(tempfile.mkdtemp(prefix="shelfkin-"))
    try:
        with duckdb.connect() as session:
            session.execute("SET preserve_insertion_order = true")
            files = _recognised(session, _files(patterns), folder)
            text = write_draft(session, store, files)
    finally:
        remove_folder(folder)
    _check(text, store)
    stores_dir.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def _check(text: str, store: str) -> None:
    """Raise ProfileError unless a draft is a valid profile; a broken one is shown, not written."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{store}.yaml"
        path.write_text(text, encoding="utf-8")
        try:
            load_profile(path)
        except ProfileError as error:
            raise ProfileError(
                f"The draft isn't a valid profile yet: {error.message}\n{text}", next_step="Complete it by hand."
            ) from error


def _files(patterns: Sequence[str]) -> list[Path]:
    found: list[Path] = []
    for pattern in patterns:
        matched = [Path(each).resolve() for each in sorted(glob.glob(str(Path(pattern).expanduser())))]  # noqa: PTH207
        if not matched:
            raise OptionError(f"There is no file {pattern}.", next_step='Write FILES="articles.csv orders.csv".')
        found += [each for each in matched if each.is_file() and each not in found]
    return found


def _recognised(session: duckdb.DuckDBPyConnection, paths: list[Path], folder: Path) -> list[Recognised]:
    """Open every file; files that differ only by digits in their names, and have the same columns, are one."""
    by_stem: dict[str, list[Path]] = {}
    for path in paths:
        by_stem.setdefault(re.sub(r"\d+", "#", str(path)), []).append(path)
    others = b"\n".join(strange_lines(path) for path in paths if path.suffix not in (".parquet", ".orc"))
    opened: list[Recognised] = []
    for group in by_stem.values():
        name = re.sub(r"\W+|\d+$", "_", group[0].name.split(".")[0].lower()).strip("_") or "rows"
        name = re.sub(r"^(?=\d)", "t_", re.sub(r"_\d+$", "", name))
        taken = {each.file.name for each in opened}
        name = name if name not in taken else f"{name}_{len(opened) + 1}"
        file = open_file(session, group, name, folder, others)
        if len(group) > 1:
            file.saw.append(f"{len(group)} files are read as one: {', '.join(each.name for each in group[:4])}")
        opened.append(recognise(file, column_facts(session, file)))
    return opened


def write_draft(session: duckdb.DuckDBPyConnection, store: str, files: Sequence[Recognised]) -> str:
    """Return the text of a profile for recognised files."""
    platform = known_platform([each.file for each in files])
    if platform is not None:
        return draft_of_example(store, *platform)
    plan = make_plan(session, files)
    sections = _section("catalog", plan.catalog, plan)
    if plan.events:
        sections += ["", *_section("events", plan.events, plan)]
    sections += ["", *_embedding(plan)]
    unsure = [*plan.unsure, *_doubts(session, plan)]
    title = store.replace("_", " ").capitalize()
    lines = [f"# Drafted from {', '.join(_counted(each) for each in files)}."]
    lines += ["# Not sure, so look here first:", *[f"#   - {_clean(each, 300)}" for each in unsure]] if unsure else []
    lines += [f"# Then see what it makes of your rows: make check STORE={store}", f"store: {store}", f"title: {title}"]
    lines += _zone(plan)
    if plan.currency:
        lines.append(f"currency: {plan.currency}")
    return "\n".join([*lines, "", *sections]) + "\n"


def _counted(found: Recognised) -> str:
    return f"{_clean(Path(found.file.path).name)} ({found.file.rows:,} rows)"


def _zone(plan: Plan) -> list[str]:
    times = source_of(plan.events, "occurred_at") if plan.events else None
    if times is None:
        return []
    facts = times.fact("occurred_at")
    absolute = facts.share["epoch"] >= 0.9 or all(
        re.search(r"[T ]\d.*(Z|UTC|[+-]\d{2}:?(\d{2})?)$", each) for each in facts.examples
    )
    note = (
        "times carry their offset" if absolute else "not in the files: put the shop's own zone, such as Europe/Berlin"
    )
    return [f"timezone: UTC  # {note}"]


def _doubts(session: duckdb.DuckDBPyConnection, plan: Plan) -> list[str]:
    found = [
        doubt
        for section in (plan.catalog, plan.events)
        if section
        for each in section.files
        for doubt in each.file.unsure
    ]
    for name, section in (("catalog", plan.catalog), ("events", plan.events)):
        if section is None:
            continue
        found += section.unsure
        for key, column in section.fields.items():
            holder = source_of(section, key)
            if holder and holder.scores.get(key, 1.0) < 0.5:
                found.append(f"{name}.fields.{key}: {column} is a guess")
            elif others := [each for each in holder.others.get(key, []) if each != column] if holder else []:
                found.append(f"{name}.fields.{key}: {column}, or {', '.join(others[:3])}?")
    if plan.events and not plan.catalog_from_events:
        join = plan.join
        left, right = plan.events.main, plan.catalog.main
        if join is None or join.share < 0.9:
            share = join.share if join else 0.0
            ids = [
                " and ".join(examples(session, each.file.name, str(each.fields["product_id"])))
                for each in (left, right)
            ]
            shown = f"{ids[0]} in {left.file.name}, {ids[1]} in {right.file.name}"
            found.append(f"only {share:.0%} of the events name a product of the catalogue: {shown}")
    for file in plan.unused:
        found += [f"not used: {Path(file.path).name}", *[each for each in file.unsure if "no header" in each]]
    return list(dict.fromkeys(found))


def _section(name: str, section: Section, plan: Plan) -> list[str]:
    from_events = name == "catalog" and plan.catalog_from_events
    lines = [f"{name}:"]
    if name == "catalog":
        lines.append(f"  kind: {'events' if from_events else 'snapshot'}")
    if not from_events:
        lines += [f"  # {_clean(each, 200)}" for found in section.files for each in found.file.saw]
        lines += [f"  # {_clean(each, 200)}" for each in section.saw]
        if name == "events" and plan.join:
            join = plan.join
            pair = f"{_clean(join.left)} = {_clean(join.right)}, {_clean(join.rule)}"
            lines.append(f"  # {join.share:.1%} of the rows name a product of the catalogue ({pair})")
        lines += _sources(section)
    columns = _names_in_profile(section, plan, name)
    lines.append("  fields:")
    for key, column in section.fields.items():
        seen = _seen(source_of(section, key), key, column)
        lines.append(f"    {key}: {_yaml(columns[key])}{seen}")
    for key, value in section.keys.items():
        lines += _key(key, value)
    return lines


def _names_in_profile(section: Section, plan: Plan, name: str) -> dict[str, Any]:
    """Return what each field's column is called: as in the file, or as in the query's result."""
    if name == "catalog" and plan.catalog_from_events and plan.events:
        return query_columns(plan.events) if plan.events.needs_query else section.fields
    return query_columns(section) if section.needs_query else section.fields


def _sources(section: Section) -> list[str]:
    if not section.needs_query:
        return ["  source:", *_source(section.main, "    ")]
    lines = ["  tables:"]
    for found in section.files:
        lines += [f"    {found.file.name}:", *_source(found, "      ")]
    return [*lines, "  query: |", *[f"    {line}" for line in write_query(section).splitlines()]]


def _source(found: Recognised, indent: str) -> list[str]:
    source = {"path": found.file.path, **found.file.source}
    mark = decimal_mark(found, ["price", "quantity"])
    if mark:
        source["decimal_mark"] = mark
    return [f"{indent}{key}: {_yaml(value)}" for key, value in source.items()]


def _seen(holder: Recognised | None, key: str, column: Any) -> str:
    if holder is None or not isinstance(column, str) or column not in holder.facts:
        return ""
    facts = holder.facts[column]
    values = ", ".join(_clean(value, 30) for value in facts.examples[:3])
    return f"  # {facts.filled_share:.0%} filled, {facts.distinct:,} different: {values}"


def _key(key: str, value: Any) -> list[str]:
    if key != "event_types":
        return [f"  {key}: {_yaml(value)}"]
    return [f"  {key}:", *[f"    {name}: {_yaml(entry)}" for name, entry in value.items()]]


def _embedding(plan: Plan) -> list[str]:
    fields = plan.catalog.fields
    pieces = ["{title}"] + [f". {{{name}}}" for name in ("category_path", "brand", "description") if name in fields]
    return ["embedding:", f"  text: {_yaml('|'.join(pieces))}"]


def _yaml(value: Any) -> str:
    """Return a value as YAML on one line."""
    written = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**9, sort_keys=False)
    return written.removesuffix("\n").removesuffix("\n...")


def _clean(text: str, limit: int = 60) -> str:
    """Return what may stand in a comment: one line without control characters, not too long."""
    line = " ".join(without_controls(text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
