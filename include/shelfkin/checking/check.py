"""Look at a store's files through its profile, on a sample, and say what a run would make of them.

The rows go through the very code of the cleaning stages.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Literal

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from shelfkin import sources
from shelfkin.catalog import clean as catalog_clean
from shelfkin.checking.file_sample import Sampler
from shelfkin.checking.likely_cause import likely_cause
from shelfkin.data_report import ReportRow, named_columns, report_rows
from shelfkin.errors import ShelfkinError
from shelfkin.events import clean as events_clean
from shelfkin.profile import Sourced, StoreProfile, resolve_path
from shelfkin.settings import Settings
from shelfkin.sources import RawTable, read_rows
from shelfkin.spark import build_session
from shelfkin.spark_submit import shared_classes

SAMPLE_ROWS = 5_000
# Ids of the catalogue among which the cause of a bad join is looked for.
_CAUSE_IDS = 100_000
_SESSION = {
    "spark.master": "local[2]",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.sql.shuffle.partitions": "2",
    # The session lives for seconds: compiling costs more than it saves.
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.driver.extraJavaOptions": f"-XX:+UseSerialGC -XX:TieredStopAtLevel=1 {shared_classes()}",
}


@dataclass(frozen=True)
class Finding:
    """Something to change: how bad it is, what was seen, and the key.

    `damage` ranks: a share of the rows, above 1 for what stops the run. `share` is the share of the rows to print.
    """

    damage: float
    seen: str
    change: str
    share: float | None = None


@dataclass
class Looked:
    """One section's rows, as the cleaning code leaves them.

    Attributes
    ----------
    notes
        What the sample is.
    rows
        The report, as the stage writes it as a table.
    beside
        Five raw rows, each with what became of it.
    ids
        Number of rows of each product id.
    first, last
        Of the times of good rows.
    """

    name: str
    notes: list[str]
    n_rows: int = 0
    rows: list[ReportRow] = field(default_factory=list)
    beside: list[tuple[str, str]] = field(default_factory=list)
    ids: dict[str, int] = field(default_factory=dict)
    first: str | None = None
    last: str | None = None

    def of(self, topic: str) -> list[ReportRow]:
        """Return the report's lines of one topic."""
        return [row for row in self.rows if row.topic == topic]


@dataclass
class Checked:
    """All that was found of a store."""

    profile: StoreProfile
    as_of: date
    catalog: Looked | None = None
    events: Looked | None = None
    named: int | None = None
    strangers: list[str] = field(default_factory=list)
    known: list[str] = field(default_factory=list)
    cause: str = ""
    errors: list[ShelfkinError] = field(default_factory=list)


