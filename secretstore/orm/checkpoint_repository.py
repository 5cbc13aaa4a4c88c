"""Reads and stores checkpoints, and reads events as they are sealed, on a session that belongs to the caller."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Executable, Result, Row
from sqlalchemy.orm import Session

from secretstore.crypto.checkpoint import Checkpoint, Field
from secretstore.domain.names import Namespace
from secretstore.domain.sealing import RecordName
from secretstore.orm import checkpoint_statements as statements
from secretstore.orm.checkpoint_statements import HEADER
from secretstore.orm.event_statements import EventTable
from secretstore.orm.execute import execute
from secretstore.orm.models import AccessEvent, ChangeEvent

TABLES: dict[RecordName, EventTable] = {"change": ChangeEvent, "access": AccessEvent}


@dataclass(frozen=True, slots=True)
class StoredCheckpoint:
    """A checkpoint as it is stored, which nobody has checked; without leaves where they were not asked for."""

    checkpoint: Checkpoint
    mac: bytes
    leaves: bytes = b""


@dataclass(frozen=True, slots=True)
class OutOfPlace:
    """The number of an event that does not follow the one before, and the number that it should have."""

    seq: int
    expected: int


class CheckpointRepository:
    """The checkpoints of one record, and its events, on the caller's session, whose transaction stays the caller's."""

    def __init__(self, session: Session, namespace: Namespace, record: RecordName) -> None:
        self._session = session
        self._namespace = namespace
        self._record = record
        self._table = TABLES[record]

    def lock(self) -> None:
        """Wait until nobody else seals the record, and let nobody begin until the transaction ends."""
        execute(self._session, statements.lock_checkpoints(), lock=_lock_of(self._record, self._namespace))

    def find_last(self) -> StoredCheckpoint | None:
        """Return the last checkpoint, without its leaves."""
        return _stored(self._execute(statements.select_last_checkpoint(), record=self._record).one_or_none())

    def find_from(self, number: int) -> StoredCheckpoint | None:
        """Return the first checkpoint from a number on."""
        found = self._execute(statements.select_next_checkpoint(), record=self._record, from_number=number)
        return _stored(found.one_or_none())

    def find_last_sealed_before(self, moment: datetime) -> int:
        """Return the number of the last event that was sealed before a time, and is not of the newest checkpoint, or 0."""
        found = self._execute(statements.select_last_sealed_before(), record=self._record, before=moment)
        return int(found.scalar_one())

    def find_covering(self, seq: int) -> StoredCheckpoint | None:
        """Return the checkpoint that an event is in."""
        found = self._execute(statements.select_covering_checkpoint(), record=self._record, seq=seq)
        return _stored(found.one_or_none())

    def delete_events_before(self, seq: int) -> None:
        """Remove the events with lower numbers for good."""
        self._execute(statements.delete_events_before(self._table), from_seq=seq)

    def find_doubled(self) -> int | None:
        """Return the first number that more than one checkpoint has."""
        found: int | None = self._execute(statements.select_doubled_checkpoint(), record=self._record).scalar()
        return found

    def add(self, stored: StoredCheckpoint, sealed_at: datetime) -> bool:
        """Store a checkpoint, unless there is one of its number; return whether it was stored."""
        header = {name: getattr(stored.checkpoint, name) for name in HEADER}
        added = self._execute_with(header | {"mac": stored.mac, "leaves": stored.leaves, "sealed_at": sealed_at})
        return added.scalar_one_or_none() is not None

    def now(self) -> datetime:
        """Return what time it is in the database."""
        moment: datetime = execute(self._session, statements.select_moment()).scalar_one()
        return moment

    def list_events(self, first: int, last: int, *, limit: int) -> list[Sequence[Field]]:
        """Return a page of events with numbers in a range, in their order."""
        found = self._execute(statements.select_sealed_events(self._table), from_seq=first, to_seq=last, limit=limit)
        return [tuple(row) for row in found]

    def find_first_before(self, seq: int) -> int | None:
        """Return the lowest number of an event, if it is below another one."""
        found: int | None = self._execute(statements.select_first_before(self._table), from_seq=seq).scalar_one()
        return found

    def count_unsealed(self, after: int) -> int:
        """Return how many events come after a number, or have none yet."""
        return int(self._execute(statements.select_count_of_unsealed(self._table), after_seq=after).scalar_one())

    def find_out_of_place(self, after: int) -> OutOfPlace | None:
        """Return the first event after a number that does not follow the one before."""
        row = self._execute(statements.select_out_of_place(self._table), after_seq=after).one_or_none()
        return None if row is None else OutOfPlace(row.seq, row.expected)

    def _execute(self, statement: Executable, **parameters: object) -> Result[Any]:
        return execute(self._session, statement, namespace=self._namespace, **parameters)

    def _execute_with(self, row: dict[str, object]) -> Result[Any]:
        return execute(self._session, statements.insert_checkpoint(), **row)


def find_age_of_last_checkpoint(session: Session) -> timedelta | None:
    """Return how long ago the last checkpoint of any namespace was made."""
    age: timedelta | None = execute(session, statements.select_age_of_last_checkpoint()).scalar_one()
    return age


def _stored(row: Row[Any] | None) -> StoredCheckpoint | None:
    if row is None:
        return None
    checkpoint = Checkpoint(sealed_at=row.sealed_at, **{name: getattr(row, name) for name in HEADER})
    return StoredCheckpoint(checkpoint, row.mac, getattr(row, "leaves", b""))


def _lock_of(record: RecordName, namespace: Namespace) -> int:
    digest = hashlib.sha256(f"secretstore audit_checkpoint {record} {namespace}".encode()).digest()
    return int.from_bytes(digest[:8], signed=True)
