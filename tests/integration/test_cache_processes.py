"""A cache in one process and a writer in another: how soon a change is seen, and what happens when they are cut off."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import psycopg
import pytest
from sqlalchemy import Engine

from secretstore import CacheConfig, KeyRing, SecretClient, StoreUnavailableError
from secretstore.crypto.local import LocalMasterKey
from secretstore.orm.engines import make_engine
from tests.support.caches import BY_HEARTBEAT, statistics, until, warm
from tests.support.gate import open_gate
from tests.support.server import Server
from tests.support.threads import DEADLINE_SECONDS

CHANGES = 300

# Reads one key from its cache again and again, and tells when it saw each value for the first time.
READER = """
import json, sys, time
import secretstore
from secretstore import CacheConfig, KeyRing
url, key, last = sys.stdin.readline().split()
ring = KeyRing.from_text(key)
with secretstore.connect(url, keyring=ring, cache=CacheConfig()) as store:
    while not store.cache_statistics().listening or store.cache_statistics().hits < 100:
        store.get_secret("k")
        time.sleep(0.001)
    print("ready", flush=True)
    seen = {}
    while int(last) not in seen:
        value = store.get_secret("k")
        seen.setdefault(value, time.monotonic())
        time.sleep(0.0005)
    found = store.cache_statistics()
print(json.dumps({"seen": seen, "hits": found.hits, "loads": found.loads}))
"""

# Writes a new value, is told to die between its commit and the notice, and does so.
CRASHES = """
import os, sys
import secretstore
from secretstore import KeyRing
url, key = sys.stdin.readline().split()
store = secretstore.connect(url, keyring=KeyRing.from_text(key), notify="off")
store.set_secret("k", 2)
os.kill(os.getpid(), 9)
"""


@contextmanager
def process(program: str, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Start a program in a process of its own; what it needs comes by its input, because it has a key."""
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as started:
        try:
            said(started.stdin).write(" ".join(words) + "\n")
            said(started.stdin).flush()
            yield started
        finally:
            started.kill()


def said(stream: IO[str] | None) -> IO[str]:
    """One of the streams that every process here has."""
    assert stream is not None
    return stream


@pytest.fixture
def ring(master_key: str) -> KeyRing:
    """The key ring that the other processes have, too."""
    return KeyRing(LocalMasterKey.parse(master_key))


def test_a_change_is_seen_by_another_process_within_100_milliseconds(
    database_url: str, engine: Engine, master_key: str, ring: KeyRing
) -> None:
    """Of 300 changes, 99 in 100 are read from the cache of another process so soon after their commit.

    That is promised on a machine that has the time for it: one that is busy may try three times.
    """
    writer = SecretClient(engine, ring)
    assert any(seconds_until_99_of_100_are_seen(writer, database_url, master_key) < 0.1 for _ in range(3))


def seconds_until_99_of_100_are_seen(writer: SecretClient, database_url: str, master_key: str) -> float:
    """How long after its commit a change is seen by another process, but for one in a hundred."""
    writer.set_secret("k", -1)
    with process(READER, database_url, master_key, str(CHANGES - 1)) as reader:
        assert said(reader.stdout).readline() == "ready\n"
        committed = []
        for value in range(CHANGES):
            writer.set_secret("k", value)
            committed.append(time.monotonic())
            time.sleep(0.01)
        told = json.loads(reader.communicate(timeout=DEADLINE_SECONDS)[0])
    # What was overwritten before it was seen counts until a later one was.
    seen = [float(told["seen"].get(str(value), "inf")) for value in range(CHANGES)]
    delays = sorted(min(seen[value:]) - committed[value] for value in range(CHANGES))
    assert told["hits"] > 10 * told["loads"]
    return delays[int(CHANGES * 0.99) - 1]


def test_a_writer_that_dies_after_its_commit_is_made_up_for(
    database_url: str, engine: Engine, master_key: str, ring: KeyRing
) -> None:
    """Killed before any notice is sent, it leaves its change in the record, where the next heartbeat finds it."""
    client = SecretClient(engine, ring, cache=BY_HEARTBEAT)
    client.set_secret("k", 1)
    warm(client)
    with process(CRASHES, database_url, master_key) as writer:
        assert writer.wait(DEADLINE_SECONDS) == -9
    until(lambda: client.get_secret("k") == 2)
    client.close()