class Checker:
    """Reads and cleans samples of a store's sections.

    Parameters
    ----------
    settings, profile
        The installation, and the store.
    as_of
        The run's date.
    folder
        Where copies of samples go.
    """

    def __init__(self, settings: Settings, profile: StoreProfile, as_of: date, folder: Path) -> None:
        self._settings, self._profile, self._as_of = settings, profile, as_of
        self._folder = folder
        with _quiet(folder / "spark.log"):
            self._session = build_session("check", _SESSION)

    @property
    def _cutoff(self) -> datetime:
        return datetime(self._as_of.year, self._as_of.month, self._as_of.day, tzinfo=UTC)

    def look(self) -> Checked:
        """Return what became of a sample of both sections, and how many events name a product."""
        found = Checked(self._profile, self._as_of)
        joining: Future[tuple[set[str], list[str]]] | None = None
        with ThreadPoolExecutor(3) as pool:
            parts = {name: pool.submit(self._section, name) for name in self._names()}
            # Events first: their ids are looked up while the texts of the catalogue are still being cleaned.
            for name in reversed(parts):
                try:
                    setattr(found, name, parts[name].result())
                except ShelfkinError as error:
                    found.errors.append(error)
                if name == "events" and found.events and self._profile.catalog.kind != "events":
                    joining = pool.submit(self._look_up, sorted(found.events.ids))
        if joining is not None and found.catalog and found.events:
            named, known = joining.result()
            found.named = sum(n for product, n in found.events.ids.items() if product in named)
            found.strangers = sorted(set(found.events.ids) - named)
            found.known = sorted(found.catalog.ids)
            found.cause = likely_cause(found.strangers, known) if found.strangers else ""
        return found

    def _names(self) -> list[Literal["catalog", "events"]]:
        return ["catalog", "events"] if self._profile.events else ["catalog"]

    def _section(self, name: Literal["catalog", "events"]) -> Looked:
        session = self._session.newSession()
        looked = Looked(name, [])
        raw = self._read(session, name, looked.notes)
        with raw.reading():
            frame = _some(raw.frame, looked.notes).persist()
            looked.n_rows = frame.count()
        raw.findings()
        parsed = self._parse(name, replace(raw, frame=frame)).persist()
        columns = named_columns(self._profile, name)
        known = parsed.where(~F.col("after_as_of"))
        looked.rows = report_rows(known, columns)
        looked.beside = _beside(frame, parsed, columns)
        moment = F.col("seen_at" if name == "catalog" else "occurred_at").cast("string")
        good = parsed.where(F.col("reason").isNull())
        looked.first, looked.last = tuple(good.agg(F.min(moment), F.max(moment)).collect()[0])
        counts = good.groupBy("product_id").count().collect()
        looked.ids = {row["product_id"]: row["count"] for row in counts}
        return looked

    def _read(self, session: SparkSession, name: str, notes: list[str] | None) -> RawTable:
        """Read a section: a sample of it, where `notes` are to say what the sample is; else all of it."""
        profile = self._profile
        section: Sourced = profile.catalog_source if name == "catalog" else profile.events  # type: ignore[assignment]
        wanted = (
            catalog_clean.wanted_columns(profile) if name == "catalog" else events_clean.wanted_columns(profile.events)  # type: ignore[arg-type]
        )
        if notes is not None and section.source is not None and not section.source.is_dated:
            # A query's tables stay whole: samples of orders and of lines would hardly join.
            sampler = Sampler(Path(tempfile.mkdtemp(dir=self._folder)), notes)
            paths = sampler.sampled(section.source, [self._resolve(path) for path in section.source.paths])
            section = section.model_copy(update={"source": section.source.model_copy(update={"path": tuple(paths)})})
        key = "events" if name == "events" or profile.catalog.kind == "events" else "catalog"
        return read_rows(session, section, key, wanted, self._resolve, self._as_of)

    def _resolve(self, path: str) -> str:
        return resolve_path(path, self._settings.stores_dir, self._settings.path_variables())

    def _parse(self, name: str, raw: RawTable) -> DataFrame:
        profile = self._profile
        if name == "catalog" or profile.events is None:
            return catalog_clean.parse_catalog(raw, profile, self._cutoff)
        rule, words = profile.catalog.product_id, profile.missing_words
        return events_clean.parse_events(raw, profile.events, rule, profile.timezone, self._cutoff, words)

    def _look_up(self, ids: list[str]) -> tuple[set[str], list[str]]:
        """Return which ids the whole catalogue has; if some are missing, also ids of it, to tell why."""
        session = self._session.newSession()
        wanted = session.createDataFrame([(each,) for each in ids] or [("",)], "product_id string")
        every = self._parse("catalog", self._read(session, "catalog", None)).select("product_id")
        found = every.join(F.broadcast(wanted), "product_id", "left_semi").distinct().collect()
        named = {row["product_id"] for row in found}
        if named.issuperset(ids):
            return named, []
        some = every.where("product_id IS NOT NULL").limit(_CAUSE_IDS).collect()
        return named, [row["product_id"] for row in some]


@contextmanager
def _quiet(log: Path) -> Iterator[None]:
    """Send what programs started meanwhile print as errors to a file: Spark's warnings are of no use to a shop."""
    kept = os.dup(2)
    with log.open("wb") as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _some(frame: DataFrame, notes: list[str]) -> DataFrame:
    """Return some SAMPLE_ROWS rows, chosen by their hashes: the same ones each time."""
    n = frame.count()
    if n <= 1.2 * SAMPLE_ROWS:
        return frame
    notes.append(f"one in {n / SAMPLE_ROWS:.0f} of {'these ' if notes else ''}{n:,} rows")
    return frame.where(F.pmod(sources.row_hash(), F.lit(n)) < SAMPLE_ROWS)


def _beside(frame: DataFrame, parsed: DataFrame, columns: dict[str, str]) -> list[tuple[str, str]]:
    """Return five raw rows, two of them turned away if there are any, and what became of each."""
    read = [F.col(column).cast("string").alias(f"field:{name}") for name, column in columns.items()]
    shown = parsed.select(*read, "reason", "detail", "row_hash", "after_as_of")
    bad = shown.where(F.col("reason").isNotNull()).dropDuplicates(["reason"]).orderBy("reason").limit(2).collect()
    chosen = [*shown.where(F.col("reason").isNull()).limit(5 - len(bad)).collect(), *bad]
    hashes = [row["row_hash"] for row in chosen]
    raws = frame.select(sources.row_hash().alias("row_hash"), sources.raw_json().alias("raw"))
    by_hash = {row["row_hash"]: row["raw"] for row in raws.where(F.col("row_hash").isin(hashes)).collect()}
    return [(by_hash.get(row["row_hash"], ""), _became(row.asDict())) for row in chosen]


def _became(row: dict[str, Any]) -> str:
    if row["reason"] is not None:
        return f"turned away as {row['reason']}: {row['detail']}"
    read = [f"{name.partition(':')[2]}={value}" for name, value in row.items() if name.startswith("field:") and value]
    return " | ".join(read) + (" (after the run's date)" if row["after_as_of"] else "")


def check_store(settings: Settings, store: str, as_of: date | None) -> Iterator[str]:
    """Yield the report of a store, line by line."""
    from shelfkin.checking.show import show_checked

    profile = settings.profile(store)
    day = as_of or profile.default_as_of or datetime.now(UTC).date()
    with tempfile.TemporaryDirectory(prefix="shelfkin-") as folder:
        yield from show_checked(Checker(settings, profile, day, Path(folder)).look())
