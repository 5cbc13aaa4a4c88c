"""Transactions of a client are tried again as a whole where that may help; those of a caller never are."""

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from secretstore import KeyRing, SecretClient, StoreUnavailableError, migrate
from secretstore.embedded import EmbeddedFolder, EmbeddedServer
from secretstore.orm.engines import make_engine
from tests.support.faces import Face, open_face
from tests.support.proxy import open_door
from tests.support.server import Server
from tests.support.threads import in_thread, number, run_together, wait_until_blocked

_VERSIONS = "SELECT count(*) FROM secretstore.secret_version"
_EVENTS = "SELECT count(*) FROM secretstore.change_event"
_TOUCH = text("UPDATE secretstore.secret_store SET labels = labels WHERE namespace = :namespace AND key = :key")
_END = """
    SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


@pytest.fixture(params=["client", "async client"])
def client(request: pytest.FixtureRequest, database_url: str, keyring: KeyRing) -> Iterator[Face]:
    """Each client in turn."""
    with open_face(request.param, database_url, keyring) as opened:
        yield opened


def touch(session: Session, key: str) -> None:
    """Lock a row as a caller's transaction may."""
    session.execute(_TOUCH, {"namespace": "default", "key": key})


def never() -> float:
    """Take the place of chance where nothing may be tried again."""
    pytest.fail("it was tried again")


def look_once(raw: psycopg.Connection, database: str) -> None:
    """Let those who come from now on wait long before they look for a deadlock, which each does once and then gives way.

    By then a test has closed the circle, on a slow machine too.
    """
    raw.execute(f"ALTER DATABASE {database} SET deadlock_timeout = '3s'")


def patient(session: Session) -> None:
    """Let a caller's transaction not look for a deadlock while another does, which PostgreSQL then breaks off."""
    session.execute(text("SET LOCAL deadlock_timeout = '60s'"))


def impatient(client: Face | SecretClient) -> None:
    """Fail the test if the client tries again."""
    made = client._made() if isinstance(client, Face) else client
    made._options.retrying.chance = never


def test_a_deadlock_is_survived(client: Face, engine: Engine, raw: psycopg.Connection, database: str) -> None:
    """Chosen by PostgreSQL to give way to a caller's transaction, a client tries again once that is over."""
    look_once(raw, database)
    client.set_secrets({"a": 1, "b": 1})
    with Session(engine) as session:
        patient(session)
        touch(session, "b")
        with in_thread(lambda: client.set_secrets({"a": 2, "b": 2})) as written:
            wait_until_blocked(raw)
            touch(session, "a")
            session.commit()
    assert {key: info.version for key, info in written.result().items()} == {"a": 2, "b": 2}
    assert number(raw, _VERSIONS) == number(raw, _EVENTS) == 4


def test_a_deadlock_of_a_caller_s_transaction_is_theirs(
    engine: Engine, store: SecretClient, raw: psycopg.Connection
) -> None:
    """In a bound session nothing is tried again, and the error says that the whole transaction may be."""
    store.set_secrets({"a": 1, "b": 1})
    impatient(store)
    with Session(engine) as session, Session(engine) as other:
        patient(other)
        touch(other, "b")
        touch(session, "a")
        with in_thread(lambda: touch(other, "a")) as touched:
            wait_until_blocked(raw)
            with pytest.raises(StoreUnavailableError, match="deadlock") as caught:
                store.bind(session).set_secret("b", 2)
            session.rollback()
        touched.result()
    assert (caught.value.is_transient, caught.value.was_lost) == (True, False)


def test_serialization_failures_are_survived(engine: Engine, keyring: KeyRing, raw: psycopg.Connection) -> None:
    """Eight threads write one key on an engine that is SERIALIZABLE: each write counts, and none counts twice."""
    store = SecretClient(engine.execution_options(isolation_level="SERIALIZABLE"), keyring)
    store.set_secret("a", 0)

    def write() -> list[int]:
        return [store.set_secret("a", value).version for value in range(5)]

    versions = [version for own in run_together(*[write] * 8) for version in own]
    assert sorted(versions) == list(range(2, 42))
    assert number(raw, _VERSIONS) == number(raw, _EVENTS) == 41


def test_a_lock_that_is_not_free_in_time_is_tried_again(database_url: str, engine: Engine, keyring: KeyRing) -> None:
    """With a `lock_timeout`, a client tries again while a caller's transaction goes on for long."""
    hasty = make_engine(f"{database_url}&options=-clock_timeout%3D20ms")
    store, tries = SecretClient(hasty, keyring), threading.Semaphore(0)

    def chance() -> float:
        tries.release()
        return 0.0

    store._options.retrying.chance = chance
    store.set_secret("a", 1)
    with Session(engine) as session:
        touch(session, "a")
        with in_thread(lambda: store.set_secret("a", 2).version) as written:
            for _ in range(3):
                assert tries.acquire(timeout=20)
            session.commit()
    assert written.result() == 2
    hasty.dispose()


