"""Clean the event log: copies are merged, cancellations netted, bad rows kept apart.

Writes `events` and `events_quarantine`. A store without an `events` section gets empty tables and a `skipped_reason`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812

from shelfkin import demo_data
from shelfkin.app import App
from shelfkin.errors import DataQualityError, StaleDataError
from shelfkin.events import clean
from shelfkin.quarantine import check_share, counts_by_reason, summed, turned_away
from shelfkin.sources import read_source
from shelfkin.stage import Stage
from shelfkin.tables import EVENTS, EVENTS_QUARANTINE


def run(stage: Stage) -> None:
    """Read the raw events, clean them, and write what is kept and what is turned away."""
    events = stage.profile.events
    if events is None:
        stage.write_empty(EVENTS)
        stage.write_empty(EVENTS_QUARANTINE)
        stage.metrics["skipped_reason"] = f"store {stage.profile.store} has no events"
        stage.progress("%s: empty tables", stage.metrics["skipped_reason"])
        return
    demo_data.materialise_for(stage.profile, stage.settings)
    path = stage.source_path(events.source.path)
    stage.progress("reading events from %s", path)
    raw = read_source(stage.spark, events.source, path, clean.wanted_columns(events), "events")
    parsed = clean.parse_events(
        raw, events, stage.profile.catalog.product_id, stage.profile.timezone, stage.cutoff
    ).persist()
    seen = _survey(parsed)
    _check_time(stage, path, seen)
    stage.progress(
        "%s rows, %s of them known before %s", f"{seen['rows_in']:,}", f"{seen['known']:,}", stage.as_of.isoformat()
    )
    quarantine = turned_away(parsed)
    check_share("events", quarantine, seen["by_reason"], seen["known"], events.max_quarantined_share)

    settled = clean.settle(clean.drop_copies(parsed), seen["cancellations"] > 0)
    kept = stage.write(EVENTS, settled.events)
    quarantined = stage.write(EVENTS_QUARANTINE, quarantine.unionByName(settled.unmatched))
    written = stage.spark.read.parquet(stage.table_uri(EVENTS_QUARANTINE))
    by_reason = counts_by_reason(written)
    check_share("events", written, by_reason, seen["known"], events.max_quarantined_share)
    stage.counts = {
        "rows_in": seen["rows_in"],
        "kept": kept,
        "quarantined": quarantined,
        "merged": seen["good"] - clean.count_distinct(parsed),
        "netted": settled.netted,
        "after_as_of": seen["rows_in"] - seen["known"],
        "quarantined_by_reason": by_reason,
    }
    stage.metrics |= {
        "n_purchases_reduced": settled.reduced,
        "last_event_at": seen["last_known"].isoformat() if seen["last_known"] else None,
    }


def _survey(parsed: DataFrame) -> dict[str, Any]:
    """Count rows by what they are, in one pass; collects one row per reason code."""
    groups = (
        parsed.groupBy("after_as_of", "reason", "is_cancellation")
        .agg(
            F.count("*").alias("n"),
            # Seconds, not a timestamp: collecting one would shift it into this machine's zone.
            F.unix_timestamp(F.min("occurred_at")).alias("first"),
            F.unix_timestamp(F.max("occurred_at")).alias("last"),
        )
        .collect()
    )
    known = [group for group in groups if not group["after_as_of"]]
    good = [group for group in known if group["reason"] is None]
    # Rows turned away don't count: their time may be a placeholder, even one outside of Python's years 1 to 9999.
    firsts = [group["first"] for group in groups if group["reason"] is None]
    lasts = [group["last"] for group in good]
    return {
        "rows_in": sum(group["n"] for group in groups),
        "known": sum(group["n"] for group in known),
        "good": sum(group["n"] for group in good),
        "cancellations": sum(group["n"] for group in good if group["is_cancellation"]),
        "by_reason": summed((group["reason"], group["n"]) for group in known if group["reason"] is not None),
        "first": datetime.fromtimestamp(min(firsts), UTC) if firsts else None,
        "last_known": datetime.fromtimestamp(max(lasts), UTC) if lasts else None,
    }


def _check_time(stage: Stage, path: str, seen: dict[str, Any]) -> None:
    if seen["rows_in"] == 0:
        raise DataQualityError(f"{path} holds no event rows.", next_step="Export the event log again.")
    if seen["known"] == 0:
        raise DataQualityError(
            f"{path} holds no event before as_of {stage.as_of}; "
            f"the first one happened at {seen['first']:%Y-%m-%d %H:%M} UTC.",
            next_step=f"Choose an as_of from {clean.day_after(seen['first'])} on.",
        )
    last, limit = seen["last_known"], stage.profile.max_staleness_days
    if limit is None or last is None:
        return
    age_days = (stage.cutoff - last).days
    if age_days > limit:
        raise StaleDataError(
            f"The last event before as_of {stage.as_of} happened at {last:%Y-%m-%d %H:%M} UTC, {age_days} days "
            f"earlier; max_staleness_days of store {stage.profile.store} is {limit}.",
            next_step=f"Deliver newer events, or run as of {clean.day_after(last)}, the newest date that makes sense.",
        )


APP = App("clean_events", run, description=__doc__)
