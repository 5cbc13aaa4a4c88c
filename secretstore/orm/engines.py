"""Engines from URLs, sync and async.

Prepared statements are off, because behind a pooler in transaction mode they can hand one client another client's rows.
Parameters are hidden from SQLAlchemy's logs and errors.
"""

from contextlib import suppress
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sqlalchemy import Engine, create_engine, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from secretstore.errors import ConfigurationError

_DRIVER = "postgresql+psycopg"
_CONNECT_TIMEOUT_SECONDS = 10
_WANTED = "write postgresql://user@host:port/database"


def make_engine(url: str) -> Engine:
    """Return an engine for a libpq or SQLAlchemy URL; connects at first use."""
    return create_engine(f"{_DRIVER}://", **_options(url))


def make_async_engine(url: str) -> AsyncEngine:
    """Return an async engine for a libpq or SQLAlchemy URL; connects at first use."""
    return create_async_engine(f"{_DRIVER}://", **_options(url))


def _options(url: str) -> dict[str, Any]:
    defaults = {
        "connect_timeout": _CONNECT_TIMEOUT_SECONDS,
        "fallback_application_name": "secretstore",
        "prepare_threshold": None,
    }
    return {
        # As arguments and not as a URL: an engine shows its URL in its repr.
        "connect_args": defaults | _connection_parameters(url),
        "hide_parameters": True,
        "pool_pre_ping": True,
    }


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
