"""Say what a backfill would change and embed, before it is made.

Every day from ``--from-day`` to ``--as-of`` is cleaned as its run would clean it today, and compared with what is
published for it; nothing is embedded or published. Writes ``stores/<store>/backfill/forecast.json``.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from datetime import date
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812

from shelfkin.app import App, parse_as_of
from shelfkin.artifacts import FORMAT_VERSION, Manifest, RunPaths, forecast_uri, lineage_dates, utc_now
from shelfkin.embedding import texts
from shelfkin.embedding.embedding_run import EmbeddingRun
from shelfkin.errors import ShelfkinError
from shelfkin.lineage import read_lineage
from shelfkin.schedule import data_intervals
from shelfkin.spark import conform
from shelfkin.stage import Stage
from shelfkin.stages import clean_catalog, embed_products
from shelfkin.tables import PRODUCTS, SCHEMAS

# What a day's catalogue is known by: the file, and which delivery of it.
_SOURCE = ("source", "snapshot_date", "revision")
_COLUMNS = [column.split()[0] for column in SCHEMAS[PRODUCTS].split(", ")]


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the stage's flags."""
    parser.add_argument("--from-day", required=True, type=parse_as_of, help="first day; --as-of is the last")
    embed_products.add_flags(parser)


def run(stage: Stage) -> None:
    """Go through the days in order, and write and tell what each would do."""
    last, first = stage.as_of, stage.options.from_day
    ends = (end for _, end in data_intervals(stage.profile, first, last))
    days: list[dict[str, Any]] = []
    planned: DataFrame | None = None
    for day in sorted({end.date() for end in ends}):
        of_day = replace(stage, paths=replace(stage.paths, as_of=day), inputs={}, metrics={}, counts={})
        try:
            found, planned = _look_at(of_day, planned)
        except ShelfkinError as error:
            found = {"error": f"{error}", "texts": 0, "tokens": 0, "cost_usd": 0.0}
        days.append({"as_of": day.isoformat(), **_published(stage.paths, day), **found})
        days[-1]["change"] = _change(days)
        stage.progress("%s", in_words(days[-1]))
    total = {name: sum(day[name] for day in days) for name in ("texts", "tokens", "cost_usd")}
    changed = [day["as_of"] for day in days if day["change"]]
    later = [day.isoformat() for day in lineage_dates(stage.paths.root, stage.paths.store) if day > last]
    forecast = {
        "format_version": FORMAT_VERSION,
        **stage.paths.identity(),
        "from_day": first.isoformat(),
        "made_at": utc_now(),
        "days": days,
        **total,
        "changed": len(changed),
        "stale_after": later if changed else [],
    }
    stage.paths.root.put_json(forecast_uri(stage.paths.root, stage.paths.store), forecast)
    stage.metrics |= {name: forecast[name] for name in ("from_day", "texts", "tokens", "cost_usd", "changed", "days")}
    cost = f", ${total['cost_usd']:,.4f}" if total["cost_usd"] else ""
    stage.progress(
        "%s of %s days would change; %s texts would be embedded%s", len(changed), len(days), f"{total['texts']:,}", cost
    )
    if forecast["stale_after"]:
        stage.progress("these days were made from the ones before, and would be stale: %s", ", ".join(later))


def in_words(day: dict[str, Any]) -> str:
    """Return one line on what a day would do."""
    if day.get("error"):
        return f"{day['as_of']}: its run would fail: {day['error']}"
    what = {
        "catalogue": "changes, the catalogue is another one",
        "clusters": "changes, because the day before does",
        "first run": "runs for the first time",
        None: "stays as it is",
    }[day["change"]]
    products = f"{day['added']:,} products new, {day['removed']:,} gone, {day['texts_changed']:,} with another text"
    return f"{day['as_of']}: {what}; {products}; {day['texts']:,} texts to embed"


def _change(days: list[dict[str, Any]]) -> str | None:
    """Return why the last of the days looked at comes out differently, or None if it doesn't."""
    day = days[-1]
    if day.get("error"):
        return None
    if day["run_id"] is None:
        return "first run"
    if day["added"] or day["removed"] or day["changed"]:
        return "catalogue"
    # Clusters pass from day to day.
    return "clusters" if day["stale"] or any(before["change"] for before in days[:-1]) else None


def _published(paths: RunPaths, day: date) -> dict[str, Any]:
    """Return the run that is published for a day, and whether its clusters descend from a rewritten day."""
    uri = replace(paths, as_of=day).published_uri()
    lineage = read_lineage(paths.root, paths.store, day)
    return {
        "run_id": paths.root.read_json(uri)["run_id"] if paths.root.exists(uri) else None,
        "stale": bool((lineage or {}).get("stale")),
    }


def _look_at(stage: Stage, planned: DataFrame | None) -> tuple[dict[str, Any], DataFrame]:
    """Return what a day's catalogue is today, beside the published one, and all texts planned so far."""
    parsed, _ = clean_catalog.parse(stage)
    products = conform(clean_catalog.products_of(stage, parsed), PRODUCTS).persist()
    found = {
        "catalogue": {name: stage.metrics.get(name) for name in _SOURCE},
        **_compared(stage, products),
        "products": products.count(),
    }
    embedding = EmbeddingRun(stage)
    missing = texts.missing_texts(
        embedding.distinct_parts(products),
        texts.stored_vectors(stage.spark, embedding.store, embedding.store.latest()),
        retry_refused=stage.profile.embedding.retry_refused,
    ).select("text_hash", "n_tokens")
    if planned is not None:
        missing = missing.join(planned, on="text_hash", how="left_anti")
    missing = missing.persist()
    row = missing.agg(F.count("*").alias("n"), F.coalesce(F.sum("n_tokens"), F.lit(0)).alias("tokens")).collect()[0]
    parsed.unpersist()
    products.unpersist()
    new = missing.select("text_hash")
    price = embedding.price().usd_per_token
    found |= {"texts": row["n"], "tokens": row["tokens"], "cost_usd": round(row["tokens"] * price, 6)}
    return found, new if planned is None else planned.unionByName(new)


def _compared(stage: Stage, products: DataFrame) -> dict[str, int]:
    """Count the products that are new, gone, changed, and changed in their text, beside what is published."""
    uri = stage.paths.published_uri()
    if not stage.paths.root.exists(uri):
        return {"added": products.count(), "removed": 0, "changed": 0, "texts_changed": 0}
    pointer = stage.paths.root.read_json(uri)
    manifest = Manifest.read(stage.paths.root, pointer["manifests"]["clean_catalog"])
    published = conform(stage.spark.read.parquet(manifest.table_uri(PRODUCTS)), PRODUCTS)
    whole = F.xxhash64(*_COLUMNS)
    now, then = (
        frame.select("product_id", F.col("text_hash").alias(f"{name}_text"), whole.alias(name))
        for name, frame in (("now", products), ("then", published))
    )
    row = (
        now.join(then, on="product_id", how="full")
        .agg(
            F.count_if(F.col("then").isNull()).alias("added"),
            F.count_if(F.col("now").isNull()).alias("removed"),
            F.count_if(F.col("now") != F.col("then")).alias("changed"),
            F.count_if(F.col("now_text") != F.col("then_text")).alias("texts_changed"),
        )
        .collect()[0]
    )
    return dict(row.asDict())


APP = App("forecast_backfill", run, add_flags=add_flags, description=__doc__)
