"""More secrets than memory should hold: kept in the order of their keys, or as they come, in a file for this process alone.

Nothing is written before there is more than a block.  The file has no name where the system allows that, and holds only
ciphertext, under a key that is made for it and is nowhere else: what is left on the disk after a crash opens for nobody.
"""

import json
import os
import struct
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from heapq import merge
from itertools import islice
from operator import itemgetter
from typing import IO, Any, TypeAlias, cast, overload

from pydantic_core import from_json

from secretstore.crypto.aead import KEY_BYTES, Aead, SealFailed
from secretstore.domain.names import Key
from secretstore.domain.records import SecretDifference
from secretstore.errors import InvalidSecretKeyError, SecretStoreError
from secretstore.service.synchronous import NewValue

# What is sealed, written and read at once; and what is put in order at once.
_BLOCK_BYTES = 64 * 1024
_RUN_BYTES = 4 * 1024 * 1024
_LENGTHS = struct.Struct("!II")
# Its text has no line end, so that lines can tell texts apart.
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))

# A key, and what belongs to it.
Record: TypeAlias = tuple[str, bytes]
_KEY = itemgetter(0)


@dataclass(frozen=True, slots=True)
class _Block:
    """Where sealed records are in the file."""

    place: int
    length: int
    nonce: bytes


class Spool:
    """Records in the order in which they were added; the file goes with the last reference to it."""

    def __init__(self) -> None:
        self._aead = Aead("spool", os.urandom(KEY_BYTES))
        self._file: IO[bytes] | None = None
        self._blocks: list[_Block] = []
        self._loose: list[Record] = []
        self._loose_bytes = 0
        self._count = 0

    def add(self, record: Record) -> None:
        """Add a record; raises `SecretStoreError` where the disk takes no more."""
        self._loose.append(record)
        self._loose_bytes += _size(record)
        self._count += 1
        if self._loose_bytes >= _BLOCK_BYTES:
            self._put_away()

    def add_run(self, records: Iterable[Record]) -> range:
        """Add records to blocks of their own, and return which."""
        first = len(self._blocks)
        for record in records:
            self.add(record)
        self._put_away()
        return range(first, len(self._blocks))

    def records_of(self, blocks: range) -> Iterator[Record]:
        """Give the records of some blocks."""
        for number in blocks:
            yield from _unpacked(self._opened(number))

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Record]:
        yield from self.records_of(range(len(self._blocks)))
        yield from self._loose

    def _put_away(self) -> None:
        if not self._loose:
            return
        nonce, sealed = self._aead.seal(_packed(self._loose), _number(len(self._blocks)))
        self._blocks.append(_Block(self._written(sealed), len(sealed), nonce))
        self._loose, self._loose_bytes = [], 0

    def _written(self, sealed: bytes) -> int:
        try:
            if self._file is None:
                # Without a buffer, which closing would try to write once more where the disk is full.
                self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed with the spool
                weakref.finalize(self, self._file.close)
            place = self._file.seek(0, os.SEEK_END)
            left = memoryview(sealed)
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            problem = error.strerror
        else:
            return place
        raise SecretStoreError(
            f"cannot write a temporary file: {problem}; make room there, or set TMPDIR to another folder"
        )

    def _opened(self, number: int) -> bytes:
        assert self._file is not None  # noqa: S101 - for the type checker: there is a block
        block = self._blocks[number]
        try:
            self._file.seek(block.place)
            return self._aead.open(block.nonce, self._file.read(block.length), _number(number))
        except (OSError, SealFailed):
            pass
        raise SecretStoreError("a temporary file cannot be read any more, or was changed by someone; try it again")


