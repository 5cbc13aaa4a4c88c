"""The cache of a client on a real PostgreSQL: what is served from it, and what lets go of it."""

import gc
import threading
import time
import weakref
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from pydantic import BaseModel
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from secretstore import (
    CacheConfig,
    DecryptionError,
    InvalidSecretKeyError,
    InvalidSecretValueError,
    KeyRing,
    SecretClient,
    SecretNotFoundError,
)
from tests.support.caches import BY_NOTICE, LISTENERS, opened, statistics, until, warm
from tests.support.threads import number, wait_until


class Account(BaseModel):
    """A value with a shape."""

    name: str
    tags: list[str] = []


def test_a_hit_sends_nothing(cached: SecretClient, store: SecretClient, sent_statements: list[str]) -> None:
    """Whatever the type and the method, and a missing secret is known too."""
    store.set_secret("k", {"name": "a"})
    warm(cached)
    warm(cached, "missing")
    sent_statements.clear()

    assert cached.get_secret("k") == {"name": "a"}
    assert cached.get_secret("k", Account) == cached.get_secret_or_raise("k", Account) == Account(name="a")
    with pytest.raises(InvalidSecretValueError, match="'k'"):
        cached.get_secret("k", list[int])
    assert cached.get_secret("missing") is None
    assert cached.get_secret("missing", default=0) == 0
    with pytest.raises(SecretNotFoundError, match="'missing'") as caught:
        cached.get_secret_or_raise("missing")
    assert (caught.value.namespace, caught.value.key, caught.value.version) == ("default", "missing", None)
    assert sent_statements == []


def test_a_caller_s_change_reaches_nobody(cached: SecretClient, store: SecretClient) -> None:
    """What a caller does to a value stays with that caller, of JSON and of models."""
    store.set_secret("k", {"name": "a", "tags": ["x"]})
    warm(cached)
    cached.get_secret("k")["tags"].append("mine")
    cached.get_secret_or_raise("k", Account).tags.clear()
    assert cached.get_secret("k") == {"name": "a", "tags": ["x"]}


@pytest.mark.parametrize("key", ["", " k", 1, None, ["k"], "\0"])
def test_a_wrong_key_is_refused_as_without_a_cache(cached: SecretClient, key: Any) -> None:
    """Before anything is looked up."""
    with pytest.raises(InvalidSecretKeyError):
        cached.get_secret(key)
    assert statistics(cached).loads == 0


def test_other_reads_pass_it_by(cached: SecretClient, store: SecretClient, sent_statements: list[str]) -> None:
    """Versions, references, many at once and the past are read from the database."""
    store.set_secret("k", {"$ref": "other"})
    store.set_secret("other", 1)
    warm(cached)
    misses = statistics(cached).misses
    reads: list[Callable[[], object]] = [
        lambda: cached.get_secret("k", version=1),
        lambda: cached.get_secret("k", resolve=True),
        lambda: cached.get_secrets(["k"]),
        lambda: cached.get_secrets_by_prefix("k"),
        lambda: cached.as_of(datetime.now(UTC)).get_secret("k"),
    ]
    for read in reads:
        sent_statements.clear()
        read()
        assert sent_statements
    assert statistics(cached).misses == misses


def test_a_client_without_a_cache_has_none(store: SecretClient, raw: psycopg.Connection) -> None:
    """Nothing is kept, and nothing listens."""
    assert store.cache_statistics() is None
    store.set_secret("k", 1)
    store.get_secret("k")
    assert number(raw, LISTENERS) == 0


