"""Who is told of calls is told of all of them, and of how they ended; who is not there costs nothing."""

import asyncio
import inspect
from collections.abc import Mapping
from typing import Any

import pytest

from secretstore import (
    AsyncSecretClient,
    AsyncSecretService,
    ConfigurationError,
    DecryptionError,
    InvalidSecretKeyError,
    InvalidSecretValueError,
    KeyInUseError,
    KeyRing,
    MasterKeyError,
    Observers,
    PastSecrets,
    PermissionDeniedError,
    ProviderError,
    SchemaOutOfDateError,
    SecretClient,
    SecretNotFoundError,
    SecretService,
    StoreUnavailableError,
    VersionConflictError,
    VersionGoneError,
    open_chain,
    open_provider,
)
from secretstore.client import observing
from secretstore.client.keys import AsyncKeys, Keys
from secretstore.crypto.local import LocalMasterKey
from secretstore.domain.observing import Observed, outcome_of
from secretstore.domain.protocols import DataKeyPlace
from tests.support.observers import Told

FACES = (SecretClient, AsyncSecretClient, SecretService, AsyncSecretService, PastSecrets, Keys, AsyncKeys)
ENDED = {
    None: "ok",
    SecretNotFoundError("n", "k"): "not_found",
    VersionGoneError("n", "k", 1): "not_found",
    VersionConflictError("n", "k", 1, 2): "conflict",
    KeyInUseError(): "conflict",
    InvalidSecretKeyError(): "invalid",
    InvalidSecretValueError(): "invalid",
    ConfigurationError(): "invalid",
    DecryptionError(): "cannot_decrypt",
    MasterKeyError("gone"): "cannot_decrypt",
    MasterKeyError("away", is_temporary=True): "unavailable",
    PermissionDeniedError(): "denied",
    StoreUnavailableError("away"): "unavailable",
    ProviderError("away", is_temporary=True): "unavailable",
    ProviderError("wrong"): "failed",
    SchemaOutOfDateError(): "failed",
    ValueError(): "failed",
    KeyboardInterrupt(): "broken_off",
    asyncio.CancelledError(): "broken_off",
}


class FarKey:
    """A master key of another kind than those in memory."""

    def __init__(self, key: LocalMasterKey) -> None:
        self.id = key.id
        self.fingerprint = key.fingerprint
        self._key = key
        self.is_away = False

    def wrap(self, data_key: bytes, place: DataKeyPlace) -> dict[str, object]:
        """Wrap as the other one does."""
        return self._key.wrap(data_key, place)

    def unwrap(self, wrapped: Mapping[str, object], place: DataKeyPlace) -> bytes:
        """Unwrap as the other one does, or fail."""
        if self.is_away:
            raise MasterKeyError("away", is_temporary=True)
        return self._key.unwrap(wrapped, place)


@pytest.mark.parametrize(("error", "outcome"), ENDED.items())
def test_each_error_is_one_of_a_few_outcomes(error: BaseException | None, outcome: str) -> None:
    """Outcomes are words of a fixed list, whatever is raised."""
    assert outcome_of(error) == outcome


@pytest.mark.parametrize("face", FACES)
def test_every_method_that_asks_the_store_is_told(face: Any) -> None:
    """No public method of an observed face is forgotten: it is told, or stands in the short list of the others."""
    kind = observing._observed_kind(face, "")
    methods = {name for name, _ in inspect.getmembers(face, inspect.isfunction) if not name.startswith("_")}

    told = {name for name in methods if getattr(kind, name) is not getattr(face, name)}
    passed = observing._GIVE_MORE | {"namespace"}
    assert told - passed == methods - observing._NO_OPERATIONS
    assert methods & passed <= told
    assert {name for name in told if inspect.iscoroutinefunction(getattr(kind, name))} == {
        name for name in told if inspect.iscoroutinefunction(getattr(face, name))
    }


