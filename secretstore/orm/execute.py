"""How every repository sends a statement: on the session's connection or on one of the pool, with errors translated."""

import logging
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Engine, Executable, Result
from sqlalchemy.orm import Session

from secretstore.orm import statements, wire
from secretstore.orm.models import SecretStore
from secretstore.orm.translate import translated


def execute(session: Session, statement: Executable, **values: object) -> Result[Any]:
    """Run a statement in the session's transaction."""
    with translated():
        return _connection_of(session).execute(statement, statements.parameters(**values))


def fetch(session: Session, statement: Executable, **values: object) -> Sequence[Any]:
    """Run a hot statement in the session's transaction, and return its rows."""
    with translated():
        connection = _connection_of(session)
        driver = connection.connection.driver_connection
        begins = wire.begins_plainly(driver)
        if is_observed(connection) or not (begins or wire.is_in_transaction(driver)):
            return connection.execute(statement, statements.parameters(**values)).all()
        try:
            if begins:
                wire.begin(driver)
            return wire.fetch(connection.connection, statement, values, prepared=_may_prepare(connection))
        except BaseException as error:
            if not isinstance(error, Exception) or wire.is_lost(driver):
                connection.invalidate()
            raise


def fetch_outside(engine: Engine, statement: Executable, **values: object) -> Sequence[Any]:
    """Run a statement that reads as a transaction of its own, and return its rows."""
    with translated():
        if not is_observed(engine):
            lent = engine.raw_connection()
            try:
                if wire.is_free(lent.driver_connection):
                    return wire.fetch(lent, statement, values, prepared=_may_prepare(engine))
            except BaseException:
                if not wire.is_free(lent.driver_connection):
                    lent.invalidate()
                raise
            finally:
                lent.close()
        with engine.begin() as connection:
            return connection.execute(statement, statements.parameters(**values)).all()


def is_observed(bind: Connection | Engine) -> bool:
    """Return whether every statement has to go by SQLAlchemy: someone logs, counts, traces or rewrites what it sends."""
    options = bind.get_execution_options()
    return bool(
        not options.get(wire.LIBPQ, True)
        or options.get("schema_translate_map")
        or is_listened_to(bind)
        or bind.engine.logger.isEnabledFor(logging.INFO)
    )


def is_listened_to(bind: Connection | Engine) -> bool:
    """Return whether someone listens to SQLAlchemy's events of statements."""
    return bool(bind.dispatch.before_cursor_execute or bind.dispatch.after_cursor_execute)


def _may_prepare(bind: Connection | Engine) -> bool:
    return bool(bind.get_execution_options().get(wire.PREPARED, False))


def _connection_of(session: Session) -> Connection:
    # The session's own execute would flush the caller's pending objects and mix their errors with ours.
    return session.connection(bind_arguments={"mapper": SecretStore})
