"""What the cache holds and serves, by a clock that the tests set."""

import asyncio
import threading
from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from secretstore import StoreUnavailableError
from secretstore.cache.config import CacheConfig
from secretstore.cache.entries import Entries, Load, boot_time
from secretstore.cache.loading import get_or_load, get_or_load_async
from secretstore.crypto.envelope import ValuePlace
from secretstore.errors import ConfigurationError, SecretStoreError
from secretstore.service.keeping import Found
from tests.support.clock import Clock
from tests.support.threads import run_together

NO_JITTER = 0.0


def entries(clock: Clock, **limits: float) -> Entries:
    """An empty cache by that clock; entries live a hundred seconds, and ten without being confirmed."""
    config = CacheConfig(**{"ttl_seconds": 100.0, "max_stale_seconds": 10.0, "heartbeat_seconds": 1.0, **limits})  # type: ignore[arg-type] # of one field or another
    return Entries(config, clock=clock, chance=lambda: NO_JITTER)


def found(text: str = "1", *, version: int = 1, seconds_left: float | None = None) -> Found:
    """What a load brings of a secret that is there."""
    return Found(ValuePlace("ns", "k", version), text.encode(), seconds_left)


def begin(cache: Entries, key: str = "k", namespace: str = "ns") -> Load[threading.Event]:
    """Begin to load a key."""
    load, leads = cache.join(namespace, key, leader=0, done=threading.Event)
    assert leads
    return load


def put(cache: Entries, key: str = "k", value: Found | None = None, namespace: str = "ns") -> None:
    """Load a key."""
    cache.finish(begin(cache, key, namespace), value or found())


def test_what_was_loaded_is_served(clock: Clock) -> None:
    """A value and the lack of one are kept alike, and by namespace and key."""
    cache = entries(clock)
    put(cache)
    put(cache, "missing", Found(ValuePlace("ns", "missing", 0), None))

    assert cache.get("ns", "k") == found()
    assert (missing := cache.get("ns", "missing")) is not None
    assert missing.text is None
    assert cache.get("ns", "other") is None
    assert cache.get("other", "k") is None


def test_an_entry_lives_for_its_time(clock: Clock) -> None:
    """However often it is confirmed, it is loaded again after its time to live, counted from before it was loaded."""
    cache = entries(clock)
    load = begin(cache)
    clock.now += 5
    cache.finish(load, found())
    space = cache.space("ns")
    assert space is not None
    for _ in range(94):
        clock.now += 1
        cache.confirm(space, clock.now)
        assert cache.get("ns", "k") is not None
    clock.now += 1
    cache.confirm(space, clock.now)
    assert cache.get("ns", "k") is None


def test_lives_are_shortened_at_random(clock: Clock) -> None:
    """What was loaded at once does not end at once: the most that a life is shortened by is a tenth."""
    config = CacheConfig(ttl_seconds=100.0, max_stale_seconds=1000.0)
    cache = Entries(config, clock=clock, chance=lambda: 1.0)
    put(cache)
    clock.now += 89.9
    assert cache.get("ns", "k") is not None
    clock.now += 0.2
    assert cache.get("ns", "k") is None


def test_expiry_is_kept_to_the_second(clock: Clock) -> None:
    """An entry ends when its secret does, and what has expired is not kept at all."""
    cache = entries(clock)
    put(cache, value=found(seconds_left=3.0))
    clock.now += 2.999
    assert cache.get("ns", "k") is not None
    clock.now += 0.001
    assert cache.get("ns", "k") is None
    put(cache, value=found(seconds_left=0.0))
    assert cache.get("ns", "k") is None


def test_what_nobody_confirms_is_not_served_for_long(clock: Clock) -> None:
    """It is served for `max_stale` from its loading, or from what was last found to be unchanged, and then again."""
    cache = entries(clock)
    put(cache)
    clock.now += 9.9
    assert cache.get("ns", "k") is not None
    clock.now += 0.1
    assert cache.get("ns", "k") is None
    assert cache.statistics().stale

    space = cache.space("ns")
    assert space is not None
    cache.confirm(space, clock.now - 1)
    cache.confirm_all(clock.now - 1)
    clock.now += 8.9
    assert cache.get("ns", "k") is not None
    assert not cache.statistics().stale
    clock.now += 0.1
    assert cache.get("ns", "k") is None
    assert cache.statistics().stale


