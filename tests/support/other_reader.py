"""A second program that reads what is stored, written from the head of `secretstore/crypto/envelope.py` alone.

It has nothing of the library, and of `cryptography` only the bare block cipher: GCM is written out after NIST SP 800-38D.
"""

import json
from base64 import b64decode

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB

_POLYNOMIAL = 0xE1 << 120


def read_value(stored: str, data_key: bytes, place: tuple[str, str, int]) -> bytes:
    """Return a value's JSON text; `place` is namespace, key and version."""
    namespace, key, version = place
    return _read(stored, data_key, "secretstore value 1", namespace, key, str(version), json.loads(stored)["key"])


def read_data_key(stored: str, master_key: bytes, place: tuple[str, str]) -> bytes:
    """Return a data key; `place` is namespace and data key id."""
    return _read(stored, master_key, "secretstore data key 1", *place, json.loads(stored)["key"])


def _read(stored: str, key: bytes, *fields: str) -> bytes:
    envelope = json.loads(stored)
    assert envelope.keys() == {"v", "alg", "key", "nonce", "data"}
    assert (envelope["v"], envelope["alg"]) == (1, "A256GCM")
    covered = b"".join(len(text.encode()).to_bytes(4, "big") + text.encode() for text in fields)
    return _opened(key, b64decode(envelope["nonce"]), b64decode(envelope["data"]), covered)


def _opened(key: bytes, nonce: bytes, data: bytes, covered: bytes) -> bytes:
    ciphertext, tag = data[:-16], data[-16:]
    block = Cipher(AES(key), ECB()).encryptor().update
    lengths = (8 * len(covered)).to_bytes(8, "big") + (8 * len(ciphertext)).to_bytes(8, "big")
    hashed = _ghash(block(bytes(16)), _padded(covered) + _padded(ciphertext) + lengths)
    assert _xor(hashed, block(nonce + (1).to_bytes(4, "big"))) == tag, "the tag is wrong"
    counters = range(2, 2 + -(-len(ciphertext) // 16))
    stream = b"".join(block(nonce + counter.to_bytes(4, "big")) for counter in counters)
    return _xor(ciphertext, stream)


def _ghash(subkey: bytes, data: bytes) -> bytes:
    state, factor = 0, int.from_bytes(subkey, "big")
    for start in range(0, len(data), 16):
        state = _product(state ^ int.from_bytes(data[start : start + 16], "big"), factor)
    return state.to_bytes(16, "big")


def _product(one: int, other: int) -> int:
    product = 0
    for bit in range(127, -1, -1):
        if one >> bit & 1:
            product ^= other
        other = other >> 1 ^ (_POLYNOMIAL if other & 1 else 0)
    return product


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 16)


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=False))
