"""The cache of a client on a real PostgreSQL: rights, ways to listen, many at once, and how it ends."""

import asyncio
import gc
import os
import signal
import threading
import time
from collections.abc import Iterator

import psycopg
import pytest
from pydantic import BaseModel
from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncSession

from secretstore import (
    AsyncSecretClient,
    CacheConfig,
    DecryptionError,
    InvalidSecretKeyError,
    KeyRing,
    PermissionDeniedError,
    SecretClient,
    SecretNotFoundError,
)
from secretstore.orm.engines import make_async_engine, make_engine
from tests.support.caches import BY_HEARTBEAT, BY_NOTICE, LISTENERS, opened, statistics, until, warm
from tests.support.faces import async_engine
from tests.support.server import Server
from tests.support.threads import DEADLINE_SECONDS, number, run_together, wait_until


class Account(BaseModel):
    """A value with a shape."""

    name: str
    tags: list[str] = []


ROLE = "secretstore_test_cache"


@pytest.fixture
def application(server: Server, database: str, raw: psycopg.Connection) -> Iterator[Engine]:
    """An engine of a role that may do what the README says."""
    raw.execute(f"DROP ROLE IF EXISTS {ROLE}")
    raw.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD 'only-for-tests'")
    raw.execute(f"GRANT USAGE ON SCHEMA secretstore TO {ROLE}")
    raw.execute(f"GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA secretstore TO {ROLE}")
    engine = make_engine(server.url(database, user=ROLE, password="only-for-tests"))
    yield engine
    engine.dispose()
    raw.execute(f"DROP OWNED BY {ROLE}")
    raw.execute(f"DROP ROLE {ROLE}")


@pytest.mark.parametrize("table", ["secret_store", "data_key"])
def test_revoked_rights_are_noticed(  # noqa: PLR0917 - fixtures
    application: Engine, keyring: KeyRing, store: SecretClient, raw: psycopg.Connection, table: str
) -> None:
    """At the next heartbeat nothing that was read by them is served any more."""
    store.set_secret("k", 1)
    client = opened(application, keyring, BY_HEARTBEAT)
    warm(client)
    raw.execute(f"REVOKE SELECT ON secretstore.{table} FROM {ROLE}")
    until(lambda: statistics(client).entries == 0)
    if table == "secret_store":
        with pytest.raises(PermissionDeniedError):
            client.get_secret("k")
    raw.execute(f"GRANT SELECT ON secretstore.{table} TO {ROLE}")
    warm(client)
    client.close()


