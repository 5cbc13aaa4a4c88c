"""What the first release stored, kept here for ever and read by three readers.

These constants were sealed once, by the first release.  They must never change: a release that does not open them has
lost what its users stored.  Where one fails, the release is wrong, and not the constant.
"""

import json
from base64 import b64decode, b64encode
from hashlib import sha256
from typing import NamedTuple

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from secretstore.crypto.aead import Aead
from secretstore.crypto.envelope import Envelope, ValuePlace, open_value
from secretstore.crypto.local import LocalMasterKey
from secretstore.domain.protocols import DataKeyPlace
from tests.support import other_reader

DATA_KEY_ID = "6f1d3a52-7f0e-4a6b-9d0c-1f2e3d4c5b6a"
DATA_KEY = bytes(range(200, 232))
MASTER_KEY = bytes(range(7, 167, 5))[:31] + b"\xff"  # counted up in fives it would be refused as no random key


class StoredValue(NamedTuple):
    """A place, the JSON text that is stored there, and its envelope."""

    place: tuple[str, str, int]
    text: str
    nonce: str
    data: str

    @property
    def envelope(self) -> str:
        """The envelope as it is stored."""
        return stored(DATA_KEY_ID, self.nonce, self.data)


class StoredDataKey(NamedTuple):
    """The place of `DATA_KEY`, the id of its master key, and its envelope."""

    place: tuple[str, str]
    master_key_id: str
    nonce: str
    data: str

    @property
    def envelope(self) -> str:
        """The envelope as it is stored."""
        return stored(self.master_key_id, self.nonce, self.data)


def stored(key_id: str, nonce: str, data: str) -> str:
    """Return an envelope."""
    return json.dumps({"v": 1, "alg": "A256GCM", "key": key_id, "nonce": nonce, "data": data})


VALUES = {
    "empty object": StoredValue(("default", "a", 1), "{}", "JbVn/qfOLY04/KVt", "cGsh2sDv/7nsY/bsMugrefvg"),
    "null": StoredValue(("default", "b", 2), "null", "rKqSEZvYYDrAI909", "Ep1NXX9vWzXztuaofJLdSsMGy7I="),
    "empty text": StoredValue(("p", "k", 10), '""', "7pan5O+LfPRusFvK", "rJXuXergN49wHG6v7RG4vqzR"),
    "true": StoredValue(("ab", "c", 1), "true", "cJq+0gTQ2fa0LAaZ", "sYw015YgZkPhtkbkqtl9+dDWzCA="),
    "unicode": StoredValue(
        ("größe/東京", "🔑 clé", 2**63 - 1),
        '["ключ","🗝️","\\u0000\\"",-0.0,12345678901234567890]',
        "nKI6kI/RQ8opVqya",
        "YxUi+4NAzPGaz3MnLy4ZUn6ao23XLiLkT7QshImjcmCfFWBlZAKBIGSngYH3/KAlZQOOe9jeGoSmhXtnNZf9pke3ueGTCV/3+Nvm",
    ),
}
EACH_VALUE = pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)

WRAPPED = {
    "plain": StoredDataKey(
        ("default", DATA_KEY_ID),
        "k",
        "W/zny3yLPfRLAynN",
        "Fe6NylYCq3jKluaHgo34/uuJXP1ZlFQPpqPE82+uib6e9MnSXoRHjEqTfzUh9W70",
    ),
    "unicode": StoredDataKey(
        ("größe/東京", "0"),
        "kms.2025_A-b",
        "aWP3hyJgKBHaD+kX",
        "MgwenYEmYBUKQWtHf1oG10TirBc6JpVMkUFc1A/H7/Wsu/j/mV2s8VzdoS7Xhw/n",
    ),
    "longest names": StoredDataKey(
        ("n" * 128, DATA_KEY_ID),
        "m" * 64,
        "5kflfa84qgJjocbN",
        "gWJ6WszP35QLrCP8hfKzZnYnMmOXPaoZwjqTjcL9zh0Kz0Gd9xONy4zgUKrAsLUR",
    ),
}
EACH_DATA_KEY = pytest.mark.parametrize("wrapped", WRAPPED.values(), ids=WRAPPED)

# 1 MiB, the largest value; of the ciphertext the hash and the tag are kept.
BIG_PLACE = ("default", "big", 1)
BIG_TEXT = b'"' + b"0123456789abcdef" * 65535 + b'01234567890123"'
BIG_NONCE = bytes.fromhex("b1b6386eabdbe02ed35223bb")
BIG_TAG = bytes.fromhex("f6333cbf2e38d73869a69e2137e2dd2a")
BIG_DATA_SHA256 = "bf8c5fa3627e3faf713eecf572fe8a7f540e57dc277f1dede5daa1419a441c9a"


def context(*fields: str) -> bytes:
    """Associated data as the head of `crypto/envelope.py` describes them."""
    return b"".join(len(text.encode()).to_bytes(4, "big") + text.encode() for text in fields)


def library_opens(envelope: str, place: tuple[str, str, int]) -> bytes:
    """Open a value with the library."""
    there = ValuePlace(*place)
    return open_value(Aead(DATA_KEY_ID, DATA_KEY), Envelope.parse(json.loads(envelope), there), there)


@EACH_VALUE
def test_the_library_opens_what_the_first_release_stored(value: StoredValue) -> None:
    """Each constant envelope opens to its JSON text."""
    assert library_opens(value.envelope, value.place) == value.text.encode()


@EACH_VALUE
def test_a_reader_after_the_description_opens_it_too(value: StoredValue) -> None:
    """With the description alone another program gets the same text, of which its own GCM finds the tag right."""
    assert other_reader.read_value(value.envelope, DATA_KEY, value.place) == value.text.encode()


def test_the_largest_value_opens() -> None:
    """A value of 1 MiB, sealed again with its nonce, has the bytes that the first release stored, and opens."""
    covered = context("secretstore value 1", "default", "big", "1", DATA_KEY_ID)
    data = AESGCM(DATA_KEY).encrypt(BIG_NONCE, BIG_TEXT, covered)

    assert (len(BIG_TEXT), data[-16:], sha256(data).hexdigest()) == (1024 * 1024, BIG_TAG, BIG_DATA_SHA256)
    place = ValuePlace(*BIG_PLACE)
    assert open_value(Aead(DATA_KEY_ID, DATA_KEY), Envelope(DATA_KEY_ID, BIG_NONCE, data), place) == BIG_TEXT


@EACH_DATA_KEY
def test_a_master_key_opens_the_data_keys_of_the_first_release(wrapped: StoredDataKey) -> None:
    """Each constant wrapped data key opens to the same 32 bytes, for the library and for the other reader."""
    master_key = LocalMasterKey(wrapped.master_key_id, MASTER_KEY)

    assert master_key.unwrap(json.loads(wrapped.envelope), DataKeyPlace(*wrapped.place)) == DATA_KEY
    assert other_reader.read_data_key(wrapped.envelope, MASTER_KEY, wrapped.place) == DATA_KEY


@EACH_VALUE
def test_the_other_reader_notices_a_changed_tag(value: StoredValue) -> None:
    """The other reader is a reader: where one bit of the tag is wrong, it does not read."""
    data = bytearray(b64decode(value.data))
    data[-1] ^= 1
    changed = stored(DATA_KEY_ID, value.nonce, b64encode(data).decode())

    with pytest.raises(AssertionError, match="the tag is wrong"):
        other_reader.read_value(changed, DATA_KEY, value.place)
