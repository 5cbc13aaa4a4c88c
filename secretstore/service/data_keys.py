"""Which data key seals and opens the values of a namespace."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

from secretstore.crypto.aead import Aead
from secretstore.crypto.keyring import KeyRing, NewDataKey
from secretstore.domain.names import Namespace
from secretstore.domain.protocols import DataKeyPlace
from secretstore.errors import DecryptionError
from secretstore.orm.key_repository import DataKeyRepository

# A new data key follows long before AES-GCM's bound of 2^32 random nonces.  The distance makes up for what is not counted:
# the seals of transactions that were rolled back, whose records went with them.
MAX_SEALS = 2**28


class DataKeyGoneError(DecryptionError):
    """The data key of a value is not there: it was destroyed since the value was read, or never was."""


class KeyServerCall(Exception):  # noqa: N818 - no error: it leaves the transaction, so that the call is made outside
    """A data key is needed that a key server may have to open or to wrap.

    Raised before anything is written.  Whoever catches it leaves the transaction, calls `make`, and begins anew.
    """

    def __init__(self, make: Callable[[], object]) -> None:
        super().__init__()
        self.make = make


class OpenedKeys(Protocol):
    """What a service needs of a key ring."""

    def opened(self, namespace: str, data_key_id: str) -> Aead | None:
        """Return a data key that is at hand."""

    def open(self, wrapped: Mapping[str, object], place: DataKeyPlace) -> Aead:
        """Open a data key."""

    def new_data_key(self, namespace: str) -> NewDataKey:
        """Make a data key."""

    def seals_to_record(self, seals: int) -> int:
        """Return how many seals to record for so many."""


class PatientKeyRing:
    """A key ring that never waits for a key server inside a transaction: it raises `KeyServerCall` instead."""

    def __init__(self, keyring: KeyRing) -> None:
        self._keyring = keyring
        self.opened = keyring.opened
        self.seals_to_record = keyring.seals_to_record

    def open(self, wrapped: Mapping[str, object], place: DataKeyPlace) -> Aead:
        """Leave the transaction to open a data key."""
        raise KeyServerCall(partial(self._keyring.open, wrapped, place))

    def new_data_key(self, namespace: str) -> NewDataKey:
        """Return a data key that was made outside, or leave the transaction to make one."""
        prepared = self._keyring.take_prepared(namespace)
        if prepared is None:
            raise KeyServerCall(partial(self._keyring.prepare_data_key, namespace))
        return prepared


class WrappedKeys(Protocol):
    """Where data keys are stored."""

    def find_wrapped(self, data_key_id: str) -> Mapping[str, object] | None:
        """Return a data key as it is stored."""


class DataKeyFinder:
    """Finds data keys in the key ring, or else where they are stored."""

    def __init__(self, stored: WrappedKeys, namespace: Namespace, keyring: OpenedKeys) -> None:
        self._stored = stored
        self._namespace = namespace
        self._keyring = keyring

    def get(self, data_key_id: str) -> Aead:
        """Return the data key of an id; raises `DataKeyGoneError` where there is none."""
        return self._keyring.opened(self._namespace, data_key_id) or self._open(data_key_id)

    def _open(self, data_key_id: str) -> Aead:
        place = DataKeyPlace(self._namespace, data_key_id)
        wrapped = self._stored.find_wrapped(place.data_key_id)
        if wrapped is None:
            raise DataKeyGoneError(
                f"namespace {place.namespace!r} has no data key {place.data_key_id!r}: the value was moved here from "
                "another namespace, or changed"
            )
        return self._keyring.open(wrapped, place)


class DataKeys(DataKeyFinder):
    """Finds data keys, and makes those that seal, in the session's transaction."""

    def __init__(self, repository: DataKeyRepository, namespace: Namespace, keyring: OpenedKeys) -> None:
        super().__init__(repository, namespace, keyring)
        self._repository = repository

    def add_first(self) -> None:
        """See to it that the namespace has an active data key, in the session's transaction.

        Of many that do so at once, one stores its key and the others wait for it.
        """
        new = self._keyring.new_data_key(self._namespace)
        self._repository.add(new.id, new.wrapped)

    def renew_if_used_up(self, data_key_id: str, seals: int) -> bool:
        """Count seals that are about to be made; return whether another data key has taken the place of a used-up one."""
        recorded = self._keyring.seals_to_record(seals)
        if not recorded or self._repository.record_use(data_key_id, recorded) < MAX_SEALS:
            return False
        if not self._repository.may_retire():
            # There is room for many more, and `secretstore doctor` tells the owner in time.
            return False
        new = self._keyring.new_data_key(self._namespace)
        if not self._repository.retire_used_up(data_key_id):
            return False
        self._repository.add(new.id, new.wrapped)
        return True
