"""Run a profile's query: Spark SQL that reads the named tables, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date

from pyspark.errors import ParseException, PySparkException
from pyspark.sql import DataFrame, SparkSession

from shelfkin.errors import SourceError
from shelfkin.sources.query_rules import check_resolved, check_written, described
from shelfkin.sources.spark_errors import plain_words

# With these, a query reads files by their paths, and `${env:HOME}` in it becomes what the environment says.
_SWITCHED_OFF = ("spark.sql.runSQLOnFiles", "spark.sql.variable.substitute")


def run_query(session: SparkSession, query: str, tables: Mapping[str, DataFrame], as_of: date, key: str) -> DataFrame:
    """Return the result of a query over `tables`, by name; ``:as_of`` in it is the run's date.

    Raises
    ------
    SourceError
        The query is no single SELECT, reads something else, or names what isn't there; the message says the line, and
        the tables and their columns.
    """
    with _named_query(session, query, tables, key):
        check_written(session, query, tables, key)
        views = {name.lower() for name in tables}
        try:
            for name, table in tables.items():
                table.createOrReplaceTempView(name)
            result = session.sql(query, args={"as_of": as_of})
            check_resolved(session, result, tables, key)
        finally:
            for name in views:
                session.catalog.dropTempView(name)
    names = [name.lower() for name in result.columns]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SourceError(
            f"{key} gives the column {', '.join(twice)} more than once.",
            next_step="Name the columns that you want, or give one of them another name with AS.",
        )
    return result


@contextmanager
def _named_query(session: SparkSession, query: str, tables: Mapping[str, DataFrame], key: str) -> Iterator[None]:
    """Switch off what a query could reach out with, and turn Spark's errors into words that name line and tables."""
    before = {setting: str(session.conf.get(setting)) for setting in _SWITCHED_OFF}
    for setting in _SWITCHED_OFF:
        session.conf.set(setting, "false")
    try:
        yield
    except PySparkException as error:
        raise SourceError(
            f"{key}{_line(error, query)}: {plain_words(error).split('; line ')[0]} {described(tables).capitalize()}.",
            next_step=f"Correct {key} in the profile.",
        ) from None
    finally:
        # Not unset: that would forget what spark-submit was told.
        for setting, value in before.items():
            session.conf.set(setting, value)


def _line(error: PySparkException, query: str) -> str:
    found = re.search(r"line (\d+)", str(error))
    if isinstance(error, ParseException) and found:
        return f", line {found[1]}"
    contexts = error.getQueryContext()
    if contexts and contexts[0].startIndex() >= 0:
        return f", line {query[: contexts[0].startIndex()].count(chr(10)) + 1}"
    return f", line {found[1]}" if found else ""
