"""Clients behind a real PgBouncer in transaction mode, where each transaction may run on another connection of the server."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

import secretstore
from secretstore import AsyncSecretClient, CacheConfig, KeyRing, SecretClient, SecretStoreError
from tests.support.caches import BY_NOTICE, statistics, until, warm
from tests.support.pooler import POOL_SIZE, running_pooler
from tests.support.server import Server
from tests.support.threads import CLIENT_BACKENDS, number, run_together

CLIENTS = 8
ROUNDS = 25
_OTHER_CONNECTIONS = f"{CLIENT_BACKENDS} AND pid <> pg_backend_pid()"

Exchange = Callable[[SecretClient, int, int], object]
AsyncExchange = Callable[[AsyncSecretClient, int, int], Awaitable[object]]


@pytest.fixture(scope="module")
def pooled(server: Server) -> Iterator[Server]:
    """The server behind PgBouncer, that of the whole run if it has one."""
    if server.pooler_url:
        yield server
        return
    with running_pooler(server.admin_url) as url:
        yield replace(server, pooler_url=url)


@pytest.fixture
def pooled_url(pooled: Server, database: str) -> str:
    """The URL of a database behind PgBouncer."""
    return pooled.url(database)


def value_of(client: int, turn: int) -> dict[str, object]:
    """A value that no other client writes, nor the same one in another round."""
    return {"client": client, "turn": turn, "text": f"hunter2-{client}-{turn}" * client}


def exchange(store: SecretClient, client: int, turn: int) -> object:
    """Write and read, in a namespace of its own and in the one of all, and return what is not its own."""
    value = value_of(client, turn)
    mine = store.namespace(f"of {client}")
    mine.set_secret("same", value)
    store.set_secret(f"k{client}", value)
    read = (mine.get_secret("same"), store.get_secret(f"k{client}"), mine.get_secret(f"k{client}"))
    return None if read == (value, value, None) else read


def exchange_bound(store: SecretClient, client: int, turn: int) -> object:
    """The same in one transaction of a caller's, and after it."""
    value = value_of(client, turn)
    with Session(store.engine) as session, session.begin():
        mine, shared = store.namespace(f"of {client}").bind(session), store.bind(session)
        mine.set_secret("same", value)
        shared.set_secret(f"k{client}", value)
        inside = (mine.get_secret("same"), shared.get_secret(f"k{client}"))
    read = (*inside, store.get_secret(f"k{client}"))
    return None if read == (value, value, value) else read


def strangers(store: SecretClient, do: Exchange) -> list[object]:
    """Let all clients do it at once, each many times, and return the answers that were not their own."""

    def run(client: int) -> list[object]:
        return [found for turn in range(ROUNDS) if (found := do(store, client, turn)) is not None]

    together = run_together(*(lambda client=client: run(client) for client in range(1, CLIENTS + 1)))
    return [found for own in together for found in own]


@pytest.mark.parametrize("do", [exchange, exchange_bound])
def test_threads_get_their_own_answers(
    pooled_url: str, keyring: KeyRing, raw: psycopg.Connection, do: Exchange
) -> None:
    """Eight threads on one client share four connections of the server, and nobody ever gets another's value."""
    with secretstore.connect(pooled_url, keyring=keyring) as store:
        assert strangers(store, do) == []
        assert 2 <= number(raw, _OTHER_CONNECTIONS) <= POOL_SIZE


async def exchange_async(store: AsyncSecretClient, client: int, turn: int) -> object:
    """As `exchange`, with the async client."""
    value = value_of(client, turn)
    mine = store.namespace(f"of {client}")
    await mine.set_secret("same", value)
    await store.set_secret(f"k{client}", value)
    read = (await mine.get_secret("same"), await store.get_secret(f"k{client}"), await mine.get_secret(f"k{client}"))
    return None if read == (value, value, None) else read


async def exchange_bound_async(store: AsyncSecretClient, client: int, turn: int) -> object:
    """As `exchange_bound`, with the async client."""
    value = value_of(client, turn)
    async with AsyncSession(store.engine) as session, session.begin():
        mine, shared = store.namespace(f"of {client}").bind(session), store.bind(session)
        await mine.set_secret("same", value)
        await shared.set_secret(f"k{client}", value)
        inside = (await mine.get_secret("same"), await shared.get_secret(f"k{client}"))
    read = (*inside, await store.get_secret(f"k{client}"))
    return None if read == (value, value, value) else read