def test_nothing_listens_before_the_first_read(
    engine: Engine, keyring: KeyRing, raw: psycopg.Connection, listen_url: str
) -> None:
    """Making a client and writing with it starts nothing; `close` ends what a read has started."""
    # Those of a test before may end meanwhile.
    before = set(threading.enumerate())
    client = opened(engine, keyring, BY_NOTICE, listen_url=listen_url)
    client.set_secret("k", 1)
    assert (set(threading.enumerate()) - before, number(raw, LISTENERS)) == (set(), 0)
    warm(client)
    assert number(raw, LISTENERS) == 1
    client.close()
    wait_until(raw, f"SELECT 1 - ({LISTENERS})", 1)
    assert set(threading.enumerate()) - before == set()
    assert not statistics(client).listening
    assert statistics(client).entries == 0
    # What is closed can still be read with, as the engine can be used on.
    assert client.get_secret("k") == 1
    assert (set(threading.enumerate()) - before, statistics(client).entries) == (set(), 0)


def test_a_client_that_nobody_holds_ends_its_listener(
    engine: Engine, keyring: KeyRing, raw: psycopg.Connection, listen_url: str
) -> None:
    """The thread does not keep the client alive."""
    before = set(threading.enumerate())
    client = opened(engine, keyring, BY_NOTICE, listen_url=listen_url)
    warm(client)
    gone = weakref.ref(client)
    del client
    gc.collect()
    assert gone() is None
    until(lambda: set(threading.enumerate()) <= before)
    wait_until(raw, f"SELECT 1 - ({LISTENERS})", 1)


def test_namespaces_share_a_cache(cached: SecretClient, store: SecretClient, raw: psycopg.Connection) -> None:
    """A client on another namespace has the same cache and listener, and keys of the same name are apart."""
    other = cached.namespace("other")
    store.set_secret("k", "here")
    store.namespace("other").set_secret("k", "there")
    warm(cached)
    warm(other)
    assert (cached.get_secret("k"), other.get_secret("k")) == ("here", "there")
    assert number(raw, LISTENERS) == 1
    assert statistics(cached) == statistics(other)
    other.set_secret("k", "new")
    assert (cached.get_secret("k"), other.get_secret("k")) == ("here", "new")
    other.close()
    assert statistics(cached).listening


