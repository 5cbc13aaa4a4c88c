"""Errors of the driver and of SQLAlchemy become errors of this library, by SQLSTATE.

What PostgreSQL says beside the SQLSTATE can repeat values of a row, so none of it is passed on, and neither is the
original error.  The one exception are failed connections: they have no SQLSTATE, and nothing had been sent yet.
"""

import re
from types import TracebackType
from typing import NoReturn

import psycopg
from sqlalchemy.exc import DBAPIError, PendingRollbackError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from secretstore.errors import (
    PermissionDeniedError,
    SchemaOutOfDateError,
    SecretStoreError,
    StoreUnavailableError,
)

_UPGRADE = "run `secretstore db upgrade`"
_TRY_AGAIN = "roll back and try the whole transaction again"

_ROLL_BACK = "an earlier statement of this transaction failed; roll it back first"

_BY_STATE: dict[str, tuple[type[SecretStoreError], str]] = {
    "0A000": (StoreUnavailableError, f"PostgreSQL cannot do this here, or a table has changed meanwhile; {_TRY_AGAIN}"),
    "25006": (
        StoreUnavailableError,
        "this server only reads; connect to the primary (target_session_attrs=read-write)",
    ),
    "25P02": (StoreUnavailableError, _ROLL_BACK),
    "26000": (StoreUnavailableError, f"a prepared statement was dropped by someone else; {_TRY_AGAIN}"),
    "3D000": (StoreUnavailableError, "the database does not exist; create it or correct the URL"),
    "3F000": (SchemaOutOfDateError, f"the schema of the secret store is missing; {_UPGRADE}"),
    "40001": (StoreUnavailableError, f"another transaction was in the way; {_TRY_AGAIN}"),
    "40P01": (StoreUnavailableError, f"PostgreSQL broke up a deadlock; {_TRY_AGAIN}"),
    "42501": (
        PermissionDeniedError,
        (
            "the database role may not do this; grant it USAGE on schema secretstore, and the tables; what grants let it do "
            "says `secretstore grants explain`, and keys, limits of a namespace and upgrades are the owner's"
        ),
    ),
    "42703": (SchemaOutOfDateError, f"a column of the secret store is missing; {_UPGRADE}"),
    "42P05": (StoreUnavailableError, f"a prepared statement is there already, of someone else; {_TRY_AGAIN}"),
    "42P01": (SchemaOutOfDateError, f"a table of the secret store is missing; {_UPGRADE}"),
    "55P03": (StoreUnavailableError, f"a lock was not free in time; {_TRY_AGAIN}"),
    "57014": (StoreUnavailableError, "the statement was cancelled or took longer than statement_timeout"),
}
_BY_CLASS: dict[str, tuple[type[SecretStoreError], str]] = {
    "08": (StoreUnavailableError, f"the connection to PostgreSQL broke; {_TRY_AGAIN}"),
    "28": (PermissionDeniedError, "PostgreSQL refused the login; check role and password"),
    "53": (StoreUnavailableError, "PostgreSQL is out of connections, memory or disk"),
    "57": (StoreUnavailableError, f"PostgreSQL is shutting down or starting; {_TRY_AGAIN}"),
}
# After these the whole transaction, tried again, may succeed: conflicts, locks, servers that shut down, start or only read,
# and statements that are not prepared as this library remembers; it forgets them, and COMMIT is none of them.
_TRANSIENT = frozenset({"25006", "26000", "40001", "40P01", "42P05", "55P03", "57P01", "57P02", "57P03", "57P05"})
# After these nobody knows whether a COMMIT was carried out.
_LOST = frozenset({"40003", "57P01", "57P02", "57P03"})
# libpq gives no SQLSTATE for a failed connection.  A server that speaks another language gets the general answer.
_BY_WORDS: tuple[tuple[str, type[SecretStoreError], str], ...] = (
    ("password authentication failed", PermissionDeniedError, "the role or its password is wrong"),
    (
        "no password supplied",
        PermissionDeniedError,
        "the server asks for a password; put it into the URL or PGPASSFILE",
    ),
    ("no pg_hba.conf entry", PermissionDeniedError, "the server's pg_hba.conf does not let this role in from here"),
    ("permission denied for database", PermissionDeniedError, "the role may not connect to this database"),
    ("is not permitted to log in", PermissionDeniedError, "the role may not log in"),
    ('role ".*" does not exist', PermissionDeniedError, "the role does not exist; create it or correct the URL"),
    (
        'database ".*" does not exist',
        StoreUnavailableError,
        "the database does not exist; create it or correct the URL",
    ),
    ("too many (clients|connections)|connection slots", StoreUnavailableError, "it is out of connections"),
    (
        "not (currently |yet )?accepting connections|starting up|shutting down|recovery mode",
        StoreUnavailableError,
        "it takes no connections now; try again later",
    ),
    (
        "could not translate host name|failed to resolve host|name or service not known",
        StoreUnavailableError,
        "the host name is not known; correct the URL",
    ),
    ("refused", StoreUnavailableError, "nothing listens there; start the server or correct the URL"),
    ("no such file", StoreUnavailableError, "there is no such socket; start the server or correct the URL"),
    ("timeout|timed out", StoreUnavailableError, "it did not answer in time"),
)