@pytest.mark.parametrize("do", [exchange_async, exchange_bound_async])
def test_tasks_get_their_own_answers(
    pooled_url: str, keyring: KeyRing, raw: psycopg.Connection, do: AsyncExchange
) -> None:
    """Eight tasks on one async client share four connections of the server, and nobody ever gets another's value."""

    async def run(store: AsyncSecretClient, client: int) -> list[object]:
        return [await do(store, client, turn) for turn in range(ROUNDS)]

    async def scenario() -> list[list[object]]:
        async with await secretstore.connect_async(pooled_url, keyring=keyring) as store:
            answers = await asyncio.gather(*(run(store, client) for client in range(1, CLIENTS + 1)))
            assert 2 <= number(raw, _OTHER_CONNECTIONS) <= POOL_SIZE
            return answers

    assert asyncio.run(scenario()) == [[None] * ROUNDS] * CLIENTS


def test_the_danger_is_real(pooled_url: str, keyring: KeyRing) -> None:
    """The same client on an engine that prepares its statements fails or mixes: what is tried above would be noticed."""
    arguments = {**conninfo_to_dict(pooled_url), "prepare_threshold": 0}
    engine = create_engine("postgresql+psycopg://", connect_args=arguments, hide_parameters=True)
    try:
        with pytest.raises((AssertionError, DBAPIError, SecretStoreError)):
            # It does not try again, which would hide the failures.
            assert strangers(SecretClient(engine, keyring, retry_seconds=0), exchange) == []
    finally:
        engine.dispose()


def test_prepared_statements_of_eight_connections_meet_on_four(pooled_url: str) -> None:
    """The driver gives every connection's first statement the same name, and two of eight have to share a connection."""

    def ask(client: int) -> str:
        with psycopg.connect(pooled_url, autocommit=True, prepare_threshold=0) as connection:
            try:
                answer = connection.execute(f"SELECT 'of client {client}'".encode()).fetchone()
            except psycopg.Error as error:
                return type(error).__name__
        return "its own" if answer == (f"of client {client}",) else "another's"

    answers = [ask(client) for client in range(CLIENTS)]
    assert set(answers) - {"its own"}


def test_a_watch_needs_no_notice(pooled_url: str, keyring: KeyRing) -> None:
    """LISTEN is accepted and nothing is ever delivered, so a watch sees what it misses when it looks the next time."""
    with secretstore.connect(pooled_url, keyring=keyring) as store:
        changes = store.watch(after=0, poll_seconds=0.1)
        for key in "a", "b", "c":
            store.set_secret(key, 1)
            assert next(changes).key == key
        changes.close()


def test_a_cache_asks_where_no_notice_arrives(
    pooled_url: str, keyring: KeyRing, caplog: pytest.LogCaptureFixture
) -> None:
    """What others change is seen all the same, and the way around the pooler is named once."""
    with (
        secretstore.connect(pooled_url, keyring=keyring, cache=CacheConfig(max_stale_seconds=3000.0)) as cached,
        secretstore.connect(pooled_url, keyring=keyring) as writer,
    ):
        writer.set_secret("k", 0)
        warm(cached)
        for value in (1, 2):
            writer.set_secret("k", value)
            until(lambda: cached.get_secret("k") == value)  # noqa: B023 - called at once
            warm(cached)
        assert not statistics(cached).listening
    assert caplog.text.count("SECRETSTORE_LISTEN_URL") == 1


def test_a_cache_listens_past_the_pooler(pooled: Server, database: str, keyring: KeyRing) -> None:
    """On its own connection, while reads and writes go through it."""
    url, direct_url = pooled.url(database), pooled.direct_url(database)
    with (
        secretstore.connect(url, keyring=keyring, cache=BY_NOTICE, listen_url=direct_url) as cached,
        secretstore.connect(url, keyring=keyring) as writer,
    ):
        for value in range(5):
            writer.set_secret("k", value)
            until(lambda: cached.get_secret("k") == value)  # noqa: B023 - called at once
            warm(cached)
        assert statistics(cached).listening


def test_the_options_of_a_connection_are_refused(pooled_url: str) -> None:
    """PgBouncer takes no `options`; that `connect` works shows that the library sends none."""
    with pytest.raises(psycopg.OperationalError, match="unsupported startup parameter: options"):
        psycopg.connect(f"{pooled_url}&options=-cstatement_timeout%3D1000")