@contextmanager
def again_and_again(act: Callable[[], object]) -> Iterator[None]:
    """Do something over and over while the block goes on."""
    ended = threading.Event()

    def work() -> None:
        while not ended.wait(0.2):
            act()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_no_write_is_lost_or_doubled_while_connections_are_cut(
    engine: Engine, keyring: KeyRing, raw: psycopg.Connection
) -> None:
    """Every backend is ended again and again beneath eight writers: as many versions as acknowledged writes."""
    store = SecretClient(engine, keyring)
    store.set_secret("a", "first")

    def write(thread: int) -> list[int]:
        chance = random.Random(thread)
        return [store.set_secret(chance.choice("ab"), [thread, value]).version for value in range(30)]

    with again_and_again(lambda: raw.execute(_END)):
        versions = run_together(*(lambda thread=thread: write(thread) for thread in range(8)))
    assert number(raw, _VERSIONS) == number(raw, _EVENTS) == 1 + sum(map(len, versions)) == 241


def test_calls_outlive_a_restart_of_postgresql(keyring: KeyRing) -> None:
    """The server is stopped and started again beneath four writers, whose writes all count once."""
    with TemporaryDirectory(prefix="secretstore-restart-", ignore_cleanup_errors=True) as home:
        folder = EmbeddedFolder(Path(home) / "postgresql")
        server = EmbeddedServer(folder)
        engine = make_engine(server.url)
        migrate.upgrade(engine)
        store, is_back = SecretClient(engine, keyring), threading.Event()
        store.set_secret("a", 0)

        def write() -> int:
            for written in count(1):
                store.set_secret("a", written)
                if is_back.is_set():
                    return written
            return 0

        def restart() -> int:
            nonlocal server
            try:
                server.stop()
                server = EmbeddedServer(folder)
            finally:
                is_back.set()
            return 0

        acknowledged = sum(run_together(write, write, write, write, restart))
        assert len(store.list_versions("a")) == 1 + acknowledged
        engine.dispose()
        server.stop()


def test_a_url_that_never_led_anywhere_fails_at_once(keyring: KeyRing) -> None:
    """A client that has not reached the database before does not try again to connect."""
    engine = make_engine("postgresql://nobody@127.0.0.1:1/none")
    store = SecretClient(engine, keyring)
    impatient(store)
    with pytest.raises(StoreUnavailableError, match="nothing listens there") as caught:
        store.get_secret("a")
    assert (caught.value.is_transient, caught.value.was_unreached) == (True, True)
    engine.dispose()


def test_a_full_pool_is_not_tried_again(database_url: str, keyring: KeyRing) -> None:
    """Whoever waited for a connection of the pool has waited long enough."""
    url = database_url.replace("://", "+psycopg://")
    engine = create_engine(url, pool_size=1, max_overflow=0, pool_timeout=0.05)
    store = SecretClient(engine, keyring)
    store.set_secret("a", 1)
    impatient(store)
    with engine.connect(), pytest.raises(StoreUnavailableError, match="make the pool larger") as caught:
        store.get_secret("a")
    assert caught.value.is_transient is False
    engine.dispose()


def test_a_server_that_only_reads_is_left(engine: Engine, store: SecretClient, raw: psycopg.Connection) -> None:
    """A connection to what is no longer the primary is given up, and the next one leads to where writing is possible."""
    store.set_secret("a", 1)
    with engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
    # What a server that was demoted does; a new connection finds the one that took its place.
    driver.execute("SET default_transaction_read_only = on")
    driver.commit()

    assert store.set_secret("a", 2).version == 2
    assert driver.closed
    assert number(raw, _VERSIONS) == 2


def test_without_time_nothing_is_tried_again(
    engine: Engine, keyring: KeyRing, raw: psycopg.Connection, database: str
) -> None:
    """With `retry_seconds=0` the first failure is the caller's."""
    look_once(raw, database)
    store = SecretClient(engine, keyring, retry_seconds=0)
    store.set_secrets({"a": 1, "b": 1})
    with Session(engine) as session:
        patient(session)
        touch(session, "b")

        def write() -> None:
            with pytest.raises(StoreUnavailableError, match="deadlock"):
                store.set_secrets({"a": 2, "b": 2})

        with in_thread(write) as failed:
            wait_until_blocked(raw)
            touch(session, "a")
            session.commit()
    failed.result()
    assert number(raw, _VERSIONS) == 2


@pytest.mark.parametrize("seconds", [-1, float("inf"), float("nan")])
def test_a_time_that_is_none_is_refused(engine: Engine, keyring: KeyRing, seconds: float) -> None:
    """A client tries again for a number of seconds, 0 or more."""
    with pytest.raises(ValueError, match="0 or more"):
        SecretClient(engine, keyring, retry_seconds=seconds)


def test_a_caller_s_commit_is_theirs(server: Server, database: str, keyring: KeyRing, raw: psycopg.Connection) -> None:
    """The connection of a bound session is cut at its COMMIT: the error is SQLAlchemy's, and nothing is tried again."""
    with open_door(server) as door:
        engine = make_engine(door.url(database))
        store = SecretClient(engine, keyring)
        store.set_secret("a", 1)
        impatient(store)
        with Session(engine) as session:
            store.bind(session).set_secret("a", 2)
            door.break_next_commit("before")
            with pytest.raises(DBAPIError):
                session.commit()
        engine.dispose()
    assert number(raw, _VERSIONS) == 1
