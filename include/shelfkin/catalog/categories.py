"""Read the categories of a product: a path from the widest to the narrowest, or several of them side by side."""

from __future__ import annotations

import re

from pyspark.sql import Column
from pyspark.sql import functions as F  # noqa: N812
from pyspark.sql import types as T  # noqa: N812

from shelfkin import sources
from shelfkin.profile import Catalog, columns_of
from shelfkin.sources import RawTable
from shelfkin.values.missing import constant

# The levels of a path are tried for these in order; the first that occurs splits it.
_SEPARATORS = (">", "›", "»", "→", "|", "::", "/")
_LIST_MARK = "\u241f"


def level_text(raw: RawTable, column: str) -> Column:
    """Return a raw column of categories as text for the repair."""
    if isinstance(raw.type_of(column), T.ArrayType):
        # Joined, and split again after the repair, at a character that no category holds.
        return F.array_join(sources.value(column).cast("array<string>"), _LIST_MARK)
    return sources.text(column)


def memberships(raw: RawTable, catalog: Catalog, levels: list[str], missing: list[str]) -> Column:
    """Return a product's category paths as array<array<string>>, empty if it has none.

    Several columns are one level each. A list (JSON text, or an array in the file) is taken as one path. Other text
    holds one path or several, between the profile's `parallel_separator`; each is split at its `category_separator`,
    else at the first of > › » → | :: / that occurs.

    Parameters
    ----------
    levels
        The columns of repaired text, one for each raw column.
    missing
        Words that mean no category.
    """
    columns = columns_of(catalog.fields.category_path)
    if not columns:
        return F.array().cast("array<array<string>>")
    if len(columns) > 1:
        return _paths(F.array(F.array(*levels)), missing)
    if isinstance(raw.type_of(columns[0]), T.ArrayType):
        return _paths(F.array(F.split(F.col(levels[0]), _LIST_MARK)), missing)
    return split_categories(F.col(levels[0]), catalog.category_separator, catalog.parallel_separator, missing)


def split_categories(
    written: Column, separator: str | None, parallel: str | None, missing: list[str] | None = None
) -> Column:
    """Return the category paths of one text as array<array<string>>, empty for none."""
    listed = F.from_json(written, "array<string>")
    is_list = written.startswith("[") & written.endswith("]") & listed.isNotNull()
    paths = F.array(_split(written, separator))
    if parallel is not None and parallel != separator:
        several = F.transform(F.split(written, re.escape(parallel)), lambda path: _split(path, separator))
        paths = F.when(written.contains(parallel), several).otherwise(paths)
    if separator is None:
        paths = F.when(is_list, F.array(listed)).otherwise(paths)
    return _paths(paths, missing or [])


def _split(path: Column, separator: str | None) -> Column:
    if separator is not None:
        return F.split(path, re.escape(separator))
    levels = F.array(path)
    for candidate in reversed(_SEPARATORS):
        levels = F.when(path.contains(candidate), F.split(path, re.escape(candidate))).otherwise(levels)
    return levels


def _paths(parts: Column, missing: list[str]) -> Column:
    """Return paths of trimmed levels without blank ones; what is left empty is no path."""

    nothing = constant(["", *missing], "array<string>")

    def named(path: Column) -> Column:
        trimmed = F.transform(path, lambda level: F.btrim(level))
        return F.filter(trimmed, lambda level: level.isNotNull() & ~F.array_contains(nothing, level))

    return F.filter(F.transform(F.coalesce(parts, F.array()), named), lambda path: F.size(path) > 0)


def main_path(paths: Column) -> Column:
    """Return the path with the most levels, of equal ones the first: it says the most; NULL for none."""
    return F.aggregate(
        paths,
        F.lit(None).cast("array<string>"),
        lambda best, path: F.when(F.size(path) > F.coalesce(F.size(best), F.lit(0)), path).otherwise(best),
    )


def others(paths: Column) -> Column:
    """Return the paths beside the main one as text, such as "Food > Tea"; NULL for none."""
    beside = F.filter(paths, lambda path: path != main_path(paths))
    return F.when(F.size(paths) > 1, F.transform(beside, lambda path: F.array_join(path, " > ")))
