"""What one task of a run did: figures beside those of the day before, rows that reconcile, quarantine and pictures."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from shelfkin.advice import advice
from shelfkin.artifacts import Manifest, RunPaths, published_before
from shelfkin.tables import EVENTS_REPORT, PRODUCTS_REPORT
from shelfkin_airflow.ui.shop import Shop

# What becomes of raw rows, in the manifest's words and in ours.
ROW_FATES = {
    "kept": "kept",
    "merged": "merged into a kept row",
    "quarantined": "turned away (quarantine)",
    "netted": "cancelled out by a return",
    "ignored": "of an event type that the profile ignores",
    "after_as_of": "from after the run's date",
    "erased": "of customers who were erased",
}
N_SAMPLE_ROWS = 5
N_SAMPLED_FROM = 2_000
# Share of empty values from which on a field may be the wrong column.
MOSTLY_EMPTY = 0.2


@dataclass(frozen=True)
class Figure:
    """One figure of a stage, as words, and the day before's where it differs."""

    label: str
    value: str
    before: str | None = None


@dataclass(frozen=True)
class Report:
    """What a page about a task shows.

    Attributes
    ----------
    error
        Kind, message and next_step of the last try, if it failed.
    fates
        What became of the raw rows: words and numbers that add up to rows_in.
    quarantine
        Reason, number of rows, a few sample rows of each, and what to change in the profile.
    cleaned
        Lines of the cleaning report by topic (`shelfkin.data_report.ReportRow`); fields with what to `change`.
    other_figures
        Figures without a name in ``figures.toml``, by their own.
    """

    stage: str
    manifest: Manifest | None
    error: Mapping[str, Any] | None
    compared_with: str | None = None
    figures: list[Figure] = field(default_factory=list)
    other_figures: list[Figure] = field(default_factory=list)
    rows_in: int | None = None
    fates: list[tuple[str, int]] = field(default_factory=list)
    quarantine: list[tuple[str, int, list[Mapping[str, Any]], str]] = field(default_factory=list)
    cleaned: Mapping[str, list[Mapping[str, Any]]] = field(default_factory=dict)
    plots: list[str] = field(default_factory=list)
    tables: list[tuple[str, int, str]] = field(default_factory=list)


def stage_report(shop: Shop, paths: RunPaths, stage: str) -> Report:
    """Return what a stage of a run did; a report without a manifest if it hasn't succeeded yet."""
    manifest = shop.manifests(paths).get(stage)
    error = shop.error(paths, stage)
    if manifest is None:
        return Report(stage, None, error)
    before, compared_with = _day_before(shop, paths, stage)
    named, others = _figures(stage, manifest.content["metrics"], before)
    counts = manifest.content.get("counts") or {}
    return Report(
        stage,
        manifest,
        error,
        compared_with=compared_with,
        figures=named,
        other_figures=others,
        rows_in=counts.get("rows_in"),
        fates=[(words, counts[name]) for name, words in ROW_FATES.items() if counts.get(name)],
        quarantine=_quarantine(manifest, counts.get("quarantined_by_reason") or {}, _section(shop, stage)),
        cleaned=_cleaned(manifest, _section(shop, stage)),
        plots=sorted(manifest.content["plots"]),
        tables=[(name, table["rows"], manifest.table_uri(name)) for name, table in manifest.content["tables"].items()],
    )


def _day_before(shop: Shop, paths: RunPaths, stage: str) -> tuple[Mapping[str, Any], str | None]:
    """Return the metrics of the same stage in the newest run that was published for an earlier day, and that day."""
    for pointer in published_before(paths):
        uri = pointer.get("manifests", {}).get(stage)
        if uri and shop.root.exists(uri):
            return Manifest.read(shop.root, uri).content["metrics"], str(pointer["as_of"])
    return {}, None


def _figures(stage: str, metrics: Mapping[str, Any], before: Mapping[str, Any]) -> tuple[list[Figure], list[Figure]]:
    known = words_of_figures().get(stage, {})

    def figure(name: str, label: str, kind: str) -> Figure:
        value, earlier = written(metrics[name], kind), written(before.get(name), kind)
        return Figure(label, value, earlier if name in before and earlier != value else None)

    named = [
        figure(name, word["label"], word.get("as", "words"))
        for name, word in known.items()
        if metrics.get(name) is not None
    ]
    return named, [figure(name, name, "words") for name in sorted(metrics) if name not in known]


@cache
def words_of_figures() -> dict[str, dict[str, dict[str, str]]]:
    """Return what figures are called on pages, by stage and name."""
    return tomllib.loads(Path(__file__).with_name("figures.toml").read_text())


def written(value: Any, kind: str = "words") -> str:
    """Return a figure as a person reads it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    match kind:
        case "count":
            return f"{value:,}"
        case "share":
            return f"{value:.1%}"
        case "usd":
            return f"${value:,.2f}" if value == 0 or value >= 0.01 else f"${value:.6f}"
        case "seconds":
            return f"{value:,.0f} s"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _section(shop: Shop, stage: str) -> str:
    """Return the profile's section that decides about the rows of a cleaning stage."""
    is_events = stage == "clean_events" or shop.profile.catalog_events is not None
    return "events" if is_events else "catalog"


def _quarantine(
    manifest: Manifest, by_reason: Mapping[str, int], section: str
) -> list[tuple[str, int, list[Mapping[str, Any]], str]]:
    """Return the reasons, frequent ones first, each with its first rows; only the head of the table is read."""
    table = next((name for name in manifest.content["tables"] if name.endswith("_quarantine")), None)
    if table is None or not by_reason:
        return []
    rows = manifest.dataset(table).head(N_SAMPLED_FROM, columns=["reason", "detail", "raw"]).to_pylist()
    samples: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if len(some := samples.setdefault(row["reason"], [])) < N_SAMPLE_ROWS:
            some.append(row)
    ordered = sorted(by_reason.items(), key=lambda entry: (-entry[1], entry[0]))
    return [(reason, n, samples.get(reason, []), advice("reason", reason, section)) for reason, n in ordered]


def _cleaned(manifest: Manifest, section: str) -> dict[str, list[Mapping[str, Any]]]:
    """Return the lines of the cleaning report by topic; it has a few dozen."""
    table = next((name for name in manifest.content["tables"] if name in (PRODUCTS_REPORT, EVENTS_REPORT)), None)
    topics: dict[str, list[Mapping[str, Any]]] = {}
    for row in manifest.dataset(table).to_table().to_pylist() if table else ():
        topics.setdefault(row["topic"], []).append({**row, "change": _change(row, section)})
    return topics


def _change(row: Mapping[str, Any], section: str) -> str:
    """Return what to change in the profile about a field, as `make check` says it."""
    if row["unread"] and (words := advice("unread", row["name"], section)):
        return words
    return advice("empty", row["name"], section) if row["empty"] > MOSTLY_EMPTY * row["rows"] else ""
