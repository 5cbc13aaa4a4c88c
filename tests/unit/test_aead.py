"""AES-256-GCM, alone."""

import copy
import pickle
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from secretstore.crypto.aead import KEY_BYTES, NONCE_BYTES, TAG_BYTES, Aead, SealFailed

KEY = bytes(range(100, 132))


@pytest.fixture
def aead() -> Aead:
    """A key."""
    return Aead("id", KEY)


def test_what_was_sealed_opens(aead: Aead) -> None:
    """A key opens what it sealed, with the same associated data."""
    nonce, ciphertext = aead.seal(b"plain", b"place")

    assert aead.open(nonce, ciphertext, b"place") == b"plain"


def test_the_seal_is_plain_aes_gcm(aead: Aead) -> None:
    """Any AES-256-GCM opens the ciphertext: nonce of 12 bytes, tag of 16 bytes at its end."""
    nonce, ciphertext = aead.seal(b"plain", b"place")

    assert (len(nonce), len(ciphertext)) == (NONCE_BYTES, len(b"plain") + TAG_BYTES) == (12, 21)
    assert AESGCM(KEY).decrypt(nonce, ciphertext, b"place") == b"plain"


def test_a_nonce_is_never_used_twice(aead: Aead) -> None:
    """Sealing the same thing again gives another nonce and another ciphertext."""
    sealed = [aead.seal(b"plain", b"") for _ in range(1000)]

    assert len({nonce for nonce, _ in sealed}) == 1000
    assert len({ciphertext for _, ciphertext in sealed}) == 1000


@pytest.mark.parametrize("length", [0, 16, 24, KEY_BYTES - 1, KEY_BYTES + 1, 64])
def test_only_256_bits_are_a_key(length: int) -> None:
    """A shorter AES key is refused, though the algorithm would take it; the bytes are not shown."""
    with pytest.raises(ValueError, match=f"has 32 bytes, not {length}$"):
        Aead("id", b"k" * length)


@pytest.mark.parametrize("wrong", ["key", "nonce", "data", "associated data", "short"])
def test_what_does_not_belong_together_does_not_open(aead: Aead, wrong: str) -> None:
    """Another key, nonce, ciphertext or associated data is one and the same error, which says nothing."""
    nonce, data = aead.seal(b"plain", b"place")
    attempts: dict[str, Callable[[], bytes]] = {
        "key": lambda: Aead("id", KEY[::-1]).open(nonce, data, b"place"),
        "nonce": lambda: aead.open(nonce[::-1], data, b"place"),
        "data": lambda: aead.open(nonce, bytes([data[0] ^ 1]) + data[1:], b"place"),
        "associated data": lambda: aead.open(nonce, data, b"place "),
        "short": lambda: aead.open(nonce, data[:-1], b"place"),
    }
    with pytest.raises(SealFailed) as caught:
        attempts[wrong]()
    assert caught.value.args == ()
    assert caught.value.__cause__ is None


def test_a_key_shows_its_id_and_nothing_else(aead: Aead) -> None:
    """Neither repr nor attributes hold the bytes."""
    assert repr(aead) == "Aead(id='id')"
    assert not hasattr(aead, "__dict__")


@pytest.mark.parametrize("leave", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_key_does_not_leave_its_process(aead: Aead, leave: Callable[[Aead], object]) -> None:
    """A key can be neither pickled nor copied."""
    with pytest.raises(TypeError, match="cannot be pickled"):
        leave(aead)
