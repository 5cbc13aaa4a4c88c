"""The caller's own transaction: secrets commit and roll back with the caller's rows, and nothing is ended for anyone."""

from collections import Counter
from collections.abc import Callable, Iterator

import psycopg
import pytest
from sqlalchemy import Engine, create_engine, event, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from secretstore import (
    InvalidSecretValueError,
    KeyRing,
    PermissionDeniedError,
    SchemaOutOfDateError,
    SecretClient,
    SecretRepository,
    SecretService,
    SecretStore,
    VersionConflictError,
)
from secretstore.orm.models import Base as OurTables
from tests.support.threads import number


class HostBase(DeclarativeBase):
    """The caller's own tables."""


class Account(HostBase):
    """A row that needs a secret."""

    __tablename__ = "account"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)


class OwnSession(Session):
    """A caller's subclass."""


def _session_of_engine(engine: Engine) -> Session:
    return Session(engine)


def _session_of_maker(engine: Engine) -> Session:
    return sessionmaker(engine, class_=OwnSession, expire_on_commit=False, autoflush=False)()


def _session_of_binds(engine: Engine) -> Session:
    return Session(binds={HostBase: engine, OurTables: engine})


SESSIONS = (_session_of_engine, _session_of_maker, _session_of_binds)


@pytest.fixture
def own_engine(database_url: str, raw: psycopg.Connection) -> Iterator[Engine]:
    """An engine that the caller made with options of its own, and the caller's table."""
    raw.execute("CREATE TABLE account (id int PRIMARY KEY, name text UNIQUE)")
    url = database_url.replace("postgresql://", "postgresql+psycopg://")
    engine = create_engine(url, isolation_level="READ COMMITTED", pool_size=2, connect_args={"autocommit": False})
    yield engine
    engine.dispose()


@pytest.fixture
def own_session(own_engine: Engine) -> Iterator[Session]:
    """A session on the caller's engine."""
    with Session(own_engine) as session:
        yield session


@pytest.fixture
def service(own_session: Session, keyring: KeyRing) -> SecretService:
    """A service on the caller's session."""
    return SecretService(SecretRepository(own_session), keyring)


class _Interruption(Exception):  # noqa: N818 - stands for whatever a caller raises
    """Raised by the caller."""


@pytest.mark.parametrize("make", SESSIONS)
def test_a_secret_commits_with_the_callers_row(
    own_engine: Engine, store: SecretClient, raw: psycopg.Connection, make: Callable[[Engine], Session]
) -> None:
    """On every kind of session a service writes in the caller's transaction, and the caller's commit ends it."""
    with make(own_engine) as session, session.begin():
        session.add(Account(id=1, name="acme"))
        session.flush()
        store.bind(session).set_secret("accounts.1.token", "t")
        assert store.get_secret("accounts.1.token") is None

    assert (number(raw, "SELECT count(*) FROM account"), store.get_secret("accounts.1.token")) == (1, "t")


@pytest.mark.parametrize("make", SESSIONS)
def test_an_exception_leaves_neither_row_nor_secret(
    own_engine: Engine, store: SecretClient, raw: psycopg.Connection, make: Callable[[Engine], Session]
) -> None:
    """Where the caller's block fails, the caller's row, the secret, its history and its event are all gone."""
    with pytest.raises(_Interruption):
        _write_and_fail(make(own_engine), store)

    tables = ("public.account", *(f"secretstore.{name}" for name in ("secret_store", "secret_version")))
    for table in (*tables, "secretstore.change_event", "secretstore.data_key"):
        assert number(raw, f"SELECT count(*) FROM {table}") == 0
    assert store.get_secret("a") is None


def _write_and_fail(opened: Session, store: SecretClient) -> None:
    with opened as session, session.begin():
        session.add(Account(id=1, name="acme"))
        session.flush()
        store.bind(session).set_secret("a", "t")
        raise _Interruption


def test_an_outer_transaction_of_the_connection_has_the_last_word(own_engine: Engine, store: SecretClient) -> None:
    """On a session inside a connection's own transaction, even the session's commit is undone with the connection's."""
    with own_engine.connect() as connection, connection.begin() as outer:
        with Session(connection, join_transaction_mode="create_savepoint") as session:
            store.bind(session).set_secret("a", 1)
            session.commit()
            assert store.bind(session).get_secret("a") == 1
        outer.rollback()

    assert store.get_secret("a") is None


def test_a_savepoint_takes_its_secrets_with_it(own_session: Session, store: SecretClient) -> None:
    """What was written inside a savepoint is undone with it, and the outer transaction goes on and commits."""
    service = store.bind(own_session)
    with own_session.begin():
        service.set_secret("a", "outer")
        with pytest.raises(_Interruption):
            _fail_in_a_savepoint(own_session, service)
        assert (service.get_secret("a"), service.get_secret("b")) == ("outer", None)
        assert service.set_secret("a", "after").version == 2

    assert store.get_secrets_by_prefix("") == {"a": "after"}


def _fail_in_a_savepoint(session: Session, service: SecretService) -> None:
    with session.begin_nested():
        assert service.set_secret("a", "inner").version == 2
        service.set_secret("b", "inner")
        raise _Interruption


def test_own_writes_are_read_and_others_see_them_after_commit(service: SecretService, store: SecretClient) -> None:
    """The service reads what its transaction wrote; another connection sees the state before until the commit."""
    store.set_secrets({"a": "old", "b": "old"})
    service.set_secret("a", "new")
    service.delete_secret("b")

    assert (service.get_secrets(["a", "b"]), service.get_secret_count()) == ({"a": "new"}, 1)
    assert store.get_secrets(["a", "b"]) == {"a": "old", "b": "old"}
    service._repository.session.commit()
    assert store.get_secrets(["a", "b"]) == {"a": "new"}


