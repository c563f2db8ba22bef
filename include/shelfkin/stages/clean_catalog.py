"""Clean the catalogue: one row per product, with its text for embedding; rows that aren't products are kept apart.

Writes `products`, `products_quarantine`, and `products_report`: what became of the rows, field by field. The catalogue
is an undated file, the newest dated snapshot known before the run's date, or derived from the order lines before it,
as the profile's `catalog.kind` says.
"""

from __future__ import annotations

from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812

from shelfkin import demo_data
from shelfkin.app import App
from shelfkin.catalog import clean
from shelfkin.data_report import ReportRow, as_table, named_columns, report_rows
from shelfkin.errors import DataQualityError, without_controls
from shelfkin.events.erased_rows import without_erased
from shelfkin.quarantine import as_utc, check_share, survey, turned_away
from shelfkin.sources import read_rows
from shelfkin.stage import Stage
from shelfkin.tables import PRODUCTS, PRODUCTS_QUARANTINE, PRODUCTS_REPORT


def run(stage: Stage) -> None:
    """Read the raw catalogue as of the run's date, clean it, and write what is kept and what is turned away."""
    profile = stage.profile
    parsed, seen = parse(stage)
    quarantine = turned_away(parsed)
    check_share("catalog", quarantine, seen["by_reason"], seen["known"], profile.catalog.max_quarantined_share)
    kept = stage.write(PRODUCTS, products_of(stage, parsed))
    quarantined = stage.write(PRODUCTS_QUARANTINE, quarantine)
    known = parsed.where(~F.col("after_as_of"))
    report = report_rows(known, named_columns(profile, "catalog"))
    stage.write(PRODUCTS_REPORT, as_table(stage.spark, report), n_files=1)
    erased = stage.metrics.get("n_rows_erased", 0)
    stage.counts = {
        "rows_in": seen["rows_in"] + erased,
        "kept": kept,
        "quarantined": quarantined,
        "merged": seen["good"] - seen["good_ids"],
        "netted": 0,
        "ignored": seen["ignored"],
        "after_as_of": seen["rows_in"] - seen["known"] - seen["ignored"],
        "quarantined_by_reason": seen["by_reason"],
        **({"erased": erased} if erased else {}),
    }
    n_texts = stage.spark.read.parquet(stage.table_uri(PRODUCTS)).select("text_hash").distinct().count()
    unread = _unread(stage, report)
    stage.metrics |= {
        "n_distinct_texts": n_texts,
        "n_prices_unread": unread.get("price", {}).get("n", 0),
        "unread": unread,
        "n_descriptions_cut": seen["descriptions_cut"],
        "point_in_time": profile.point_in_time,
    }


def parse(stage: Stage) -> tuple[DataFrame, dict[str, Any]]:
    """Return the parsed rows of the catalogue as of the stage's date, persisted, and what was counted of them."""
    profile = stage.profile
    demo_data.materialise_for(profile, stage.settings)
    section = "events" if profile.catalog.kind == "events" else "catalog"
    wanted = clean.wanted_columns(profile)
    raw = read_rows(stage.spark, profile.catalog_source, section, wanted, stage.source_path, stage.as_of)
    raw = without_erased(raw, profile.catalog_events, stage.erased_users)
    stage.progress("reading the catalogue from %s", raw.path)
    parsed = clean.parse_catalog(raw, profile, stage.cutoff).persist()
    with raw.reading():
        seen = survey(
            parsed,
            "seen_at",
            good_ids=F.count_distinct("product_id"),
            descriptions_cut=F.count_if("description_cut"),
        )
    stage.metrics |= {**raw.metrics, **raw.findings()}
    _check_rows(stage, raw.path, seen)
    stage.progress("%s rows, %s of them good", f"{seen['rows_in']:,}", f"{seen['good']:,}")
    return parsed, seen


def products_of(stage: Stage, parsed: DataFrame) -> DataFrame:
    """Return one row per product of the parsed rows, with its text for embedding."""
    profile = stage.profile
    products = (
        clean.from_order_lines(parsed)
        if profile.catalog.kind == "events"
        else clean.newest_versions(parsed, stage.cutoff)
    )
    return clean.with_embedding_text(products, profile.embedding.text)


def _unread(stage: Stage, report: list[ReportRow]) -> dict[str, Any]:
    """Return, and tell, how many values can't be read of each field that is left empty then, with examples."""
    fields = [row for row in report if row.topic == "field" and row.name in clean.UNREAD and row.unread]
    for row in fields:
        shown = [without_controls(example) for example in row.examples]
        stage.progress("%s can't be read in %s rows, and is left empty: %s", row.name, f"{row.unread:,}", shown)
    return {row.name: {"n": row.unread, "examples": list(row.examples)} for row in fields}


def _check_rows(stage: Stage, path: str, seen: dict[str, Any]) -> None:
    if seen["rows_in"] == 0:
        raise DataQualityError(f"{path} holds no catalogue rows.", next_step="Export the catalogue again.")
    if seen["known"] == 0:
        first_day = as_utc(seen["first"]).date()
        raise DataQualityError(
            f"{path} holds no order line before as_of {stage.as_of}; the first one is of {first_day}.",
            next_step=f"Choose an as_of after {first_day}.",
        )


APP = App("clean_catalog", run, description=__doc__)
