"""Hot statements through libpq: what psycopg's cursor would have done is done, or left to it."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import Session

import secretstore
from secretstore import (
    AsyncSecretClient,
    DecryptionError,
    KeyRing,
    PermissionDeniedError,
    SecretClient,
    StoreUnavailableError,
)
from secretstore.orm import event_statements, statements, wire, write_statements
from secretstore.orm.engines import make_async_engine, make_engine
from tests.support.children import answer_of_child
from tests.support.faces import Face, open_face
from tests.support.threads import BLOCKED, number, wait_until, wait_until_blocked

pytestmark = pytest.mark.skipif(bool(os.environ.get("SECRETSTORE_TEST_CURSOR")), reason="the run is one without it")

NOBODY_IS_BLOCKED = f"SELECT 1 - ({BLOCKED})"
PREPARED = "SELECT count(*) FROM pg_prepared_statements WHERE name LIKE 'secretstore%'"


@pytest.fixture(params=[False, True], ids=["unnamed", "prepared"])
def wired(request: pytest.FixtureRequest, database_url: str) -> Iterator[Engine]:
    """An engine whose hot statements go past the cursor, in both forms."""
    engine = make_engine(database_url, prepared_statements=request.param)
    yield engine
    engine.dispose()


@pytest.fixture
def prepared(database_url: str) -> Iterator[Engine]:
    """An engine that prepares."""
    engine = make_engine(database_url, prepared_statements=True)
    yield engine
    engine.dispose()


@pytest.fixture
def went_by_wire(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements that went past the cursor."""
    sent: list[str] = []
    fetch = wire.fetch

    def record(driver: Any, statement: Any, values: Any, *, kept: Any) -> list[Any]:
        sent.append(wire.compile_once(statement).sql.decode())
        return fetch(driver, statement, values, kept=kept)

    monkeypatch.setattr(wire, "fetch", record)
    return sent


def prepared_names(connection: Any) -> int:
    """How many of our statements a connection of SQLAlchemy has prepared."""
    return int(connection.exec_driver_sql(PREPARED.replace("%", "%%")).scalar_one())


def test_reads_and_writes_go_past_the_cursor(wired: Engine, keyring: KeyRing, went_by_wire: list[str]) -> None:
    """A read of a client, and in an open transaction reads and writes, in both forms; and what they say is right."""
    store = SecretClient(wired, keyring)
    store.set_secret("a", {"x": [1, None, "é"]}, labels={"team": "payments"})
    went_by_wire.clear()

    assert store.get_secret("a") == {"x": [1, None, "é"]}
    assert store.get_secrets(["a", "b"]) == {"a": {"x": [1, None, "é"]}}
    info = store.describe_secret("a")
    assert info is not None
    assert (info.labels, info.version) == ({"team": "payments"}, 1)
    # And a question about the one that was not found.
    assert len(went_by_wire) == 4
    with Session(wired) as session:
        service = store.bind(session)
        service.get_secret("a")
        went_by_wire.clear()
        written = service.set_secret("a", 2)
        assert service.get_secret("a") == 2
        # Heads, the write, its notice and the read.
        assert len(went_by_wire) == 4
        session.commit()
    assert store.describe_secret("a") == written


def test_the_first_statement_begins_a_transaction(
    wired: Engine, keyring: KeyRing, raw: psycopg.Connection, went_by_wire: list[str]
) -> None:
    """As psycopg would: one moment for all of it, nothing seen outside before the commit, nothing left after a roll back."""
    store = SecretClient(wired, keyring)
    store.set_secret("a", 1)
    went_by_wire.clear()
    with Session(wired) as session:
        service = store.bind(session)
        assert service.get_secret("a") == 1
        began = session.execute(text("SELECT now()")).scalar_one()
        service.set_secret("a", 2)
        assert session.execute(text("SELECT now()")).scalar_one() == began
        assert store.get_secret("a") == 1
        session.rollback()
        assert service.get_secret("a") == 1
    assert len(went_by_wire) == 6
    with Session(wired) as session:
        store.bind(session).set_secret("a", 3)
        assert store.get_secret("a") == 1
        session.rollback()
    assert store.get_secret("a") == 1


def test_a_transaction_with_settings_is_begun_by_sqlalchemy(
    wired: Engine, keyring: KeyRing, went_by_wire: list[str]
) -> None:
    """Its first statement goes by SQLAlchemy, and so isolation is what the caller asked for."""
    store = SecretClient(wired, keyring)
    store.set_secret("a", 1)
    went_by_wire.clear()
    with Session(wired.execution_options(isolation_level="REPEATABLE READ")) as session:
        assert store.bind(session).get_secret("a") == 1
        assert went_by_wire == []
        store.set_secret("a", 2)
        went_by_wire.clear()
        assert store.bind(session).get_secret("a") == 1
        assert len(went_by_wire) == 1
    with Session(wired) as session:
        store.bind(session).set_secret("a", 3)
        session.rollback()
    assert store.get_secret("a") == 2


