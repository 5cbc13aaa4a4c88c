"""AES-256-GCM with nonces from the operating system.

Danger: nothing here knows what it seals.  What is ours is sealed by `envelope`, which binds each ciphertext to its place.
"""

import os
from typing import NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16


class SealFailed(Exception):  # noqa: N818 - internal, becomes DecryptionError with a place
    """The ciphertext, the nonce, the associated data and the key do not belong together."""


class Aead:
    """One 256-bit key that seals and opens; its bytes cannot be read back from it."""

    __slots__ = ("_cipher", "id")

    def __init__(self, key_id: str, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"an AES-256 key has {KEY_BYTES} bytes, not {len(key)}")
        self.id = key_id
        self._cipher = AESGCM(key)

    def seal(self, plaintext: bytes, associated_data: bytes) -> tuple[bytes, bytes]:
        """Return a new nonce, and the ciphertext with its tag at the end."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce, self._cipher.encrypt(nonce, plaintext, associated_data)

    def open(self, nonce: bytes, ciphertext: bytes, associated_data: bytes) -> bytes:
        """Return the plaintext, or raise `SealFailed`, which does not say what was wrong."""
        try:
            return self._cipher.decrypt(nonce, ciphertext, associated_data)
        except InvalidTag:
            raise SealFailed from None

    def __repr__(self) -> str:
        return f"Aead(id={self.id!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key cannot be pickled")