def test_a_role_that_may_not_number_changes_confirms_nothing(  # noqa: PLR0917 - fixtures
    application: Engine,
    keyring: KeyRing,
    store: SecretClient,
    raw: psycopg.Connection,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Notices let go as ever, and without them a value lives for `max_stale`; it is said once, without values."""
    raw.execute(f"REVOKE UPDATE ON secretstore.change_event FROM {ROLE}")
    store.set_secret("k", 1)
    client = opened(application, keyring, CacheConfig(heartbeat_seconds=0.1, max_stale_seconds=0.6))
    assert client.get_secret("k") == 1
    until(lambda: statistics(client).stale)
    assert statistics(client).listening
    client.get_secret("k")
    store.set_secrets({"k": 2, "l": 2})
    until(lambda: client.get_secret("k") == 2)

    silent = SecretClient(store.engine, keyring, notify="off")
    client.get_secret("k")
    silent.set_secret("k", 3)
    written = time.monotonic()
    until(lambda: client.get_secret("k") == 3)
    assert time.monotonic() - written < 5
    client.close()
    said = [record.getMessage() for record in caplog.records if record.name == "secretstore.cache"]
    assert len(said) == 1
    assert "change_event" in said[0]


def test_where_notices_do_not_arrive_it_asks(  # noqa: PLR0917 - fixtures
    server: Server,
    template: str,
    engine: Engine,
    keyring: KeyRing,
    store: SecretClient,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As behind a pooler in transaction mode: LISTEN is taken, and nothing comes.  Here it is another database's."""
    store.set_secret("k", 1)
    with server.database(template) as other:
        client = opened(engine, keyring, CacheConfig(), listen_url=server.url(other))
        client.get_secret("k")
        until(lambda: "SECRETSTORE_LISTEN_URL" in caplog.text)
        warm(client)
        assert not statistics(client).listening
        store.set_secret("k", 2)
        until(lambda: client.get_secret("k") == 2)
        client.close()


def test_a_listen_url_is_listened_on(cached: SecretClient, store: SecretClient, raw: psycopg.Connection) -> None:
    """The notices come that way, and so do the questions: there is one connection more, and no other."""
    store.set_secret("k", 1)
    warm(cached)
    assert number(raw, LISTENERS) == 1
    store.set_secret("k", 2)
    until(lambda: cached.get_secret("k") == 2)


def test_eight_threads_send_one_statement(
    cached: SecretClient, store: SecretClient, sent_statements: list[str]
) -> None:
    """All want the same key at once, and one of them reads it."""
    store.set_secret("k", 1)
    warm(cached)
    for value in range(2, 12):
        cached.set_secret("k", value)
        before = statistics(cached)
        assert run_together(*[lambda: cached.get_secret("k")] * 8) == [value] * 8
        after = statistics(cached)
        assert (after.loads - before.loads, after.entries) <= (2, 2)


def test_readers_and_writers_at_once(cached: SecretClient, engine: Engine, keyring: KeyRing) -> None:
    """Whoever has written reads that value or a later one, in the same process, whatever others load meanwhile."""
    cached.set_secret("k", 0)

    def write() -> bool:
        for _ in range(40):
            version = cached.set_secret("k", "x").version
            info = cached._cached("k")
            if info is None or info.place.version < version:
                return False
        return True

    def read() -> bool:
        last = 0
        for _ in range(400):
            found = cached._cached("k")
            if found is None:
                return False
            last = max(last, found.place.version)
        return last > 0

    assert all(run_together(*[write] * 4, *[read] * 4))
    newest = cached.describe_secret("k")
    assert newest is not None
    found = cached._cached("k")
    assert found is not None
    assert found.place.version == newest.version


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_begins_anew(cached: SecretClient, store: SecretClient, raw: psycopg.Connection) -> None:
    """Forked while another thread is inside the cache, it holds nothing, hangs nowhere, and listens for itself."""
    store.set_secret("k", 1)
    warm(cached)
    entries = cached._cache._of_process().entries if cached._cache else None
    assert entries is not None
    reading, writing = os.pipe()
    with entries._lock:
        forking = threading.Thread(target=_fork_and_read, args=(cached, writing))
        forking.start()
        forking.join()
    os.write(writing, b".")
    told = os.read(reading, 100)
    os.close(reading)
    os.close(writing)
    assert told == b"0 1 1 True."
    assert cached.get_secret("k") == 1


def _fork_and_read(client: SecretClient, writing: int) -> None:
    pid = os.fork()
    if pid:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while os.waitpid(pid, os.WNOHANG) == (0, 0):
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
        return
    try:
        client.engine.dispose(close=False)
        empty = statistics(client).entries
        value = client.get_secret("k")
        warm(client)
        told = statistics(client)
        os.write(writing, f"{empty} {value} {told.entries} {told.listening}".encode())
    finally:
        os._exit(0)


def test_an_async_client_does_the_same(
    database_url: str, listen_url: str, store: SecretClient, raw: psycopg.Connection
) -> None:
    """Kept, let go by others and by itself, bound sessions apart, one load for 32 tasks, and closed at the end."""
    store.set_secret("k", {"name": "a"})
    keyring = store._options.keyring

    async def hears(client: AsyncSecretClient, expected: object) -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while await client.get_secret("k") != expected:  # noqa: ASYNC110 - the cache tells no one
                await asyncio.sleep(0.005)

    async def main() -> None:
        async with async_engine(database_url) as engine:
            client = AsyncSecretClient(engine, keyring, cache=BY_NOTICE, listen_url=listen_url)
            assert await client.get_secret("k", Account) == Account(name="a")
            async with asyncio.timeout(DEADLINE_SECONDS):
                while not statistics(client).listening or statistics(client).hits == 0:
                    await client.get_secret("k")
                    await asyncio.sleep(0.01)
            await asyncio.to_thread(store.set_secret, "k", 1)
            await hears(client, 1)
            await client.set_secret("k", 2)
            loads = statistics(client).loads
            assert await asyncio.gather(*[client.get_secret_or_raise("k") for _ in range(32)]) == [2] * 32
            # Its own notice may come in between.
            assert statistics(client).loads - loads <= 2
            async with AsyncSession(engine) as session:
                bound = client.bind(session)
                await bound.set_secret("k", 3)
                assert (await bound.get_secret("k"), await client.get_secret("k")) == (3, 2)
                await session.commit()
            assert await client.get_secret("k") == 3
            await asyncio.to_thread(store.set_secrets, {"k": 4, "l": 4})
            await hears(client, 4)
            raw.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'direct'")
            await asyncio.to_thread(store.set_secret, "k", 5)
            await hears(client, 5)
            with pytest.raises(SecretNotFoundError):
                await client.get_secret_or_raise("missing")
            with pytest.raises(InvalidSecretKeyError):
                await client.get_secret(1)  # type: ignore[call-overload]  # what the test is about
            await client.keys.shred()
            with pytest.raises(DecryptionError, match="shredded"):
                await client.get_secret("k")
            await client.close()
            assert not statistics(client).listening
            assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []

    asyncio.run(main())
    wait_until(raw, f"SELECT 1 - ({LISTENERS})", 1)


def test_an_async_client_that_is_not_closed_ends_with_its_loop(
    database_url: str, keyring: KeyRing, raw: psycopg.Connection
) -> None:
    """The task is cancelled with the loop, or when nobody holds the client; in another loop it begins anew."""

    async def read(client: AsyncSecretClient) -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not statistics(client).listening:
                await client.get_secret("k")
                await asyncio.sleep(0.01)
        await client.engine.dispose()

    async def main() -> None:
        async with async_engine(database_url) as engine:
            client = AsyncSecretClient(engine, keyring, cache=BY_NOTICE)
            await read(client)
            tasks = asyncio.all_tasks()
            del client
            gc.collect()
            await asyncio.wait(tasks - {asyncio.current_task()}, timeout=DEADLINE_SECONDS)
            assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())
    client = AsyncSecretClient(make_async_engine(database_url), keyring, cache=BY_NOTICE)
    for _ in range(2):
        asyncio.run(read(client))
        assert not statistics(client).listening
    wait_until(raw, f"SELECT 1 - ({LISTENERS})", 1)
