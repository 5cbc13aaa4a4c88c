"""The key ring: master keys that wrap data keys, and the data keys that this process has opened."""

import logging
import os
import random
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn, Self
from uuid import uuid4

from secretstore.crypto.aead import KEY_BYTES, Aead
from secretstore.crypto.checkpoint import CheckpointKey
from secretstore.crypto.envelope import check_not_shredded
from secretstore.crypto.local import LocalMasterKey, split_entries
from secretstore.domain.observing import Observer, told
from secretstore.domain.protocols import DataKeyPlace, MasterKey
from secretstore.errors import DecryptionError, MasterKeyError

_LOGGER = logging.getLogger("secretstore.crypto")

MAX_OPENED_DATA_KEYS = 1024
MAX_AGE_SECONDS = 3600.0
# A seal leaves a record with a probability of one in so many, which then stands for so many.
SEALS_PER_RECORD = 4096

_RETRY_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class NewDataKey:
    """A data key just made: what to store of it, and the key to seal with."""

    id: str
    wrapped: Mapping[str, object]
    aead: Aead


@dataclass(frozen=True, slots=True)
class NewCheckpointKey:
    """A key that authenticates checkpoints, just made: what to store of it."""

    id: str
    wrapped: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class _Opened:
    """A data key in memory, and until when it is used without looking at its row again."""

    aead: Aead
    fresh_until: float


