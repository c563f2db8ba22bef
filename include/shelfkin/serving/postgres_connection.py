"""Connecting to a shop's Postgres, with errors that say what to do and never show its password."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr

from shelfkin.errors import PublishError, PublishUnavailableError, ShelfkinError, without_controls

CONNECT_TIMEOUT_S = 10
# DETACH PARTITION ... CONCURRENTLY came with 14.
OLDEST_SERVER = 140_000
_MASK = "***"

# What libpq says when the server answered and refused for good. It gives no code before there is a connection, and a
# server that speaks another language is only asked once more by Airflow.
_REFUSED_FOR_GOOD = ("authentication failed", "no password supplied", "does not exist", "no pg_hba.conf entry")
_CHECK_URL = "Check user, password, host and database in SHELFKIN_PUBLISH_POSTGRES; nothing that is served has changed."
# SQLSTATE classes and codes that pass: connection lost, no resources, rolled back, shut down or cancelled, locked.
_PASSING = ("08", "53", "40", "57", "55P03")
_NO_PRIVILEGE = "42501"


@contextmanager
def connected(url: SecretStr, application_name: str) -> Iterator[psycopg.Connection]:
    """Open a connection in autocommit mode for the length of the block, and translate its errors.

    Parameters
    ----------
    url
        libpq URL.
    application_name
        What the shop's administrator sees in ``pg_stat_activity``.

    Raises
    ------
    PublishUnavailableError
        The server can't be reached, broke off or is busy.
    PublishError
        The server refused for good, is too old, or doesn't store UTF-8.
    """
    try:
        with _connect(url, application_name) as db:
            _check_server(db)
            yield db
    except psycopg.Error as error:
        # `from None`: the original would be printed above ours, unmasked.
        raise translate(error, url) from None


def _connect(url: SecretStr, application_name: str) -> psycopg.Connection:
    try:
        return psycopg.connect(
            url.get_secret_value(),
            autocommit=True,
            connect_timeout=CONNECT_TIMEOUT_S,
            application_name=application_name,
            client_encoding="utf8",
            prepare_threshold=None,
        )
    except psycopg.ProgrammingError:
        # libpq quotes the piece that it couldn't read, which may be a piece of the password.
        raise PublishError(
            "SHELFKIN_PUBLISH_POSTGRES is not a URL that libpq can read.",
            next_step="Write postgresql://user:password@host:5432/database, with %-encoded special characters.",
        ) from None


def _check_server(db: psycopg.Connection) -> None:
    if db.info.server_version < OLDEST_SERVER:
        raise PublishError(
            f"The server is Postgres {db.info.server_version // 10_000}; published tables need 14 or newer.",
            next_step="Publish to a newer server, or unset SHELFKIN_PUBLISH_POSTGRES.",
        )
    encoding = db.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise PublishError(
            f"The database stores text as {encoding}; titles need UTF8.",
            next_step="Create one: CREATE DATABASE shop ENCODING 'UTF8' TEMPLATE template0.",
        )


def translate(error: psycopg.Error, url: SecretStr) -> ShelfkinError:
    """Return what a database error means for a publish, without anything of the URL that is secret."""
    code = error.sqlstate or ""
    parts = [str(error.diag.message_primary or error), error.diag.message_detail or "", error.diag.context or ""]
    text = masked(". ".join(" ".join(part.split()) for part in parts if part), url)[:800]
    if not code:
        if any(words in text for words in _REFUSED_FOR_GOOD):
            return PublishError(f"Postgres refused the connection: {text}.", next_step=_CHECK_URL)
        return PublishUnavailableError(f"Postgres can't be reached: {text}.", next_step=_CHECK_URL)
    if code == _NO_PRIVILEGE:
        return PublishError(
            f"Postgres refused ({code}): {text}.",
            next_step="Grant it (docs/serving.md lists what publishing needs), or publish as the owner of the schema.",
        )
    if code.startswith(_PASSING):
        return PublishUnavailableError(
            f"Postgres broke off ({code}): {text}.",
            next_step="Nothing that is served has changed. Airflow tries again; if it goes on, ask the database's "
            "administrator.",
        )
    return PublishError(
        f"Postgres refused ({code}): {text}.",
        next_step="Nothing that is served has changed. Correct what the message names and clear the task.",
    )


def masked(text: str, url: SecretStr) -> str:
    """Return `text` as one line without the URL and its password, plain or percent-encoded."""
    secret = url.get_secret_value()
    hidden = {secret, secret.rpartition("@")[0].partition("://")[2].partition(":")[2]}
    try:
        given = conninfo_to_dict(secret)
    except psycopg.ProgrammingError:
        given = {}
    hidden |= {str(given.get(name) or "") for name in ("password", "sslpassword")}
    for value in sorted(hidden - {""}, key=len, reverse=True):
        text = text.replace(value, _MASK)
    return without_controls(text)
