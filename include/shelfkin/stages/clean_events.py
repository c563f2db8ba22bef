"""Clean the event log: copies are merged, cancellations netted, bad rows kept apart.

Writes `events`, `events_quarantine`, and `events_report`: what became of the rows, field by field. A store
without an `events` section gets empty tables and a `skipped_reason`.
"""

from __future__ import annotations

from typing import Any

from pyspark.sql import functions as F  # noqa: N812

from shelfkin import demo_data
from shelfkin.app import App
from shelfkin.data_report import as_table, named_columns, report_rows
from shelfkin.errors import DataQualityError, StaleDataError
from shelfkin.events import clean
from shelfkin.events.erased_rows import without_erased
from shelfkin.quarantine import as_utc, check_share, counts_by_reason, survey, turned_away
from shelfkin.sources import read_rows
from shelfkin.stage import Stage
from shelfkin.tables import EVENTS, EVENTS_QUARANTINE, EVENTS_REPORT


def run(stage: Stage) -> None:
    """Read the raw events, clean them, and write what is kept and what is turned away."""
    events = stage.profile.events
    if events is None:
        stage.write_empty(EVENTS)
        stage.write_empty(EVENTS_QUARANTINE)
        stage.write_empty(EVENTS_REPORT)
        stage.metrics["skipped_reason"] = f"store {stage.profile.store} has no events"
        stage.progress("%s: empty tables", stage.metrics["skipped_reason"])
        return
    demo_data.materialise_for(stage.profile, stage.settings)
    raw = read_rows(stage.spark, events, "events", clean.wanted_columns(events), stage.source_path, stage.as_of)
    raw = without_erased(raw, events, stage.erased_users)
    stage.progress("reading events from %s", raw.path)
    profile = stage.profile
    parsed = clean.parse_events(
        raw, events, profile.catalog.product_id, profile.timezone, stage.cutoff, profile.missing_words
    ).persist()
    with raw.reading():
        seen = survey(parsed, "occurred_at", cancellations=F.count_if("is_cancellation"))
    stage.metrics |= {**raw.metrics, **raw.findings()}
    _check_time(stage, raw.path, seen)
    stage.progress(
        "%s rows, %s of them known before %s", f"{seen['rows_in']:,}", f"{seen['known']:,}", stage.as_of.isoformat()
    )
    quarantine = turned_away(parsed)
    check_share("events", quarantine, seen["by_reason"], seen["known"], events.max_quarantined_share)

    settled = clean.settle(clean.drop_copies(parsed), seen["cancellations"] > 0)
    kept = stage.write(EVENTS, settled.events)
    quarantined = stage.write(EVENTS_QUARANTINE, quarantine.unionByName(settled.unmatched))
    known = parsed.where(~F.col("after_as_of"))
    stage.write(EVENTS_REPORT, as_table(stage.spark, report_rows(known, named_columns(profile, "events"))), n_files=1)
    written = stage.spark.read.parquet(stage.table_uri(EVENTS_QUARANTINE))
    by_reason = counts_by_reason(written)
    check_share("events", written, by_reason, seen["known"], events.max_quarantined_share)
    erased = stage.metrics.get("n_rows_erased", 0)
    stage.counts = {
        "rows_in": seen["rows_in"] + erased,
        "kept": kept,
        "quarantined": quarantined,
        "merged": seen["good"] - clean.count_distinct(parsed),
        "netted": settled.netted,
        "ignored": seen["ignored"],
        "after_as_of": seen["rows_in"] - seen["known"] - seen["ignored"],
        "quarantined_by_reason": by_reason,
        **({"erased": erased} if erased else {}),
    }
    stage.metrics |= {
        "n_purchases_reduced": settled.reduced,
        "last_event_at": None if seen["last_known"] is None else as_utc(seen["last_known"]).isoformat(),
    }


def _check_time(stage: Stage, path: str, seen: dict[str, Any]) -> None:
    if seen["rows_in"] == 0:
        raise DataQualityError(f"{path} holds no event rows.", next_step="Export the event log again.")
    if seen["known"] == 0:
        first = as_utc(seen["first"])
        raise DataQualityError(
            f"{path} holds no event before as_of {stage.as_of}; the first one happened at {first:%Y-%m-%d %H:%M} UTC.",
            next_step=f"Choose an as_of from {clean.day_after(first)} on.",
        )
    limit = stage.profile.max_staleness_days
    if limit is None or seen["last_known"] is None:
        return
    last = as_utc(seen["last_known"])
    age_days = (stage.cutoff - last).days
    if age_days > limit:
        raise StaleDataError(
            f"The last event before as_of {stage.as_of} happened at {last:%Y-%m-%d %H:%M} UTC, {age_days} days "
            f"earlier; max_staleness_days of store {stage.profile.store} is {limit}.",
            next_step=f"Deliver newer events, or run as of {clean.day_after(last)}, the newest date that makes sense.",
        )


APP = App("clean_events", run, description=__doc__)