def test_a_statement_is_prepared_once_on_a_connection(prepared: Engine, keyring: KeyRing) -> None:
    """Its name is made of its text, so that it never stands for another."""
    store = SecretClient(prepared, keyring)
    store.set_secret("a", 1)
    for _ in range(3):
        store.get_secret("a")

    with prepared.connect() as connection:
        rows = connection.exec_driver_sql("SELECT name, statement FROM pg_prepared_statements").all()
    names = {
        wire.compile_once(statement).sql.decode(): wire.compile_once(statement).name.decode()
        for statement in (
            statements.select_value(),
            statements.select_heads(),
            write_statements.write_secrets(),
            event_statements.notify(),
        )
    }
    assert statements.select_value() is not None
    assert all(name.startswith(names[statement]) for name, statement in rows if statement in names)
    assert wire.compile_once(statements.select_value()).sql.decode() in {statement for _, statement in rows}
    assert len({statement for _, statement in rows}) == len(rows)


def test_nothing_is_prepared_where_nobody_says_so(engine: Engine, keyring: KeyRing) -> None:
    """The default is safe behind every pooler."""
    store = SecretClient(engine, keyring)
    for value in range(8):
        store.set_secret("a", value)
        store.get_secret("a")
        with Session(engine) as session:
            store.bind(session).get_secret("a")
            store.bind(session).get_secret("a")

    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM pg_prepared_statements").scalar_one() == 0


def test_nothing_is_prepared_where_psycopg_prepares(database_url: str, keyring: KeyRing) -> None:
    """It would drop ours together with its own after a roll back."""
    engine = make_engine(database_url, prepared_statements=True)
    event.listen(engine, "connect", lambda connection, _: setattr(connection, "prepare_threshold", 5))
    store = SecretClient(engine, keyring)
    store.set_secret("a", 1)
    store.get_secret("a")

    with engine.connect() as connection:
        assert prepared_names(connection) == 0
    engine.dispose()


@pytest.mark.parametrize("gone", ["DEALLOCATE ALL", "DISCARD ALL"])
def test_a_statement_that_is_gone_is_no_failure_of_a_read(prepared: Engine, keyring: KeyRing, gone: str) -> None:
    """Someone else on the connection has dropped it; it is sent without a name, and prepared again next time."""
    store = SecretClient(prepared, keyring)
    store.set_secret("a", 1)
    store.get_secret("a")
    with prepared.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.exec_driver_sql(gone)
        assert prepared_names(connection) == 0

    assert store.get_secret("a") == 1
    assert store.get_secret("a") == 1
    with prepared.connect() as connection:
        assert prepared_names(connection) == 1


def test_a_statement_that_is_gone_ends_a_transaction_once(prepared: Engine, keyring: KeyRing) -> None:
    """What failed in a transaction has ended it: the caller is told to try it again, and then it works."""
    store = SecretClient(prepared, keyring)
    store.set_secret("a", 1)
    with Session(prepared) as session:
        for _ in range(2):
            store.bind(session).get_secret("a")
        session.connection().exec_driver_sql("DEALLOCATE ALL")
        with pytest.raises(StoreUnavailableError, match="try the whole transaction again") as caught:
            store.bind(session).get_secret("a")
        assert caught.value.is_transient
        session.rollback()
        for _ in range(2):
            assert store.bind(session).get_secret("a") == 1


@pytest.mark.parametrize("gone", ["DEALLOCATE ALL", "DISCARD ALL"])
@pytest.mark.parametrize("kind", ["client", "async client"])
def test_a_statement_that_is_gone_is_no_failure_of_a_client(
    *, database_url: str, keyring: KeyRing, raw: psycopg.Connection, kind: str, gone: str
) -> None:
    """Of a read and of a write: its transaction is tried again as a whole, and the write happens once."""
    with open_face(kind, database_url, keyring, prepared_statements=True) as client:
        client.set_secret("a", 1)
        client.get_secret("a")
        for version in (2, 3):
            drop_prepared(client, gone)
            assert client.get_secret("a") == version - 1
            drop_prepared(client, gone)
            assert client.set_secret("a", version).version == version
    assert number(raw, "SELECT count(*) FROM secretstore.change_event") == 3


