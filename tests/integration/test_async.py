"""The caller's own async transaction, and one async client for many tasks."""

import asyncio
from collections import Counter

import psycopg
import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from secretstore import (
    AsyncSecretClient,
    AsyncSecretService,
    KeyRing,
    PermissionDeniedError,
    SecretClient,
    VersionConflictError,
)
from tests.support.faces import async_engine
from tests.support.threads import number


class _Interruption(Exception):  # noqa: N818 - stands for whatever a caller raises
    """Raised by the caller."""


def test_a_secret_commits_with_the_callers_row(database_url: str, keyring: KeyRing, raw: psycopg.Connection) -> None:
    """On the caller's own async engine and session, row and secret are unseen before the commit and there after it."""

    async def scenario() -> object:
        engine = create_async_engine(database_url.replace("postgresql://", "postgresql+psycopg://"), pool_size=1)
        try:
            async with async_sessionmaker(engine)() as session, session.begin():
                await session.execute(text("INSERT INTO account VALUES (1)"))
                service = AsyncSecretService(session, keyring)
                await service.set_secret("a", "t")
                assert number(raw, "SELECT count(*) FROM secretstore.secret_store") == 0
                return await service.get_secret("a")
        finally:
            await engine.dispose()

    raw.execute("CREATE TABLE account (id int)")
    assert asyncio.run(scenario()) == "t"
    counted = "SELECT (SELECT count(*) FROM account) + (SELECT count(*) FROM secretstore.secret_store)"
    assert number(raw, counted) == 2


def test_an_exception_leaves_neither_row_nor_secret(
    database_url: str, keyring: KeyRing, raw: psycopg.Connection
) -> None:
    """Where the caller's async block fails, nothing of it stays."""

    async def scenario() -> None:
        async with async_engine(database_url) as engine, AsyncSession(engine) as session, session.begin():
            await session.execute(text("INSERT INTO account VALUES (1)"))
            await AsyncSecretClient(engine, keyring).bind(session).set_secret("a", "t")
            raise _Interruption

    raw.execute("CREATE TABLE account (id int)")
    with pytest.raises(_Interruption):
        asyncio.run(scenario())
    for table in ("account", "secretstore.secret_store", "secretstore.change_event", "secretstore.data_key"):
        assert number(raw, f"SELECT count(*) FROM {table}") == 0


def test_a_savepoint_takes_its_secrets_with_it(database_url: str, keyring: KeyRing, store: SecretClient) -> None:
    """What was written inside an async savepoint is undone with it, and the outer transaction goes on."""

    async def scenario() -> None:
        async with async_engine(database_url) as engine, AsyncSession(engine) as session, session.begin():
            service = AsyncSecretService(session, keyring)
            await service.set_secret("a", "outer")
            with pytest.raises(_Interruption):
                await _fail_in_a_savepoint(session, service)
            with pytest.raises(VersionConflictError):
                await service.set_secret("a", "x", expected_version=2)

    asyncio.run(scenario())
    assert store.get_secret("a") == "outer"


async def _fail_in_a_savepoint(session: AsyncSession, service: AsyncSecretService) -> None:
    async with session.begin_nested():
        await service.set_secret("a", "inner")
        raise _Interruption


def test_every_call_leaves_the_session_as_it_was(database_url: str, keyring: KeyRing) -> None:
    """No awaited method commits, rolls back, flushes or ends the transaction."""
    seen: Counter[str] = Counter()

    async def scenario() -> bool:
        async with async_engine(database_url) as engine, AsyncSession(engine) as session:
            for name in ("after_commit", "after_rollback", "before_flush"):
                event.listen(session.sync_session, name, lambda *_, name=name: seen.update([name]))
            await session.connection()
            transaction = session.sync_session.get_transaction()
            service = AsyncSecretService(session, keyring)
            await service.set_secrets({"a": 1, "b": 2})
            await service.get_secrets_by_prefix("")
            await service.delete_secrets(["a"])
            assert not seen
            return session.sync_session.get_transaction() is transaction

    assert asyncio.run(scenario())


def test_a_failed_statement_can_be_rolled_back(database_url: str, keyring: KeyRing) -> None:
    """After an error of PostgreSQL the caller awaits a rollback and goes on with the same session and service."""

    async def scenario() -> object:
        async with async_engine(database_url) as engine, AsyncSession(engine) as session:
            service = AsyncSecretService(session, keyring)
            await session.execute(text("SET LOCAL ROLE pg_read_all_data"))
            with pytest.raises(PermissionDeniedError):
                await service.set_secret("a", 1)
            await session.rollback()
            await service.set_secret("a", 2)
            await session.commit()
            return await service.get_secret("a")

    assert asyncio.run(scenario()) == 2


def test_many_tasks_share_a_client(database_url: str, keyring: KeyRing, raw: psycopg.Connection) -> None:
    """16 tasks that write one new key of a new namespace at once make 16 versions and one data key."""

    async def scenario() -> list[int]:
        async with async_engine(database_url) as engine:
            store = AsyncSecretClient(engine, keyring)
            infos = await asyncio.gather(*(store.set_secret("a", n) for n in range(16)))
            values = await asyncio.gather(*(store.get_secret("a", int, version=n) for n in range(1, 17)))
            assert sorted(value for value in values if value is not None) == list(range(16))
            return sorted(info.version for info in infos)

    assert asyncio.run(scenario()) == list(range(1, 17))
    assert number(raw, "SELECT count(*) FROM secretstore.secret_version") == 16
    assert number(raw, "SELECT count(*) FROM secretstore.data_key") == 1


def test_exactly_one_task_wins(database_url: str, keyring: KeyRing) -> None:
    """Of 8 tasks that expect the same version, one writes and the others get a conflict."""

    async def scenario() -> list[object]:
        async with async_engine(database_url) as engine:
            store = AsyncSecretClient(engine, keyring)
            await store.set_secret("a", "first")
            writes = (store.set_secret("a", n, expected_version=1) for n in range(8))
            return list(await asyncio.gather(*writes, return_exceptions=True))

    kinds = Counter(type(answer).__name__ for answer in asyncio.run(scenario()))
    assert kinds == {"SecretInfo": 1, "VersionConflictError": 7}


def test_a_cancelled_call_leaves_nothing_behind(database_url: str, keyring: KeyRing, raw: psycopg.Connection) -> None:
    """A call that is cancelled while it waits for a lock writes nothing, and the client can be used on."""

    async def scenario() -> object:
        async with async_engine(database_url) as engine:
            store = AsyncSecretClient(engine, keyring)
            await store.set_secret("a", "before")
            async with AsyncSession(engine) as blocker:
                await store.bind(blocker).set_secret("a", "never committed")
                waiting = asyncio.create_task(store.set_secret("a", "cancelled"))
                while not number(raw, "SELECT count(*) FROM pg_locks WHERE NOT granted"):  # noqa: ASYNC110 - PostgreSQL sets no event
                    await asyncio.sleep(0.005)
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
            return await store.get_secret("a")

    assert asyncio.run(scenario()) == "before"