def test_one_namespace_is_confirmed_without_another(clock: Clock) -> None:
    """Where the record of one cannot be read, its entries do not live by that of another."""
    cache = entries(clock)
    put(cache)
    put(cache, namespace="other")
    space = cache.space("ns")
    assert space is not None
    clock.now += 9
    cache.confirm(space, clock.now)
    clock.now += 2

    assert cache.get("ns", "k") is not None
    assert cache.get("other", "k") is None


def test_a_cache_that_holds_nothing_is_not_stale(clock: Clock) -> None:
    """There is nothing to be confirmed; and time counts from when there is."""
    cache = entries(clock)
    clock.now += 100
    assert not cache.statistics().stale
    put(cache)
    assert not cache.statistics().stale
    clock.now += 10
    assert cache.statistics().stale


def test_what_was_let_go_is_loaded_again(clock: Clock) -> None:
    """A key, a namespace, or everything."""
    cache = entries(clock)
    ways: list[Callable[[], None]] = [
        lambda: cache.drop("ns", ["k", "never seen"]),
        lambda: cache.clear_namespace("ns"),
        cache.clear,
    ]
    put(cache, namespace="other")
    for letting_go in ways:
        put(cache)
        letting_go()
        assert cache.get("ns", "k") is None
    assert cache.get("other", "k") is None
    assert cache.statistics().invalidations == 4


@pytest.mark.parametrize("what", ["key", "namespace", "everything"])
def test_a_change_spoils_a_load_that_is_under_way(clock: Clock, what: str) -> None:
    """What it brings may be from before the change, so it is answered and not kept; who comes later loads anew."""
    cache = entries(clock)
    old = begin(cache)
    letting_go: dict[str, Callable[[], None]] = {
        "key": lambda: cache.drop("ns", ["k"]),
        "namespace": lambda: cache.clear_namespace("ns"),
        "everything": cache.clear,
    }
    letting_go[what]()
    new = begin(cache)
    cache.finish(new, found("new", version=2))
    cache.finish(old, found("old"))

    assert old.found == found("old")
    assert cache.get("ns", "k") == found("new", version=2)


def test_a_spoilt_load_alone_leaves_nothing(clock: Clock) -> None:
    """Nobody loaded it since, and so there is nothing to be served."""
    cache = entries(clock)
    old = begin(cache)
    cache.drop("ns", ["k"])
    cache.finish(old, found("old"))

    assert cache.get("ns", "k") is None
    assert cache.statistics().entries == 0


def test_a_change_of_another_key_spoils_nothing(clock: Clock) -> None:
    """Only what may have changed is loaded again."""
    cache = entries(clock)
    load = begin(cache)
    cache.drop("ns", ["other"])
    cache.clear_namespace("other")
    cache.finish(load, found())
    assert cache.get("ns", "k") == found()


def test_the_oldest_go_first(clock: Clock) -> None:
    """Beyond the limits, what was not used since its last turn goes, by number and by bytes."""
    cache = entries(clock, max_entries=2)
    put(cache, "a")
    put(cache, "b")
    assert cache.get("ns", "a") is not None
    put(cache, "c")
    assert [cache.get("ns", key) is not None for key in "abc"] == [True, False, True]
    assert (cache.statistics().entries, cache.statistics().evictions) == (2, 1)

    small = entries(clock, max_bytes=10_000)
    for place in range(100):
        put(small, f"k{place}", found("x" * 500))
        assert small.statistics().bytes <= 10_000
    assert 5 <= small.statistics().entries < 20
    assert small.get("ns", "k99") is not None


def test_one_large_value_does_not_push_out_the_rest(clock: Clock) -> None:
    """More than an eighth of the cache is not kept, nor is what stood in its place."""
    cache = entries(clock, max_bytes=80_000)
    put(cache, "a")
    put(cache, "k", found("x" * 20_000))
    assert cache.get("ns", "k") is None
    assert cache.get("ns", "a") is not None
    put(cache, "k")
    clock.now += 10
    put(cache, "k", found("x" * 20_000))
    assert cache.get("ns", "k") is None
    assert cache.statistics().entries == 1


def test_what_is_too_old_leaves_memory(clock: Clock) -> None:
    """Plain text does not stay for longer than it is of use, whether anybody asks for it again or not."""
    cache = entries(clock)
    put(cache, value=found(seconds_left=5.0))
    put(cache, "b")
    clock.now += 5
    assert [space.namespace for space in cache.spaces()] == ["ns"]
    assert cache.statistics().entries == 1
    clock.now += 95
    assert list(cache.spaces()) == []
    assert cache.statistics().bytes == 0


