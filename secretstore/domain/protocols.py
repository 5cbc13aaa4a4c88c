"""What the outside has to offer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class DataKeyPlace:
    """Where a data key belongs; a wrapped key opens nowhere else."""

    namespace: str
    data_key_id: str


class MasterKeys(Protocol):
    """Wraps data keys; the master keys themselves never leave it.

    A wrapped key is a small JSON object whose member `key` is the id of its master key.
    Both methods raise `MasterKeyError`; `unwrap` raises `DecryptionError` where the wrapped key was changed or moved.
    """

    def wrap(self, data_key: bytes, place: DataKeyPlace) -> dict[str, object]:
        """Wrap 32 bytes under the first master key."""

    def unwrap(self, wrapped: Mapping[str, object], place: DataKeyPlace) -> bytes:
        """Return the 32 bytes, with the master key that `wrapped` names."""
