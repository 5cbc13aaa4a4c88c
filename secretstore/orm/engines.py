"""Engines from URLs, sync and async.

Prepared statements are off, because behind a pooler in transaction mode they can hand one client another client's rows.
Parameters are hidden from SQLAlchemy's logs and errors.

A pool keeps 10 connections, and opens 10 more where all are in use; whoever gets none in 10 seconds is told.  The one that
was used last is used next, so that the others can be closed by whoever stands between.  No ping goes before a statement:
PostgreSQL or a pooler that has closed a connection has told its socket so, which is looked at without a round trip.  A
server that has gone without a word is found by TCP: after 60 seconds of silence, or of data that nobody acknowledges.
"""

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sqlalchemy import Engine, create_engine, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DisconnectionError, InvalidatePoolError
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection, PoolResetState

from secretstore.errors import ConfigurationError
from secretstore.orm import wire

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

_DRIVER = "postgresql+psycopg"
_CONNECT_TIMEOUT_SECONDS = 10
_POOL = {"pool_size": 10, "max_overflow": 10, "pool_timeout": 10, "pool_use_lifo": True}
# libpq leaves them out on sockets that are no TCP.
_TCP = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3, "tcp_user_timeout": 60_000}
_PID = "secretstore_pid"
_WANTED = "write postgresql://user@host:port/database"


def make_engine(url: str, *, prepared_statements: bool = False, libpq: bool = True) -> Engine:
    """Return an engine for a libpq or SQLAlchemy URL; connects at first use.

    Danger: `prepared_statements` is for connections that no pooler in transaction mode stands behind.  Without `libpq` all
    statements go by psycopg's cursor, see `wire`.
    """
    engine = create_engine(f"{_DRIVER}://", **_options(url, prepared_statements=prepared_statements, libpq=libpq))
    _care_for(engine)
    return engine


def make_async_engine(url: str, *, prepared_statements: bool = False, libpq: bool = True) -> "AsyncEngine":
    """Return an async engine for a libpq or SQLAlchemy URL, as `make_engine` does."""
    from sqlalchemy.ext.asyncio import create_async_engine  # noqa: PLC0415 - who blocks does not wait for it

    engine = create_async_engine(f"{_DRIVER}://", **_options(url, prepared_statements=prepared_statements, libpq=libpq))
    _care_for(engine.sync_engine)
    return engine


def place_of(url: str) -> str:
    """Return host, port and database of a URL, and nothing else of it: neither role nor password."""
    parameters = {"host": "", "port": "", "dbname": "", **_connection_parameters(url)}
    host, port = str(parameters["host"]), str(parameters["port"])
    return f"{host}{port and ':'}{port}/{parameters['dbname']}"


def _options(url: str, *, prepared_statements: bool, libpq: bool) -> dict[str, Any]:
    defaults = {
        **_TCP,
        "connect_timeout": _CONNECT_TIMEOUT_SECONDS,
        "fallback_application_name": "secretstore",
        # Past the cursor they are prepared by `wire`, and psycopg must not drop them together with its own.
        "prepare_threshold": 5 if prepared_statements and not libpq else None,
    }
    return {
        **_POOL,
        # As arguments and not as a URL: an engine shows its URL in its repr.
        "connect_args": defaults | _connection_parameters(url),
        "execution_options": {wire.PREPARED: prepared_statements, wire.LIBPQ: libpq},
        "hide_parameters": True,
        # By `_reset`.
        "pool_reset_on_return": None,
    }


def _care_for(engine: Engine) -> None:
    event.listen(engine, "connect", _remember_process)
    event.listen(engine, "checkout", _check_alive)
    event.listen(engine, "reset", _reset)


def _remember_process(_: DBAPIConnection, record: ConnectionPoolEntry) -> None:
    record.info[_PID] = os.getpid()


def _check_alive(_: DBAPIConnection, record: ConnectionPoolEntry, lent: PoolProxiedConnection) -> None:
    """Raise what makes the pool connect anew, where the server has closed a connection, or it is another process's."""
    if record.info[_PID] != os.getpid():
        # After a fork: the parent goes on using it, so nothing may be said on it, not even farewell.
        record.dbapi_connection = lent.dbapi_connection = None  # type: ignore[misc] # SQLAlchemy's own recipe
        raise DisconnectionError
    if wire.is_closed_by_server(record.driver_connection):
        raise InvalidatePoolError


def _reset(connection: DBAPIConnection, record: ConnectionPoolEntry, state: PoolResetState) -> None:
    """Roll back what is under way; a connection at rest, as after most calls, needs nothing."""
    if not state.terminate_only and not wire.is_free(record.driver_connection):
        connection.rollback()


def _connection_parameters(url: str) -> dict[str, Any]:
    """Return libpq's parameters; raises `ConfigurationError`, which never repeats the URL: it may hold a password."""
    scheme = url.partition("://")[0]
    if scheme == _DRIVER:
        return _from_sqlalchemy_url(url)
    if scheme not in ("postgresql", "postgres"):
        raise ConfigurationError(f"the database URL does not begin with postgresql://; {_WANTED}")
    try:
        return dict(conninfo_to_dict(url))
    except psycopg.Error:
        pass
    raise ConfigurationError(f"the database URL is not one that libpq understands; {_WANTED}")


def _from_sqlalchemy_url(url: str) -> dict[str, Any]:
    with suppress(ArgumentError, ValueError, psycopg.Error):
        _, parameters = make_url(url).get_dialect()().create_connect_args(make_url(url))
        # libpq knows its own parameters only, and not what psycopg takes beside them: `prepare_threshold` is not the URL's.
        return dict(conninfo_to_dict(make_conninfo(**parameters)))
    # Outside the block: an error of libpq's form must not carry the one above, which can repeat a part of the URL.
    return _connection_parameters(url.replace(_DRIVER, "postgresql", 1))