def test_a_namespace_that_is_not_used_is_forgotten(clock: Clock) -> None:
    """After a while nobody asks for its changes any more, until something of it is loaded again."""
    told: list[int] = []
    config = CacheConfig(ttl_seconds=100.0)
    cache = Entries(config, clock=clock, on_new_space=lambda: told.append(1))
    load = begin(cache)
    clock.now += 200
    assert [space.namespace for space in cache.spaces()] == ["ns"]
    cache.fail(load, None)
    cache.fail(begin(cache), None)
    clock.now += 99
    assert [space.namespace for space in cache.spaces()] == ["ns"]
    clock.now += 1
    assert list(cache.spaces()) == []
    assert cache.space("ns") is None
    put(cache)
    assert told == [1, 1]
    assert (cache.take_new(), cache.take_new()) == ({"ns"}, set())


def test_no_repr_shows_a_value(clock: Clock) -> None:
    """Of entries and of what a load brings."""
    cache = entries(clock)
    put(cache, value=found("canary"))
    assert "canary" not in f"{cache!r} {found('canary')!r} {cache.statistics()!r} {vars(cache)!r}"


def test_eight_threads_load_once(clock: Clock) -> None:
    """One loads, the others wait for it."""
    cache = entries(clock)
    gate, loads = threading.Event(), []

    def load() -> Found:
        loads.append(1)
        assert gate.wait(20)
        return found()

    def read() -> Found:
        return get_or_load(cache, "ns", "k", load)

    def open_gate() -> Found:
        while cache.statistics().misses < 8:
            pass
        gate.set()
        return found()

    assert run_together(*[read] * 8, open_gate) == [found()] * 9
    assert len(loads) == 1
    assert cache.statistics().loads == 1


def test_whoever_looks_just_before_a_load_ends_takes_what_it_brings(clock: Clock) -> None:
    """A look that found nothing, and a load that ended right then, do not make a second load."""
    cache = entries(clock)
    put(cache)
    load, leads = cache.join("ns", "k", leader=0, done=threading.Event)
    assert (leads, load.found, load.done.is_set()) == (False, found(), True)
    assert cache.statistics().loads == 1


def test_an_error_reaches_all_who_wait_and_is_not_kept(clock: Clock) -> None:
    """Each gets an error of its own; the next call tries again."""
    cache = entries(clock)

    def fail() -> Found:
        while cache.statistics().misses < 4:
            pass
        raise StoreUnavailableError("away")

    def read() -> SecretStoreError:
        with pytest.raises(StoreUnavailableError, match="away") as caught:
            get_or_load(cache, "ns", "k", fail)
        return caught.value

    errors = run_together(*[read] * 4)
    assert len({id(error) for error in errors}) == 4
    assert [error.__context__ for error in errors] == [None] * 4
    assert get_or_load(cache, "ns", "k", found) == found()


def test_whoever_waits_for_one_that_was_interrupted_loads_itself(clock: Clock) -> None:
    """Ctrl-C in one thread is no error of another."""
    cache = entries(clock)

    def interrupted() -> Found:
        while cache.statistics().misses < 2:
            pass
        raise KeyboardInterrupt

    def first() -> Found:
        with pytest.raises(KeyboardInterrupt):
            get_or_load(cache, "ns", "k", interrupted)
        return found("gone")

    def second() -> Found:
        while cache.statistics().misses < 1:
            pass
        return get_or_load(cache, "ns", "k", found)

    assert run_together(first, second) == [found("gone"), found()]


def test_a_signal_handler_does_not_wait_for_its_own_thread(clock: Clock) -> None:
    """It reads a key that the code which it interrupted is loading: it loads for itself."""
    cache = entries(clock)

    def load() -> Found:
        assert get_or_load(cache, "ns", "k", lambda: found("inner")) == found("inner")
        return found()

    assert get_or_load(cache, "ns", "k", load) == found()


