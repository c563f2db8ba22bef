"""What a profile's query may do: read the named tables, with functions that read nothing else.

A query is looked at twice. As it is written, because Spark already looks up tables, and works out what is constant,
while it resolves names; and as it is resolved, because only there stands what a name came to mean.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from shelfkin.errors import SourceError, without_controls

_SQL = tomllib.loads(resources.files(__package__).joinpath("sql.toml").read_text("utf-8"))
_WRITTEN, _LEAVES, _GROUPS, _ALSO, _NEVER, _TABLE_FUNCTIONS, _UNREPEATABLE = (
    frozenset(_SQL[name].split())
    for name in ("written", "leaves", "groups", "also", "never", "table_functions", "unrepeatable")
)
_MOST_ARGUMENTS: Mapping[str, int] = _SQL["most_arguments"]


def check_written(session: SparkSession, query: str, tables: Mapping[str, DataFrame], key: str) -> None:
    """Raise SourceError if a query, as it is written, does anything but read the named tables."""
    jvm_session: Any = session._jsparkSession
    parts = list(_plans(jvm_session.sessionState().sqlParser().parsePlan(query)))
    known = {name.lower() for name in tables} | {name for part in parts for name in _cte_names(part)}
    functions = _Functions(session)
    for part in parts:
        kind = _kind(part)
        if kind not in _WRITTEN:
            raise _refused(part, key, f"a query may only read; this is {_words(kind)}")
        if kind == "UnresolvedRelation":
            name = part.multipartIdentifier()
            if name.size() != 1 or name.head().lower() not in known:
                raise _refused(part, key, f"there is no table {name.mkString('.')}; {described(tables)}")
        if kind == "UnresolvedTableValuedFunction" and _name(part.name()) not in _TABLE_FUNCTIONS:
            raise _refused(part, key, f"{_name(part.name())}() may not be called as a table")
    for part in parts:
        for node in _expressions(part):
            why = functions.objection(node)
            if why:
                raise _refused(node, key, why)


def check_resolved(session: SparkSession, result: DataFrame, tables: Mapping[str, DataFrame], key: str) -> None:
    """Raise SourceError if a query's names, as Spark resolved them, mean anything but the named tables."""
    known = {name.lower() for name in tables}
    functions = _Functions(session)
    for part in _plans(result._jdf.queryExecution().analyzed()):
        kind = _kind(part)
        if kind == "View":
            name = part.desc().identifier().unquotedString()
            if name.lower() not in known:
                raise _refused(part, key, f"there is no table {name} here; {described(tables)}")
            continue
        if part.children().isEmpty() and kind not in _LEAVES:
            raise _refused(part, key, f"a query may only read its tables; this is {_words(kind)}")
        for node in _expressions(part):
            why = functions.resolved_objection(node)
            if why:
                raise _refused(node, key, why)


def described(tables: Mapping[str, DataFrame]) -> str:
    """Return the tables that a query may read, with their columns."""
    listed = "; ".join(f"{name} ({', '.join(table.columns)})" for name, table in tables.items())
    return without_controls(f"tables are {listed}")


class _Functions:
    """Spark's own functions, by their names and the groups that its documentation lists them in."""

    def __init__(self, session: SparkSession) -> None:
        jvm_session: Any = session._jsparkSession
        self._catalog = jvm_session.sessionState().catalog()
        self._groups: dict[str, str] = {}

    def objection(self, node: Any) -> str:
        """Return what speaks against a call as it is written; nothing for anything but a call."""
        kind = _kind(node)
        if kind == "ExpressionWithUnresolvedIdentifier":
            return "IDENTIFIER() may not be called"
        if kind == "UnresolvedGenerator":
            return self._of(str(node.name().unquotedString()).lower(), node.children().size())
        return self._of(_name(node.nameParts()), node.arguments().size()) if kind == "UnresolvedFunction" else ""

    def resolved_objection(self, node: Any) -> str:
        """Return what speaks against an expression as it is resolved: `user` may be a column or a function."""
        if _kind(node) == "VariableReference":
            return "a variable of the session may not be read"
        name = str(node.prettyName()).lower()
        return self._of(name, 0) if self._group(name) else ""

    def _of(self, name: str, n_arguments: int) -> str:
        group = self._group(name)
        if name in _UNREPEATABLE:
            return f"{name}() differs from run to run; :as_of is the date of the run"
        if name in _NEVER or (group and group not in _GROUPS and name not in _ALSO):
            return f"{name}() may not be called"
        most = _MOST_ARGUMENTS.get(name, n_arguments)
        if n_arguments > most:
            return f"{name}() takes at most {most} argument{'s' * (most > 1)} here: its options can name files"
        return "" if group else f"there is no function {name}()"

    def _group(self, name: str) -> str:
        """Return a built-in function's group; empty for whatever else has that name."""
        if name not in self._groups:
            found = self._catalog.lookupBuiltinOrTempFunction(name)
            built_in = found.isDefined() and found.get().getSource() == "built-in"
            self._groups[name] = str(found.get().getGroup()) if built_in else ""
        return self._groups[name]


def _plans(plan: Any) -> Iterator[Any]:
    """Yield a plan's parts: its children, its WITH clauses, and the subqueries of its expressions; not inside views."""
    yield plan
    if _kind(plan) == "View":
        return
    for found in (plan.children(), plan.innerChildren(), plan.subqueries()):
        for position in range(found.size()):
            part = found.apply(position)
            if "LogicalPlan" in _ancestors(part):
                yield from _plans(part)


def _kind(node: Any) -> str:
    return str(node.getClass().getSimpleName()).removesuffix("$")


def _ancestors(part: Any) -> list[str]:
    names, kind = [], part.getClass()
    while kind is not None:
        names.append(kind.getSimpleName())
        kind = kind.getSuperclass()
    return names


def _cte_names(part: Any) -> Iterator[str]:
    if _kind(part) == "UnresolvedWith":
        relations = part.cteRelations()
        for position in range(relations.size()):
            yield str(relations.apply(position)._1()).lower()


def _expressions(part: Any) -> Iterator[Any]:
    """Yield the expressions of a part of a plan, and what they are made of."""
    waiting = [part.expressions()]
    while waiting:
        found = waiting.pop()
        for position in range(found.size()):
            node = found.apply(position)
            yield node
            waiting.append(node.children())


def _name(parts: Any) -> str:
    """Return a function's name in lower case, without the schema of what is built in."""
    return str(parts.mkString(".")).lower().removeprefix("system.").removeprefix("builtin.")


def _words(kind: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", kind).removeprefix("Unresolved ").removesuffix(" Statement").upper()


def _refused(node: Any, key: str, why: str) -> SourceError:
    line = node.origin().line()
    where = f", line {line.get()}" if line.isDefined() else ""
    return SourceError(f"{key}{where}: {why}.", next_step=f"Correct {key} in the profile.")
