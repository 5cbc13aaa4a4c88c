"""Which data key seals and opens the values of a namespace."""

from secretstore.crypto.aead import Aead
from secretstore.crypto.keyring import KeyRing
from secretstore.domain.protocols import DataKeyPlace
from secretstore.errors import DecryptionError
from secretstore.orm.repository import SecretRepository


class DataKeys:
    """Finds data keys in the key ring, or else in the database."""

    def __init__(self, repository: SecretRepository, keyring: KeyRing) -> None:
        self._repository = repository
        self._keyring = keyring

    def get(self, data_key_id: str) -> Aead:
        """Return the data key of an id; raises `DecryptionError` where there is none."""
        place = DataKeyPlace(self._repository.namespace, data_key_id)
        return self._keyring.opened(place) or self._open(place)

    def add_first(self) -> None:
        """See to it that the namespace has an active data key, in the session's transaction.

        Of many that do so at once, one stores its key and the others wait for it.
        """
        new = self._keyring.new_data_key(self._repository.namespace)
        self._repository.add_first_data_key(new.id, new.wrapped)

    def _open(self, place: DataKeyPlace) -> Aead:
        wrapped = self._repository.find_wrapped_data_key(place.data_key_id)
        if wrapped is None:
            raise DecryptionError(
                f"namespace {place.namespace!r} has no data key {place.data_key_id!r}: the value was moved here from "
                "another namespace, or changed"
            )
        return self._keyring.open(wrapped, place)
