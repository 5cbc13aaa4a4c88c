"""A place that is down is left alone, and asked again by one."""

import threading
from collections.abc import Callable
from functools import partial

import pytest

from secretstore import InvalidSecretKeyError, ProviderClient, ProviderError, SecretStoreError, VersionConflictError
from secretstore.domain.providers import Ability, SecretProvider
from secretstore.providers.backing_off import BackingOff
from secretstore.testing import Answer, HttpRelay, SecretProviderContract
from tests.support.clock import Clock
from tests.support.served_place import PlaceProvider, running_place
from tests.support.threads import DEADLINE_SECONDS, in_thread, run_together
from tests.support.told_provider import ToldProvider, told_place

THREADS = 50
CALLS: list[Callable[[SecretProvider], object]] = [
    lambda provider: provider.read("a"),
    lambda provider: provider.read("a", version=1),
    lambda provider: provider.read_many(["a"]),
    lambda provider: provider.list_keys(),
    lambda provider: provider.describe("a"),
    lambda provider: provider.write("a", b"1"),
    lambda provider: provider.delete("a"),
    lambda provider: provider.undelete("a"),
    lambda provider: provider.list_versions("a"),
    lambda provider: provider.destroy_versions("a", [1]),
]


class TestBackingOff(SecretProviderContract):
    """While all is well, it is what it stands before."""

    @pytest.fixture
    def provider(self) -> SecretProvider:
        """An empty place."""
        return BackingOff(ToldProvider())


@pytest.fixture
def place() -> ToldProvider:
    """A place with one secret."""
    return told_place()


@pytest.fixture
def provider(place: ToldProvider, clock: Clock) -> BackingOff:
    """The place, left alone for as long as it can be."""
    return BackingOff(place, clock=clock, chance=lambda: 1.0)


def fail(provider: BackingOff) -> ProviderError:
    """Return the error of a read."""
    with pytest.raises(ProviderError) as caught:
        provider.read("a")
    assert caught.value.is_temporary
    return caught.value


@pytest.mark.parametrize("call", CALLS)
def test_after_a_failure_nothing_is_asked(
    place: ToldProvider, provider: BackingOff, clock: Clock, call: Callable[[SecretProvider], object]
) -> None:
    """Every call fails at once until the time is over, and says for how long."""
    place.is_down = True
    fail(provider)
    asked = place.reads, place.writes
    place.is_down = False
    clock.now += 0.4

    with pytest.raises(ProviderError, match=r"memory: failed to .*: it failed a moment ago, .* for 0\.1 s") as caught:
        call(provider)
    assert caught.value.is_temporary
    assert (place.reads, place.writes) == asked


def test_it_works_again_after_the_pause(place: ToldProvider, provider: BackingOff, clock: Clock) -> None:
    """One success, and all is as before: the next failure counts as the first."""
    for _ in range(2):
        place.is_down = True
        fail(provider)
        place.is_down = False
        clock.now += 0.5

        assert provider.read("a") == provider.read("a") != None  # noqa: E711 - both are there


def test_the_pauses_double_up_to_half_a_minute(place: ToldProvider, provider: BackingOff, clock: Clock) -> None:
    """Each failure of the one who tries doubles the time."""
    place.is_down = True
    fail(provider)
    for pause in (0.5, 1, 2, 4, 8, 16, 30, 30, 30):
        asked = place.reads
        clock.now += pause - 0.01
        fail(provider)
        assert place.reads == asked
        clock.now += 0.02
        fail(provider)
        assert place.reads == asked + 1


@pytest.mark.parametrize(("chance", "pause"), [(0.0, 0.25), (0.5, 0.375)])
def test_a_pause_is_shortened_by_chance(place: ToldProvider, clock: Clock, chance: float, pause: float) -> None:
    """By up to a half, so that not all processes ask at once."""
    provider = BackingOff(place, clock=clock, chance=lambda: chance)
    place.is_down = True
    fail(provider)
    place.is_down = False

    clock.now += pause - 0.001
    fail(provider)
    clock.now += 0.002
    assert provider.read("a") is not None


