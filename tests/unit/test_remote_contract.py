"""The suite for places behind a network: a provider that keeps its promises passes, and each of these others fails."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from secretstore import ProvidedSecret, ProviderError
from secretstore.domain.providers import Version
from secretstore.testing import Answer, HttpRelay, RemoteSecretProviderContract
from secretstore.testing.interruptions import Relay
from secretstore.testing.leaks import MARKER
from tests.support.served_place import Place, PlaceProvider, running_place


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    """A place for secrets that speaks HTTP."""
    with running_place() as place:
        yield place


@pytest.fixture
def network(place: Place) -> Iterator[HttpRelay]:
    """A network before the place, which is empty."""
    place.values.clear()
    with HttpRelay(place.server_port) as relay:
        yield relay


class TestPlaceProvider(RemoteSecretProviderContract):
    """A provider that is as it has to be."""

    throttling = Answer(status=429)
    longest_seconds = 3.0

    @pytest.fixture
    def network(self, network: HttpRelay) -> HttpRelay:
        """Return the one of all tests here."""
        return network

    @pytest.fixture
    def provider(self, network: HttpRelay) -> PlaceProvider:
        """Return the provider."""
        return PlaceProvider(network.port)


class Shortening(PlaceProvider):
    """Takes a page that does not come for the end of the list."""

    def _page(self, after: str) -> list[str]:
        try:
            return super()._page(after)
        except ProviderError:
            return []


class Insisting(PlaceProvider):
    """Asks again and again."""

    def _ask(self, operation: str, method: str, path: str, body: bytes | None = None) -> dict[str, object]:
        for _ in range(9):
            try:
                return super()._ask(operation, method, path, body)
            except ProviderError:
                continue
        return super()._ask(operation, method, path, body)


class Defaulting(PlaceProvider):
    """Takes whatever goes wrong for a secret that is not there."""

    def read(self, key: str, *, version: Version | None = None) -> ProvidedSecret | None:
        """Return a secret, or None."""
        try:
            return super().read(key, version=version)
        except ProviderError:
            return None


class Final(PlaceProvider):
    """Does not say that a failure will pass."""

    def failed(self, operation: str, problem: str, *, is_temporary: bool = False) -> ProviderError:
        """Return an error that is final."""
        return super().failed(operation, problem)


class Telling(PlaceProvider):
    """Shows in its errors what it sent."""

    def _ask(self, operation: str, method: str, path: str, body: bytes | None = None) -> dict[str, object]:
        try:
            return super()._ask(operation, method, path, body)
        except ProviderError as error:
            raise self.failed(operation, "no", is_temporary=True) from ValueError(error, body or MARKER)


class Believing(PlaceProvider):
    """Tells of success before there is an answer."""

    def _ask(self, operation: str, method: str, path: str, body: bytes | None = None) -> dict[str, object]:
        try:
            return super()._ask(operation, method, path, body)
        except ProviderError:
            if method == "GET":
                raise
            return {"was": True}


class Waiting(PlaceProvider):
    """Waits longer than anybody may."""

    def _ask(self, operation: str, method: str, path: str, body: bytes | None = None) -> dict[str, object]:
        try:
            return super()._ask(operation, method, path, body)
        finally:
            if body is None:
                time.sleep(0.5)


SUITE = RemoteSecretProviderContract
WRONG: Mapping[type[PlaceProvider], tuple[Callable[..., None], Mapping[str, str]]] = {
    Shortening: (SUITE.test_a_list_that_is_cut_is_never_short, {"call": "list_keys"}),
    Insisting: (SUITE.test_trouble_that_lasts_is_told_as_temporary, {"call": "read", "trouble": "fail"}),
    Defaulting: (SUITE.test_trouble_for_once_gives_a_whole_answer_or_an_error, {"call": "read", "trouble": "cut"}),
    Final: (SUITE.test_trouble_that_lasts_is_told_as_temporary, {"call": "read", "trouble": "gone"}),
    Telling: (SUITE.test_trouble_that_lasts_is_told_as_temporary, {"call": "write", "trouble": "cut"}),
    Believing: (SUITE.test_a_write_that_is_disturbed_is_whole_or_is_not, {"trouble": "fail"}),
    Waiting: (SUITE.test_a_place_that_never_answers_is_given_up, {"call": "read"}),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_provider_fails(network: Relay, wrong: type[PlaceProvider]) -> None:
    """The suite sees each of these faults."""
    provider = wrong(network.port, timeout=0.3)
    provider.write("kept", f'"{MARKER}-of-old"'.encode())
    suite = SUITE()
    suite.longest_seconds = 0.6 if wrong is Waiting else 5.0
    test, arguments = WRONG[wrong]
    fixtures: dict[str, Any] = {"kept": "kept", "seed": provider.write}
    wanted = {name: fixtures[name] for name in fixtures if name in test.__code__.co_varnames}

    with pytest.raises((AssertionError, pytest.fail.Exception)):
        test(suite, network=network, provider=provider, **arguments, **wanted)
