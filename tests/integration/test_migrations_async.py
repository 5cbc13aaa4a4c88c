"""The awaited faces of the migrations."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from typing import TypeVar

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from secretstore import ConfigurationError, SchemaOutOfDateError, StoreUnavailableError, migrate
from secretstore.orm.engines import make_async_engine
from tests.support.catalogue import OUR_TABLES, VERSION_TABLE, tables
from tests.support.server import Server

T = TypeVar("T")

# In a process of its own: a loop that is blocked for good can only be killed.
TOGETHER = """
import asyncio, sys
from secretstore import migrate
from secretstore.orm.engines import make_async_engine

async def upgrade(url):
    engine = make_async_engine(url)
    await migrate.upgrade_async(engine)
    print(await migrate.current_async(engine))
    await engine.dispose()

async def main():
    await asyncio.gather(*map(upgrade, sys.argv[1:]))

asyncio.run(main())
"""


@pytest.fixture
def onlooker(empty_database_url: str) -> Iterator[psycopg.Connection]:
    """A plain connection to the database that is upgraded."""
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        yield connection


@asynccontextmanager
async def _opened(url: str) -> AsyncIterator[AsyncEngine]:
    engine = make_async_engine(url)
    try:
        yield engine
    finally:
        await engine.dispose()


def _with_engine(url: str, action: Callable[[AsyncEngine], Awaitable[T]]) -> T:
    async def run() -> T:
        async with _opened(url) as engine:
            return await action(engine)

    return asyncio.run(run())


def test_an_async_engine_upgrades_and_downgrades(empty_database_url: str, onlooker: psycopg.Connection) -> None:
    """On an async engine each call is a transaction of its own that is committed."""

    async def up(engine: AsyncEngine) -> tuple[str | None, str | None]:
        before = await migrate.current_async(engine)
        await migrate.upgrade_async(engine)
        await migrate.check_async(engine)
        return before, await migrate.current_async(engine)

    assert _with_engine(empty_database_url, up) == (None, migrate.head())
    assert tables(onlooker) == OUR_TABLES | VERSION_TABLE
    _with_engine(empty_database_url, lambda engine: migrate.downgrade_async(engine, migrate.BASE))
    assert tables(onlooker) == VERSION_TABLE


@pytest.mark.parametrize("keep", [True, False])
def test_an_async_connection_stays_in_the_callers_transaction(
    empty_database_url: str, onlooker: psycopg.Connection, *, keep: bool
) -> None:
    """On an async connection the upgrade is there if the caller commits, and gone if it rolls back."""

    async def up(engine: AsyncEngine) -> str | None:
        async with engine.connect() as connection:
            await migrate.upgrade_async(connection)
            await migrate.check_async(connection)
            found = await migrate.current_async(connection)
            await (connection.commit() if keep else connection.rollback())
            return found

    assert _with_engine(empty_database_url, up) == migrate.head()
    assert tables(onlooker) == (OUR_TABLES | VERSION_TABLE if keep else set())


def test_a_downgrade_on_an_async_connection_is_not_committed(database_url: str, raw: psycopg.Connection) -> None:
    """A downgrade on an async connection is undone by rolling back."""

    async def down(engine: AsyncEngine) -> None:
        async with engine.connect() as connection:
            await migrate.downgrade_async(connection, migrate.BASE)
            await connection.rollback()

    _with_engine(database_url, down)

    assert tables(raw) == OUR_TABLES | VERSION_TABLE


@pytest.mark.parametrize("databases", [1, 3])
def test_upgrades_in_one_event_loop_do_not_block_each_other(server: Server, databases: int) -> None:
    """Upgrades that are gathered in one event loop, of one database or of several, all end."""
    with ExitStack() as stack:
        urls = [server.url(stack.enter_context(server.database())) for _ in range(databases)] * 4

        ended = subprocess.run(
            [sys.executable, "-c", TOGETHER, *urls], capture_output=True, text=True, check=False, timeout=60
        )

    assert (ended.stderr, ended.stdout.split()) == ("", [migrate.head()] * len(urls))


def test_a_wrong_revision_is_said_in_alembics_words(database_url: str) -> None:
    """The awaited faces give the same errors: a wrong revision is a `ConfigurationError`."""
    with pytest.raises(ConfigurationError, match="Can't locate revision identified by 'nowhere'"):
        _with_engine(database_url, lambda engine: migrate.upgrade_async(engine, "nowhere"))


def test_missing_tables_are_found(empty_database_url: str) -> None:
    """The awaited check names the command that makes the tables."""
    with pytest.raises(SchemaOutOfDateError, match="run `secretstore db upgrade`"):
        _with_engine(empty_database_url, migrate.check_async)


@pytest.mark.parametrize("action", [migrate.upgrade_async, migrate.current_async, migrate.check_async])
def test_a_server_that_is_not_there_is_unavailable(action: Callable[[AsyncEngine], Awaitable[None]]) -> None:
    """A database that cannot be reached is a `StoreUnavailableError` from each of them."""
    with pytest.raises(StoreUnavailableError, match="cannot connect to PostgreSQL"):
        _with_engine("postgresql://nobody@/none?host=/nowhere", action)
