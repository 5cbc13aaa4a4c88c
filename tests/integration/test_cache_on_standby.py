"""A cache whose database is a standby that follows a primary: no notices, and no record of changes that can be numbered."""

import asyncio
import os
from collections.abc import Iterator

import psycopg
import pytest

import secretstore
from secretstore import CacheConfig, KeyRing, SecretClient, migrate
from secretstore.crypto.local import generate_master_key
from secretstore.orm.engines import make_engine
from tests.support.caches import statistics, until
from tests.support.standby import Pair, running_pair
from tests.support.threads import DEADLINE_SECONDS

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the servers meet on a socket")

CONFIG = CacheConfig(heartbeat_seconds=0.1, max_stale_seconds=0.5)
SAID = ["notices of changes do not arrive", "the record of changes cannot be read"]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """A primary with the tables, and its standby."""
    with running_pair(tmp_path_factory.mktemp("pair")) as running:
        engine = make_engine(running.primary_url)
        migrate.upgrade(engine)
        engine.dispose()
        running.catch_up()
        yield running


@pytest.fixture(scope="module")
def keyring() -> KeyRing:
    """The key ring of all tests here, which share a data key."""
    return KeyRing.from_text(generate_master_key("test"))


@pytest.fixture
def primary(pair: Pair, keyring: KeyRing) -> Iterator[SecretClient]:
    """A client that writes; its notices do not arrive on a standby."""
    with secretstore.connect(pair.primary_url, keyring=keyring) as client:
        client.set_secret("k", 1)
        yield client


def said_by(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the cache has said."""
    return [record.getMessage() for record in caplog.records if record.name == "secretstore.cache"]


def test_a_change_on_the_primary_is_seen(
    pair: Pair, primary: SecretClient, keyring: KeyRing, caplog: pytest.LogCaptureFixture
) -> None:
    """By age alone, which it says once; what has not changed is served from memory meanwhile."""
    with secretstore.connect(pair.standby_url, keyring=keyring, cache=CONFIG) as follower:
        until(lambda: follower.get_secret("k") == 1)
        hits = statistics(follower).hits
        until(lambda: follower.get_secret("k") == 1 and statistics(follower).hits > hits)

        for value in range(2, 5):
            primary.set_secret("k", value)
            until(lambda: follower.get_secret("k") == value)  # noqa: B023 - called at once
        primary.delete_secret("k")
        until(lambda: follower.get_secret("k") is None)

        until(lambda: len(said_by(caplog)) == len(SAID))
        assert not statistics(follower).listening
        assert all(one.startswith(start) for one, start in zip(said_by(caplog), SAID, strict=True))


def test_a_loop_sees_it_too(pair: Pair, primary: SecretClient, keyring: KeyRing) -> None:
    """The async face follows in the same way."""

    async def follow() -> None:
        async with await secretstore.connect_async(pair.standby_url, keyring=keyring, cache=CONFIG) as follower:
            for value in (1, 2, 3):
                await asyncio.to_thread(primary.set_secret, "k", value)
                while await follower.get_secret("k") != value:  # noqa: ASYNC110 - nothing tells of it
                    await asyncio.sleep(0.01)
            counted = statistics(follower)
            assert counted.hits > 0
            assert not counted.listening

    asyncio.run(asyncio.wait_for(follow(), DEADLINE_SECONDS))


def test_a_primary_to_listen_on_is_not_trusted(pair: Pair, primary: SecretClient, keyring: KeyRing) -> None:
    """It is ahead of what is read: by its word a value that the standby has yet to change would be kept for good."""
    with secretstore.connect(pair.standby_url, keyring=keyring, cache=CONFIG, listen_url=pair.primary_url) as follower:
        until(lambda: follower.get_secret("k") == 1)
        with psycopg.connect(pair.standby_url, autocommit=True) as held_back:
            held_back.execute("SELECT pg_wal_replay_pause()")
            primary.set_secret("k", 2)
            until(lambda: statistics(follower).stale)
            assert follower.get_secret("k") == 1
            held_back.execute("SELECT pg_wal_replay_resume()")
        until(lambda: follower.get_secret("k") == 2)
        assert not statistics(follower).listening
