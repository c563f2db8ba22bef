"""What Spark says when something can't be read, in plain words and without secrets."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException

from shelfkin.errors import SourceError, without_controls

SPARK_ERRORS = (PySparkException, Py4JJavaError)
# PySpark logs every error with the JVM's stack, whose texts may hold secrets; what a person needs is in the error.
logging.getLogger("SQLQueryContextLogger").setLevel(logging.CRITICAL + 1)
logging.getLogger("DataFrameQueryContextLogger").setLevel(logging.CRITICAL + 1)


def plain_words(error: Exception, secrets: Sequence[str] = ()) -> str:
    """Return the first sentences of an error of Spark's and of its causes: no class names, plans or stacks."""
    said = _messages(error)
    words = [re.sub(r"^\[[A-Z0-9_.]+\] |\s*SQLSTATE: \w+.*$|^[\w.$]+(?:Exception|Error): ", "", each) for each in said]
    sentences = "; ".join(dict.fromkeys(each.strip() for each in words if each.strip()))
    for secret in secrets:
        sentences = sentences.replace(secret, "***")
    return without_controls(sentences[:400])


def _messages(error: Exception) -> list[str]:
    if not isinstance(error, Py4JJavaError):
        return [next(iter(str(error).strip().splitlines()), type(error).__name__)]
    messages: list[str] = []
    cause = error.java_exception
    while cause is not None and len(messages) < 5:
        messages.append(next(iter(str(cause.getMessage() or cause.toString()).strip().splitlines()), ""))
        cause = cause.getCause()
    return messages


@contextmanager
def explained(what: str, key: str, secrets: Sequence[str] = ()) -> Iterator[None]:
    """Turn Spark's errors into a SourceError ``<what>: <plain words>`` that points to the profile's `key`."""
    try:
        yield
    except SPARK_ERRORS as error:
        # Without the cause where it may hold a secret: a traceback would print it.
        raise SourceError(
            f"{what}: {plain_words(error, secrets)}", next_step=f"Check {key} in the profile, and what it names."
        ) from (None if secrets else error)