def drop_prepared(client: Face, gone: str) -> None:
    """Do what a pooler or a person may do between two transactions, on the one connection of a client."""
    engine = client._made().engine.execution_options(isolation_level="AUTOCOMMIT")

    async def drop() -> None:
        async with engine.connect() as connection:
            await connection.exec_driver_sql(gone)

    if isinstance(engine, AsyncEngine):
        client.run(drop())
        return
    with engine.connect() as connection:
        connection.exec_driver_sql(gone)


def test_a_name_that_is_taken_is_no_failure(prepared: Engine, keyring: KeyRing) -> None:
    """As where a pooler hands over a server's connection on which another client prepared the same."""
    store = SecretClient(prepared, keyring)
    store.set_secret("a", 1)
    name = wire.compile_once(statements.select_value()).name.decode()
    with prepared.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        driver.execute(f"PREPARE {name}_0 AS SELECT 'of another', 1, '{{}}'::jsonb".encode())

    assert store.get_secret("a") == 1
    assert store.get_secret("a") == 1
    # Under another name it is prepared again.
    with prepared.connect() as connection:
        assert connection.exec_driver_sql(PREPARED.replace("%", f"_{name.partition('_')[2]}_1")).scalar_one() == 1


def test_a_row_of_another_key_never_opens(prepared: Engine, keyring: KeyRing) -> None:
    """Where a pooler hands over a statement of the same name that asks for something else, its row is refused."""
    store = SecretClient(prepared, keyring)
    store.set_secret("a", 1)
    store.set_secret("b", 2)
    store.get_secret("a")
    name = wire.compile_once(statements.select_value()).name.decode()
    other = "SELECT version, value, false, false FROM secretstore.secret_store WHERE key = 'b' AND $1 <> $2"
    with prepared.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        driver.execute(f"DEALLOCATE {name}_0".encode())
        driver.execute(f"PREPARE {name}_0 (text, text) AS {other}".encode())

    assert store.get_secret("b") == 2
    with pytest.raises(DecryptionError):
        store.get_secret("a")


def test_a_table_that_changes_under_a_prepared_statement(
    prepared: Engine, keyring: KeyRing, raw: psycopg.Connection
) -> None:
    """PostgreSQL refuses the plan that it kept (0A000); the statement goes without a name, and is prepared anew."""
    store = SecretClient(prepared, keyring)
    store.set_secret("a", 1)
    store.get_secret("a")
    raw.execute("ALTER TABLE secretstore.secret_store ALTER COLUMN version TYPE integer")

    assert store.get_secret("a") == 1
    raw.execute("ALTER TABLE secretstore.secret_store ALTER COLUMN version TYPE bigint")
    assert store.get_secret("a") == 1
    assert store.get_secret("a") == 1


OBSERVED = """
import logging, sys
from sqlalchemy import event
from sqlalchemy.orm import Session
from secretstore import KeyRing, SecretClient
from secretstore.orm import wire
from secretstore.orm.engines import make_engine

url, keys = sys.argv[1:]
by_wire, fetch = [], wire.fetch

def record(*arguments, **options):
    by_wire.append(1)
    return fetch(*arguments, **options)

wire.fetch = record

def went_by_wire(engine):
    by_wire.clear()
    store = SecretClient(engine, KeyRing.from_text(keys))
    store.set_secret("a", 1)
    assert store.get_secret("a") == 1
    with Session(engine) as session:
        assert store.bind(session).get_secret("a") == 1
    engine.dispose()
    return len(by_wire) > 0

listened, echoing = make_engine(url), make_engine(url)
seen = []
event.listen(listened, "before_cursor_execute", lambda *arguments: seen.append(arguments[2]))
echoing.echo = True
print(went_by_wire(make_engine(url)), went_by_wire(make_engine(url, prepared_statements=True)))
print(went_by_wire(listened), went_by_wire(echoing), went_by_wire(make_engine(url, libpq=False)))
print(went_by_wire(make_engine(url, libpq=False, prepared_statements=True)))
print(went_by_wire(make_engine(url).execution_options(schema_translate_map={"secretstore": "secretstore"})))
print(sum("INSERT INTO secretstore.secret_store" in statement for statement in seen))
print(sum(statement.startswith("SELECT s.version, s.value") for statement in seen))
"""


def test_whoever_observes_sees_every_statement(database_url: str, master_key: str) -> None:
    """Listeners to SQLAlchemy's events, `echo`, other names of schemas, and the switch: then everything goes by SQLAlchemy."""
    command = [sys.executable, "-c", OBSERVED, database_url, master_key]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    told = [line for line in done.stdout.splitlines() if "INFO" not in line and not line.startswith(("FROM", "WHERE"))]

    assert done.returncode == 0, done.stderr
    assert [line for line in told if set(line.split()) <= {"True", "False", "1", "2"}] == [
        *("True True", "False False False", "False", "False"),
        *("1", "2"),
    ]


