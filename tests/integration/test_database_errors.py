"""What PostgreSQL refuses while it runs statements, as errors of this library; see also test_connection_errors."""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import psycopg
import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import Session

from secretstore import (
    KeyRing,
    PermissionDeniedError,
    SchemaOutOfDateError,
    SecretClient,
    SecretService,
    SecretStoreError,
    StoreUnavailableError,
)
from tests.support.errors import assert_tells_nothing, refused_role
from tests.support.faces import Face, open_face
from tests.support.server import Server
from tests.support.threads import in_thread, wait_until_blocked

VALUE = "correct-horse-battery"
_TERMINATE = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


@pytest.fixture(params=["client", "async client"])
def client(request: pytest.FixtureRequest, database_url: str, keyring: KeyRing) -> Iterator[Face]:
    """A blocking and an awaited client."""
    with open_face(request.param, database_url, keyring) as face:
        yield face


Make = Callable[..., SecretClient]


@pytest.fixture
def client_with(server: Server, database: str, keyring: KeyRing) -> Iterator[Make]:
    """Make clients on engines of the caller's own, whose connections have other settings of PostgreSQL."""
    with ExitStack() as stack:

        def make(**options: str) -> SecretClient:
            settings = " ".join(f"-c {name}={setting}" for name, setting in options.items())
            url = server.url(database, options=settings).replace("postgresql://", "postgresql+psycopg://")
            engine = create_engine(url)
            stack.callback(engine.dispose)
            return SecretClient(engine, keyring, retry_seconds=0)

        yield make


def assert_fails(call: Face | SecretClient | SecretService, kind: type[SecretStoreError], match: str) -> None:
    """Reading and writing raise exactly this error, which tells nothing of the value."""
    with pytest.raises(kind, match=match) as caught:
        call.set_secret("a", VALUE)
    assert type(caught.value) is kind
    assert_tells_nothing(caught.value, VALUE)


def test_missing_tables(client: Face, raw: psycopg.Connection) -> None:
    """Without the schema the error names the command that makes it."""
    raw.execute("DROP SCHEMA secretstore CASCADE")
    assert_fails(client, SchemaOutOfDateError, r"missing; run `secretstore db upgrade` \(SQLSTATE 42P01\)")


def test_a_missing_column(client: Face, raw: psycopg.Connection) -> None:
    """With tables of an older release the error names the same command."""
    raw.execute("ALTER TABLE secretstore.change_event DROP COLUMN actor")
    assert_fails(client, SchemaOutOfDateError, r"a column .* run `secretstore db upgrade` \(SQLSTATE 42703\)")


def test_missing_rights(server: Server, client_with: Make, store: SecretClient) -> None:
    """A role without grants is refused, with the grants that it needs; the administrator goes on."""
    with refused_role(server) as role:
        assert_fails(client_with(role=role), PermissionDeniedError, "grant it USAGE on schema")
    assert store.get_secret("a") is None


def test_rights_on_the_schema_alone(server: Server, client_with: Make, raw: psycopg.Connection) -> None:
    """A role that may look into the schema and not at the tables is refused as well."""
    with refused_role(server) as role:
        raw.execute(f"GRANT USAGE ON SCHEMA secretstore TO {role}".encode())
        assert_fails(client_with(role=role), PermissionDeniedError, r"and the tables; ")
        raw.execute(f"REVOKE ALL ON SCHEMA secretstore FROM {role}".encode())


def test_a_read_only_server(client_with: Make, store: SecretClient) -> None:
    """A server that only reads refuses the write with the libpq setting that finds the primary, and still reads."""
    store.set_secret("b", 1)
    reader = client_with(default_transaction_read_only="on")

    assert_fails(reader, StoreUnavailableError, r"target_session_attrs=read-write\) \(SQLSTATE 25006\)")
    assert reader.get_secret("b") == 1


@pytest.mark.parametrize(
    ("setting", "match"),
    [
        ("statement_timeout", r"longer than statement_timeout \(SQLSTATE 57014\)"),
        ("lock_timeout", r"a lock was not free in time; roll back and try .* \(SQLSTATE 55P03\)"),
    ],
)
def test_a_lock_that_is_not_free_in_time(client_with: Make, store: SecretClient, setting: str, match: str) -> None:
    """A writer that waits longer than its role may wait gets an error, and can write once the lock is free."""
    store.set_secret("a", "before")
    hasty = client_with(**{setting: "50ms"})
    with Session(store.engine) as session:
        store.bind(session).set_secret("a", "held")
        assert_fails(hasty, StoreUnavailableError, match)
    assert hasty.set_secret("a", "after").version == 2


def test_a_deadlock_of_the_callers(client_with: Make, raw: psycopg.Connection) -> None:
    """Where two transactions of callers lock in a circle, the one that PostgreSQL breaks off is told to try again."""
    store = client_with(deadlock_timeout="20ms")
    store.set_secrets({"a": 0, "b": 0})
    with Session(store.engine) as one, Session(store.engine) as two:
        first, second = store.bind(one), store.bind(two)
        first.set_secret("a", VALUE)
        second.set_secret("b", VALUE)
        with in_thread(lambda: _outcome(first, "b", one)) as waiting:
            wait_until_blocked(raw)
            outcomes = [_outcome(second, "a", two), waiting.result(20)]
    assert sorted(outcomes) == [
        "",
        "PostgreSQL broke up a deadlock; roll back and try the whole transaction again (SQLSTATE 40P01)",
    ]


def _outcome(service: SecretService, key: str, session: Session) -> str:
    try:
        service.set_secret(key, VALUE)
    except StoreUnavailableError as error:
        assert_tells_nothing(error, VALUE)
        session.rollback()
        return str(error)
    session.commit()
    return ""