class SortedSpool:
    """Records in the order of their keys, whatever the order in which they come.

    Some megabytes of them at a time are sorted and put away as a run; reading merges the runs, a block of each.
    """

    def __init__(self) -> None:
        self._spool = Spool()
        self._runs: list[range] = []
        self._loose: list[Record] = []
        self._loose_bytes = 0

    def add(self, record: Record) -> None:
        """Add a record; raises `SecretStoreError` where the disk takes no more."""
        self._loose.append(record)
        self._loose_bytes += _size(record)
        if self._loose_bytes >= _RUN_BYTES:
            self._runs.append(self._spool.add_run(sorted(self._loose, key=_KEY)))
            self._loose, self._loose_bytes = [], 0

    def __len__(self) -> int:
        return len(self._spool) + len(self._loose)

    def __iter__(self) -> Iterator[Record]:
        runs = [self._spool.records_of(run) for run in self._runs]
        return merge(*runs, sorted(self._loose, key=_KEY), key=_KEY)


class GivenSecrets:
    """What secrets are to be, in the order of their keys; can be gone through again."""

    def __init__(self) -> None:
        self._spool = SortedSpool()

    def add(self, key: Key, value: NewValue) -> None:
        """Add what a secret is to be."""
        head = [value.labels, value.expires_at and value.expires_at.isoformat()]
        self._spool.add((key, _text(head) + b"\n" + value.text))

    def check_keys(self) -> None:
        """Raise `InvalidSecretKeyError` where a key was given twice."""
        before = None
        for key, _ in self._spool:
            if key == before:
                raise InvalidSecretKeyError(f"key {key!r} is given twice")
            before = key

    def __len__(self) -> int:
        return len(self._spool)

    def __iter__(self) -> Iterator[tuple[Key, NewValue]]:
        return ((Key(key), _new_value(data)) for key, data in self._spool)


class Differences(Sequence[SecretDifference]):
    """How secrets differ, in the order of their keys; equal to any sequence of the same."""

    def __init__(self) -> None:
        self._spool = Spool()

    def add(self, found: SecretDifference) -> None:
        """Add the next one."""
        self._spool.add((found.key, b"\n".join((found.kind.encode(), _text(found.old), _text(found.new)))))

    def __len__(self) -> int:
        return len(self._spool)

    def __iter__(self) -> Iterator[SecretDifference]:
        return (_difference(record) for record in self._spool)

    @overload
    def __getitem__(self, index: int) -> SecretDifference: ...
    @overload
    def __getitem__(self, index: slice) -> list[SecretDifference]: ...
    def __getitem__(self, index: int | slice) -> SecretDifference | list[SecretDifference]:
        if isinstance(index, slice):
            return list(self)[index]
        place = range(len(self))[index]
        return next(islice(self, place, None))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(one == another for one, another in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment] # as a list

    def __repr__(self) -> str:
        return f"<{len(self)} differences>"


def _new_value(data: bytes) -> NewValue:
    head, _, text = data.partition(b"\n")
    labels, expires_at = from_json(head)
    return NewValue(text, labels, expires_at and datetime.fromisoformat(expires_at))


def _difference(record: Record) -> SecretDifference:
    kind, old, new = record[1].split(b"\n")
    return SecretDifference(key=record[0], kind=cast("Any", kind.decode()), old=from_json(old), new=from_json(new))


def _text(value: object) -> bytes:
    return _ENCODER.encode(value).encode()


def _size(record: Record) -> int:
    return _LENGTHS.size + len(record[0]) + len(record[1])


def _number(number: int) -> bytes:
    return number.to_bytes(8, "big")


def _packed(records: Iterable[Record]) -> bytes:
    parts: list[bytes] = []
    for key, data in records:
        name = key.encode()
        parts += (_LENGTHS.pack(len(name), len(data)), name, data)
    return b"".join(parts)


def _unpacked(packed: bytes) -> Iterator[Record]:
    place = 0
    while place < len(packed):
        of_key, of_data = _LENGTHS.unpack_from(packed, place)
        place += _LENGTHS.size
        data = place + of_key
        yield packed[place:data].decode(), packed[data : data + of_data]
        place = data + of_data