def test_every_call_leaves_the_session_as_it_was(own_session: Session, service: SecretService) -> None:
    """No method commits, rolls back, flushes or closes: pending objects stay pending, and the transaction is the same."""
    seen: Counter[str] = Counter()
    for name in ("after_commit", "after_rollback", "after_soft_rollback", "before_flush", "after_flush"):
        event.listen(own_session, name, lambda *_, name=name: seen.update([name]))
    account = Account(id=1, name="acme")
    own_session.add(account)
    own_session.connection()
    transaction = own_session.get_transaction()

    _call_everything(service)

    assert (seen, own_session.get_transaction() is transaction, own_session.is_active) == (Counter(), True, True)
    assert set(own_session.new) == {account}
    assert not own_session.identity_map.values()


def _call_everything(service: SecretService) -> None:
    service.set_secret("a", 1)
    service.set_secrets({"b": 2, "c": 3})
    service.get_secret("a")
    service.get_secret_or_raise("a")
    service.get_secrets(["a", "b"])
    service.get_secrets_by_prefix("")
    service.describe_secret("a")
    service.list_secrets(labels={"a": "b"})
    service.list_secret_keys()
    service.get_secret_count()
    service.delete_secret("a")
    service.delete_secrets(["b"])


def test_a_conflict_leaves_the_transaction_usable(service: SecretService, store: SecretClient) -> None:
    """After a conflict or a refused value nothing has failed in PostgreSQL: the same transaction goes on and commits."""
    service.set_secret("a", 1)
    with pytest.raises(VersionConflictError):
        service.set_secret("a", 2, expected_version=7)
    with pytest.raises(InvalidSecretValueError):
        service.set_secret("a", float("nan"))
    with pytest.raises(InvalidSecretValueError):
        service.get_secret("a", list)

    assert service.set_secret("a", 3).version == 2
    service._repository.session.commit()
    assert store.get_secret("a") == 3


def test_a_failed_statement_can_be_rolled_back(
    own_session: Session, service: SecretService, raw: psycopg.Connection
) -> None:
    """After a statement of the library has failed, the caller rolls back and goes on with the same session."""
    raw.execute("ALTER TABLE secretstore.secret_store RENAME COLUMN labels TO other")
    own_session.add(Account(id=1, name="acme"))
    with pytest.raises(SchemaOutOfDateError):
        service.set_secret("a", 1)
    own_session.rollback()
    raw.execute("ALTER TABLE secretstore.secret_store RENAME COLUMN other TO labels")

    assert service.set_secret("a", 1).version == 1
    own_session.add(Account(id=2, name="beta"))
    own_session.commit()
    assert own_session.scalars(select(Account.id)).all() == [2]


def test_a_savepoint_saves_the_transaction_from_a_failed_statement(
    own_session: Session, service: SecretService, raw: psycopg.Connection
) -> None:
    """A statement of the library that fails inside a savepoint costs the savepoint and not the transaction."""
    service.set_secret("a", 1)
    own_session.execute(text("SET LOCAL ROLE pg_read_all_data"))
    with pytest.raises(PermissionDeniedError), own_session.begin_nested():
        service.set_secret("a", 2)
    own_session.execute(text("RESET ROLE"))
    own_session.commit()

    assert service.get_secret("a") == 1


def test_the_callers_own_errors_come_at_the_callers_flush(
    own_session: Session, service: SecretService, raw: psycopg.Connection
) -> None:
    """A pending object that PostgreSQL will refuse fails in the caller's flush, and not in a call of the library."""
    raw.execute("INSERT INTO account (id, name) VALUES (1, 'acme')")
    own_session.add(Account(id=2, name="acme"))
    service.set_secret("a", 1)
    assert service.get_secret("a") == 1

    with pytest.raises(IntegrityError):
        own_session.flush()
    own_session.rollback()
    assert service.get_secret("a") is None


def test_a_rolled_back_first_write_leaves_the_namespace_usable(
    own_session: Session, service: SecretService, store: SecretClient, raw: psycopg.Connection
) -> None:
    """The data key of a rolled back first write may stay in the key ring; the next write stores one of its own."""
    service.set_secret("a", "gone")
    assert service.get_secret("a") == "gone"
    own_session.rollback()

    for writer, value in ((service, "service"), (store, "client")):
        writer.set_secret("a", value)
        own_session.commit()
        assert (service.get_secret("a"), store.get_secret("a")) == (value, value)
    assert number(raw, "SELECT count(*) FROM secretstore.data_key") == 1


def test_loaded_rows_do_not_change_under_the_caller(
    own_session: Session, service: SecretService, store: SecretClient
) -> None:
    """A `SecretStore` that the caller has loaded keeps its state while the service writes, until it is refreshed."""
    store.set_secret("a", 1)
    row = own_session.get_one(SecretStore, ("default", "a"))
    service.set_secret("a", 2)

    assert row.version == 1
    own_session.refresh(row)
    assert row.version == 2


def test_a_repeatable_read_keeps_its_view(own_engine: Engine, store: SecretClient) -> None:
    """The caller's isolation level holds for secrets too: in REPEATABLE READ a later commit is not seen."""
    store.set_secret("a", "before")
    with Session(own_engine.execution_options(isolation_level="REPEATABLE READ")) as session:
        service = store.bind(session)
        assert service.get_secret("a") == "before"
        store.set_secret("a", "after")
        assert service.get_secret("a") == "before"
        session.rollback()
        assert service.get_secret("a") == "after"
