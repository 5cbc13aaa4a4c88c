"""What the outside has to offer."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol


class DataKeyPlace(NamedTuple):
    """Where a data key belongs; a wrapped key opens nowhere else."""

    namespace: str
    data_key_id: str

    def __str__(self) -> str:
        return f"data key {self.data_key_id!r} of namespace {self.namespace!r}"


class MasterKey(Protocol):
    """One key that wraps data keys, and that never leaves the place where it is kept.

    A wrapped data key is a small JSON object whose member `key` is the id of its master key; nothing of it is secret.
    It is bound to its place: unwrapped for another namespace or another data key it is a `DecryptionError`, and so is one
    that was changed.  Every other failure is a `MasterKeyError`, with `is_temporary` where the same call may succeed
    later.  Both methods may wait for a server, and may be called from many threads.
    `secretstore.testing.MasterKeyContract` tries all of this.
    """

    @property
    def id(self) -> str:
        """What wrapped keys name; it stays the same for as long as the key is used."""

    @property
    def fingerprint(self) -> str:
        """A short text by which a person tells this key from another one of the same id; no part of its bytes."""

    def wrap(self, data_key: bytes, place: DataKeyPlace) -> dict[str, object]:
        """Wrap 32 bytes."""

    def unwrap(self, wrapped: Mapping[str, object], place: DataKeyPlace) -> bytes:
        """Return the 32 bytes of what `wrap` returned."""
