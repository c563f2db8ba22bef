"""Print what a check found: rows, fields, the join, times, and what to change, in the order of damage."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

from shelfkin.advice import advice
from shelfkin.checking.check import Checked, Finding, Looked
from shelfkin.data_report import ReportRow
from shelfkin.errors import without_controls

_WIDE = 160


def show_checked(found: Checked) -> Iterator[str]:
    """Yield the lines of a report."""
    yield f"Store {found.profile.store}, as of {found.as_of}"
    for looked in (found.catalog, found.events):
        if looked is not None:
            yield from _section(looked)
    yield from _join(found)
    yield from _days(found)
    findings = sorted(all_findings(found), key=lambda each: -each.damage)
    yield ""
    yield "WHAT TO CHANGE, the most costly first" if findings else "Nothing to change was found."
    for finding in findings:
        share = f"{finding.share:.1%} of rows: " if finding.share is not None else ""
        yield f"  - {share}{_clean(finding.seen, 400)}"
        if finding.change:
            yield f"      change {_clean(finding.change, 400)}"


def _section(looked: Looked) -> Iterator[str]:
    title = {"catalog": "CATALOGUE", "events": "EVENTS"}[looked.name]
    yield ""
    yield f"{title}: {looked.n_rows:,} rows" + ("" if looked.notes else ", all of them")
    for note in looked.notes:
        yield f"  sample: {_clean(note)}"
    for raw, became in looked.beside:
        yield f"  raw  {_clean(raw)}"
        yield f"    -> {_clean(became)}"
    yield f"  {'field':<14}{'read':>9}{'empty':>9}{'unread':>9}  for example"
    for row in looked.of("field"):
        what = "unread: " if row.unread else ""
        yield f"  {row.name:<14}{row.read:>9,}{row.empty:>9,}{row.unread:>9,}  {what}{_examples(row)}"
    for row in looked.of("event_type"):
        yield f"  event type {_clean(row.name, 40)}: {row.rows:,} rows"
    for row in looked.of("ignored"):
        yield f"  ignored, as the profile says: {row.rows:,} rows, {_examples(row)}"
    for row in looked.of("reason"):
        yield f"  turned away as {row.name}: {row.rows:,} rows, {_examples(row)}"
    for row in looked.of("repeated_title"):
        yield f"  {row.rows:,} products are called {_clean(row.name, 60)!r}"


def _examples(row: ReportRow) -> str:
    return "; ".join(_clean(example, 60) for example in row.examples)


def _join(found: Checked) -> Iterator[str]:
    if found.named is None or found.events is None:
        return
    total = sum(found.events.ids.values())
    yield ""
    share = found.named / max(1, total)
    yield f"JOIN: {found.named:,} of {total:,} good events ({share:.1%}) name a product of the catalogue"
    if found.strangers:
        yield f"  events name {_both(found.strangers)}; the catalogue has {_both(found.known)}"


def _both(ids: list[str]) -> str:
    return " and ".join(_clean(each, 60) for each in ids[:2])


def _days(found: Checked) -> Iterator[str]:
    looked, horizon = found.events, found.profile.recommending.horizon_days
    if looked is None or not looked.first or not looked.last:
        return
    yield ""
    seen = f"DAYS: events from {looked.first[:16]} to {looked.last[:16]} UTC"
    yield f"{seen}; lists are judged on the last {horizon} days"


def all_findings(found: Checked) -> Iterator[Finding]:
    """Yield everything that costs rows, or stops a run."""
    for error in found.errors:
        yield Finding(2.0, f"stops the run: {error.message}", error.next_step)
    for looked in (found.catalog, found.events):
        if looked is not None and looked.n_rows:
            yield from _of_section(found, looked)
    if found.events is not None:
        yield from _of_join(found)
        yield from _of_days(found)


def _of_section(found: Checked, looked: Looked) -> Iterator[Finding]:
    section = "events" if looked.name == "events" or found.profile.catalog.kind == "events" else "catalog"
    of = found.profile.catalog if looked.name == "catalog" else found.profile.events
    limit = of.max_quarantined_share if of else 1.0
    lost = sum(row.rows for row in looked.of("reason"))
    if lost > limit * looked.n_rows or lost == looked.n_rows:
        what = f"stops the run: {lost:,} of {looked.n_rows:,} rows are turned away"
        yield Finding(1.5, f"{what}; {looked.name}.max_quarantined_share allows {limit:.0%}", "")
    for row in looked.of("reason"):
        seen, share = f"turned away as {row.name}, for example {_examples(row)}", row.rows / looked.n_rows
        yield Finding(share, seen, advice("reason", row.name, section), share)
    for row in looked.of("field"):
        unread, empty = row.unread / looked.n_rows, row.empty / looked.n_rows
        if row.unread and (change := advice("unread", row.name, section)):
            yield Finding(unread, f"{row.name} can't be read and stays empty: {_examples(row)}", change, unread)
        elif empty > 0.2 and (change := advice("empty", row.name, section)):
            yield Finding(empty / 2, f"{row.name} is empty", change, empty)
    repeated = looked.of("repeated_title")
    if looked.name == "catalog" and repeated and repeated[0].rows > 0.1 * len(looked.ids):
        seen = f"{repeated[0].rows:,} of {len(looked.ids):,} products are called {repeated[0].name!r}"
        change = "catalog.fields.title: several columns, so that titles tell products apart"
        yield Finding(repeated[0].rows / len(looked.ids) / 2, seen, change)


def _of_join(found: Checked) -> Iterator[Finding]:
    total = sum(found.events.ids.values()) if found.events else 0
    if found.named is None or not total or found.named >= 0.95 * total:
        return
    seen = f"events name no product of the catalogue: {_both(found.strangers)}; it has {_both(found.known)}"
    change = found.cause or "events.fields.product_id, catalog.fields.product_id, or their id rules"
    lost, limit = 1 - found.named / total, found.profile.events.min_joined_share if found.profile.events else 0.0
    if 1 - lost < limit:
        yield Finding(1.8, f"stops the run: events.min_joined_share asks for {limit:.0%}; {seen}", change, lost)
    else:
        yield Finding(lost, seen, change, lost)


def _of_days(found: Checked) -> Iterator[Finding]:
    looked, profile = found.events, found.profile
    if looked is None or looked.first is None or looked.last is None:
        return
    first, last = date.fromisoformat(looked.first[:10]), date.fromisoformat(looked.last[:10])
    age, days, horizon = (found.as_of - last).days, (last - first).days + 1, profile.recommending.horizon_days
    if first >= found.as_of:
        yield Finding(
            1.9, f"every event is of {first} or later, and the run's date is {found.as_of}", "default_as_of, or AS_OF"
        )
    elif profile.max_staleness_days is not None and age > profile.max_staleness_days:
        seen = f"stops the run: the last event is of {last}, {age} days before {found.as_of}"
        yield Finding(1.9, seen, "max_staleness_days, or give default_as_of")
    if days < 2 * horizon:
        seen = f"events cover {days} days; lists are judged on the last {horizon}, learned from those before"
        yield Finding(0.3, seen, "recommending.horizon_days, or deliver a longer log")


def _clean(text: str, limit: int = _WIDE) -> str:
    line = " ".join(without_controls(text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