def test_what_does_not_fit_goes_by_the_cursor(wired: Engine, keyring: KeyRing, went_by_wire: list[str]) -> None:
    """Another encoding, and a pipeline."""
    store = SecretClient(wired, keyring)
    store.set_secret("ключ", "é")
    with Session(wired) as session:
        store.bind(session).get_secret("ключ")
        session.connection().exec_driver_sql("SET LOCAL client_encoding = 'KOI8R'")
        went_by_wire.clear()
        assert store.bind(session).get_secret("ключ") == "é"
    assert went_by_wire == []
    with Session(wired) as session:
        driver = session.connection().connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        assert wire.is_free(driver)
        with driver.pipeline():
            assert not wire.is_free(driver)
            assert not wire.status_of(driver)


def test_a_connection_that_was_replaced_is_seen(wired: Engine, keyring: KeyRing, went_by_wire: list[str]) -> None:
    """The driver's is another one then, though session and connection are the same."""
    store = SecretClient(wired, keyring)
    store.set_secret("a", 1)
    with wired.connect() as connection, Session(connection, join_transaction_mode="rollback_only") as session:
        service = store.bind(session)
        assert service.get_secret("a") == 1
        connection.invalidate()
        connection.get_transaction().rollback()  # type: ignore[union-attr] # the session has begun one
        went_by_wire.clear()
        assert service.get_secret("a") == 1
        assert len(went_by_wire) == 1


def test_only_an_open_connection_in_no_transaction_is_at_rest(database_url: str) -> None:
    """And nothing of another driver's."""
    with psycopg.connect(database_url) as connection:
        assert wire.is_at_rest(connection)
        connection.execute("SELECT 1")
        assert not wire.is_at_rest(connection)
        connection.rollback()
        assert wire.is_at_rest(connection)
        connection.close()
        assert not wire.is_at_rest(connection)
    assert not wire.is_at_rest(object())


def test_an_error_says_its_state_and_none_of_postgresqls_words(wired: Engine, keyring: KeyRing) -> None:
    """Without the right to read it is what it is by the cursor, and the connection goes on."""
    store = SecretClient(wired, keyring)
    store.set_secret("a", 1)
    with Session(wired) as session:
        service = store.bind(session)
        service.get_secret("a")
        session.connection().exec_driver_sql("SET LOCAL ROLE pg_monitor")
        with pytest.raises(PermissionDeniedError, match="42501") as caught:
            service.get_secret("a")
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None
        with pytest.raises(StoreUnavailableError, match="25P02"):
            service.get_secret("a")
        session.rollback()
        assert service.get_secret("a") == 1


def test_a_connection_that_broke_is_not_used_again(wired: Engine, keyring: KeyRing, raw: psycopg.Connection) -> None:
    """In a session the transaction is over; the next one has another connection."""
    store = SecretClient(wired, keyring)
    store.set_secret("a", 1)
    with Session(wired) as session:
        service = store.bind(session)
        service.get_secret("a")
        pid = session.connection().exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        raw.execute("SELECT pg_terminate_backend(%s, 10000)", [pid])
        with pytest.raises(StoreUnavailableError):
            service.get_secret("a")
        session.rollback()
        assert service.get_secret("a") == 1


def test_connections_that_the_server_has_closed_are_found(
    wired: Engine, keyring: KeyRing, raw: psycopg.Connection
) -> None:
    """Before anything is sent: whatever the pool holds is replaced, and nobody is told."""
    store = SecretClient(wired, keyring, retry_seconds=0)
    store.set_secret("a", 1)
    opened = [wired.connect() for _ in range(5)]
    for connection in opened:
        connection.close()
    raw.execute(
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )

    assert [store.get_secret("a") for _ in range(6)] == [1] * 6


def test_a_child_does_not_use_its_parents_connections(engine: Engine, keyring: KeyRing) -> None:
    """After a fork the child connects for itself, and the parent's connection goes on."""
    store = SecretClient(engine, keyring)
    store.set_secret("a", 1)
    ours = backend_of(engine)
    value, theirs = answer_of_child(lambda: [store.get_secret("a"), backend_of(engine)])

    assert value == 1
    assert theirs != ours
    assert backend_of(engine) == ours
    assert store.get_secret("a") == 1


def backend_of(engine: Engine) -> int:
    """The process of PostgreSQL behind the connection that the pool gives next."""
    with engine.connect() as connection:
        return int(connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one())


