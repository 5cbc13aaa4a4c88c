"""What nobody needs any more is collected, in pages, and nothing else."""

import asyncio
from datetime import timedelta

import psycopg
import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from secretstore import AsyncSecretClient, KeyRing, SecretClient
from secretstore.domain.records import Collection
from secretstore.service import collecting
from tests.support.faces import async_engine
from tests.support.threads import in_thread, number, wait_until_blocked

_VERSIONS = "SELECT count(*) FROM secretstore.secret_version"
_PURGES = "SELECT count(*) FROM secretstore.change_event WHERE action = 'purge'"


def age(raw: psycopg.Connection, key: str, column: str, days: int) -> None:
    """Let a secret be deleted or expired for so long already."""
    raw.execute(
        f"UPDATE secretstore.secret_store SET {column} = now() - make_interval(days => %s) WHERE key = %s".encode(),
        [days, key],
    )


def test_what_is_long_deleted_or_expired_is_purged(store: SecretClient, raw: psycopg.Connection) -> None:
    """Secrets deleted or expired before the stated time are purged; those that are there, or went lately, stay."""
    store.set_secrets({"live": 1, "old": 1, "new": 1, "expired": 1, "expired lately": 1})
    store.delete_secrets(["old", "new"])
    age(raw, "old", "deleted_at", 31)
    age(raw, "new", "deleted_at", 29)
    age(raw, "expired", "expires_at", 31)
    age(raw, "expired lately", "expires_at", 29)

    assert store.gc(dry_run=True) == Collection(purged=2, pruned=0)
    assert number(raw, _VERSIONS) == 5
    assert store.gc() == Collection(purged=2, pruned=0)
    assert store.gc() == Collection(purged=0, pruned=0)
    assert store.list_secret_keys(include_deleted=True) == ["live", "new"]
    assert [info.key for info in store.list_secrets(expired=True)] == ["expired lately"]
    assert store.undelete_secret("new").version == 1
    assert (number(raw, _PURGES), number(raw, _VERSIONS)) == (2, 3)
    assert store.set_secret("old", 2).version == 2


def test_the_time_is_the_caller_s(store: SecretClient) -> None:
    """With no time at all, everything that is deleted goes; a negative time is refused."""
    store.set_secrets({"a": 1, "b": 1})
    store.delete_secret("a")

    with pytest.raises(ValueError, match="not negative"):
        store.gc(deleted_for=timedelta(seconds=-1))
    assert store.gc(deleted_for=timedelta()).purged == 1
    assert store.get_secrets_by_prefix("") == {"b": 1}


def test_versions_beyond_a_limit_are_pruned(store: SecretClient, raw: psycopg.Connection) -> None:
    """A limit that was lowered holds for secrets that nobody writes to once they are collected."""
    for value in range(5):
        store.set_secrets({"a": value, "b": value})
    store.set_max_versions(2)
    store.set_max_versions(4, key="b")

    assert store.gc(dry_run=True).pruned == 4
    assert number(raw, _VERSIONS) == 10
    assert store.gc().pruned == 4
    assert [info.version for info in store.list_versions("a")] == [5, 4]
    assert [info.version for info in store.list_versions("b")] == [5, 4, 3, 2]
    assert store.get_secrets_by_prefix("") == {"a": 4, "b": 4}


def test_it_works_through_pages(store: SecretClient, raw: psycopg.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than a page is collected, each page in a transaction of its own, and progress is told."""
    monkeypatch.setattr(collecting, "_PAGE", 7)
    for _ in range(3):
        store.set_secrets({f"k{place:02}": 1 for place in range(40)})
    store.set_max_versions(1)
    store.delete_secrets([f"k{place:02}" for place in range(0, 40, 2)])
    told: list[int] = []

    # What is purged whole is not counted once more, version by version.
    assert store.gc(deleted_for=timedelta(), dry_run=True) == Collection(purged=20, pruned=40)
    assert store.gc(deleted_for=timedelta(), on_progress=told.append) == Collection(purged=20, pruned=40)
    assert told == sorted(told)
    assert told[-1] == 60
    assert len(told) > 6
    assert number(raw, _VERSIONS) == 20


def test_one_that_is_broken_off_goes_on(store: SecretClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is done stays done, and the next run does the rest."""
    monkeypatch.setattr(collecting, "_PAGE", 5)
    store.set_secrets({f"k{place:02}": 1 for place in range(20)})
    store.delete_secrets([f"k{place:02}" for place in range(20)])

    def break_off(done: int) -> None:
        if done >= 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.gc(deleted_for=timedelta(), on_progress=break_off)
    assert store.gc(deleted_for=timedelta()).purged == 10


def test_what_is_undeleted_meanwhile_stays(engine: Engine, store: SecretClient, raw: psycopg.Connection) -> None:
    """A secret that is being undeleted is waited for, and stays."""
    store.set_secrets({"a": 1, "b": 1})
    store.delete_secrets(["a", "b"])
    with Session(engine) as session:
        store.bind(session).undelete_secret("a")
        with in_thread(lambda: store.gc(deleted_for=timedelta())) as collected:
            wait_until_blocked(raw)
            session.commit()
    assert collected.result().purged == 1
    assert store.get_secrets_by_prefix("") == {"a": 1}


def test_two_at_once_purge_once(engine: Engine, store: SecretClient, raw: psycopg.Connection) -> None:
    """What another process has purged while it was waited for is not purged and recorded again."""
    store.set_secret("a", 1)
    store.delete_secret("a")
    with Session(engine) as session:
        store.bind(session).purge_secret("a")
        with in_thread(lambda: store.gc(deleted_for=timedelta())) as collected:
            wait_until_blocked(raw)
            session.commit()
    assert collected.result().purged == 0
    assert number(raw, _PURGES) == 1


def test_a_secret_whose_value_was_destroyed_is_collected_too(store: SecretClient, raw: psycopg.Connection) -> None:
    """Rows of destroyed versions go with their secret."""
    store.set_secret("a", 1)
    store.destroy_versions("a", [1])

    assert store.gc(deleted_for=timedelta()).purged == 1
    assert number(raw, _VERSIONS) == 0
    assert store.gc(deleted_for=timedelta()).purged == 0


def test_namespaces_are_apart(store: SecretClient) -> None:
    """Only the client's namespace is collected."""
    other = store.namespace("other")
    other.set_secret("a", 1)
    other.delete_secret("a")

    assert store.gc(deleted_for=timedelta()).purged == 0
    assert other.gc(deleted_for=timedelta()).purged == 1


def test_an_async_client_collects_too(database_url: str, keyring: KeyRing) -> None:
    """The same, awaited."""

    async def main() -> Collection:
        async with async_engine(database_url) as engine:
            store = AsyncSecretClient(engine, keyring)
            await store.set_secret("a", 1)
            await store.delete_secret("a")
            return await store.gc(deleted_for=timedelta())

    assert asyncio.run(main()).purged == 1
