"""Master keys that are held in this process's memory, and the texts and files that they come from."""

import hmac
import os
import re
import stat
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import NoReturn, Self

from secretstore.crypto.aead import KEY_BYTES, Aead
from secretstore.crypto.envelope import Envelope, unwrap_data_key, wrap_data_key
from secretstore.domain.protocols import DataKeyPlace
from secretstore.errors import DecryptionError, MasterKeyError

_KEY_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# 32 random bytes have fewer than 16 different ones with a probability below 2^-60.
_LEAST_DIFFERENT_BYTES = 16
# A group may read, so that a container platform can hand a secret file to the group of its user.
_NOT_FOR_OTHERS = stat.S_IRWXO | stat.S_IWGRP | stat.S_IXGRP
_HOW_TO_MAKE_ONE = "make one with `secretstore keys generate`"
_FINGERPRINT_PURPOSE = b"secretstore fingerprint 1"
_FINGERPRINT_BYTES = 8


class LocalMasterKey:
    """32 bytes that wrap with AES-256-GCM; see `secretstore.crypto.envelope` for the form."""

    __slots__ = ("_aead", "fingerprint")

    def __init__(self, key_id: str, key: bytes) -> None:
        self._aead = Aead(_checked_id(key_id), _checked_key(key_id, key))
        # Of a key with 256 random bits a keyed hash tells nothing but whether two are the same.
        self.fingerprint = hmac.digest(key, _FINGERPRINT_PURPOSE, "sha256")[:_FINGERPRINT_BYTES].hex()

    @classmethod
    def parse(cls, entry: str) -> Self:
        """Read `id:base64`; raises `MasterKeyError`, which never repeats the key."""
        key_id, colon, encoded = entry.partition(":")
        if not colon:
            raise MasterKeyError(f"a master key is written id:base64, and one of them has no colon; {_HOW_TO_MAKE_ONE}")
        try:
            key = b64decode(encoded, validate=True)
        except (Base64Error, ValueError):
            key = None
        if key is None:
            raise MasterKeyError(f"master key {_checked_id(key_id)!r} is not base64; {_HOW_TO_MAKE_ONE}")
        return cls(key_id, key)

    @property
    def id(self) -> str:
        """What the wrapped keys name."""
        return self._aead.id

    def wrap(self, data_key: bytes, place: DataKeyPlace) -> dict[str, object]:
        """Wrap a data key."""
        return wrap_data_key(self._aead, data_key, place).as_object()

    def unwrap(self, wrapped: Mapping[str, object], place: DataKeyPlace) -> bytes:
        """Return a data key, or raise `DecryptionError`."""
        envelope = Envelope.parse(wrapped, place)
        if envelope.key_id != self.id:
            raise DecryptionError(f"{place} is wrapped by master key {envelope.key_id!r}, and not by {self.id!r}")
        return unwrap_data_key(self._aead, envelope, place)

    def __repr__(self) -> str:
        return f"LocalMasterKey({self.id})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a master key cannot be pickled")


def split_entries(text: str) -> list[str]:
    """Return the entries of a key ring's text: divided by commas or line ends, without blanks and comments."""
    lines = [line.strip() for line in text.splitlines()]
    kept = [line for line in lines if line and not line.startswith("#")]
    return [entry.strip() for line in kept for entry in line.split(",") if entry.strip()]


def generate_master_key(key_id: str) -> str:
    """Return a new random master key as `id:base64`; the text is the secret itself."""
    return f"{_checked_id(key_id)}:{b64encode(os.urandom(KEY_BYTES)).decode()}"


def read_key_files(path: Path) -> str:
    """Return the text of a key file, or of all files of a folder, the last name first; refuses what others may read.

    So the newest of files that are named by date comes first, and is the one that encrypts.  Names that begin with a dot
    are passed over.  Raises `MasterKeyError`, or the `OSError` or `UnicodeDecodeError` of a file that cannot be read.
    """
    if not path.is_dir():
        return _read_key_file(path)
    files = sorted((file for file in path.iterdir() if not file.name.startswith(".")), reverse=True)
    return "\n".join(_read_key_file(file) for file in files if file.is_file())


def check_key_file(path: Path) -> None:
    """Refuse a file of master keys that others may read, with `MasterKeyError`."""
    if os.name == "posix" and path.exists() and path.stat().st_mode & _NOT_FOR_OTHERS:
        raise MasterKeyError(f"others may read the key file {path}; run `chmod 600 {path}`")


def _read_key_file(path: Path) -> str:
    check_key_file(path)
    return path.read_text(encoding="utf-8")


def _checked_id(key_id: str) -> str:
    # The text is not repeated: where the parts were swapped, it would be the key.
    if not _KEY_ID.fullmatch(key_id):
        raise MasterKeyError("the id of a master key is 1 to 64 letters, digits, dots, dashes or underscores")
    return key_id


def _checked_key(key_id: str, key: bytes) -> bytes:
    if len(key) != KEY_BYTES:
        raise MasterKeyError(f"master key {key_id!r} has {len(key)} bytes instead of {KEY_BYTES}; {_HOW_TO_MAKE_ONE}")
    if _is_guessable(key):
        raise MasterKeyError(f"master key {key_id!r} is not random and can be guessed; {_HOW_TO_MAKE_ONE}")
    return key


def _is_guessable(key: bytes) -> bool:
    """Tell zeros, patterns, counters and typed text from random bytes."""
    steps = {(after - before) % 256 for before, after in pairwise(key)}
    return len(set(key)) < _LEAST_DIFFERENT_BYTES or len(steps) == 1 or _is_typed_text(key)


def _is_typed_text(key: bytes) -> bool:
    return key.isascii() and key.decode("ascii").isprintable()
