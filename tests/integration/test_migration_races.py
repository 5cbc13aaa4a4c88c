"""Many upgrades at once, and upgrades by roles with few rights."""

import subprocess
import sys
from collections.abc import Iterator
from functools import partial

import psycopg
import pytest
from sqlalchemy import Engine

from secretstore import PermissionDeniedError, migrate
from secretstore.orm.engines import make_engine
from tests.support.catalogue import OUR_TABLES, VERSION_TABLE, tables
from tests.support.server import Server
from tests.support.threads import DEADLINE_SECONDS, in_thread, run_together, wait_until_blocked

AT_ONCE = 8
OWNER = "secretstore_test_owner"
UPGRADE = """
import sys
from secretstore import migrate
from secretstore.orm.engines import make_engine
engine = make_engine(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
migrate.upgrade(engine)
"""


@pytest.fixture
def onlooker(empty_database_url: str) -> Iterator[psycopg.Connection]:
    """A plain connection to the database that is upgraded."""
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def owner(server: Server, onlooker: psycopg.Connection) -> Iterator[Engine]:
    """An engine that logs in as a role without any rights of its own."""
    onlooker.execute(f"DROP ROLE IF EXISTS {OWNER}")
    onlooker.execute(f"CREATE ROLE {OWNER} LOGIN PASSWORD 'only-for-tests'")
    engine = make_engine(server.url(onlooker.info.dbname, user=OWNER, password="only-for-tests"))
    yield engine
    engine.dispose()
    onlooker.execute(f"DROP OWNED BY {OWNER}")
    onlooker.execute(f"DROP ROLE {OWNER}")


def _upgrade(url: str) -> str | None:
    engine = make_engine(url)
    try:
        migrate.upgrade(engine)
        return migrate.current(engine)
    finally:
        engine.dispose()


def test_threads_that_upgrade_at_once_all_succeed(empty_database_url: str, onlooker: psycopg.Connection) -> None:
    """Eight threads that upgrade one database at once all find it upgraded."""
    found = run_together(*[lambda: _upgrade(empty_database_url)] * AT_ONCE)

    assert found == [migrate.head()] * AT_ONCE
    assert tables(onlooker) == OUR_TABLES | VERSION_TABLE


def test_processes_that_upgrade_at_once_all_succeed(empty_database_url: str, onlooker: psycopg.Connection) -> None:
    """Eight processes that are let go at one moment all upgrade one database without an error."""
    program = [sys.executable, "-c", UPGRADE, empty_database_url]
    started = [
        subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(AT_ONCE)
    ]
    ready = [process.stdout.readline() for process in started if process.stdout]
    for process in started:
        assert process.stdin
        process.stdin.close()
        process.stdin = None
    ended = [(process.communicate(timeout=DEADLINE_SECONDS)[1], process.returncode) for process in started]

    assert ready == ["ready\n"] * AT_ONCE
    assert ended == [("", 0)] * AT_ONCE
    assert tables(onlooker) == OUR_TABLES | VERSION_TABLE


def test_upgrades_of_different_databases_do_not_mix(server: Server) -> None:
    """Threads that upgrade databases of their own each make their tables in their own."""
    with server.database() as one, server.database() as two:
        urls = [server.url(one), server.url(two)] * 2

        found = run_together(*[partial(_upgrade, url) for url in urls])

        assert found == [migrate.head()] * len(urls)


def test_an_upgrade_that_waits_does_not_stop_the_one_it_waits_for(
    empty_database_url: str, onlooker: psycopg.Connection
) -> None:
    """Whoever has upgraded and not committed may go on migrating while another thread waits for the commit."""
    engine = make_engine(empty_database_url)
    with engine.connect() as connection:
        migrate.upgrade(connection)
        with in_thread(lambda: _upgrade(empty_database_url)) as waiting:
            wait_until_blocked(onlooker)
            with in_thread(lambda: migrate.downgrade(connection, migrate.BASE)) as going_on:
                try:
                    going_on.result(DEADLINE_SECONDS)
                finally:
                    connection.commit()
        assert waiting.result(DEADLINE_SECONDS) == migrate.head()
    engine.dispose()


def test_the_owner_of_a_ready_made_schema_needs_no_right_to_make_one(
    owner: Engine, onlooker: psycopg.Connection
) -> None:
    """A role that may not create schemas upgrades and downgrades where its schema was made for it."""
    onlooker.execute(f"CREATE SCHEMA secretstore AUTHORIZATION {OWNER}")

    migrate.upgrade(owner)
    upgraded = tables(onlooker)
    migrate.downgrade(owner, migrate.BASE)

    assert upgraded == OUR_TABLES | VERSION_TABLE
    assert tables(onlooker) == VERSION_TABLE


def test_a_role_without_rights_may_not_upgrade(owner: Engine, onlooker: psycopg.Connection) -> None:
    """A role that may create neither schema nor table gets `PermissionDeniedError`, and nothing is made."""
    with pytest.raises(PermissionDeniedError, match="SQLSTATE 42501"):
        migrate.upgrade(owner)

    assert onlooker.execute("SELECT to_regnamespace('secretstore')").fetchone() == (None,)