def test_a_process_that_is_cut_off_serves_nothing_old(  # noqa: PLR0917 - fixtures
    server: Server, database: str, store: SecretClient, keyring: KeyRing, caplog: pytest.LogCaptureFixture
) -> None:
    """Within `max_stale` it may serve what it holds; then it says that it is stale, and asks, and says so if it cannot."""
    config = CacheConfig(heartbeat_seconds=0.05, max_stale_seconds=1.0)
    store.set_secret("k", 1)
    with open_gate(server) as gate:
        engine = make_engine(gate.url(database))
        client = SecretClient(engine, keyring, cache=config, retry_seconds=0)
        warm(client)
        gate.shut()
        cut = time.monotonic()
        store.set_secret("k", 2)
        assert client.get_secret("k") == 1
        until(lambda: not statistics(client).listening)
        assert not statistics(client).stale
        served = last_served(client)
        assert served - cut < 1.0
        until(lambda: statistics(client).stale)
        with pytest.raises(StoreUnavailableError):
            client.get_secret("k")

        gate.open()
        until(lambda: statistics(client).listening)
        assert client.get_secret("k") == 2
        until(lambda: not statistics(client).stale)
        client.close()
        assert caplog.records == []
        engine.dispose()


def last_served(client: SecretClient) -> float:
    """When the cache served a value for the last time, before the database was asked in vain."""
    last = time.monotonic()
    while True:
        began = time.monotonic()
        try:
            client.get_secret("k")
        except StoreUnavailableError:
            return last
        last = began
        time.sleep(0.001)


def test_what_was_missed_is_made_up_for(server: Server, database: str, store: SecretClient, keyring: KeyRing) -> None:
    """Cut off for a moment, it asks for what came meanwhile: that is let go, and the rest is served on."""
    config = CacheConfig(heartbeat_seconds=100.0, max_stale_seconds=1000.0)
    store.set_secrets({"k": 1, "same": 1})
    with open_gate(server) as gate:
        engine = make_engine(gate.url(database))
        client = SecretClient(engine, keyring, cache=config)
        warm(client)
        warm(client, "same")
        for value in range(2, 6):
            gate.shut()
            until(lambda: not statistics(client).listening)
            store.set_secret("k", value)
            store.delete_secret("gone")
            gate.open()
            until(lambda: statistics(client).listening)
            until(lambda: client.get_secret("k") == value)  # noqa: B023 - called at once
            loads = statistics(client).loads
            assert client.get_secret("same") == 1
            assert statistics(client).loads == loads
        client.close()
        engine.dispose()


def test_a_listener_that_is_cut_off_alone_comes_back(
    engine: Engine, keyring: KeyRing, store: SecretClient, raw: psycopg.Connection
) -> None:
    """Its connection is ended by the server again and again, and each change is seen all the same."""
    config = CacheConfig(heartbeat_seconds=100.0, max_stale_seconds=1000.0)
    client = SecretClient(engine, keyring, cache=config)
    store.set_secret("k", 0)
    warm(client)
    for value in range(1, 6):
        raw.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        store.set_secret("k", value)
        until(lambda: client.get_secret("k") == value)  # noqa: B023 - called at once
    client.close()


def test_another_server_in_its_place_is_noticed(keyring: KeyRing, store: SecretClient, raw: psycopg.Connection) -> None:
    """After a failover that lost changes the numbers begin again from an earlier one; nothing is taken on trust then."""
    store.set_secrets({"k": 1, "l": 1})
    client = SecretClient(store.engine, keyring, cache=BY_HEARTBEAT)
    warm(client)
    # The same number with another change behind it.
    raw.execute("UPDATE secretstore.change_event SET occurred_at = occurred_at - interval '1 hour' WHERE seq = 2")
    until(lambda: statistics(client).invalidations > 0 and statistics(client).entries == 0)
    client.close()