def test_an_interrupt_ends_a_statement_that_waits(engine: Engine, keyring: KeyRing, raw: psycopg.Connection) -> None:
    """Ctrl-C comes through while a write waits for a lock, and the statement is cancelled in the server."""
    store = SecretClient(engine, keyring)
    store.set_secret("a", 1)
    with raw.transaction(), psycopg.connect(engine_url(engine), autocommit=True) as other:
        raw.execute("SELECT 1 FROM secretstore.secret_store FOR UPDATE")

        def interrupt() -> None:
            wait_until_blocked(other)
            os.kill(os.getpid(), 2)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            store.set_secret("a", 2)
        thread.join()
        wait_until(other, NOBODY_IS_BLOCKED, 1)
    assert store.get_secret("a") == 1


def engine_url(engine: Engine) -> str:
    """How psycopg reaches the database of an engine."""
    with engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        return driver.info.dsn


def test_a_task_that_is_cancelled_leaves_no_statement_behind(
    database_url: str, keyring: KeyRing, raw: psycopg.Connection
) -> None:
    """And the loop goes on while a statement waits."""

    async def read() -> Any:
        engine = make_async_engine(database_url)
        store = AsyncSecretClient(engine, keyring)
        await store.set_secret("a", 1)
        with raw.transaction(), psycopg.connect(database_url, autocommit=True) as other:
            raw.execute("LOCK TABLE secretstore.secret_store IN ACCESS EXCLUSIVE MODE")
            task = asyncio.create_task(store.get_secret("a"))
            await asyncio.to_thread(wait_until_blocked, other)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.to_thread(wait_until, other, NOBODY_IS_BLOCKED, 1)
        value = await store.get_secret("a")
        await engine.dispose()
        return value

    assert asyncio.run(read()) == 1


def test_times_are_those_of_the_cursor(wired: Engine, keyring: KeyRing, database_url: str) -> None:
    """In the same zone, too: a record is the same whichever way it was read."""
    store = SecretClient(wired, keyring)
    store.set_secret("a", 1, expires_at=datetime(2100, 1, 1, tzinfo=UTC))
    by_cursor = make_engine(database_url, libpq=False)
    other = SecretClient(by_cursor, keyring).describe_secret("a")
    ours = store.describe_secret("a")
    by_cursor.dispose()

    assert ours == other
    assert ours is not None
    assert other is not None
    assert ours.created_at.isoformat() == other.created_at.isoformat()


def test_statements_of_a_session_without_a_transaction_of_its_own(
    database_url: str, keyring: KeyRing, went_by_wire: list[str]
) -> None:
    """On a connection in autocommit each statement is alone anyway; it goes by SQLAlchemy."""
    engine = make_engine(database_url).execution_options(isolation_level="AUTOCOMMIT")
    SecretClient(engine, keyring).set_secret("a", 1)
    went_by_wire.clear()
    with Session(engine) as session:
        service = SecretClient(engine, keyring).bind(session)
        assert [service.get_secret("a"), service.get_secret("a")] == [1, 1]
        assert session.execute(text("SELECT 1")).scalar_one() == 1
    engine.dispose()

    assert went_by_wire == []


WITHOUT = """
import sys
import secretstore
from secretstore.orm import wire

wire.generators = None
with secretstore.connect(sys.argv[1], keyring=secretstore.KeyRing.from_text(sys.argv[2])) as store:
    store.set_secret("a", 1)
    store.set_secrets({"b": 2})
    print(store.get_secret("a"), store.get_secrets(["a", "b"]), store.delete_secret("a"), store.list_secret_keys())
"""


def test_everything_works_without_what_a_release_of_psycopg_takes_away(database_url: str, master_key: str) -> None:
    """By the switch; without it a call fails, and nothing else."""
    command = [sys.executable, "-c", WITHOUT, database_url, master_key]
    by_cursor = {**os.environ, "SECRETSTORE_LIBPQ": "false"}
    with_it = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    without = subprocess.run(command, env=by_cursor, capture_output=True, text=True, timeout=60, check=False)

    assert "AttributeError" in with_it.stderr, with_it.stderr
    assert (without.stdout, without.stderr) == ("1 {'a': 1, 'b': 2} True ['b']\n", "")


def test_one_file_alone_uses_libpq() -> None:
    """Whoever has to look after it finds it in one place."""
    package = Path(secretstore.__file__).parent
    users = [file for file in package.rglob("*.py") if "pgconn.send" in file.read_text(encoding="utf-8")]

    assert [str(file.relative_to(package)) for file in users] == [str(Path("orm") / "wire.py")]
