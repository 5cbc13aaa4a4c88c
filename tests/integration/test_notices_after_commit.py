"""With `notify="after_commit"` others are told of what was committed, a moment later and of many at once."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from secretstore import AsyncSecretClient, KeyRing, SecretClient, SecretRepository, SecretService
from secretstore.client import notifying
from secretstore.client.notifying import Gathered
from secretstore.domain.names import Key, Namespace
from secretstore.service.committed import Changed
from tests.support.faces import async_engine
from tests.support.threads import in_thread, run_together, wait_until

_LISTENERS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"
_END = '{"namespace": "end", "keys": ["end"]}'


@pytest.fixture
def telling(engine: Engine, keyring: KeyRing) -> Iterator[SecretClient]:
    """A client that tells after the commit."""
    with SecretClient(engine, keyring, notify="after_commit") as client:
        yield client


@pytest.fixture
def listening(raw: psycopg.Connection) -> psycopg.Connection:
    """A connection that hears notices."""
    raw.execute("LISTEN secretstore")
    return raw


def heard(listening: psycopg.Connection, client: SecretClient) -> list[dict[str, Any]]:
    """Return every notice until now: a last one is sent to know where they end."""
    client._notifier.flush()  # type: ignore[union-attr] # it has one
    client.namespace("end").set_secret("end", 1)
    payloads: list[str] = []
    for notice in listening.notifies(timeout=20):
        if notice.payload == _END:
            return [json.loads(payload) for payload in payloads]
        payloads.append(notice.payload)
    pytest.fail("the last notice did not come")


def keys_of(notices: list[dict[str, Any]]) -> set[str]:
    """The keys that notices name."""
    return {key for notice in notices for key in notice["keys"]}


def test_a_notice_names_namespace_and_keys(telling: SecretClient, listening: psycopg.Connection) -> None:
    """Each kind of change is told of, without version or value."""
    telling.set_secrets({"ключ": "canary-value", "b": 1})
    (notice,) = heard(listening, telling)
    assert (notice.pop("namespace"), sorted(notice.pop("keys")), notice) == ("default", ["b", "ключ"], {})
    for change in (
        lambda: telling.delete_secret("b"),
        lambda: telling.undelete_secret("b"),
        lambda: telling.set_labels("b", {"team": "web"}),
        lambda: telling.patch_secret("b", 2),
        lambda: telling.destroy_versions("b", [1]),
        lambda: telling.purge_secret("b"),
    ):
        change()
        assert heard(listening, telling) == [{"namespace": "default", "keys": ["b"]}]


def test_what_was_refused_is_not_told(telling: SecretClient, listening: psycopg.Connection) -> None:
    """Of a call that fails, or changes nothing, nobody hears."""
    with pytest.raises(ValueError, match="a version is a number"):
        telling.set_secret("a", 1, expected_version=-1)
    telling.delete_secret("a")
    telling.get_secret("a")
    assert heard(listening, telling) == []


def test_a_bound_session_tells_after_its_commit(
    engine: Engine, telling: SecretClient, listening: psycopg.Connection
) -> None:
    """Nothing is told before the caller commits, and everything afterwards, in one notice."""
    with Session(engine) as session:
        telling.bind(session).set_secret("a", 1)
        telling.bind(session).set_secret("b", 1)
        session.flush()
        assert heard(listening, telling) == []
        session.commit()
        assert keys_of(heard(listening, telling)) == {"a", "b"}
        telling.bind(session).set_secret("c", 1)
        session.commit()
        session.commit()
    assert heard(listening, telling) == [{"namespace": "default", "keys": ["c"]}]


@pytest.mark.parametrize("end", ["rollback", "close"])
def test_what_is_rolled_back_is_never_told(
    engine: Engine, telling: SecretClient, listening: psycopg.Connection, end: str
) -> None:
    """Whether the caller rolls back or only lets go: the next commit of the session does not tell of it either."""
    with Session(engine) as session:
        telling.bind(session).set_secret("undone", 1)
        getattr(session, end)()
        telling.bind(session).set_secret("done", 1)
        session.commit()
    assert keys_of(heard(listening, telling)) == {"done"}


def test_savepoints_are_told_of_as_they_end(
    engine: Engine, telling: SecretClient, listening: psycopg.Connection
) -> None:
    """What a savepoint took back is not told; what was released is, unless the savepoint around it took it back."""
    with Session(engine) as session:
        service = telling.bind(session)
        service.set_secret("outside", 1)
        with session.begin_nested():
            service.set_secret("released", 1)
            with session.begin_nested():
                service.set_secret("deep", 1)
            with session.begin_nested() as inner:
                service.set_secret("undone", 1)
                inner.rollback()
        with session.begin_nested() as outer:
            with session.begin_nested():
                service.set_secret("released in vain", 1)
            outer.rollback()
        assert heard(listening, telling) == []
        session.commit()
    assert keys_of(heard(listening, telling)) == {"outside", "released", "deep"}


def test_the_async_client_tells_too(database_url: str, keyring: KeyRing, listening: psycopg.Connection) -> None:
    """Its own calls, and a bound session once it commits; closing it waits for the notices."""

    async def write() -> None:
        async with (
            async_engine(database_url) as engine,
            AsyncSecretClient(engine, keyring, notify="after_commit") as client,
        ):
            await client.set_secret("a", 1)
            async with AsyncSession(engine) as session:
                await client.bind(session).set_secret("undone", 1)
                await session.rollback()
                await client.bind(session).set_secret("b", 1)
                await session.commit()
            await asyncio.gather(*(client.set_secret(f"k{place}", 1) for place in range(20)))

    asyncio.run(write())
    notices = [json.loads(notice.payload) for notice in listening.notifies(timeout=0.5)]
    assert keys_of(notices) == {"a", "b", *(f"k{place}" for place in range(20))}


def test_eight_writers_are_told_of_in_few_notices(telling: SecretClient, listening: psycopg.Connection) -> None:
    """Of 400 writes every key is named, in far fewer notices."""

    def write(thread: int) -> None:
        for value in range(50):
            telling.set_secret(f"k{thread}.{value}", value)

    run_together(*(lambda thread=thread: write(thread) for thread in range(8)))
    notices = heard(listening, telling)
    assert keys_of(notices) == {f"k{thread}.{value}" for thread in range(8) for value in range(50)}
    assert len(notices) < 300


def test_more_keys_than_a_notice_holds_are_told_of_without_names() -> None:
    """A notice stays below 8,000 bytes; one without keys stands for all of its namespace."""
    gathered = Gathered()
    gathered.add(Changed(Namespace("few"), (Key("ключ"),)))
    gathered.add(Changed(Namespace("long"), tuple(Key(f"{place:0512}") for place in range(20))))
    gathered.add(Changed(Namespace("many"), tuple(Key(str(place)) for place in range(1001))))
    gathered.add(Changed(Namespace("\N{GRINNING FACE}" * 128), (Key("\N{GRINNING FACE}" * 512),)))

    notices = gathered.take()
    assert all(len(notice.encode()) < 8000 for notice in notices)
    assert [json.loads(notice).get("keys") for notice in notices] == [
        ["ключ"],
        None,
        None,
        ["\N{GRINNING FACE}" * 512],
    ]
    assert gathered.take() == []


def test_a_watch_hears_of_changes(telling: SecretClient, raw: psycopg.Connection) -> None:
    """A watch that would look in an hour looks at once."""
    with in_thread(lambda: _first(telling)) as watched:
        wait_until(raw, _LISTENERS, 1)
        telling.set_secret("a", 1)
    assert watched.result() == ("a", 1)


def _first(client: SecretClient) -> tuple[str, int]:
    with closing(client.watch(after=0, poll_seconds=3600.0)) as changes:
        change = next(changes)
    return change.key, change.version


def test_notices_that_cannot_be_sent_are_dropped(
    engine: Engine, telling: SecretClient, listening: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where PostgreSQL refuses them, writes go on, and later notices are sent again."""
    with monkeypatch.context() as patched:
        patched.setattr(notifying, "CHANNEL", "x" * 100)
        telling.set_secret("lost", 1)
        telling._notifier.flush()  # type: ignore[union-attr] # it has one
    telling.set_secret("a", 1)
    assert keys_of(heard(listening, telling)) == {"a"}
    assert [change.key for change in telling.list_changes()] == ["a", "lost"]


