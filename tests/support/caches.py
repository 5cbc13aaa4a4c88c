"""Clients with a cache, as the tests look at them."""

import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import Engine

from secretstore import (
    AsyncSecretClient,
    CacheConfig,
    KeyRing,
    SecretClient,
)
from secretstore.cache.config import CacheStatistics
from tests.support.threads import DEADLINE_SECONDS

# Nothing but notices lets go within the time of a test, or a heartbeat does at once.
BY_NOTICE = CacheConfig(heartbeat_seconds=1000.0, max_stale_seconds=3000.0)
BY_HEARTBEAT = CacheConfig(heartbeat_seconds=0.05, max_stale_seconds=30.0)

LISTENERS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'direct'"


def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds, or fail."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def statistics(client: SecretClient | AsyncSecretClient) -> CacheStatistics:
    """The statistics of a client that has a cache."""
    found = client.cache_statistics()
    assert found is not None
    return found


def warm(client: SecretClient, key: str = "k") -> None:
    """Read a key until it comes from the cache, with a listener that has begun to follow."""

    def is_hit() -> bool:
        hits = statistics(client).hits
        client.get_secret(key)
        space = client._cache._of_process().entries.space(client._options.namespace) if client._cache else None
        return statistics(client).hits > hits and space is not None and space.mark is not None

    until(is_hit)


def opened(engine: Engine, keyring: KeyRing, config: CacheConfig, **options: Any) -> SecretClient:
    """A client with a cache."""
    return SecretClient(engine, keyring, cache=config, **options)
