"""What every provider promises whose place is behind a network, tried on a network that breaks.

class TestMyProvider(RemoteSecretProviderContract):
    throttling = Answer(status=429)

    @pytest.fixture
    def network(self):
        with HttpRelay(port_of_my_server) as relay:
            yield relay

    @pytest.fixture
    def provider(self, network):        # empty, with time-outs of about a second
        with MyProvider(network.url) as provider:
            yield provider
"""

import time
from collections.abc import Callable, Iterator

import pytest

from secretstore.domain.providers import Ability, SecretProvider
from secretstore.errors import ProviderError
from secretstore.testing.interruptions import Answer, HttpRelay, Relay
from secretstore.testing.leaks import MARKER, assert_shows_nothing

KEPT_JSON = f'"{MARKER}-of-old"'.encode()
NEW_JSON = f'"{MARKER}-that-is-new"'.encode()
_KEY = "kept"

_CALLS: dict[str, Callable[[SecretProvider], object]] = {
    "read": lambda provider: provider.read(_KEY),
    "read_many": lambda provider: provider.read_many([_KEY, "another"]),
    "list_keys": lambda provider: provider.list_keys(),
    "describe": lambda provider: provider.describe(_KEY),
    "list_versions": lambda provider: provider.list_versions(_KEY),
    "write": lambda provider: provider.write(_KEY, NEW_JSON),
    "delete": lambda provider: provider.delete(_KEY),
}
_NEEDS = {"list_versions": Ability.VERSIONS, "write": Ability.WRITE, "delete": Ability.DELETE}
_TROUBLES = ("throttle", "fail", "cut", "gone")
_ROUNDS = 3


