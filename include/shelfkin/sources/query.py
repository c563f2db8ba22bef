"""Run a profile's query: Spark SQL that reads the named tables, and nothing else."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from importlib import resources
from typing import Any

from pyspark.errors import ParseException, PySparkException
from pyspark.sql import DataFrame, SparkSession

from shelfkin.errors import SourceError, without_controls
from shelfkin.sources.spark_errors import plain_words

_SQL = tomllib.loads(resources.files(__package__).joinpath("sql.toml").read_text("utf-8"))
_READING, _CALLS_JAVA, _UNREPEATABLE = (frozenset(_SQL[name].split()) for name in ("reading", "java", "unrepeatable"))


def run_query(session: SparkSession, query: str, tables: Mapping[str, DataFrame], as_of: date, key: str) -> DataFrame:
    """Return the result of a query over `tables`, by name; ``:as_of`` in it is the run's date.

    Raises
    ------
    SourceError
        The query is no single SELECT, reads something else, or names what isn't there; the message says the line, and
        the tables and their columns.
    """
    with _named_query(session, query, tables, key):
        _check(session, query, tables, key)
        views = {name.lower() for name in tables}
        try:
            for name, table in tables.items():
                table.createOrReplaceTempView(name)
            result = session.sql(query, args={"as_of": as_of})
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


def _check(session: SparkSession, query: str, tables: Mapping[str, DataFrame], key: str) -> None:
    """Raise SourceError if the query does anything but read the named tables."""
    jvm_session: Any = session._jsparkSession
    plan = jvm_session.sessionState().sqlParser().parsePlan(query)
    parts = list(_plans(plan))
    for part in parts:
        kind = part.getClass().getSimpleName()
        if kind not in _READING:
            raise _refused(query, part, key, f"a query may only read; this is {_words(kind)}")
    known = {name.lower() for name in tables} | {name for part in parts for name in _cte_names(part)}
    for part in parts:
        if part.getClass().getSimpleName() == "UnresolvedRelation":
            name = part.multipartIdentifier()
            if name.size() != 1 or name.head().lower() not in known:
                what = f"there is no table {name.mkString('.')}"
                raise _refused(query, part, key, f"{what}; {described(tables)}")
    for part in parts:
        for function, node in _functions(part):
            if function in _CALLS_JAVA:
                raise _refused(query, node, key, f"{function}() may not be called")
            if function in _UNREPEATABLE:
                raise _refused(query, node, key, f"{function}() differs from run to run; :as_of is the date of the run")


def _plans(plan: Any) -> Iterator[Any]:
    """Yield a parsed plan's parts: its children, its WITH clauses, and the subqueries of its expressions."""
    yield plan
    for found in (plan.children(), plan.innerChildren(), plan.subqueries()):
        for position in range(found.size()):
            part = found.apply(position)
            if "LogicalPlan" in _ancestors(part):
                yield from _plans(part)


def _ancestors(part: Any) -> list[str]:
    names, kind = [], part.getClass()
    while kind is not None:
        names.append(kind.getSimpleName())
        kind = kind.getSuperclass()
    return names


def _cte_names(part: Any) -> Iterator[str]:
    if part.getClass().getSimpleName() == "UnresolvedWith":
        relations = part.cteRelations()
        for position in range(relations.size()):
            yield str(relations.apply(position)._1()).lower()


def _functions(part: Any) -> Iterator[tuple[str, Any]]:
    """Yield the functions that a part of a plan calls, by name in lower case, with their nodes."""
    waiting = [part.expressions()]
    while waiting:
        found = waiting.pop()
        for position in range(found.size()):
            node = found.apply(position)
            kind = node.getClass().getSimpleName()
            if kind == "UnresolvedFunction":
                yield str(node.nameParts().last()).lower(), node
            elif kind == "ExpressionWithUnresolvedIdentifier":
                yield "reflect", node
            elif kind == "UnresolvedAttribute" and node.nameParts().size() == 1:
                yield str(node.nameParts().head()).lower().replace("()", ""), node
            waiting.append(node.children())


def _words(kind: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", kind).removeprefix("Unresolved ").removesuffix(" Statement").upper()


def _refused(query: str, node: Any, key: str, why: str) -> SourceError:
    line = node.origin().line()
    where = f", line {line.get()}" if line.isDefined() else ""
    return SourceError(f"{key}{where}: {why}.", next_step=f"Correct {key} in the profile.")


@contextmanager
def _named_query(session: SparkSession, query: str, tables: Mapping[str, DataFrame], key: str) -> Iterator[None]:
    """Let `session` read no file by its path, and turn its errors into words that name line, tables and columns."""
    session.conf.set("spark.sql.runSQLOnFiles", "false")
    try:
        yield
    except PySparkException as error:
        raise SourceError(
            f"{key}{_line(error, query)}: {plain_words(error).split('; line ')[0]} {described(tables).capitalize()}.",
            next_step=f"Correct {key} in the profile.",
        ) from None
    finally:
        session.conf.unset("spark.sql.runSQLOnFiles")


def _line(error: PySparkException, query: str) -> str:
    found = re.search(r"line (\d+)", str(error))
    if isinstance(error, ParseException) and found:
        return f", line {found[1]}"
    contexts = error.getQueryContext()
    if contexts and contexts[0].startIndex() >= 0:
        return f", line {query[: contexts[0].startIndex()].count(chr(10)) + 1}"
    return f", line {found[1]}" if found else ""


def described(tables: Mapping[str, DataFrame]) -> str:
    """Return the tables that a query may read, with their columns."""
    listed = "; ".join(f"{name} ({', '.join(table.columns)})" for name, table in tables.items())
    return without_controls(f"tables are {listed}")
