"""Connections of their own that wait for notices.

A notice is a hint to look sooner, and no more: where none comes, as behind a pooler in transaction mode, waiting takes the
whole time that was given.  A lost connection may have lost a notice too, and so it ends the wait.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TypeVar

import psycopg
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

from secretstore.domain.names import Namespace
from secretstore.orm.event_repository import CHANNEL
from secretstore.orm.translate import translated

T = TypeVar("T")

_LISTEN = f"LISTEN {CHANNEL}".encode()
_PAUSE_SECONDS = 0.5
_LOST = (psycopg.Error, SQLAlchemyError, OSError)


class CannotListenError(Exception):
    """The server, or what stands before it, does not take the statement."""


class Line:
    """A connection of its own, outside the pool, that hears notices and takes questions."""

    def __init__(self, engine: Engine) -> None:
        with translated():
            self._connection = engine.execution_options(isolation_level="READ COMMITTED").connect()
            driver = self._connection.connection.driver_connection
            # Listening is a state of the session, and so the pool never gets it back.
            self._connection.detach()
        assert isinstance(driver, psycopg.Connection)  # noqa: S101 - our engines have no other driver
        self._driver = driver

    def listen(self) -> None:
        """Begin to listen; raises `CannotListenError`."""
        with translated(), _refusals():
            self._driver.execute(_LISTEN)
            self._driver.commit()

    def ask(self, do: Callable[[Session], T]) -> T:
        """Run a function in a transaction of its own."""
        with translated(), Session(self._connection) as session, session.begin():
            return do(session)

    def take(self) -> list[str]:
        """Return the texts of the notices that have arrived."""
        with translated():
            return [notice.payload for notice in self._driver.notifies(timeout=0, stop_after=1)]

    def fileno(self) -> int:
        """Return what can be waited on for notices."""
        with translated():
            return self._driver.fileno()

    def close(self) -> None:
        """Let the connection go, as it is: the pool's way would roll back first, and log that this fails."""
        with suppress(*_LOST):
            self._driver.close()
            self._connection.invalidate()
            self._connection.close()


class AsyncLine:
    """As `Line`, awaited; `open` makes one."""

    def __init__(self, connection: AsyncConnection, driver: psycopg.AsyncConnection) -> None:
        self._connection = connection
        self._driver = driver

    @classmethod
    async def open(cls, engine: AsyncEngine) -> "AsyncLine":
        """See `Line`."""
        with translated():
            connection = await engine.execution_options(isolation_level="READ COMMITTED").connect()
            driver = (await connection.get_raw_connection()).driver_connection
            await connection.run_sync(lambda lent: lent.detach())
        assert isinstance(driver, psycopg.AsyncConnection)  # noqa: S101 - ditto
        return cls(connection, driver)

    async def listen(self) -> None:
        """See `Line.listen`."""
        with translated(), _refusals():
            await self._driver.execute(_LISTEN)
            await self._driver.commit()

    async def ask(self, do: Callable[[Session], T]) -> T:
        """See `Line.ask`."""
        with translated():
            async with AsyncSession(self._connection) as session, session.begin():
                return await session.run_sync(do)

    async def take(self) -> list[str]:
        """See `Line.take`."""
        with translated():
            return [notice.payload async for notice in self._driver.notifies(timeout=0, stop_after=1)]

    def fileno(self) -> int:
        """See `Line.fileno`."""
        with translated():
            return self._driver.fileno()

    async def close(self) -> None:
        """See `Line.close`."""
        with suppress(*_LOST):
            await self._driver.close()
            await self._connection.invalidate()
            await self._connection.close()


@contextmanager
def _refusals() -> Iterator[None]:
    refused = False
    try:
        yield
    except (psycopg.errors.ReadOnlySqlTransaction, psycopg.errors.FeatureNotSupported, psycopg.errors.SyntaxError):
        refused = True
    if refused:
        raise CannotListenError


class Listener:
    """Waits for notices about a namespace."""

    def __init__(self, engine: Engine, namespace: Namespace) -> None:
        self._engine = engine
        self._namespace = namespace
        self._connection: psycopg.Connection | None = None

    def wait(self, seconds: float) -> None:
        """Return when something may have changed, or after so many seconds; connects again where it has to."""
        try:
            connection = self._connected()
            for notice in connection.notifies(timeout=seconds):
                if _is_about(self._namespace, notice.payload):
                    return
        except _LOST:
            self.close()
            time.sleep(min(seconds, _PAUSE_SECONDS))

    def connect(self) -> None:
        """Begin to listen, if that can be."""
        with suppress(*_LOST):
            self._connected()

    def close(self) -> None:
        """Let the connection go."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self) -> psycopg.Connection:
        if self._connection is None:
            lent = self._engine.raw_connection()
            connection = lent.driver_connection
            # Listening is a state of the session, and so the pool never gets it back.
            lent.detach()
            assert isinstance(connection, psycopg.Connection)  # noqa: S101 - our engines have no other driver
            self._connection = connection
            connection.autocommit = True
            connection.execute(_LISTEN)
        return self._connection


class AsyncListener:
    """As `Listener`, awaited."""

    def __init__(self, engine: AsyncEngine, namespace: Namespace) -> None:
        self._engine = engine
        self._namespace = namespace
        self._connection: psycopg.AsyncConnection | None = None

    async def wait(self, seconds: float) -> None:
        """See `Listener.wait`."""
        try:
            connection = await self._connected()
            async for notice in connection.notifies(timeout=seconds):
                if _is_about(self._namespace, notice.payload):
                    return
        except _LOST:
            await self.close()
            await asyncio.sleep(min(seconds, _PAUSE_SECONDS))

    async def connect(self) -> None:
        """See `Listener.connect`."""
        with suppress(*_LOST):
            await self._connected()

    async def close(self) -> None:
        """Let the connection go."""
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    async def _connected(self) -> psycopg.AsyncConnection:
        if self._connection is None:
            lent = await self._engine.raw_connection()
            connection = lent.driver_connection
            lent.detach()
            assert isinstance(connection, psycopg.AsyncConnection)  # noqa: S101 - ditto
            self._connection = connection
            await connection.set_autocommit(True)
            await connection.execute(_LISTEN)
        return self._connection


@contextmanager
def listening(engine: Engine, namespace: Namespace) -> Iterator[Listener]:
    """Listen, and stop at the end of the block."""
    listener = Listener(engine, namespace)
    try:
        listener.connect()
        yield listener
    finally:
        listener.close()


@asynccontextmanager
async def listening_async(engine: AsyncEngine, namespace: Namespace) -> AsyncIterator[AsyncListener]:
    """Listen, and stop at the end of the block."""
    listener = AsyncListener(engine, namespace)
    try:
        await listener.connect()
        yield listener
    finally:
        await listener.close()


def _is_about(namespace: Namespace, payload: str) -> bool:
    with suppress(ValueError, RecursionError):
        notice = json.loads(payload)
        return isinstance(notice, dict) and notice.get("namespace") == namespace
    return False
