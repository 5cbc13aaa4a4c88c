"""Reads of single secrets, one caller at a time, and from many tasks of a loop."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from typing import Any, cast

from psycopg_pool import AsyncConnectionPool
from sqlalchemy.orm import Session
from sqlalchemy.pool import QueuePool

from benchmarks.clients import PREPARED, async_client, client, raw
from benchmarks.harness import Contest, Goal, Row, Side
from benchmarks.raw import RawAsyncStore
from benchmarks.stage import MAIN, Stage
from benchmarks.values import key_of, keys_of, value_of
from secretstore import AsyncSecretClient

TASKS = 32

Get = Callable[[str], object]


def reading(name: str, get: Get) -> Side:
    """Return a side that reads secrets one after another."""

    def do(keys: Sequence[str]) -> None:
        for key in keys:
            get(key)

    return Side(name, do, lambda number: get(key_of(number)), keys_of)


def reads(stage: Stage, *sides: Side, **more: Any) -> Contest:  # what a contest takes
    """Return a contest of reads of single secrets."""
    usual: dict[str, Any] = {
        "expected": value_of,
        "numbers": stage.numbers,
        "operations": stage.size.operations,
        "rounds": stage.size.rounds,
    }
    return Contest(sides, **(usual | more))


@contextmanager
def cold(stage: Stage) -> Iterator[Contest]:
    """A client that prepares, beside one connection that does."""
    with client(stage, PREPARED) as store, raw(stage) as twin:
        sides = reading("client.get_secret", store.get_secret), reading("raw psycopg", twin.get)
        yield reads(stage, *sides)


@contextmanager
def unprepared(stage: Stage) -> Iterator[Contest]:
    """A client as it is behind a pooler, beside one connection that prepares, and one that does not."""
    with client(stage) as store, raw(stage) as twin, raw(stage) as unprepared_twin:
        unprepared_twin.connection.prepare_threshold = None
        yield reads(
            stage,
            reading("client.get_secret", store.get_secret),
            reading("raw psycopg", twin.get),
            reading("raw psycopg, not prepared either", unprepared_twin.get),
        )


@contextmanager
def in_transaction(stage: Stage) -> Iterator[Contest]:
    """A service on a caller's session, beside a connection in a transaction."""
    with (
        client(stage, PREPARED) as store,
        Session(store.engine) as session,
        session.begin(),
        raw(stage, autocommit=False) as twin,
    ):
        sides = reading("service.get_secret", store.bind(session).get_secret), reading("raw psycopg", twin.get)
        yield reads(stage, *sides)


@contextmanager
def in_tasks(stage: Stage) -> Iterator[Contest]:
    """An async client in many tasks, beside a pool of psycopg's with as many connections, in as many tasks."""
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        try:
            yield runner.run(_async_contest(stage, stack, runner))
        finally:
            runner.run(stack.aclose())


async def _async_contest(stage: Stage, stack: AsyncExitStack, runner: asyncio.Runner) -> Contest:
    store = await stack.enter_async_context(async_client(stage, PREPARED))
    pool = await stack.enter_async_context(_pool_like(stage, store))
    twin = RawAsyncStore(stage.vault)

    async def get(key: str) -> object:
        async with pool.connection() as connection:
            return await twin.get(connection, key)

    ours, theirs = _in_tasks("client.get_secret", store.get_secret, runner), _in_tasks("raw psycopg", get, runner)
    return reads(stage, ours, theirs, operations=TASKS * (stage.size.operations // 10))


def _pool_like(stage: Stage, store: AsyncSecretClient) -> Any:  # its types depend on the connection's
    size = cast("QueuePool", store.engine.pool).size()
    return AsyncConnectionPool(
        stage.conninfo_of(MAIN), open=False, min_size=size, max_size=size, kwargs={"autocommit": True}
    )


def _in_tasks(name: str, get: Callable[[str], Any], runner: asyncio.Runner) -> Side:
    async def read(keys: Sequence[str]) -> None:
        for key in keys:
            await get(key)

    async def read_all(keys: Sequence[str]) -> None:
        await asyncio.gather(*(read(keys[task::TASKS]) for task in range(TASKS)))

    async def answer(number: int) -> object:
        return await get(key_of(number))

    return Side(name, lambda keys: runner.run(read_all(keys)), lambda number: runner.run(answer(number)), keys_of)


ROWS = (
    Row("get-cold", "`client.get_secret` cold, prepared statements on", Goal(0.9, "time"), cold),
    Row("get-unprepared", "`client.get_secret` cold, prepared statements off", Goal(1.3, "time"), unprepared),
    Row("get-in-transaction", "`service.get_secret` in the caller's transaction", Goal(0.75, "time"), in_transaction),
    Row("get-async", f"`await client.get_secret` cold, {TASKS} tasks", Goal(1.2, "time"), in_tasks),
)