class KeyRing:
    """Makes and opens data keys with master keys, and keeps the opened ones in memory.

    The first master key wraps, all of them unwrap.  Share one ring among all services of a process: each data key is then
    unwrapped once in `max_age` seconds, by one thread while the others wait for it.  While a key server cannot be
    reached, data keys that were opened before go on being used.  Safe to use from many threads.
    """

    __module__ = "secretstore"

    def __init__(
        self,
        *master_keys: MasterKey,
        max_age: float = MAX_AGE_SECONDS,
        max_opened: int = MAX_OPENED_DATA_KEYS,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        if not master_keys:
            raise MasterKeyError("the key ring is empty; make a key with `secretstore keys generate`")
        self._master_keys: dict[str, MasterKey] = {}
        for key in master_keys:
            if key.id in self._master_keys:
                raise MasterKeyError(f"master key {key.id!r} is in the key ring twice")
            self._master_keys[key.id] = key
        self._first = master_keys[0]
        self._max_age = max_age
        self._max_opened = max_opened
        self._clock = clock
        self._chance = chance
        # By place; every read looks here, and so by a tuple as good as one, which is made in a fraction of the time.
        self._opened: OrderedDict[tuple[str, str], _Opened] = OrderedDict()
        self._opening: dict[DataKeyPlace, Future[Aead]] = {}
        self._prepared: dict[str, NewDataKey] = {}
        self._lock = threading.Lock()

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read `id:base64` master keys, divided by commas or line ends; the first one wraps.

        Empty lines and lines that begin with `#` are passed over.  Raises `MasterKeyError`.  Keys in key servers are read
        by `secretstore.keyrings.open_keyring`, as the settings are.
        """
        return cls(*(LocalMasterKey.parse(entry) for entry in split_entries(text)))

    def observed_by(self, observer: Observer) -> Self:
        """Return the same ring, with the same opened data keys, that tells an observer of its calls of key servers."""
        twin = object.__new__(type(self))
        vars(twin).update(vars(self))
        twin._master_keys = {key.id: _told_key(key, observer) for key in self.master_keys}
        twin._first = twin._master_keys[self._first.id]
        return twin

    @property
    def master_keys(self) -> tuple[MasterKey, ...]:
        """The master keys; the first one wraps."""
        return tuple(self._master_keys.values())

    def new_data_key(self, namespace: str) -> NewDataKey:
        """Make a data key for a namespace, or return the one that was prepared; the caller stores it."""
        return self.take_prepared(namespace) or self._made(namespace)

    def prepare_data_key(self, namespace: str) -> None:
        """Make a data key now, because a key server may have to be asked, for a `take_prepared` that must not wait."""
        made = self._made(namespace)
        with self._lock:
            self._prepared.setdefault(namespace, made)

    def take_prepared(self, namespace: str) -> NewDataKey | None:
        """Return the data key that was prepared for a namespace, once."""
        with self._lock:
            return self._prepared.pop(namespace, None)

    def opened(self, namespace: str, data_key_id: str) -> Aead | None:
        """Return a data key that this process has opened not too long ago."""
        found = self._opened.get((namespace, data_key_id))
        return found.aead if found is not None and self._clock() < found.fresh_until else None

    def open(self, wrapped: Mapping[str, object], place: DataKeyPlace) -> Aead:
        """Open a stored data key and keep it; raises `MasterKeyError` or `DecryptionError`.

        May wait for a key server.  Of threads that open the same one at once, one asks and the others wait.
        """
        with self._lock:
            is_first = place not in self._opening
            opening = self._opening.setdefault(place, Future())
        if is_first:
            self._settle(opening, wrapped, place)
        return opening.result()

    def new_checkpoint_key(self, namespace: str) -> NewCheckpointKey:
        """Make a key that authenticates the checkpoints of a namespace; may wait for a key server."""
        place = DataKeyPlace(namespace, str(uuid4()))
        return NewCheckpointKey(place.data_key_id, self._first.wrap(os.urandom(KEY_BYTES), place))

    def open_checkpoint_key(self, wrapped: Mapping[str, object], place: DataKeyPlace) -> CheckpointKey:
        """Open a stored key that authenticates checkpoints, which is not kept; may wait for a key server."""
        return CheckpointKey(self._master_key_of(wrapped, place).unwrap(wrapped, place), place)

    def rewrap(self, wrapped: Mapping[str, object], place: DataKeyPlace) -> Mapping[str, object]:
        """Return a stored data key wrapped by the first master key; may wait for a key server."""
        return self._first.wrap(self._master_key_of(wrapped, place).unwrap(wrapped, place), place)

    def forget(self, place: DataKeyPlace) -> None:
        """Let go of an opened data key, whose row is gone."""
        with self._lock:
            self._opened.pop(place, None)

    def seals_to_record(self, seals: int) -> int:
        """Return how many seals to record for so many that are made: mostly none, on average all of them.

        Over 65,536 records, which stand for 2^28 seals, the standard error is 0.4 %.
        """
        whole, rest = divmod(seals, SEALS_PER_RECORD)
        return (whole + (self._chance() < rest / SEALS_PER_RECORD)) * SEALS_PER_RECORD

    def __repr__(self) -> str:
        return f"KeyRing({', '.join(self._master_keys)})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key ring cannot be pickled")

    def _made(self, namespace: str) -> NewDataKey:
        place = DataKeyPlace(namespace, str(uuid4()))
        key = os.urandom(KEY_BYTES)
        made = NewDataKey(place.data_key_id, self._first.wrap(key, place), Aead(place.data_key_id, key))
        self._keep(place, made.aead, self._max_age)
        return made

    def _settle(self, opening: "Future[Aead]", wrapped: Mapping[str, object], place: DataKeyPlace) -> None:
        try:
            opening.set_result(self._unwrapped(wrapped, place))
        except BaseException as error:  # noqa: BLE001 - it is raised from `result`, here and in the threads that wait
            opening.set_exception(error)
        finally:
            with self._lock:
                del self._opening[place]

    def _unwrapped(self, wrapped: Mapping[str, object], place: DataKeyPlace) -> Aead:
        before = self._opened.get(place)
        try:
            key = self._master_key_of(wrapped, place).unwrap(wrapped, place)
        except MasterKeyError as error:
            if before is None or not error.is_temporary:
                self.forget(place)
                raise
            _LOGGER.warning(
                "a key server does not answer, and %s is used as it was opened before: %s",
                place,
                error,
                extra={"secretstore_namespace": place.namespace},
            )
            return self._keep(place, before.aead, _RETRY_SECONDS)
        return self._keep(place, Aead(place.data_key_id, key), self._max_age)

    def _keep(self, place: DataKeyPlace, aead: Aead, seconds: float) -> Aead:
        with self._lock:
            self._opened[place] = _Opened(aead, self._clock() + seconds)
            self._opened.move_to_end(place)
            if len(self._opened) > self._max_opened:
                self._opened.popitem(last=False)
        return aead

    def _master_key_of(self, wrapped: Mapping[str, object], place: DataKeyPlace) -> MasterKey:
        check_not_shredded(wrapped, place)
        master_key_id = wrapped.get("key")
        if not isinstance(master_key_id, str):
            raise DecryptionError(f"{place} is not in a format that this release knows")
        with suppress(KeyError):
            return self._master_keys[master_key_id]
        raise MasterKeyError(
            f"the data key of namespace {place.namespace!r} is wrapped by master key {master_key_id!r}, "
            f"which is not in the key ring ({', '.join(self._master_keys)}); add it to SECRETSTORE_KEYS"
        )


class _ToldKey:
    """A master key in a key server, whose calls are told."""

    def __init__(self, key: MasterKey, observer: Observer) -> None:
        self.id = key.id
        self.fingerprint = key.fingerprint
        self._key = key
        self._observer = observer
        self.kind: str = key.kind if isinstance(key, _ToldKey) else type(key).__name__

    def wrap(self, data_key: bytes, place: DataKeyPlace) -> dict[str, object]:
        """Wrap 32 bytes."""
        with told(self._observer, "key_server", "wrap", self.kind):
            return self._key.wrap(data_key, place)

    def unwrap(self, wrapped: Mapping[str, object], place: DataKeyPlace) -> bytes:
        """Return the 32 bytes."""
        with told(self._observer, "key_server", "unwrap", self.kind):
            return self._key.unwrap(wrapped, place)


def _told_key(key: MasterKey, observer: Observer) -> MasterKey:
    # What is in memory is no server, and takes microseconds.
    return key if isinstance(key, LocalMasterKey) else _ToldKey(key, observer)