def test_thirty_two_tasks_load_once(clock: Clock) -> None:
    """In a loop it is the same; an error and a cancelled leader are too."""
    cache = entries(clock)
    loads: list[int] = []

    async def load() -> Found:
        loads.append(1)
        await asyncio.sleep(0)
        return found()

    async def fail() -> Found:
        await asyncio.sleep(0)
        raise StoreUnavailableError("away")

    async def hang() -> Found:
        await asyncio.Event().wait()
        return found()

    async def main() -> None:
        answers = await asyncio.gather(*[get_or_load_async(cache, "ns", "k", load) for _ in range(32)])
        assert answers == [found()] * 32
        assert len(loads) == 1
        failed = await asyncio.gather(
            *[get_or_load_async(cache, "ns", "x", fail) for _ in range(4)], return_exceptions=True
        )
        assert [type(error) for error in failed] == [StoreUnavailableError] * 4
        leader = asyncio.ensure_future(get_or_load_async(cache, "ns", "y", hang))
        await asyncio.sleep(0)
        waiting = asyncio.ensure_future(get_or_load_async(cache, "ns", "y", load))
        await asyncio.sleep(0)
        leader.cancel()
        assert await waiting == found()

    asyncio.run(main())


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_entries": 0},
        {"max_entries": 1.5},
        {"max_bytes": -1},
        {"max_bytes": True},
        {"ttl_seconds": 0},
        {"ttl_seconds": float("nan")},
        {"ttl_seconds": float("inf")},
        {"max_stale_seconds": "30"},
        {"heartbeat_seconds": None},
        {"heartbeat_seconds": 30, "max_stale_seconds": 30},
    ],
)
def test_a_configuration_that_cannot_work_is_refused(wrong: dict[str, object]) -> None:
    """When it is made, and with the name of what is wrong."""
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        CacheConfig(**wrong)  # type: ignore[arg-type] # what the test is about


def test_the_clock_goes_on() -> None:
    """The clock that is used is one, and later is more."""
    clock = boot_time()
    first = clock()
    assert clock() >= first


class Store(RuleBasedStateMachine):
    """Writers, loads that take their time, and notices that come late: against what a store really holds.

    After all notices of a key have come, what is served is what is stored.  What is served at any time was current not
    longer ago than `max_stale`.
    """

    loads = Bundle("loads")
    KEYS = st.sampled_from(["a", "b", "c"])

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.cache = entries(self.clock, max_entries=2)
        self.stored = dict.fromkeys("abc", 0)
        self.written = {(key, 0): self.clock.now for key in "abc"}
        self.ended: dict[tuple[str, int], float] = {}
        self.notices: list[str] = []

    @rule(key=KEYS)
    def write(self, key: str) -> None:
        """A change is committed, and its notice is on its way."""
        self.ended[key, self.stored[key]] = self.clock.now
        self.stored[key] += 1
        self.notices.append(key)

    @rule()
    def hear(self) -> None:
        """The oldest notice arrives."""
        if self.notices:
            self.cache.drop("ns", [self.notices.pop(0)])

    @rule()
    def heartbeat(self) -> None:
        """The record of changes is read, and all that it tells is dealt with."""
        self.cache.drop("ns", self.notices)
        for space in self.cache.spaces():
            self.cache.confirm(space, self.clock.now)

    @rule(target=loads, key=KEYS)
    def begin(self, key: str) -> tuple[Load[threading.Event], str, int] | None:
        """A load begins, and reads what is stored."""
        load, leads = self.cache.join("ns", key, leader=0, done=threading.Event)
        return (load, key, self.stored[key]) if leads else None

    @rule(load=consumes(loads))
    def finish(self, load: tuple[Load[threading.Event], str, int] | None) -> None:
        """It brings what it has read."""
        if load is not None:
            self.cache.finish(load[0], found(load[1], version=load[2] + 1))

    @rule(seconds=st.sampled_from([0.5, 3.0, 9.0]))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.clock.now += seconds

    @rule()
    def forget(self) -> None:
        """Everything is let go."""
        self.cache.clear()

    @invariant()
    def what_is_served_is_right(self) -> None:
        """As the class says."""
        for key in "abc":
            served = self.cache.get("ns", key)
            if served is None:
                continue
            assert served.text == key.encode()
            version = served.place.version - 1
            if key not in self.notices:
                assert version == self.stored[key]
            assert self.clock.now - self.ended.get((key, version), self.clock.now) < 10.0

    @invariant()
    def limits_hold(self) -> None:
        """No more than two entries, and bytes and namespaces are counted right."""
        statistics = self.cache.statistics()
        assert statistics.entries <= 2
        assert (statistics.bytes == 0) == (statistics.entries == 0)
        space = self.cache.space("ns")
        assert (space.entries if space else 0) == statistics.entries


TestStore = Store.TestCase
TestStore.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