_CLOSE = """
import os, sys
from secretstore import connect
with connect(sys.argv[1]) as client:
    for place in range(10):
        client.set_secret(f"k{place}", 1)
os._exit(0)
"""


def test_closing_waits_for_notices(database_url: str, master_key: str, listening: psycopg.Connection) -> None:
    """The setting is read, and what was written last is told of before the client is gone."""
    subprocess.run(
        [sys.executable, "-c", _CLOSE, database_url],
        env={**os.environ, "SECRETSTORE_KEYS": master_key, "SECRETSTORE_NOTIFY": "after_commit"},
        timeout=60,
        check=True,
    )
    notices = [json.loads(notice.payload) for notice in listening.notifies(timeout=0.5)]
    assert keys_of(notices) == {f"k{place}" for place in range(10)}


_CRASH = """
import os, signal, sys
from secretstore import connect
from secretstore.client.notifying import Notifier
Notifier._send = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
client = connect(sys.argv[1], notify="after_commit")
client.set_secret("a", 1)
signal.pause()
"""


def test_a_crash_before_the_notice_loses_no_change(
    database_url: str, master_key: str, store: SecretClient, listening: psycopg.Connection
) -> None:
    """A process that is killed between its commit and the notice leaves the change in the record."""
    ended = subprocess.run(
        [sys.executable, "-c", _CRASH, database_url],
        env={**os.environ, "SECRETSTORE_KEYS": master_key},
        timeout=60,
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL
    assert [change.key for change in store.list_changes()] == ["a"]
    assert list(listening.notifies(timeout=0.1)) == []


_FORK = """
import os, sys
from secretstore import connect
client = connect(sys.argv[1], notify="after_commit")
client.set_secret("parent", 1)
client.engine.dispose()
if (child := os.fork()) == 0:
    client.engine.dispose(close=False)
    client.set_secret("child", 1)
    client.close()
    os._exit(0)
os.waitpid(child, 0)
client.close()
"""


def test_a_forked_process_tells_by_itself(database_url: str, master_key: str, listening: psycopg.Connection) -> None:
    """The thread of the parent is not there after a fork: the child starts its own."""
    subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", _FORK, database_url],
        env={**os.environ, "SECRETSTORE_KEYS": master_key},
        timeout=60,
        check=True,
    )
    assert keys_of([json.loads(notice.payload) for notice in listening.notifies(timeout=0.5)]) == {"parent", "child"}


def test_a_service_by_hand_cannot_tell_after_the_commit(session: Session, keyring: KeyRing) -> None:
    """Who sends the notices is a client; the error says so."""
    with pytest.raises(ValueError, match=r"use client\.bind"):
        SecretService(SecretRepository(session), keyring, notify="after_commit")