def test_an_observed_class_is_made_once_and_named_like_its_own() -> None:
    """Whoever looks at an observed client sees the class that it was made from."""
    make: Any = observing._observed_kind
    kind = make(SecretClient, "")

    assert make(SecretClient, "") is make(kind, "") is kind
    assert issubclass(kind, SecretClient)
    assert (kind.__module__, kind.__qualname__, kind.__doc__) == ("secretstore", "SecretClient", SecretClient.__doc__)
    assert not hasattr(SecretClient, "_observer")


def test_observers_are_nested() -> None:
    """Of several observers the last begins last and ends first, as spans have to."""
    calls: list[str] = []

    class Named:
        def __init__(self, name: str) -> None:
            self.name = name

        def begin(self, *_: str) -> Any:
            calls.append(f"{self.name} begins")
            return lambda _: calls.append(f"{self.name} ends")

    Observers(Named("a"), Named("b")).begin("client", "get_secret", "default")(None)

    assert calls == ["a begins", "b begins", "b ends", "a ends"]


def test_calls_of_a_provider_are_told_by_its_kind() -> None:
    """Reads and writes are told with the scheme of the provider, and never with a key or the rest of its URL."""
    told = Told()
    provider = open_provider("memory:", observer=told)

    provider.write("hidden", b"1")
    provider.read("hidden")
    provider.read_many(["hidden"])
    provider.list_keys()
    with pytest.raises(SecretNotFoundError):
        provider.undelete("other")

    names = ("write_secret", "read_secret", "read_secrets", "list_keys", "undelete_secret")
    assert [call[:3] for call in told.ended] == [("provider", name, "memory") for name in names]
    assert [call[3] for call in told.ended] == ["ok"] * 4 + ["not_found"]


def test_each_link_of_a_chain_is_told() -> None:
    """A chain tells of the calls of its links, by their kinds."""
    told = Told()
    chain = open_chain("env://?prefix=OF_NOBODY_ memory:", observer=told)

    assert chain.read("a") is None

    assert told.ended == [("provider", "read_secret", kind, "ok") for kind in ("env", "memory")]


def test_calls_of_key_servers_are_told(master_key: str) -> None:
    """Wrapping and unwrapping are told where a server does it; the ring is the same one, with the same opened keys."""
    told, far = Told(), FarKey(LocalMasterKey.parse(master_key))
    ring = KeyRing(far, clock=lambda: 0.0)
    observed = ring.observed_by(told)
    made = observed.new_data_key("default")
    place = DataKeyPlace("default", made.id)

    assert ring.opened(*place) is observed.opened(*place) is made.aead
    observed.open(made.wrapped, place)
    far.is_away = True
    with pytest.raises(MasterKeyError):
        KeyRing(far).observed_by(told).open(made.wrapped, place)

    assert told.ended == [
        ("key_server", "wrap", "FarKey", "ok"),
        ("key_server", "unwrap", "FarKey", "ok"),
        ("key_server", "unwrap", "FarKey", "unavailable"),
    ]


def test_keys_in_memory_are_no_key_servers(keyring: KeyRing) -> None:
    """What takes microseconds is not told."""
    told = Told()

    keyring.observed_by(told).new_data_key("default")

    assert told.ended == []


def test_a_ring_that_is_told_twice_names_the_key_s_own_kind(master_key: str) -> None:
    """Two observers of one ring are both told, of the same kind."""
    first, second = Told(), Told()
    ring = KeyRing(FarKey(LocalMasterKey.parse(master_key))).observed_by(first).observed_by(second)

    ring.new_data_key("default")

    assert first.ended == second.ended == [("key_server", "wrap", "FarKey", "ok")]


def test_what_is_observed_is_a_twin() -> None:
    """The client that was there before tells nobody."""
    told, other = Told(), Told()
    plain = SecretClient.__new__(SecretClient)
    twin = observing.observed_face(plain, told, "default")
    both = observing.observed_face(twin, other, "default")

    assert type(plain) is SecretClient
    assert isinstance(twin, SecretClient)
    assert not isinstance(twin, Observed)
    assert (type(twin), type(both)) == (observing._observed_kind(SecretClient, ""),) * 2
