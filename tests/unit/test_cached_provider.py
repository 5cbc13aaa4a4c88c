"""Reads of a provider are shared, and kept where that is wanted, for as long as is said."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from secretstore import CacheConfig, ProvidedInfo, ProvidedSecret, ProviderError
from secretstore.domain.providers import Ability, SecretProvider, Version
from secretstore.providers.cached import Cached
from secretstore.testing import SecretProviderContract
from tests.support.clock import Clock
from tests.support.threads import DEADLINE_SECONDS, answers, in_thread, run_together
from tests.support.told_provider import ToldProvider, told_place

THREADS = 50
CONFIG = CacheConfig(ttl_seconds=10.0, max_stale_seconds=100.0)


class TestCached(SecretProviderContract):
    """It is what it stands before; whoever writes through it reads what they wrote."""

    @pytest.fixture
    def provider(self) -> SecretProvider:
        """An empty place."""
        return Cached(ToldProvider(), CacheConfig())


@pytest.fixture
def place() -> ToldProvider:
    """A place with one secret."""
    return told_place()


@pytest.fixture
def cached(place: ToldProvider, clock: Clock) -> Cached:
    """The place behind a cache of ten seconds."""
    return Cached(place, CONFIG, clock=clock, chance=lambda: 0.0)


def value(provider: SecretProvider, key: str = "a") -> bytes | None:
    """Return the value of a secret."""
    found = provider.read(key)
    return None if found is None else found.value_json


@pytest.mark.parametrize("config", [None, CONFIG])
def test_reads_of_one_key_at_once_are_one_call(place: ToldProvider, config: CacheConfig | None) -> None:
    """With a cache or without, fifty threads get what one of them asked for."""
    provider = Cached(place, config)
    waiting = threading.Semaphore(0)
    place.during = lambda: waiting.acquire(timeout=DEADLINE_SECONDS)

    with in_thread(lambda: run_together(*[lambda: value(provider)] * THREADS)) as readers:
        # The others have joined when each of them has looked and missed.
        while provider._entries.statistics().misses < THREADS:
            assert not readers.done()
        waiting.release()
        assert readers.result(DEADLINE_SECONDS) == [b'"first"'] * THREADS
    assert place.reads == 1


def test_without_a_cache_nothing_is_kept(place: ToldProvider) -> None:
    """Reads after one another are calls, each."""
    provider = Cached(place)
    values = [value(provider), value(provider)]

    assert values == [b'"first"'] * 2
    assert place.reads == 2
    assert provider.statistics() is None


def test_a_place_that_cannot_be_cached_is_not(place: ToldProvider) -> None:
    """Whatever the configuration says."""
    place.abilities = frozenset(Ability) - {Ability.CACHE}
    provider = Cached(place, CONFIG)
    value(provider)
    value(provider)

    assert place.reads == 2


@pytest.mark.parametrize("key", ["a", "missing"])
def test_a_read_is_kept_until_its_time_is_over(place: ToldProvider, cached: Cached, clock: Clock, key: str) -> None:
    """A value, and that there is none."""
    before = value(cached, key)
    place.write(key, b'"changed by another"')
    clock.now += 9.99
    assert value(cached, key) == before
    assert place.reads == 1

    clock.now += 0.01
    assert value(cached, key) == b'"changed by another"'
    assert place.reads == 2


def test_the_time_counts_from_before_the_call(place: ToldProvider, cached: Cached, clock: Clock) -> None:
    """What takes five seconds to come is five seconds old."""

    def pass_time() -> None:
        clock.now += 5

    place.during = pass_time
    value(cached)
    place.during = lambda: None
    clock.now += 5

    value(cached)
    assert place.reads == 2


def test_nothing_is_served_that_is_too_old(place: ToldProvider, clock: Clock) -> None:
    """A place tells nobody of changes, so `max_stale_seconds` holds beside the time to live."""
    provider = Cached(
        place, CacheConfig(ttl_seconds=1000, max_stale_seconds=8, heartbeat_seconds=1), clock=clock, chance=lambda: 0.0
    )
    value(provider)
    clock.now += 7.9
    value(provider)
    assert place.reads == 1
    clock.now += 0.1
    value(provider)
    assert place.reads == 2


def test_the_time_is_shortened_by_chance(place: ToldProvider, clock: Clock) -> None:
    """By up to a tenth, so that what was read together does not end together."""
    provider = Cached(place, CONFIG, clock=clock, chance=lambda: 1.0)
    value(provider)
    clock.now += 9.0
    value(provider)

    assert place.reads == 2


def test_what_expires_sooner_is_kept_no_longer(place: ToldProvider, clock: Clock) -> None:
    """The expiry of a secret counts, too."""

    class Expiring(ToldProvider):
        def read(self, key: str, *, version: Version | None = None) -> ProvidedSecret | None:
            self.reads += 1
            info = ProvidedInfo(provider=self.name, key=key, expires_at=datetime.now(UTC) + timedelta(seconds=5))
            return ProvidedSecret(value_json=b"1", info=info)

    expiring = Expiring()
    provider = Cached(expiring, CONFIG, clock=clock)
    value(provider)
    clock.now += 4
    value(provider)
    assert expiring.reads == 1
    clock.now += 2
    value(provider)
    assert expiring.reads == 2


CHANGES: list[Callable[[SecretProvider], object]] = [
    lambda provider: provider.write("a", b'"second"'),
    lambda provider: provider.delete("a"),
    lambda provider: provider.undelete("a"),
    lambda provider: provider.destroy_versions("a", [1]),
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_lets_go_at_once(
    place: ToldProvider, cached: Cached, change: Callable[[SecretProvider], object]
) -> None:
    """Whoever changes a secret through it reads it anew, and other keys stay."""
    value(cached)
    value(cached, "missing")
    change(cached)

    assert value(cached) == value(place)
    value(cached, "missing")
    assert place.reads == 2 + 2


def test_a_change_that_fails_lets_go_too(place: ToldProvider, cached: Cached) -> None:
    """It may have been carried out."""
    value(cached)
    place.is_down = True
    with pytest.raises(ProviderError):
        cached.write("a", b"2")
    place.is_down = False

    value(cached)
    assert place.reads == 2


def test_what_was_read_before_a_write_is_not_kept(place: ToldProvider, cached: Cached) -> None:
    """A read that was under way during a write brings the old value to those who wait, and is forgotten."""
    entered, released = threading.Event(), threading.Event()

    def wait() -> None:
        entered.set()
        released.wait(DEADLINE_SECONDS)

    place.during = wait
    with in_thread(lambda: value(cached)) as reader:
        entered.wait(DEADLINE_SECONDS)
        place.during = lambda: None
        cached.write("a", b'"second"')
        assert value(cached) == b'"second"'
        released.set()
        assert answers([reader]) == [b'"first"']
    assert value(cached) == b'"second"'


def test_an_error_is_not_kept(place: ToldProvider, cached: Cached) -> None:
    """What is kept is served though the place is down, and what is not kept is asked for again."""
    value(cached)
    place.is_down = True
    assert value(cached) == b'"first"'
    with pytest.raises(ProviderError):
        value(cached, "missing")
    place.is_down = False

    assert value(cached, "missing") is None


def test_it_holds_no_more_than_is_said(place: ToldProvider, clock: Clock) -> None:
    """Neither many values, nor values whose time is over."""
    provider = Cached(place, CacheConfig(max_entries=3, ttl_seconds=10), clock=clock)
    for number in range(10):
        value(provider, f"key.{number}")
    assert (statistics := provider.statistics()) is not None
    assert statistics.entries == 3
    clock.now += 10
    value(provider, "another")

    assert (statistics := provider.statistics()) is not None
    assert statistics.entries == 1


def test_versions_are_not_kept(place: ToldProvider, cached: Cached) -> None:
    """They are read by few, and can be destroyed."""
    for _ in range(2):
        assert cached.read("a", version=1) is not None
    assert place.reads == 2


def test_closing_lets_go(place: ToldProvider, cached: Cached) -> None:
    """No value stays in memory."""
    value(cached)
    cached.close()

    assert (statistics := cached.statistics()) is not None
    assert statistics.entries == 0