class translated:  # noqa: N801 - reads as a verb: `with translated():`
    """Turn every database error of the block into one of ours, which keeps nothing of the original.

    An error that came up while the block was being left because of Ctrl-C, an exit or a cancelled task does not hide that.
    """

    def __enter__(self) -> None:
        """Begin to watch."""

    def __exit__(
        self, _: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> None:
        """Raise our error in place of theirs; any other error passes as it is."""
        theirs = _ours(error)
        ours = theirs and (_interruption_behind(error) or theirs)
        # This frame becomes a part of our error's traceback, and some tools show the locals of every frame.
        del error, frames
        if ours is not None:
            _raise_alone(ours)


def _interruption_behind(error: BaseException | None) -> BaseException | None:
    """Return what told the program to end before the error came up, as when a roll back fails on a busy connection."""
    while error is not None and isinstance(error, Exception):
        error = error.__context__
    return error


def _ours(error: BaseException | None) -> SecretStoreError | None:
    if isinstance(error, DBAPIError):
        return _of_statement(error)
    if isinstance(error, psycopg.Error):
        return _of_driver(error, connecting=error.pgconn is not None)
    if isinstance(error, PoolTimeoutError):
        return StoreUnavailableError("no connection of the pool was free in time; make the pool larger")
    if isinstance(error, PendingRollbackError):
        return StoreUnavailableError(_ROLL_BACK)
    return None


def _of_statement(error: DBAPIError) -> SecretStoreError:
    if not isinstance(error.orig, psycopg.Error):
        return _unknown(None)
    # An error of BEGIN or COMMIT has no statement either, but there was a connection to be lost.
    return _of_driver(error.orig, connecting=error.statement is None and not error.connection_invalidated)


def _of_driver(error: psycopg.Error, *, connecting: bool) -> SecretStoreError:
    state = error.sqlstate
    if state is not None:
        kind, hint = _BY_STATE.get(state) or _BY_CLASS.get(state[:2]) or (None, "")
        return _of_kind(kind, f"{hint} (SQLSTATE {state})", state) if kind else _unknown(state)
    if not isinstance(error, psycopg.OperationalError):
        return _unknown(None)
    if connecting:
        return _of_connecting(error)
    return StoreUnavailableError(f"the connection to PostgreSQL broke; {_TRY_AGAIN}", is_transient=True, was_lost=True)


def _of_kind(kind: type[SecretStoreError], message: str, state: str) -> SecretStoreError:
    if kind is not StoreUnavailableError:
        return kind(message)
    is_broken = state.startswith("08")
    return StoreUnavailableError(
        message,
        is_transient=is_broken or state in _TRANSIENT,
        was_lost=is_broken or state in _LOST,
        was_unreached=state == "25006",
    )


def _of_connecting(error: psycopg.OperationalError) -> SecretStoreError:
    words = str(error).lower()
    for said, kind, hint in _BY_WORDS:
        if re.search(said, words):
            message = f"cannot connect to PostgreSQL{_address(error)}: {hint}"
            return _unreached(message) if kind is StoreUnavailableError else kind(message)
    return _unreached(f"cannot connect to PostgreSQL{_address(error)}; is it running, and is the URL right?")


def _unreached(message: str) -> StoreUnavailableError:
    # A server that restarts is refused, missing or silent for a while, and its name may be unknown meanwhile.
    return StoreUnavailableError(message, is_transient=True, was_unreached=True)


def _address(error: psycopg.Error) -> str:
    connection = error.pgconn
    if connection is None:
        return ""
    host, port, database, user = (
        part.decode(errors="replace") for part in (connection.host, connection.port, connection.db, connection.user)
    )
    return f" at {host}:{port}, database {database!r}, as {user!r}"


def _unknown(state: str | None) -> SecretStoreError:
    where = f"SQLSTATE {state}" if state else "no SQLSTATE"
    return SecretStoreError(f"PostgreSQL refused a statement of the secret store ({where}); its server log says why")


def _raise_alone(error: BaseException) -> NoReturn:
    try:
        raise error from None
    finally:
        # `from None` only hides the original; whoever walks the context would still find its text.
        error.__context__ = None
