"""Clean a catalogue: one row per product, with the text that stands for it in the vector space."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F  # noqa: N812
from pyspark.sql import types as T  # noqa: N812

from shelfkin import sources
from shelfkin.catalog import categories, text
from shelfkin.profile import RECIPE_FIELDS, StoreProfile, columns_of
from shelfkin.quarantine import (
    IGNORED,
    Rule,
    after_as_of,
    good_rows,
    ignored_types,
    judged,
    shared_rules,
    shown,
    shown_raw,
    time_rules,
)
from shelfkin.sources import RawTable
from shelfkin.values import missing, prices
from shelfkin.values.ids import normalised_id
from shelfkin.values.stock import parse_in_stock
from shelfkin.values.times import timestamp

_DETAILS = ("title", "description", "brand", "category_path", "other_categories", "price", "currency", "in_stock")
# Fields that are left empty where what was written can't be read, and the columns that hold what was read.
UNREAD = {"price": "price", "in_stock": "in_stock", "updated_at": "seen_at"}


def wanted_columns(profile: StoreProfile) -> dict[str, str]:
    """Return the raw column that each profile key asks for."""
    fields = profile.catalog.fields
    wanted = {f"catalog.fields.extra.{name}": column for name, column in fields.extra.items()}
    for name, column in fields.model_dump(exclude_none=True, exclude={"extra"}).items():
        for position, each in enumerate(columns_of(column)):
            suffix = "" if isinstance(column, str) else f"[{position}]"
            wanted[f"catalog.fields.{name}{suffix}"] = each
    if profile.catalog_events is not None:
        events = profile.catalog_events.fields
        wanted["events.fields.occurred_at"] = events.occurred_at
        if events.price is not None:
            wanted["events.fields.price"] = events.price
        if events.event_type is not None:
            wanted["events.fields.event_type"] = events.event_type
    return wanted


def parse_catalog(raw: RawTable, profile: StoreProfile, cutoff: datetime) -> DataFrame:
    """Return one row per raw row, with its clean fields and the reason why it is turned away, if any.

    Parameters
    ----------
    raw
        Rows of the catalogue, or order lines for ``kind: events``.
    cutoff
        Midnight UTC of the run's date; order lines from then on are `after_as_of`.

    Returns
    -------
    DataFrame
        product_id, title, description, brand, category_path, other_categories (each path as one text), price, currency,
        in_stock, extra_<name> for each name of `fields.extra`, seen_at (timestamp: of the last update, or of the order
        line), after_as_of, unread_<name> for each field of `UNREAD` (what was written and can't be read, else NULL),
        description_cut, row_hash, reason and detail (NULL for good rows), raw (JSON; only for rows turned away).
    """
    catalog = profile.catalog
    words = missing.missing_words(profile.missing_words)
    raw = replace(raw, frame=missing.blanked(raw.frame, words))
    paths = categories.memberships(raw, catalog, _names("level", catalog.fields.category_path), words)
    parsed = _repaired(raw, profile).select("*", paths.alias("paths"))
    parsed = parsed.select("*", categories.main_path(F.col("paths")).alias("category_path"))
    parsed = parsed.select(
        "*",
        _title(profile).alias("title"),
        (after_as_of("seen_at", cutoff) if catalog.kind == "events" else F.lit(False)).alias("after_as_of"),
    )
    title, paths = F.col("title"), F.col("paths")
    if catalog.fold_shouting:
        title = text.fold_shouting(title)
        paths = F.transform(paths, lambda path: F.transform(path, text.fold_shouting))
    too_long = F.length("description") > catalog.max_text_chars
    folded = judged(parsed, _rules(profile)).withColumns({"title": title, "paths": paths})
    return folded.select(
        "product_id",
        "title",
        text.cut_at_word(F.col("description"), catalog.max_text_chars).alias("description"),
        "brand",
        categories.main_path(F.col("paths")).alias("category_path"),
        categories.others(F.col("paths")).alias("other_categories"),
        "price",
        F.when(F.col("price").isNotNull(), F.col("currency")).alias("currency"),
        "in_stock",
        *_names("extra", catalog.fields.extra),
        "seen_at",
        "after_as_of",
        *[_unread(name, value) for name, value in UNREAD.items()],
        F.coalesce(too_long, F.lit(False)).alias("description_cut"),
        "row_hash",
        F.col("verdict.reason").alias("reason"),
        F.col("verdict.detail").alias("detail"),
        F.when(F.col("verdict.reason") != IGNORED, sources.raw_json()).alias("raw"),
    )


def _unread(name: str, value: str) -> Column:
    return F.when(F.col(value).isNull(), F.col(f"written_{name}")).alias(f"unread_{name}")


def _names(prefix: str, columns: str | tuple[str, ...] | dict[str, str] | None) -> list[str]:
    """Return names for the texts of a field's columns: by name where the profile names them, else by position."""
    if isinstance(columns, dict):
        return [f"{prefix}_{name}" for name in columns]
    return [f"{prefix}_{position}" for position, _ in enumerate(columns_of(columns))]


def _repaired(raw: RawTable, profile: StoreProfile) -> DataFrame:
    """Return the fields of the rows with repaired texts, of titles and categories one for each of their columns."""
    catalog, mark = profile.catalog, profile.catalog_source.decimal_mark
    fields = catalog.fields
    columns = {
        **dict(zip(_names("title", fields.title), columns_of(fields.title), strict=True)),
        **dict(zip(_names("extra", fields.extra), fields.extra.values(), strict=True)),
        "description": fields.description,
        "brand": fields.brand,
    }
    texts = {name: sources.text(column) for name, column in columns.items()}
    for name, column in zip(_names("level", fields.category_path), columns_of(fields.category_path), strict=True):
        texts[name] = categories.level_text(raw, column)
    paid = _price_column(profile)
    frame = raw.frame.select(
        normalised_id(sources.text(fields.product_id), catalog.product_id).alias("product_id"),
        *[column.alias(name) for name, column in texts.items()],
        prices.plain_amount(raw, paid, mark).alias("plain_price"),
        parse_in_stock(sources.text(fields.in_stock), mark).alias("in_stock"),
        _seen_at(raw, profile).alias("seen_at"),
        sources.text(paid).alias("written_price"),
        sources.text(fields.in_stock).alias("written_in_stock"),
        sources.text(fields.updated_at).alias("written_updated_at"),
        sources.row_hash().alias("row_hash"),
        "raw",
        "malformed",
    )
    odd = F.when(F.col("plain_price").isNull(), F.col("written_price"))
    is_text = paid is not None and isinstance(raw.type_of(paid), T.StringType)
    read = {"read": prices.read_prices(odd, profile.currency, mark)} if is_text else {}
    given = [name for name in texts if name not in columns or columns[name] is not None]
    cleaned = text.clean_texts(frame, given, **read)
    currency = F.when(F.col("plain_price").isNotNull(), F.lit(profile.currency))
    return cleaned.select(
        "*",
        (F.coalesce("plain_price", "read.amount") if is_text else F.col("plain_price")).alias("price"),
        (currency.otherwise(F.col("read.currency")) if is_text else currency).alias("currency"),
    ).withColumn("brand", missing.without("brand", missing.brandless_words(catalog.placeholder_brands)))


def _price_column(profile: StoreProfile) -> str | None:
    column, events = profile.catalog.fields.price, profile.catalog_events
    return column if column or events is None else events.fields.price


def _title(profile: StoreProfile) -> Column:
    names = _names("title", profile.catalog.fields.title)
    if not names:
        return F.nullif(recipe_text(profile.embedding.text), F.lit(""))
    return F.col(names[0]) if len(names) == 1 else F.when(F.col(names[0]).isNotNull(), F.concat_ws(", ", *names))


def _rules(profile: StoreProfile) -> list[Rule]:
    """Return why a single catalogue row is turned away, the most telling reason first."""
    catalog = profile.catalog
    title = shown("title", F.col("title"))
    rules = shared_rules(catalog.fields.product_id, catalog.product_id)
    events = profile.catalog_events
    if events is not None:
        rules = ignored_types(events) + rules
        rules += time_rules("seen_at", events.fields.occurred_at, events.earliest)
    if catalog.not_a_product_category is not None:
        path = F.concat_ws(" > ", "category_path")
        named = F.exists(F.flatten("paths"), lambda level: level.rlike(str(catalog.not_a_product_category)))
        rules.append(Rule("not_a_product_category", named, shown("category", path)))
    titles = columns_of(catalog.fields.title)
    rules.append(Rule("empty_title", F.col("title").isNull(), shown_raw(titles[0]) if titles else title))
    rules.append(Rule("oversize_title", F.length("title") > catalog.max_text_chars, title))
    if catalog.not_a_product is not None:
        rules.append(Rule("not_a_product", F.col("title").rlike(catalog.not_a_product), title))
    return rules


def _seen_at(raw: RawTable, profile: StoreProfile) -> Column:
    catalog, events = profile.catalog, profile.catalog_events
    if events is not None:
        return timestamp(raw, events.fields.occurred_at, events.timestamp_format, profile.timezone)
    return timestamp(raw, catalog.fields.updated_at, catalog.timestamp_format, profile.timezone)


def newest_versions(parsed: DataFrame, cutoff: datetime) -> DataFrame:
    """Return one row per product id: the newest by `seen_at`; ties go to the first by title, then by the whole row.

    A file without a date in its name may hold updates made at or after `cutoff`, midnight UTC of the run's date. Such
    a row stands in only for a product that has no other.
    """
    updated_later = F.coalesce(F.col("seen_at") >= F.lit(cutoff), F.lit(False))
    newest_first = Window.partitionBy("product_id").orderBy(
        updated_later,
        F.col("seen_at").desc_nulls_last(),
        "title",
        F.col("description").asc_nulls_last(),
        "row_hash",
    )
    ranked = good_rows(parsed).withColumn("_order", F.row_number().over(newest_first))
    return ranked.where(F.col("_order") == 1).select(
        "product_id", *_DETAILS, *_extras(parsed), F.col("seen_at").alias("updated_at")
    )


def _extras(parsed: DataFrame) -> list[str]:
    return [name for name in parsed.columns if name.startswith("extra_")]


def from_order_lines(parsed: DataFrame) -> DataFrame:
    """Return one row per product id sold before the run's date.

    The title is the most frequent one of its lines (ties: the one seen last, then the first by alphabet); the price
    is that of the last line with a positive price (of one moment: the highest); other fields come from the last line
    that has them; `updated_at` is the time of the last line.
    """
    kept = ("description", "brand", "category_path", "other_categories", "in_stock", *_extras(parsed))
    titles = (
        good_rows(parsed)
        .groupBy("product_id", "title")
        .agg(
            F.count("*").alias("n_lines"),
            F.max("seen_at").alias("last_at"),
            F.max(F.when(F.col("price") > 0, F.struct("seen_at", "price", "currency"))).alias("last_price"),
            *[_last_known(name) for name in kept],
        )
    )
    best_first = Window.partitionBy("product_id").orderBy(F.desc("n_lines"), F.desc("last_at"), "title")
    whole = Window.partitionBy("product_id")
    ranked = titles.select(
        "product_id",
        "title",
        F.row_number().over(best_first).alias("_order"),
        F.max("last_at").over(whole).alias("updated_at"),
        *[F.max(f"last_{name}").over(whole).alias(f"last_{name}") for name in ("price", *kept)],
    )
    return ranked.where(F.col("_order") == 1).select(
        "product_id",
        "title",
        *[F.col(f"last_{name}.value").alias(name) for name in kept],
        F.col("last_price.price").alias("price"),
        F.col("last_price.currency").alias("currency"),
        "updated_at",
    )


def _last_known(name: str) -> Column:
    """Return the newest known value of a field as struct(seen_at, value): structs compare by time first."""
    return F.max(F.when(F.col(name).isNotNull(), F.struct("seen_at", F.col(name).alias("value")))).alias(f"last_{name}")


def with_embedding_text(products: DataFrame, recipe: str) -> DataFrame:
    """Add `embedding_text`, built by the profile's recipe, and `text_hash`, its SHA-256 in hex.

    Columns of `fields.extra` have done their work then, and go.
    """
    written = products.withColumn("embedding_text", recipe_text(recipe)).drop(*_extras(products))
    return written.withColumn("text_hash", F.sha2("embedding_text", 256))


def recipe_text(recipe: str) -> Column:
    """Return the text that a recipe makes of a product's fields.

    A recipe names fields in braces; a piece between | bars is left out when a field in it is empty.
    """
    return F.btrim(F.concat(*[F.coalesce(_piece_text(piece), F.lit("")) for piece in recipe.split("|")]))


def _piece_text(piece: str) -> Column:
    """Return the text of one piece of a recipe, NULL when one of its fields is empty."""
    parts: list[Column] = []
    for literal, field in re.findall(r"([^{}]*)(?:{([^}]*)}|$)", piece):
        parts += [F.lit(literal), _field_text(field)] if field else [F.lit(literal)]
    return F.concat(*parts)


def _field_text(field: str) -> Column:
    if field == "category_path":
        return F.when(F.size("category_path") > 0, F.concat_ws(" > ", "category_path"))
    if field == "category":
        return F.element_at("category_path", -1)
    if field == "other_categories":
        return F.array_join("other_categories", "; ")
    return F.col(field if field in RECIPE_FIELDS else f"extra_{field}")