CHANGES: dict[str, tuple[Callable[[SecretClient], object], object]] = {
    "set": (lambda store: store.set_secret("k", 2), 2),
    "set many": (lambda store: store.set_secrets({"k": 2, "l": 2}), 2),
    "patch": (lambda store: store.patch_secret("k", {"a": 2}), {"a": 2}),
    "delete": (lambda store: store.delete_secret("k"), None),
    "delete many": (lambda store: store.delete_secrets(["k", "l"]), None),
    "destroy": (lambda store: store.destroy_versions("k", [1]), None),
    "purge": (lambda store: store.purge_secret("k"), None),
    "import": (lambda store: store.import_secrets([]) or store.set_secrets({"k": 3, "l": 1}), 3),
    "expire": (lambda store: store.set_secret("k", 4, ttl=timedelta(seconds=1000)), 4),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_elsewhere_lets_go(cached: SecretClient, store: SecretClient, name: str) -> None:
    """Of every kind, by its notice alone, whether that names the key or not."""
    change, expected = CHANGES[name]
    store.set_secrets({"k": 1, "l": 1})
    warm(cached)
    change(store)
    until(lambda: cached.get_secret("k") == expected)


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_of_its_own_lets_go_at_once(engine: Engine, keyring: KeyRing, store: SecretClient, name: str) -> None:
    """When the call returns; with no notice at all."""
    client = opened(engine, keyring, BY_NOTICE, notify="off")
    change, expected = CHANGES[name]
    store.set_secrets({"k": 1, "l": 1})
    warm(client)
    change(client)
    assert client.get_secret("k") == expected
    client.close()


def test_notices_after_the_commit_let_go(cached: SecretClient, store: SecretClient) -> None:
    """Gathered and sent a moment later, they name many keys at once."""
    store.set_secrets({"k": 1, "l": 1})
    warm(cached)
    warm(cached, "l")
    later = SecretClient(store.engine, store._options.keyring, notify="after_commit")
    later.set_secrets({"k": 2, "l": 2})
    until(lambda: cached.get_secret("k") == 2)
    assert cached.get_secret("l") == 2
    later.delete_secret("k")
    until(lambda: cached.get_secret("k") is None)
    later.close()


def test_undeleting_and_missing_keys_let_go_too(cached: SecretClient, store: SecretClient) -> None:
    """That there was nothing is let go of like a value."""
    warm(cached, "k")
    store.set_secret("k", 1)
    until(lambda: cached.get_secret("k") == 1)
    store.delete_secret("k")
    until(lambda: cached.get_secret("k") is None)
    store.undelete_secret("k")
    until(lambda: cached.get_secret("k") == 1)


def test_a_bound_session_has_no_part_in_it(cached: SecretClient, store: SecretClient, engine: Engine) -> None:
    """It reads what its transaction sees, and the cache goes on with what is committed; the commit lets go at once."""
    store.set_secret("k", 1)
    warm(cached)
    loads = statistics(cached).loads
    with Session(engine) as session:
        bound = cached.bind(session)
        bound.set_secret("k", 2)
        assert bound.get_secret("k") == 2
        assert cached.get_secret("k") == 1
        assert statistics(cached).loads == loads
        session.commit()
        assert cached.get_secret("k") == 2
        warm(cached)
        # The session goes on, and so does what is told of it.
        bound.set_secret("k", 3)
        session.commit()
        assert cached.get_secret("k") == 3


def test_what_is_rolled_back_changes_nothing(cached: SecretClient, store: SecretClient, engine: Engine) -> None:
    """Neither while it is open nor afterwards, nor with the next commit of that session."""
    store.set_secret("k", 1)
    warm(cached)
    before = statistics(cached)
    with Session(engine) as session:
        cached.bind(session).set_secret("k", 2)
        session.rollback()
        assert cached.get_secret("k") == 1
        session.execute(text("SELECT 1"))
        session.commit()
    with Session(engine) as session:
        cached.bind(session).set_secret("k", 2)
    assert cached.get_secret("k") == 1
    after = statistics(cached)
    assert (after.invalidations, after.loads) == (before.invalidations, before.loads)


def test_the_outer_commit_counts(cached: SecretClient, store: SecretClient, engine: Engine) -> None:
    """The end of a savepoint lets go of nothing; the commit lets go of what all of them have written."""
    store.set_secrets({"k": 1, "l": 1})
    warm(cached)
    warm(cached, "l")
    with Session(engine) as session:
        with session.begin_nested():
            cached.bind(session).set_secret("k", 2)
        with session.begin_nested() as savepoint:
            cached.bind(session).set_secret("l", 2)
            savepoint.rollback()
        hits = statistics(cached).hits
        assert cached.get_secret("k") == 1
        assert statistics(cached).hits == hits + 1
        session.commit()
    assert (cached.get_secret("k"), cached.get_secret("l")) == (2, 1)


def test_a_scoped_session_can_be_bound(cached: SecretClient, store: SecretClient, engine: Engine) -> None:
    """Its commit is that of the session behind it."""
    store.set_secret("k", 1)
    warm(cached)
    registry = scoped_session(sessionmaker(engine))
    cached.bind(registry).set_secret("k", 2)  # type: ignore[arg-type]  # many pass one all the same
    registry.commit()
    assert cached.get_secret("k") == 2
    registry.remove()


def test_very_many_keys_let_go_of_the_namespace(cached: SecretClient, store: SecretClient) -> None:
    """One transaction that changes more keys than are remembered."""
    store.set_secret("k00001", 1)
    warm(cached, "k00001")
    cached.set_secrets({f"k{place:05}": 2 for place in range(1500)})
    assert cached.get_secret("k00001") == 2


def test_expiry_is_kept_to_the_second(cached: SecretClient) -> None:
    """From the cache, without a word from anyone, and by the clock of the database."""
    before = time.monotonic()
    cached.set_secret("k", 1, ttl=timedelta(seconds=1.2))
    written = time.monotonic()
    warm(cached)
    hits = statistics(cached).hits
    while cached.get_secret("k") == 1:
        assert time.monotonic() - written < 2.2
        time.sleep(0.005)
    assert time.monotonic() - before >= 1.2
    assert statistics(cached).hits > hits + 10
    assert cached.get_secret("k") is None


def test_without_notices_a_heartbeat_lets_go(polled: SecretClient, engine: Engine, keyring: KeyRing) -> None:
    """Where writers send none, or they are lost, the record of changes is the truth."""
    silent = SecretClient(engine, keyring, notify="off")
    silent.set_secret("k", 1)
    warm(polled)
    for value in range(5):
        silent.set_secret("k", value)
        until(lambda: polled.get_secret("k") == value)  # noqa: B023 - called at once
    silent.delete_secret("k")
    until(lambda: polled.get_secret("k") is None)


def test_a_commit_that_comes_late_is_not_missed(polled: SecretClient, engine: Engine, keyring: KeyRing) -> None:
    """A change that was written before others, and committed after they were dealt with, is dealt with too."""
    silent = SecretClient(engine, keyring, notify="off")
    silent.set_secret("k", 1)
    warm(polled)
    with Session(engine) as session:
        silent.bind(session).set_secret("k", 2)
        for value in range(3):
            silent.set_secret("other", value)
            until(lambda: polled.get_secret("other") == value)  # noqa: B023 - called at once
        assert polled.get_secret("k") == 1
        session.commit()
    until(lambda: polled.get_secret("k") == 2)


def test_entries_outlive_max_stale_while_they_are_confirmed(engine: Engine, keyring: KeyRing) -> None:
    """A value that does not change is not read again and again."""
    client = opened(engine, keyring, CacheConfig(heartbeat_seconds=0.05, max_stale_seconds=0.4))
    client.set_secret("k", 1)
    warm(client)
    loads, end = statistics(client).loads, time.monotonic() + 1.2
    while time.monotonic() < end:
        assert client.get_secret("k") == 1
        time.sleep(0.01)
    assert statistics(client).loads == loads
    assert not statistics(client).stale
    client.close()


def test_a_shredded_namespace_is_let_go_of(
    cached: SecretClient, polled: SecretClient, store: SecretClient, raw: psycopg.Connection
) -> None:
    """By its notice, even with `notify="off"`, and where that is lost by the heartbeat, which looks at the data keys."""
    store.set_secret("k", 1)
    warm(cached)
    warm(polled)
    raw.execute(
        'UPDATE secretstore.data_key SET wrapped = \'{"v": 1, "alg": "shredded"}\', state = \'retired\', '
        "retired_at = now(), shredded_at = now()"
    )
    until(lambda: statistics(polled).entries == 0)
    assert cached.get_secret("k") == 1
    SecretClient(store.engine, store._options.keyring, notify="off").keys.shred()
    until(lambda: statistics(cached).entries == 0)
    with pytest.raises(DecryptionError, match="shredded"):
        cached.get_secret("k")


def test_a_process_that_shreds_lets_go_itself(cached: SecretClient) -> None:
    """Before the call returns; a rotation changes nothing that can be read, and a data key that goes lets go of all."""
    cached.set_secret("k", 1)
    warm(cached)
    cached.keys.rotate()
    assert cached.get_secret("k") == 1
    retired = next(info.id for info in cached.keys.list_data_keys() if info.state == "retired")
    warm(cached)
    cached.keys.destroy(retired)
    assert statistics(cached).entries == 0
    warm(cached)
    cached.keys.shred()
    with pytest.raises(DecryptionError, match="shredded"):
        cached.get_secret("k")


def test_gc_lets_go(cached: SecretClient, store: SecretClient) -> None:
    """What is purged by the collector is not served as expired or otherwise."""
    store.set_secret("k", 1)
    warm(cached)
    store.delete_secret("k")
    until(lambda: cached.get_secret("k") is None)
    warm(cached)
    entries = statistics(cached).entries
    assert cached.gc(deleted_for=timedelta()).purged == 1
    assert statistics(cached).entries == entries - 1
