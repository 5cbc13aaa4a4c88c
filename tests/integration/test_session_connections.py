"""The connection of a session is kept while its transaction lasts, and never longer than the session itself would give it."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import IntegrityError, InvalidRequestError, PendingRollbackError
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from secretstore import SecretClient, SecretStore
from secretstore.orm.engines import make_engine
from secretstore.orm.execute import connection_of
from secretstore.orm.models import Base


class RoutingSession(Session):
    """A caller's session that decides for each statement where it goes."""

    engine: Engine

    def get_bind(self, *_: Any, **__: Any) -> Engine:  # any arguments, as SQLAlchemy says
        """Return the engine of the moment."""
        return self.engine


@pytest.fixture
def second_engine(database_url: str) -> Iterator[Engine]:
    """Another engine of the same database."""
    engine = make_engine(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def session(engine: Engine, second_engine: Engine) -> Iterator[Session]:
    """A session whose connection is known; it ends before any engine does."""
    del second_engine
    with Session(engine) as opened:
        connection_of(opened)
        yield opened


def is_asked(session: Session, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether a session was asked for the connection, which is the one it gives."""
    asked = []

    def connection(*args: Any, **kwargs: Any) -> Connection:  # as SQLAlchemy's
        asked.append(1)
        return Session.connection(session, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(session, "connection", connection)
        found = connection_of(session)
    assert found is session.connection({"mapper": SecretStore})
    return bool(asked)


def test_it_is_asked_for_once(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one transaction, however many statements."""
    assert not is_asked(session, monkeypatch)
    assert not is_asked(session, monkeypatch)


@pytest.mark.parametrize("end", [Session.commit, Session.rollback, Session.close, Session.invalidate])
def test_a_new_transaction_is_asked(
    session: Session, monkeypatch: pytest.MonkeyPatch, end: Callable[[Session], None]
) -> None:
    """However the one before ended."""
    end(session)
    assert is_asked(session, monkeypatch)
    assert not is_asked(session, monkeypatch)


def test_each_savepoint_is_asked(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is set by that, and without it what was written in it would stay."""
    with session.begin_nested():
        assert is_asked(session, monkeypatch)
        with session.begin_nested() as inner:
            assert is_asked(session, monkeypatch)
            inner.rollback()
        assert is_asked(session, monkeypatch)
    assert is_asked(session, monkeypatch)


def test_what_a_savepoint_held_goes_with_it(session: Session, store: SecretClient) -> None:
    """Also where the connection was known before, and the library is the first that writes in it."""
    service = store.bind(session)
    service.set_secret("a", "outer")
    with session.begin_nested() as savepoint:
        service.set_secret("a", "inner")
        savepoint.rollback()
    session.commit()
    assert store.get_secret("a") == "outer"


def test_a_failed_flush_stays_failed(session: Session) -> None:
    """Nothing is sent before the caller has rolled back."""
    session.add(SecretStore(namespace="x", key="y", version=None))
    with pytest.raises(IntegrityError):
        session.flush()
    with pytest.raises(PendingRollbackError):
        connection_of(session)
    session.rollback()
    assert connection_of(session) is session.connection()


def test_a_block_that_has_ended_its_transaction_stays_ended(engine: Engine) -> None:
    """As the session has it."""
    with Session(engine) as session, session.begin() as transaction:
        connection_of(session)
        transaction.rollback()
        with pytest.raises(InvalidRequestError):
            connection_of(session)


def test_a_session_that_is_bound_anew_is_asked(
    session: Session, second_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tables may have come to be elsewhere."""
    session.bind_mapper(Base, second_engine)
    assert is_asked(session, monkeypatch)
    assert connection_of(session).engine is second_engine


def test_a_session_that_routes_is_followed(engine: Engine, second_engine: Engine) -> None:
    """To each of its connections."""
    with RoutingSession() as session:
        for place in (engine, second_engine, engine):
            session.engine = place
            assert connection_of(session).engine is place


def test_a_registry_of_sessions_gives_the_one_of_this_place(engine: Engine) -> None:
    """And nothing of one that was removed."""
    registry = scoped_session(sessionmaker(engine))
    known = connection_of(registry)  # type: ignore[arg-type]  # many pass one all the same
    assert known is registry.connection()
    registry.remove()
    assert connection_of(registry) is not known  # type: ignore[arg-type]  # ditto
    assert connection_of(registry).execute(text("SELECT 1")).scalar() == 1  # type: ignore[arg-type]  # ditto
    registry.remove()