def test_one_of_many_tries(place: ToldProvider, provider: BackingOff, clock: Clock) -> None:
    """While it waits for an answer the others fail at once; they are let through once it has one."""
    place.is_down = True
    fail(provider)
    place.is_down = False
    clock.now += 0.5
    asked, entered, released = place.reads, threading.Event(), threading.Event()

    def wait() -> None:
        entered.set()
        released.wait(DEADLINE_SECONDS)

    place.during = wait
    with in_thread(lambda: provider.read("a")) as probe:
        entered.wait(DEADLINE_SECONDS)
        run_together(*[lambda: fail(provider)] * THREADS)
        assert place.reads == asked + 1
        released.set()
        assert probe.result(DEADLINE_SECONDS) is not None
    assert all(run_together(*[lambda: provider.read("a")] * THREADS))


def test_many_that_fail_together_count_as_one(place: ToldProvider, provider: BackingOff, clock: Clock) -> None:
    """Those that were under way when the place went down do not lengthen the pause, each by a doubling."""
    together = threading.Barrier(THREADS)
    place.during = lambda: together.wait(DEADLINE_SECONDS)
    place.is_down = True
    run_together(*[lambda: fail(provider)] * THREADS)
    place.during, place.is_down = lambda: None, False

    clock.now += 0.5
    assert provider.read("a") is not None


def test_a_late_success_does_not_open_the_flood(place: ToldProvider, provider: BackingOff) -> None:
    """What was asked before the failure says nothing of what came after it."""
    entered, released = threading.Event(), threading.Event()

    def wait() -> None:
        entered.set()
        released.wait(DEADLINE_SECONDS)

    place.during = wait
    with in_thread(lambda: provider.read("a")) as late:
        entered.wait(DEADLINE_SECONDS)
        place.during = lambda: None
        place.is_down = True
        fail(provider)
        place.is_down = False
        released.set()
        assert late.result(DEADLINE_SECONDS) is not None
    asked = place.reads
    fail(provider)
    assert place.reads == asked


def test_what_the_place_refuses_is_no_failure_of_it(place: ToldProvider, provider: BackingOff) -> None:
    """A conflict is an answer."""
    for _ in range(2):
        with pytest.raises(VersionConflictError):
            provider.write("a", b"2", expected_version=7)
    assert provider.read("a") is not None
    assert place.writes == 1 + 2


@pytest.mark.parametrize(
    "error", [InvalidSecretKeyError("no key"), ProviderError("x", provider="x", operation=Ability.DELETE)]
)
def test_what_never_asked_the_place_says_nothing_of_it(
    place: ToldProvider, provider: BackingOff, clock: Clock, error: SecretStoreError
) -> None:
    """A call that is refused before it is sent does not end the caution: the next failure begins a longer pause."""
    place.is_down = True
    fail(provider)
    clock.now += 0.5

    def refuse() -> None:
        raise error

    place.during = refuse
    with pytest.raises(type(error)):
        provider.read("a")
    place.during = lambda: None
    fail(provider)
    clock.now += 0.6

    assert "for 0.4 s" in str(fail(provider))


def test_an_interrupted_try_is_made_again(place: ToldProvider, provider: BackingOff, clock: Clock) -> None:
    """Whoever is told to end while it tries leaves that to the next."""
    place.is_down = True
    fail(provider)
    place.is_down = False
    clock.now += 0.5

    def interrupt() -> None:
        raise KeyboardInterrupt

    place.during = interrupt
    with pytest.raises(KeyboardInterrupt):
        provider.read("a")
    place.during = lambda: None
    assert provider.read("a") is not None


def test_a_place_that_is_down_sees_no_storm() -> None:
    """Fifty threads that want ten secrets each, while the place answers 503, ask it no more than once each, and rarely again."""
    with running_place() as server, HttpRelay(server.server_port) as network:
        network.answer(Answer(status=503))
        provider = PlaceProvider(network.port)
        client = ProviderClient(provider)

        def want(number: int) -> None:
            for key in range(10):
                with pytest.raises(ProviderError) as caught:
                    client.get_secret(f"{number}.{key}")
                assert caught.value.is_temporary

        run_together(*[partial(want, number) for number in range(THREADS)])
        assert 1 <= network.requests <= THREADS + 10
