"""The key ring: master keys that wrap data keys, and the data keys that this process has opened."""

import os
import re
import stat
import threading
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NoReturn, Self
from uuid import uuid4

from secretstore.crypto.aead import KEY_BYTES, Aead
from secretstore.crypto.envelope import Envelope, unwrap_data_key, wrap_data_key
from secretstore.domain.protocols import DataKeyPlace, MasterKeys
from secretstore.errors import MasterKeyError

MAX_OPENED_DATA_KEYS = 1024

_KEY_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# 32 random bytes have fewer than 16 different ones with a probability below 2^-60.
_LEAST_DIFFERENT_BYTES = 16
# A group may read, so that a container platform can hand a secret file to the group of its user.
_NOT_FOR_OTHERS = stat.S_IRWXO | stat.S_IWGRP | stat.S_IXGRP
_HOW_TO_MAKE_ONE = "make one with `secretstore keys generate`"


class LocalMasterKeys:
    """Master keys held in memory by id; the first one wraps, all of them unwrap."""

    def __init__(self, keys: Iterable[tuple[str, bytes]]) -> None:
        self._keys: dict[str, Aead] = {}
        for key_id, key in keys:
            if key_id in self._keys:
                raise MasterKeyError(f"master key {key_id!r} is in the key ring twice")
            self._keys[key_id] = Aead(_checked_id(key_id), _checked_key(key_id, key))
        if not self._keys:
            raise MasterKeyError(f"the key ring is empty; {_HOW_TO_MAKE_ONE}")
        self._first = next(iter(self._keys.values()))

    def wrap(self, data_key: bytes, place: DataKeyPlace) -> dict[str, object]:
        """Wrap a data key under the first master key."""
        return wrap_data_key(self._first, data_key, place).as_object()

    def unwrap(self, wrapped: Mapping[str, object], place: DataKeyPlace) -> bytes:
        """Return a data key; raises `MasterKeyError` where its master key is not in the ring."""
        envelope = Envelope.parse(wrapped, f"data key {place.data_key_id!r} of namespace {place.namespace!r}")
        master_key = self._keys.get(envelope.key_id)
        if master_key is None:
            raise MasterKeyError(
                f"the data key of namespace {place.namespace!r} is wrapped by master key {envelope.key_id!r}, "
                f"which is not in the key ring ({', '.join(self._keys)}); add it to SECRETSTORE_KEYS"
            )
        return unwrap_data_key(master_key, envelope, place)

    def __repr__(self) -> str:
        return f"LocalMasterKeys({', '.join(self._keys)})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("master keys cannot be pickled")


@dataclass(frozen=True, slots=True)
class NewDataKey:
    """A data key just made: what to store of it, and the key to seal with."""

    id: str
    wrapped: Mapping[str, object]
    aead: Aead


class KeyRing:
    """Makes and opens data keys with master keys, and keeps the opened ones in memory.

    Share one among all services of a process: each data key is then unwrapped once.  Safe to use from many threads.
    """

    def __init__(self, master_keys: MasterKeys) -> None:
        self._master_keys = master_keys
        self._opened: OrderedDict[DataKeyPlace, Aead] = OrderedDict()
        self._lock = threading.Lock()

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read `id:base64` master keys, divided by commas or line ends; the first one wraps.

        Empty lines and lines that begin with `#` are passed over.  Raises `MasterKeyError`.
        """
        return cls(LocalMasterKeys(_parse_entry(entry) for entry in _entries(text)))

    def new_data_key(self, namespace: str) -> NewDataKey:
        """Make a data key for a namespace; the caller stores it."""
        place = DataKeyPlace(namespace, str(uuid4()))
        key = os.urandom(KEY_BYTES)
        return NewDataKey(place.data_key_id, self._master_keys.wrap(key, place), Aead(place.data_key_id, key))

    def opened(self, place: DataKeyPlace) -> Aead | None:
        """Return a data key that this process has opened before."""
        return self._opened.get(place)

    def open(self, wrapped: Mapping[str, object], place: DataKeyPlace) -> Aead:
        """Open a stored data key and keep it; raises `MasterKeyError` or `DecryptionError`."""
        opened = Aead(place.data_key_id, self._master_keys.unwrap(wrapped, place))
        with self._lock:
            self._opened[place] = opened
            if len(self._opened) > MAX_OPENED_DATA_KEYS:
                self._opened.popitem(last=False)
        return opened

    def __repr__(self) -> str:
        return f"KeyRing({self._master_keys!r})"


def generate_master_key(key_id: str) -> str:
    """Return a new random master key as `id:base64`; the text is the secret itself."""
    return f"{_checked_id(key_id)}:{b64encode(os.urandom(KEY_BYTES)).decode()}"


def check_key_file(path: Path) -> None:
    """Refuse a file of master keys that others may read, with `MasterKeyError`."""
    if os.name == "posix" and path.exists() and path.stat().st_mode & _NOT_FOR_OTHERS:
        raise MasterKeyError(f"others may read the key file {path}; run `chmod 600 {path}`")


def _entries(text: str) -> list[str]:
    lines = [line.strip() for line in text.splitlines()]
    kept = [line for line in lines if line and not line.startswith("#")]
    return [entry.strip() for line in kept for entry in line.split(",") if entry.strip()]


def _parse_entry(entry: str) -> tuple[str, bytes]:
    key_id, colon, encoded = entry.partition(":")
    if not colon:
        raise MasterKeyError(f"a master key is written id:base64, and one of them has no colon; {_HOW_TO_MAKE_ONE}")
    try:
        return key_id, b64decode(encoded, validate=True)
    except (Base64Error, ValueError):
        pass
    raise MasterKeyError(f"master key {_checked_id(key_id)!r} is not base64; {_HOW_TO_MAKE_ONE}")


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
