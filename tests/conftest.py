"""Fixtures of all layers: one server and one template database for a run, a copy of it for each test."""

import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, Engine, Executable, event
from sqlalchemy.orm import Session

import secretstore
from secretstore import KeyRing, SecretClient, migrate
from secretstore.crypto.local import LocalMasterKey, generate_master_key
from secretstore.orm import execute, wire
from secretstore.orm.engines import make_engine
from tests.support.clock import Clock
from tests.support.server import Server, ServerChoice, choose_server, running_server
from tests.support.sql_rules import violations

CHOICE = pytest.StashKey[ServerChoice]()


def pytest_configure(config: pytest.Config) -> None:
    """Decide once on the server."""
    # A run in the background ignores Ctrl-C, and so would every program that it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    only_unit = bool(config.args) and all("unit" in Path(argument).parts for argument in config.args)
    config.stash[CHOICE] = ServerChoice("none", "unit tests only") if only_unit else choose_server()


def pytest_report_header(config: pytest.Config) -> str:
    """Say which PostgreSQL the run is on."""
    return f"PostgreSQL: {config.stash[CHOICE]}; secretstore from {Path(secretstore.__file__).parent}"


@pytest.fixture(scope="session", autouse=True)
def measuring() -> dict[str, str]:
    """The variables by which coverage measures what is started.

    Taken away, because a program that is measured takes twice as long; so more is tried than the figure says.
    """
    return {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("COVERAGE")}


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the settings of whoever runs it."""
    for name in list(os.environ):
        if name.startswith(("SECRETSTORE_", "TRIGGERDEV_")) and not name.startswith("SECRETSTORE_TEST_"):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def sent_statements(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Every statement that was sent by the library; none of them may break the rules.

    A test that has to break a rule itself talks to psycopg.  With SECRETSTORE_TEST_CURSOR the hot statements, too, go by
    SQLAlchemy and psycopg's cursor, as they do where someone listens.
    """
    sent: list[str] = []
    fetch = wire.fetch

    def record(_: Connection, __: object, statement: str, *___: object) -> None:
        sent.append(statement)

    def record_and_fetch(
        driver: Any, statement: Executable, values: Mapping[str, Any], *, kept: dict[Any, Any] | None
    ) -> list[Any]:
        sent.append(wire.compile_once(statement).sql.decode())
        return fetch(driver, statement, values, kept=kept)

    if not os.environ.get("SECRETSTORE_TEST_CURSOR"):
        monkeypatch.setattr(execute, "is_listened_to", lambda _: False)
        monkeypatch.setattr(wire, "fetch", record_and_fetch)

    event.listen(Engine, "before_cursor_execute", record)
    yield sent
    event.remove(Engine, "before_cursor_execute", record)
    broken = {rule: statement for statement in set(sent) for rule in violations(statement)}
    assert not broken


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """The running server."""
    with running_server(request.config.stash[CHOICE]) as running:
        yield running


@pytest.fixture(scope="session")
def template(server: Server) -> Iterator[str]:
    """The name of a database with our tables, never connected to again."""
    with server.database() as name:
        engine = make_engine(server.direct_url(name))
        migrate.upgrade(engine)
        engine.dispose()
        yield name


@pytest.fixture
def database(server: Server, template: str) -> Iterator[str]:
    """The name of a database with our empty tables."""
    with server.database(template) as name:
        yield name


@pytest.fixture
def database_url(server: Server, database: str) -> str:
    """The URL of a database with our empty tables."""
    return server.url(database)


@pytest.fixture
def empty_database_url(server: Server) -> Iterator[str]:
    """The URL of a database without our tables."""
    with server.database() as name:
        yield server.url(name)


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """An engine as `connect` makes it."""
    engine = make_engine(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    """A caller's session."""
    with Session(engine) as session:
        yield session


@pytest.fixture
def raw(server: Server, database: str) -> Iterator[psycopg.Connection]:
    """A plain connection in autocommit, past SQLAlchemy, the library and a pooler."""
    with psycopg.connect(server.direct_url(database), autocommit=True) as connection:
        yield connection


@pytest.fixture
def master_key() -> str:
    """A master key as text."""
    return generate_master_key("test")


@pytest.fixture
def keyring(master_key: str) -> KeyRing:
    """A key ring of one key, which counts no seals: a record now and then would be a statement more."""
    return KeyRing(LocalMasterKey.parse(master_key), chance=lambda: 1.0)


@pytest.fixture
def store(engine: Engine, keyring: KeyRing) -> SecretClient:
    """A client on the default namespace."""
    return SecretClient(engine, keyring)


@pytest.fixture
def clock() -> Clock:
    """A clock that stands until the test sets it."""
    return Clock()
