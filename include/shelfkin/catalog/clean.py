"""Clean a catalogue: one row per product, with the text that stands for it in the vector space."""

from __future__ import annotations

import re
from datetime import datetime

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F  # noqa: N812
from pyspark.sql import types as T  # noqa: N812

from shelfkin import sources
from shelfkin.catalog import text, written_values
from shelfkin.profile import Catalog, StoreProfile
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

# The levels of a path are tried for these in order; the first that occurs splits it.
_CATEGORY_SEPARATORS = (">", "›", "»", "→", "|", "::", "/")
_LIST_MARK = "\u241f"
_DETAILS = ("title", "description", "brand", "category_path", "price", "currency", "in_stock")


def wanted_columns(profile: StoreProfile) -> dict[str, str]:
    """Return the raw column that each profile key asks for."""
    wanted: dict[str, str] = {}
    for name, column in profile.catalog.fields.model_dump(exclude_none=True).items():
        columns = [column] if isinstance(column, str) else column
        for position, each in enumerate(columns):
            suffix = "" if isinstance(column, str) else f"[{position}]"
            wanted[f"catalog.fields.{name}{suffix}"] = each
    if profile.catalog_events is not None:
        fields = profile.catalog_events.fields
        wanted["events.fields.occurred_at"] = fields.occurred_at
        if fields.price is not None:
            wanted["events.fields.price"] = fields.price
        if fields.event_type is not None:
            wanted["events.fields.event_type"] = fields.event_type
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
        product_id, title, description, brand, category_path, price, currency, in_stock, seen_at (timestamp: of the
        last update, or of the order line), after_as_of, price_unread (a price was written but can't be read),
        description_cut, row_hash, reason and detail (NULL for good rows), raw (JSON; only for rows turned away).
    """
    catalog = profile.catalog
    fields = catalog.fields
    events = profile.catalog_events
    price_column = fields.price if fields.price or events is None else events.fields.price
    titles = [f"title_{position}" for position, _ in enumerate(_columns(fields.title))]
    levels = [f"level_{position}" for position, _ in enumerate(_columns(fields.category_path))]
    texts = raw.frame.select(
        sources.normalised_id(fields.product_id, catalog.product_id).alias("product_id"),
        *_texts(titles, [sources.text(column) for column in _columns(fields.title)]),
        sources.text(fields.description).alias("description"),
        sources.text(fields.brand).alias("brand"),
        *_texts(levels, [_level_text(raw, column) for column in _columns(fields.category_path)]),
        sources.text(price_column).alias("written_price"),
        _price(raw, price_column, profile.catalog_source.decimal_mark).alias("price"),
        written_values.parse_in_stock(sources.text(fields.in_stock)).alias("in_stock"),
        _seen_at(raw, profile).alias("seen_at"),
        sources.row_hash().alias("row_hash"),
        "raw",
        "malformed",
    )
    named = [name for name, column in (("description", fields.description), ("brand", fields.brand)) if column]
    cleaned = text.clean_texts(texts, [*titles, *levels, *named])
    parsed = cleaned.select(
        "*",
        _joined_title(titles).alias("title"),
        _category_path(raw, catalog, levels).alias("category_path"),
        (after_as_of("seen_at", cutoff) if catalog.kind == "events" else F.lit(False)).alias("after_as_of"),
    )
    title, path = F.col("title"), F.col("category_path")
    if catalog.fold_shouting:
        title, path = text.fold_shouting(title), F.transform(path, text.fold_shouting)
    has_price = F.col("price").isNotNull()
    currency = written_values.parse_currency(F.col("written_price"), profile.currency)
    too_long = F.length("description") > catalog.max_text_chars
    return judged(parsed, _rules(profile)).select(
        "product_id",
        title.alias("title"),
        text.cut_at_word(F.col("description"), catalog.max_text_chars).alias("description"),
        "brand",
        path.alias("category_path"),
        "price",
        F.when(has_price, currency).alias("currency"),
        "in_stock",
        "seen_at",
        "after_as_of",
        (F.col("written_price").isNotNull() & ~has_price).alias("price_unread"),
        F.coalesce(too_long, F.lit(False)).alias("description_cut"),
        "row_hash",
        F.col("verdict.reason").alias("reason"),
        F.col("verdict.detail").alias("detail"),
        F.when(F.col("verdict.reason") != IGNORED, sources.raw_json()).alias("raw"),
    )


def _columns(named: str | tuple[str, ...] | None) -> tuple[str, ...]:
    if named is None:
        return ()
    return (named,) if isinstance(named, str) else named


def _texts(names: list[str], columns: list[Column]) -> list[Column]:
    return [column.alias(name) for name, column in zip(names, columns, strict=True)]


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
        named = F.exists("category_path", lambda level: level.rlike(str(catalog.not_a_product_category)))
        rules.append(Rule("not_a_product_category", named, shown("category", path)))
    title_column = _columns(catalog.fields.title)[0]
    rules.append(Rule("empty_title", F.col("title").isNull(), shown_raw(title_column)))
    rules.append(Rule("oversize_title", F.length("title") > catalog.max_text_chars, title))
    if catalog.not_a_product is not None:
        rules.append(Rule("not_a_product", F.col("title").rlike(catalog.not_a_product), title))
    return rules


def _joined_title(names: list[str]) -> Column:
    return F.col(names[0]) if len(names) == 1 else F.when(F.col(names[0]).isNotNull(), F.concat_ws(", ", *names))


def _price(raw: RawTable, column: str | None, mark: str | None) -> Column:
    if column is not None and isinstance(raw.type_of(column), T.NumericType):
        amount = sources.number(raw, column)
        return F.when(amount >= 0, amount)
    return written_values.parse_price(sources.text(column), mark)


def _seen_at(raw: RawTable, profile: StoreProfile) -> Column:
    events = profile.catalog_events
    if events is not None:
        return sources.timestamp(raw, events.fields.occurred_at, events.timestamp_format, profile.timezone)
    return sources.timestamp(raw, profile.catalog.fields.updated_at, None, profile.timezone)


def _level_text(raw: RawTable, column: str) -> Column:
    if isinstance(raw.type_of(column), T.ArrayType):
        # Joined, and split again after the repair, at a character that no category holds.
        return F.array_join(sources.value(column).cast("array<string>"), _LIST_MARK)
    return sources.text(column)


def _category_path(raw: RawTable, catalog: Catalog, levels: list[str]) -> Column:
    """Return a product's categories from the widest to the narrowest as array<string>; NULL if it has none.

    Several columns are one level each. A list (JSON text, or an array in the file) is taken as it is; other text is
    split at the profile's separator, else at the first of > › » → | :: / that occurs.
    """
    columns = _columns(catalog.fields.category_path)
    if not columns:
        return F.lit(None).cast("array<string>")
    if len(columns) > 1:
        return _levels(F.array(*levels))
    if isinstance(raw.type_of(columns[0]), T.ArrayType):
        return _levels(F.split(F.col(levels[0]), _LIST_MARK))
    return split_category(F.col(levels[0]), catalog.category_separator)


def split_category(path: Column, separator: str | None) -> Column:
    """Return the levels of a category path written as one text, as array<string>; NULL for none."""
    if separator is not None:
        return _levels(F.split(path, re.escape(separator)))
    listed = F.from_json(path, "array<string>")
    levels = F.array(path)
    for candidate in reversed(_CATEGORY_SEPARATORS):
        levels = F.when(path.contains(candidate), F.split(path, re.escape(candidate))).otherwise(levels)
    is_list = path.startswith("[") & path.endswith("]") & listed.isNotNull()
    return _levels(F.when(is_list, listed).otherwise(levels))


def _levels(parts: Column) -> Column:
    trimmed = F.transform(parts, lambda level: F.btrim(level))
    named = F.filter(trimmed, lambda level: level.isNotNull() & (level != ""))
    return sources.let(named, lambda found: F.when(F.size(found) > 0, found))


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
    return ranked.where(F.col("_order") == 1).select("product_id", *_DETAILS, F.col("seen_at").alias("updated_at"))


def from_order_lines(parsed: DataFrame) -> DataFrame:
    """Return one row per product id sold before the run's date.

    The title is the most frequent one of its lines (ties: the one seen last, then the first by alphabet); the price
    is that of the last line with a positive price (of one moment: the highest); other fields come from the last line
    that has them; `updated_at` is the time of the last line.
    """
    titles = (
        good_rows(parsed)
        .groupBy("product_id", "title")
        .agg(
            F.count("*").alias("n_lines"),
            F.max("seen_at").alias("last_at"),
            F.max(F.when(F.col("price") > 0, F.struct("seen_at", "price", "currency"))).alias("last_price"),
            *[_last_known(name) for name in ("description", "brand", "category_path", "in_stock")],
        )
    )
    best_first = Window.partitionBy("product_id").orderBy(F.desc("n_lines"), F.desc("last_at"), "title")
    whole = Window.partitionBy("product_id")
    ranked = titles.select(
        "product_id",
        "title",
        F.row_number().over(best_first).alias("_order"),
        F.max("last_at").over(whole).alias("updated_at"),
        *[
            F.max(f"last_{name}").over(whole).alias(f"last_{name}")
            for name in ("price", "description", "brand", "category_path", "in_stock")
        ],
    )
    return ranked.where(F.col("_order") == 1).select(
        "product_id",
        "title",
        *[F.col(f"last_{name}.value").alias(name) for name in ("description", "brand", "category_path", "in_stock")],
        F.col("last_price.price").alias("price"),
        F.col("last_price.currency").alias("currency"),
        "updated_at",
    )


def _last_known(name: str) -> Column:
    """Return the newest known value of a field as struct(seen_at, value): structs compare by time first."""
    return F.max(F.when(F.col(name).isNotNull(), F.struct("seen_at", F.col(name).alias("value")))).alias(f"last_{name}")


_FIELDS = {
    "title": lambda: F.col("title"),
    "description": lambda: F.col("description"),
    "brand": lambda: F.col("brand"),
    "category_path": lambda: F.when(F.size("category_path") > 0, F.concat_ws(" > ", "category_path")),
    "category": lambda: F.element_at("category_path", -1),
}


def with_embedding_text(products: DataFrame, recipe: str) -> DataFrame:
    """Add `embedding_text`, built by the profile's recipe, and `text_hash`, its SHA-256 in hex.

    A recipe names fields in braces; a piece between | bars is left out when a field in it is empty.
    """
    pieces = [F.coalesce(_piece_text(piece), F.lit("")) for piece in recipe.split("|")]
    written = F.btrim(F.concat(*pieces))
    return products.withColumn("embedding_text", written).withColumn("text_hash", F.sha2("embedding_text", 256))


def _piece_text(piece: str) -> Column:
    """Return the text of one piece of a recipe, NULL when one of its fields is empty."""
    parts: list[Column] = []
    for literal, field in re.findall(r"([^{}]*)(?:{([^}]*)}|$)", piece):
        parts += [F.lit(literal), _FIELDS[field]()] if field else [F.lit(literal)]
    return F.concat(*parts)
