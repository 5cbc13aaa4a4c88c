"""Seals the record: events that are committed and numbered come into checkpoints, each of them chained to the one before.

Nobody who writes waits for it.  It may run in many processes at once, and be broken off at any moment; see decision 17.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

from sqlalchemy.orm import Session

from secretstore.crypto.checkpoint import NOTHING_BEFORE, Checkpoint, CheckpointKey, Field, leaf_of, root_of
from secretstore.crypto.keyring import KeyRing, NewCheckpointKey
from secretstore.domain.key_records import StoredDataKey
from secretstore.domain.names import Namespace
from secretstore.domain.sealing import RECORDS, AuditHead, RecordHead, RecordName, Sealing
from secretstore.errors import DecryptionError, RecordTamperedError
from secretstore.orm.checkpoint_repository import TABLES, CheckpointRepository, StoredCheckpoint
from secretstore.orm.event_repository import EventRepository
from secretstore.orm.key_repository import DataKeyRepository
from secretstore.service.flows import Flow, InTransaction, OnProgress, Outside

MAX_EVENTS = 10_000
PAGE = 1000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class _Stretch:
    """The events that the next checkpoint is to cover, and the checkpoint before it."""

    record: RecordName
    before: StoredCheckpoint | None
    first: int
    last: int
    moment: datetime


def seal(keyring: KeyRing, namespace: Namespace, on_progress: OnProgress) -> Flow[Sealing]:
    """Seal what is committed by now, of both records."""
    total: int = yield InTransaction(partial(_count_unsealed, namespace))
    events = checkpoints = 0
    on_progress(0, total)
    key: CheckpointKey | None = None
    for record in RECORDS:
        while stretch := (yield InTransaction(partial(_next_stretch, namespace, record))):
            key = key or (yield from open_or_make_key(keyring, namespace, record))
            _check_before(namespace, stretch, key)
            leaves = yield from _leaves(namespace, stretch)
            stored: StoredCheckpoint = yield Outside(partial(_made, namespace, stretch, leaves, key))
            if (yield InTransaction(partial(_store, namespace, stretch, stored))):
                events, checkpoints = events + stretch.last - stretch.first + 1, checkpoints + 1
                on_progress(min(events, total), total)
    return Sealing(namespace=namespace, events=events, checkpoints=checkpoints)


def read_head(namespace: Namespace) -> Flow[AuditHead]:
    """Return the last checkpoint of each record."""

    def find(session: Session) -> list[StoredCheckpoint]:
        found = (CheckpointRepository(session, namespace, record).find_last() for record in RECORDS)
        return [stored for stored in found if stored is not None]

    stored: list[StoredCheckpoint] = yield InTransaction(find)
    return AuditHead(namespace=namespace, heads=tuple(_head(one.checkpoint) for one in stored))


def open_key(keyring: KeyRing, namespace: Namespace, record: RecordName) -> Flow[CheckpointKey]:
    """Return what authenticates the checkpoints of a namespace, which has some."""
    stored: StoredDataKey | None = yield InTransaction(lambda s: DataKeyRepository(s, namespace).find_audit())
    key: CheckpointKey | None = yield Outside(partial(_opened, keyring, stored))
    if key is None:
        raise RecordTamperedError(namespace, record, "key gone")
    return key


def open_or_make_key(keyring: KeyRing, namespace: Namespace, record: RecordName) -> Flow[CheckpointKey]:
    """Return what authenticates the checkpoints of a namespace; it is made before the first of them."""
    is_missing: bool = yield InTransaction(partial(_has_no_key_yet, namespace))
    if is_missing:
        new: NewCheckpointKey = yield Outside(partial(keyring.new_checkpoint_key, namespace))
        yield InTransaction(lambda session: DataKeyRepository(session, namespace).add_audit(new.id, new.wrapped))
    return (yield from open_key(keyring, namespace, record))


def microseconds_of(moment: datetime) -> str:
    """Return a time as checkpoints have it."""
    return str((moment - _EPOCH) // _MICROSECOND)


def pages(first: int, last: int) -> Iterator[range]:
    """Give the numbers that are read at once."""
    return (range(begin, min(begin + PAGE, last + 1)) for begin in range(first, last + 1, PAGE))


def read_events(namespace: Namespace, record: RecordName, wanted: range) -> Flow[list[Sequence[Field]]]:
    """Return the events of a page, and one more where there are too many: two have the same number."""

    def read(session: Session) -> list[Sequence[Field]]:
        checkpoints = CheckpointRepository(session, namespace, record)
        return checkpoints.list_events(wanted[0], wanted[-1], limit=len(wanted) + 1)

    events: list[Sequence[Field]] = yield InTransaction(read)
    return events


def check_order(namespace: str, record: str, events: Sequence[Sequence[Field]], wanted: range) -> None:
    """Raise `RecordTamperedError` where events do not have each of the numbers that are wanted once."""
    expected = wanted[0]
    for event in events:
        if event[-1] != expected:
            raise _out_of_place(namespace, record, int(event[-1] or 0), expected)
        expected += 1
    if expected <= wanted[-1]:
        raise RecordTamperedError(namespace, record, "removed", seq=expected)


def _out_of_place(namespace: str, record: str, seq: int, expected: int) -> RecordTamperedError:
    if seq < expected:
        return RecordTamperedError(namespace, record, "inserted", seq=seq)
    return RecordTamperedError(namespace, record, "removed", seq=expected)


def _count_unsealed(namespace: Namespace, session: Session) -> int:
    counts = []
    for record in RECORDS:
        checkpoints = CheckpointRepository(session, namespace, record)
        last = checkpoints.find_last()
        counts.append(checkpoints.count_unsealed(last.checkpoint.last_seq if last else 0))
    return sum(counts)


def _next_stretch(namespace: Namespace, record: RecordName, session: Session) -> _Stretch | None:
    events = EventRepository(session, namespace, TABLES[record])
    events.number(MAX_EVENTS)
    checkpoints = CheckpointRepository(session, namespace, record)
    before = checkpoints.find_last()
    first = before.checkpoint.last_seq + 1 if before else 1
    last = min(events.last_number(), first + MAX_EVENTS - 1)
    return _Stretch(record, before, first, last, checkpoints.now()) if first <= last else None


def _check_before(namespace: Namespace, stretch: _Stretch, key: CheckpointKey) -> None:
    """Raise `RecordTamperedError` where the chain does not hold at its end: what is sealed on top would hide it."""
    before = stretch.before
    if before is not None and not before.checkpoint.is_authentic(key, before.mac):
        raise RecordTamperedError(namespace, stretch.record, "edited", checkpoint=before.checkpoint.number)


def _leaves(namespace: Namespace, stretch: _Stretch) -> Flow[bytes]:
    record, leaves = stretch.record, b""
    for wanted in pages(stretch.first, stretch.last):
        events = yield from read_events(namespace, record, wanted)
        check_order(namespace, record, events, wanted)
        leaves += yield Outside(partial(_hashed, record, events))
    return leaves


def _hashed(record: RecordName, events: Sequence[Sequence[Field]]) -> bytes:
    return b"".join(leaf_of(record, event) for event in events)


def _made(namespace: Namespace, stretch: _Stretch, leaves: bytes, key: CheckpointKey) -> StoredCheckpoint:
    before = stretch.before.checkpoint if stretch.before else None
    checkpoint = Checkpoint(
        namespace=namespace,
        record=stretch.record,
        number=before.number + 1 if before else 1,
        first_seq=stretch.first,
        last_seq=stretch.last,
        kept_from=before.kept_from if before else 1,
        sealed_at=microseconds_of(stretch.moment),
        data_key_id=key.id,
        root=root_of(leaves),
        previous=before.hash if before else NOTHING_BEFORE,
    )
    return StoredCheckpoint(checkpoint, key.authenticate(checkpoint.content), leaves)


def _store(namespace: Namespace, stretch: _Stretch, stored: StoredCheckpoint, session: Session) -> bool:
    checkpoints = CheckpointRepository(session, namespace, stretch.record)
    checkpoints.lock()
    last = checkpoints.find_last()
    if (last.checkpoint.hash if last else NOTHING_BEFORE) != stored.checkpoint.previous:
        # Someone else was faster.
        return False
    return checkpoints.add(stored, stretch.moment)


def _has_no_key_yet(namespace: Namespace, session: Session) -> bool:
    if DataKeyRepository(session, namespace).find_audit() is not None:
        return False
    return all(CheckpointRepository(session, namespace, record).find_last() is None for record in RECORDS)


def _opened(keyring: KeyRing, stored: StoredDataKey | None) -> CheckpointKey | None:
    if stored is None:
        return None
    try:
        return keyring.open_checkpoint_key(stored.wrapped, stored.place)
    except DecryptionError:
        return None


def _head(checkpoint: Checkpoint) -> RecordHead:
    record: RecordName = "change" if checkpoint.record == "change" else "access"
    try:
        sealed_at = _EPOCH + int(checkpoint.sealed_at) * _MICROSECOND
    except (ValueError, OverflowError):
        sealed_at = None
    if sealed_at is None:
        raise RecordTamperedError(checkpoint.namespace, record, "edited", checkpoint=checkpoint.number)
    return RecordHead(
        record=record,
        number=checkpoint.number,
        last_seq=checkpoint.last_seq,
        hash=checkpoint.hash.hex(),
        sealed_at=sealed_at,
    )