class RemoteSecretProviderContract:
    """Subclass it with the fixtures `network`, before the real server, and `provider`, which is empty and behind that."""

    throttling: Answer | None = None
    """What the place answers to whoever asks too often; None where it has no such answer, or speaks no HTTP."""

    failing = Answer(status=503, body=f"what you sent was {MARKER}".encode(), headers={"Content-Type": "text/html"})
    """What it answers when it fails: it may show what was sent, and a provider may not."""

    longest_seconds = 10.0
    """How long a call may take, whatever happens."""

    gives_up = True
    """Whether a call ends by itself that is never answered on a connection that stays; some drivers leave that to TCP."""

    most_requests = 5
    """How often a call may ask that never gets an answer."""

    many = 25
    """How many secrets a list has that is cut: better more than a page has."""

    @pytest.fixture
    def network(self) -> Iterator[Relay]:
        """Give what stands between the provider and its place."""
        raise NotImplementedError

    @pytest.fixture
    def provider(self, network: Relay) -> Iterator[SecretProvider]:
        """Give the provider to be tried."""
        raise NotImplementedError

    @pytest.fixture
    def seed(self, provider: SecretProvider) -> Callable[[str, bytes], object]:
        """Return what puts a secret into the place; it is overridden where the provider cannot write."""
        return provider.write

    @pytest.fixture
    def kept(self, seed: Callable[[str, bytes], object]) -> str:
        """Return the key of a secret that is there."""
        seed(_KEY, KEPT_JSON)
        return _KEY

    @pytest.mark.parametrize("trouble", _TROUBLES)
    @pytest.mark.parametrize("call", _CALLS)
    @pytest.mark.usefixtures("kept")
    def test_trouble_that_lasts_is_told_as_temporary(
        self, network: Relay, provider: SecretProvider, *, call: str, trouble: str
    ) -> None:
        """A call ends in time with an error that says that the same call may succeed later, and asks only a few times."""
        self._skip_what_it_cannot(provider, call)
        self._begin(network, trouble)

        error = self._failure(lambda: _CALLS[call](provider), network)

        assert provider.name in str(error)
        assert error.provider == provider.name

    @pytest.mark.parametrize("call", ["read", "list_keys", "write"])
    @pytest.mark.usefixtures("kept")
    def test_a_place_that_never_answers_is_given_up(self, network: Relay, provider: SecretProvider, call: str) -> None:
        """A call ends in time, though nobody refuses it."""
        self._skip_what_it_cannot(provider, call)
        if not self.gives_up:
            pytest.skip("it leaves to TCP what hangs")
        network.hang()

        self._failure(lambda: _CALLS[call](provider), network)

    @pytest.mark.parametrize("trouble", _TROUBLES)
    def test_the_same_provider_works_when_all_is_well_again(
        self, network: Relay, provider: SecretProvider, kept: str, trouble: str
    ) -> None:
        """Nothing that is broken is kept: what was there is read, and what is written is there."""
        self._begin(network, trouble)
        self._failure(lambda: provider.read(kept), network)
        network.heal()

        assert _value(provider, kept) == KEPT_JSON
        if Ability.WRITE in provider.abilities:
            provider.write(kept, NEW_JSON)
            assert _value(provider, kept) == NEW_JSON

    @pytest.mark.parametrize("trouble", ["throttle", "fail", "cut"])
    @pytest.mark.parametrize("call", ["read", "read_many", "list_keys", "describe"])
    @pytest.mark.usefixtures("kept")
    def test_trouble_for_once_gives_a_whole_answer_or_an_error(
        self, network: Relay, provider: SecretProvider, *, call: str, trouble: str
    ) -> None:
        """A call that is disturbed once answers as it would have, or says that it did not succeed."""
        undisturbed = _CALLS[call](provider)
        assert undisturbed, "what is there is not found"
        self._begin(network, trouble, times=1)

        answered = self._answer_or_none(lambda: _CALLS[call](provider))

        assert answered in (None, (undisturbed,))

    @pytest.mark.parametrize("trouble", _TROUBLES)
    def test_a_write_that_is_disturbed_is_whole_or_is_not(
        self, network: Relay, provider: SecretProvider, kept: str, trouble: str
    ) -> None:
        """Afterwards the old value is there or the new one; the new one, if the write has told of success."""
        self._skip_what_it_cannot(provider, "write")
        self._begin(network, trouble, times=1)
        answered = self._answer_or_none(lambda: provider.write(kept, NEW_JSON))
        network.heal()

        assert _value(provider, kept) in ({NEW_JSON} if answered else {KEPT_JSON, NEW_JSON})

    def test_a_create_that_is_cut_tells_no_lie(self, network: Relay, provider: SecretProvider) -> None:
        """A secret that is written where there is none, and whose answer is lost, is there whole or not at all."""
        if not {Ability.WRITE, Ability.CREATE} <= provider.abilities:
            pytest.skip("it cannot create")
        network.cut(times=1)
        answered = self._answer_or_none(lambda: provider.write("created", NEW_JSON, expected_version=0))
        network.heal()

        found = provider.read("created")
        assert (found is None and not answered) or (found is not None and found.value_json == NEW_JSON)

    @pytest.mark.parametrize("call", ["list_keys", "read_many"])
    def test_a_list_that_is_cut_is_never_short(
        self, network: Relay, provider: SecretProvider, seed: Callable[[str, bytes], object], call: str
    ) -> None:
        """Wherever in the many requests of a list the answers end, all of it is answered, or an error is raised."""
        keys = [f"many.{number:03}" for number in range(self.many)]
        for key in keys:
            seed(key, KEPT_JSON)

        def ask() -> list[str]:
            return provider.list_keys() if call == "list_keys" else sorted(provider.read_many(keys))

        requests = self._requests_of(ask, network)

        for passed in {0, 1, requests // 2, requests - 1}:
            network.cut(after=passed)
            answered = self._answer_or_none(ask)
            network.heal()
            assert answered in (None, (keys,))

    @pytest.mark.parametrize("call", ["read", "list_keys", "write"])
    @pytest.mark.usefixtures("kept")
    def test_what_is_no_answer_of_the_place_is_an_error(
        self, network: Relay, provider: SecretProvider, call: str
    ) -> None:
        """A page of some proxy on the way is neither a value, nor an empty list, nor success."""
        self._skip_what_it_cannot(provider, call)
        if not isinstance(network, HttpRelay):
            pytest.skip("it speaks no HTTP")
        page = f"<html>Please log in. You sent {MARKER}</html>".encode()
        network.answer(Answer(status=200, body=page, headers={"Content-Type": "text/html"}))

        with pytest.raises(ProviderError) as caught:
            _CALLS[call](provider)
        assert_shows_nothing(caught.value)

    def test_trouble_that_comes_and_goes_leaves_nothing_behind(
        self, network: Relay, provider: SecretProvider, kept: str
    ) -> None:
        """After every break it works again, many times over."""
        for _ in range(_ROUNDS):
            network.cut()
            self._failure(lambda: provider.read(kept), network)
            network.heal()
            assert _value(provider, kept) == KEPT_JSON

    def _skip_what_it_cannot(self, provider: SecretProvider, call: str) -> None:
        if call in _NEEDS and _NEEDS[call] not in provider.abilities:
            pytest.skip(f"it cannot {_NEEDS[call]}")

    def _begin(self, network: Relay, trouble: str, *, times: int | None = None) -> None:
        if trouble == "cut":
            network.cut(times=times)
        elif trouble == "gone":
            network.refuse()
        elif not isinstance(network, HttpRelay):
            pytest.skip("it speaks no HTTP")
        elif trouble == "fail":
            network.answer(self.failing, times=times)
        elif self.throttling is None:
            pytest.skip("it has no answer to whoever asks too often")
        else:
            network.answer(self.throttling, times=times)

    def _failure(self, call: Callable[[], object], network: Relay) -> ProviderError:
        """Return the error of a call, which has to be temporary, and to come in time and after a few requests."""
        asked, began = network.requests, time.monotonic()
        with pytest.raises(ProviderError) as caught:
            call()
        assert time.monotonic() - began < self.longest_seconds
        assert network.requests - asked <= self.most_requests, "it asks too often"
        assert caught.value.is_temporary
        assert_shows_nothing(caught.value)
        return caught.value

    def _answer_or_none(self, call: Callable[[], object]) -> tuple[object] | None:
        """Return what a call answers, or None where it says that it may succeed later."""
        began = time.monotonic()
        try:
            answered = call()
        except ProviderError as error:
            assert error.is_temporary
            assert_shows_nothing(error)
            return None
        finally:
            assert time.monotonic() - began < self.longest_seconds
        return (answered,)

    def _requests_of(self, call: Callable[[], object], network: Relay) -> int:
        asked = network.requests
        call()
        return max(network.requests - asked, 1)


def _value(provider: SecretProvider, key: str) -> bytes | None:
    found = provider.read(key)
    return None if found is None else found.value_json
