"""How every repository sends a statement: on the session's connection or on one of the pool, with errors translated."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, cast

import psycopg
from sqlalchemy import Connection, Engine, Executable, Result
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, SessionTransaction, scoped_session

from secretstore.orm import statements, wire
from secretstore.orm.lending import Lender, Lent
from secretstore.orm.models import SecretStore
from secretstore.orm.translate import translated

_KNOWN = "secretstore_connection"  # in `Session.info`
_THEIRS = (SQLAlchemyError, psycopg.Error)


def execute(session: Session, statement: Executable, **values: object) -> Result[Any]:
    """Run a statement in the session's transaction."""
    with translated():
        return connection_of(session).execute(statement, statements.parameters(**values))


def fetch(session: Session, statement: Executable, values: Mapping[str, object]) -> Sequence[Any]:
    """Run a hot statement in the session's transaction, and return its rows."""
    try:
        known = _known_of(session)
        connection = known.connection
        prepared = may_prepare(connection)
        if prepared is not None:
            lent = known.lent if known.lent.connection is connection.connection else Lent.of(connection.connection)
            driver = lent.driver
            status = wire.status_of(driver)
            if status == wire.IN_TRANSACTION or (status == wire.IDLE and wire.begins_plainly(driver)):
                try:
                    if status == wire.IDLE:
                        wire.begin(driver)
                    return wire.fetch(driver, statement, values, kept=lent.info if prepared else None)
                except BaseException as error:
                    if not isinstance(error, Exception) or wire.is_lost(driver):
                        connection.invalidate()
                    raise
        return connection.execute(statement, statements.parameters(**values)).all()
    except _THEIRS:
        with translated():
            raise


def fetch_outside(lender: Lender, statement: Executable, values: Mapping[str, object]) -> Sequence[Any]:
    """Run a statement that reads as a transaction of its own, and return its rows."""
    engine = lender.engine
    try:
        prepared = may_prepare(engine)
        if prepared is not None:
            lent = lender.take()
            try:
                if lent.is_free:
                    return wire.fetch(lent.driver, statement, values, kept=lent.info if prepared else None)
            finally:
                lender.give_back(lent)
        with engine.begin() as connection:
            return connection.execute(statement, statements.parameters(**values)).all()
    except _THEIRS:
        with translated():
            raise


def may_prepare(bind: Connection | Engine) -> bool | None:
    """Return whether hot statements may be prepared; None where they have to go by SQLAlchemy.

    They have to where someone logs, counts, traces or rewrites what it sends, and where the engine's options say so.
    """
    options = bind.get_execution_options()
    if (
        is_listened_to(bind)
        or not options.get(wire.LIBPQ, True)
        or "schema_translate_map" in options
        or bind.engine.logger.isEnabledFor(logging.INFO)
    ):
        return None
    return bool(options.get(wire.PREPARED))


def is_listened_to(bind: Connection | Engine) -> bool:
    """Return whether someone listens to SQLAlchemy's events of connections, which are those of statements, too."""
    # SQLAlchemy's own mark; to ask `dispatch` takes as long as half of all else here.  Without the mark someone does.
    return bool(getattr(bind, "_has_events", True) or getattr(bind.engine, "_has_events", True))


def connection_of(session: Session) -> Connection:
    """Return the connection of the tables of ours."""
    return _known_of(session).connection


def _known_of(session: Session) -> "_Known":
    # The session's own execute would flush the caller's pending objects and mix their errors with ours.
    own = session_of(session)
    known: _Known | None = own.info.get(_KNOWN)
    if known is None or not known.holds(own):
        known = own.info[_KNOWN] = _Known.asked(own)
    return known


def session_of(session: Session | scoped_session[Session]) -> Session:
    """Return a session as it is, and of a registry of sessions the one of this place."""
    return session() if isinstance(session, scoped_session) else session


@dataclass(frozen=True, slots=True)
class _Known:
    """The connection that a session gave: to ask it again and again takes longer than PostgreSQL takes to read."""

    connection: Connection
    lent: Lent
    root: SessionTransaction
    # A session sets the savepoint when it is first asked for a connection in it.
    savepoint: SessionTransaction | None
    bind: Engine | Connection

    @classmethod
    def asked(cls, session: Session) -> Self:
        """Ask a session."""
        connection = session.connection({"mapper": SecretStore})
        # There is one, because of the connection.
        root = cast("SessionTransaction", session.get_transaction())
        savepoint = session.get_nested_transaction()
        return cls(connection, Lent.of(connection.connection), root, savepoint, session.get_bind(SecretStore))

    def holds(self, session: Session) -> bool:
        """Return whether the session would give the same again, and nothing else would come of it."""
        return (
            self.root is session.get_transaction()
            and self.savepoint is session.get_nested_transaction()
            and (self.savepoint or self.root).is_active
            and self.bind is session.get_bind(SecretStore)
        )