def test_a_serialization_failure(engine: Engine, store: SecretClient) -> None:
    """Under REPEATABLE READ a secret that others changed since cannot be written; a new transaction can."""
    store.set_secret("a", "before")
    with Session(engine.execution_options(isolation_level="REPEATABLE READ")) as session:
        service = store.bind(session)
        service.get_secret("a")
        store.set_secret("a", "between")
        assert_fails(service, StoreUnavailableError, r"in the way; roll back and try .* \(SQLSTATE 40001\)")
        session.rollback()
        assert service.set_secret("a", "after").version == 3


def test_a_namespace_that_others_began_to_use_under_repeatable_read(engine: Engine, store: SecretClient) -> None:
    """Under REPEATABLE READ a data key that others made since cannot be seen; the error says to begin anew."""
    with Session(engine.execution_options(isolation_level="REPEATABLE READ")) as session:
        session.execute(text("SELECT 1"))
        store.set_secret("b", "between")
        with pytest.raises(StoreUnavailableError, match="try") as caught:
            store.bind(session).set_secret("a", VALUE)
        assert_tells_nothing(caught.value, VALUE)
        session.rollback()
        assert store.bind(session).set_secret("a", "after").version == 1


def test_a_failed_transaction(engine: Engine, store: SecretClient) -> None:
    """In a transaction where a statement of the caller failed, the error says to roll back, and then all is well."""
    with Session(engine) as session:
        with pytest.raises(Exception, match="division by zero"):
            session.execute(text("SELECT 1 / 0"))
        assert_fails(store.bind(session), StoreUnavailableError, r"roll it back first \(SQLSTATE 25P02\)")
        session.rollback()
        assert store.bind(session).set_secret("a", 1).version == 1


def test_a_closed_idle_connection_is_not_noticed(client: Face, raw: psycopg.Connection) -> None:
    """A connection that the server closed while it lay in the pool is replaced before the next call."""
    client.set_secret("a", 1)
    raw.execute(_TERMINATE.encode())
    assert client.get_secret("a") == 1


def test_a_connection_closed_in_a_transaction(engine: Engine, store: SecretClient, raw: psycopg.Connection) -> None:
    """Where the server closes a transaction's connection, the next call says that it broke; after a rollback all is well."""
    with Session(engine) as session:
        service = store.bind(session)
        service.set_secret("a", "lost")
        raw.execute(_TERMINATE.encode())
        assert_fails(
            service, StoreUnavailableError, "^(?!cannot connect).*(broke|shutting down).*try the whole transaction"
        )
        assert_fails(service, StoreUnavailableError, "roll it back first")
        session.rollback()
        assert service.set_secret("a", "kept").version == 1


def test_a_connection_closed_while_it_waits(engine: Engine, client: Face, raw: psycopg.Connection) -> None:
    """Where the server closes a connection in the middle of a statement, a call that is not tried again fails, and the next one works."""
    client.set_secret("a", "before")
    with Session(engine) as session:
        session.execute(text("SELECT key FROM secretstore.secret_store WHERE namespace = 'default' FOR UPDATE"))
        with in_thread(
            lambda: assert_fails(
                client.with_options(retry_seconds=0), StoreUnavailableError, "^PostgreSQL is shutting down.*57P01"
            )
        ) as failing:
            wait_until_blocked(raw)
            raw.execute((_TERMINATE + " AND wait_event_type = 'Lock'").encode())
            failing.result(20)
    assert client.set_secret("a", "after").version == 2


def test_a_connection_that_breaks_without_a_word(engine: Engine, store: SecretClient) -> None:
    """Where the network goes away under a transaction, nothing says `cannot connect`: the connection broke."""
    with Session(engine) as session:
        service = store.bind(session)
        service.set_secret("a", "lost")
        driver = session.connection().connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        with socket.socket(fileno=os.dup(driver.fileno())) as network:
            network.shutdown(socket.SHUT_RDWR)
        assert_fails(service, StoreUnavailableError, "^the connection to PostgreSQL broke; roll back and try the whole")
    assert store.get_secret("a") is None


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("secret_store", "did not store all secrets of namespace 'default'; look for triggers"),
        ("data_key", "did not store the first data key of namespace 'default'; look for triggers"),
    ],
)
def test_a_trigger_that_swallows_rows(client: Face, raw: psycopg.Connection, table: str, words: str) -> None:
    """Where a trigger of a DBA drops what is written, the call ends with an error, and does not try for ever."""
    raw.execute("CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
    trigger = f"CREATE TRIGGER swallow BEFORE INSERT ON secretstore.{table} FOR EACH ROW EXECUTE FUNCTION swallow()"
    raw.execute(trigger.encode())
    assert_fails(client, StoreUnavailableError, words)


def test_a_constraint_of_a_dba(client: Face, raw: psycopg.Connection) -> None:
    """Where PostgreSQL refuses a row for a reason of its own, the error gives the SQLSTATE and no part of the row."""
    raw.execute("ALTER TABLE secretstore.secret_store ADD CONSTRAINT ck_secret_store_none CHECK (key <> 'a')")
    assert_fails(client, SecretStoreError, r"refused a statement .*\(SQLSTATE 23514\); its server log says why")
    assert client.set_secret("b", 1).version == 1


def test_a_pool_without_a_free_connection(database_url: str, keyring: KeyRing) -> None:
    """Where no connection of the pool comes free in time, the error says to make the pool larger."""
    url = database_url.replace("postgresql://", "postgresql+psycopg://")
    engine = create_engine(url, pool_size=1, max_overflow=0, pool_timeout=0.05)
    with engine.connect():
        assert_fails(SecretClient(engine, keyring), StoreUnavailableError, "make the pool larger")
    engine.dispose()
