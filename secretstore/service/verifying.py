"""Looks whether the record is as it was sealed, from the oldest event to the newest; memory holds a page of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from sqlalchemy.orm import Session

from secretstore.crypto.checkpoint import (
    NOTHING_BEFORE,
    Checkpoint,
    CheckpointKey,
    Field,
    leaf_of,
    moved_to,
    root_of,
    split,
)
from secretstore.crypto.keyring import KeyRing
from secretstore.domain.names import Namespace
from secretstore.domain.sealing import AuditHead, RecordHead, RecordName, Verification
from secretstore.errors import ConfigurationError, RecordTamperedError
from secretstore.orm.checkpoint_repository import CheckpointRepository, OutOfPlace, StoredCheckpoint
from secretstore.service.flows import Flow, InTransaction, OnProgress, Outside
from secretstore.service.sealing import check_order, open_key, pages, read_events

_LOWEST = -(2**63)


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be verified: from which checkpoint on, and against which earlier head."""

    namespace: Namespace
    records: tuple[RecordName, ...]
    first: int | None
    against: AuditHead | None

    def __post_init__(self) -> None:
        if self.first is not None and (self.first < 1 or len(self.records) != 1):
            raise ValueError("`first` is the number of a checkpoint, and needs a `record`")
        if self.against is not None and self.against.namespace != self.namespace:
            raise ConfigurationError(
                f"the head is of namespace {self.against.namespace!r}, and not of {self.namespace!r}"
            )

    def heads(self, record: RecordName) -> list[RecordHead]:
        """Return the earlier heads of a record."""
        return [head for head in self.against.heads if head.record == record] if self.against else []


def verify(keyring: KeyRing, asked: Asked, on_progress: OnProgress) -> Flow[tuple[Verification, ...]]:
    """Return what was found to be as it was sealed; raises `RecordTamperedError` with the first thing that is not."""
    done: tuple[Verification, ...] = ()
    for record in asked.records:
        done += ((yield from _verify_record(keyring, asked, record, on_progress)),)
    return done


def _verify_record(keyring: KeyRing, asked: Asked, record: RecordName, on_progress: OnProgress) -> Flow[Verification]:
    last: StoredCheckpoint | None = yield InTransaction(lambda s: _of(asked, record, s).find_last())
    key: CheckpointKey | None = None
    if last is not None:
        key = yield from open_key(keyring, asked.namespace, record)
    walk = _Walk(asked, record, key, _kept_from(last, key), last.checkpoint.last_seq if last else 0, on_progress)
    yield from walk.run()
    for head in asked.heads(record):
        yield from _compare(asked, record, head)
    return (yield from walk.rest())


def _kept_from(last: StoredCheckpoint | None, key: CheckpointKey | None) -> int:
    """Return the first number that is to be there; what is not authentic is found later, in its turn."""
    if last is None or key is None or not last.checkpoint.is_authentic(key, last.mac):
        return 1
    return last.checkpoint.kept_from


@dataclass(slots=True)
class _Walk:
    """Goes from checkpoint to checkpoint, and through the events of each."""

    asked: Asked
    record: RecordName
    key: CheckpointKey | None
    kept_from: int
    total: int
    on_progress: OnProgress
    before: Checkpoint | None = None
    events: int = 0
    checkpoints: int = 0

    def run(self) -> Flow[None]:
        """Verify every checkpoint from the first that is wanted on."""
        first, number = self.asked.first, self.asked.first or _LOWEST
        if first is None:
            yield from self._check_nothing_before()
        while stored := (yield InTransaction(partial(self._find_from, number))):
            yield Outside(partial(self._check_checkpoint, stored))
            yield from self._check_events(stored)
            self.before, self.checkpoints = stored.checkpoint, self.checkpoints + 1
            number = stored.checkpoint.number + 1
        if first is not None and self.before is None:
            raise self._tampered("removed", checkpoint=first)
        doubled: int | None = yield InTransaction(lambda s: _of(self.asked, self.record, s).find_doubled())
        if doubled is not None:
            raise self._tampered("inserted", checkpoint=doubled)

    def rest(self) -> Flow[Verification]:
        """Look at the numbers of what comes after, and return what was found."""
        after = self.before.last_seq if self.before else 0
        out: OutOfPlace | None = yield InTransaction(lambda s: _of(self.asked, self.record, s).find_out_of_place(after))
        if out is not None:
            how, seq = ("removed", out.expected) if out.seq > out.expected else ("inserted", out.seq)
            raise self._tampered(how, seq=seq)
        unsealed: int = yield InTransaction(lambda s: _of(self.asked, self.record, s).count_unsealed(after))
        return Verification(
            namespace=self.asked.namespace,
            record=self.record,
            events=self.events,
            checkpoints=self.checkpoints,
            kept_from=self.kept_from,
            unsealed=unsealed,
        )

    def _find_from(self, number: int, session: Session) -> StoredCheckpoint | None:
        return _of(self.asked, self.record, session).find_from(number)

    def _check_nothing_before(self) -> Flow[None]:
        def find(session: Session) -> int | None:
            return _of(self.asked, self.record, session).find_first_before(self.kept_from)

        early: int | None = yield InTransaction(find)
        if early is not None:
            raise self._tampered("inserted", seq=early)

    def _check_checkpoint(self, stored: StoredCheckpoint) -> None:
        found, before = stored.checkpoint, self.before
        expected = before.number + 1 if before else self.asked.first or 1
        if found.number > expected:
            raise self._tampered("removed", checkpoint=expected)
        is_authentic = self.key is not None and found.is_authentic(self.key, stored.mac)
        if found.number < expected:
            raise self._tampered("inserted", checkpoint=found.number)
        if not is_authentic or root_of(stored.leaves) != found.root or not self._follows(found):
            raise self._tampered("edited", checkpoint=found.number)

    def _follows(self, found: Checkpoint) -> bool:
        if self.before is not None:
            return found.previous == self.before.hash
        return self.asked.first is not None or found.previous == NOTHING_BEFORE

    def _check_events(self, stored: StoredCheckpoint) -> Flow[None]:
        found = stored.checkpoint
        for wanted in pages(max(found.first_seq, self.kept_from), found.last_seq):
            events = yield from read_events(self.asked.namespace, self.record, wanted)
            yield Outside(partial(self._check_page, stored, events, wanted))
            self.events += len(events)
            self.on_progress(wanted[-1], max(wanted[-1], self.total))

    def _check_page(self, stored: StoredCheckpoint, events: Sequence[Sequence[Field]], wanted: range) -> None:
        begin = stored.checkpoint.first_seq
        leaves = split(stored.leaves)
        numbers = [event[-1] for event in events] + [None]
        # Up to the first one that is out of its place, or has the number of the next one.
        for at, (event, seq) in enumerate(zip(events, wanted, strict=False)):
            if numbers[at] != seq or numbers[at + 1] == seq:
                break
            if leaf_of(self.record, event) != leaves[seq - begin]:
                raise self._tampered(self._how_changed(event, leaves, begin), seq=seq)
        check_order(self.asked.namespace, self.record, events, wanted)

    def _how_changed(self, event: Sequence[Field], leaves: Sequence[bytes], begin: int) -> str:
        others = (leaf_of(self.record, moved_to(event, begin + at)) == leaf for at, leaf in enumerate(leaves))
        return "reordered" if any(others) else "edited"

    def _tampered(self, how: str, *, seq: int | None = None, checkpoint: int | None = None) -> RecordTamperedError:
        return RecordTamperedError(self.asked.namespace, self.record, how, seq=seq, checkpoint=checkpoint)


def _compare(asked: Asked, record: RecordName, head: RecordHead) -> Flow[None]:
    """Raise `RecordTamperedError` where what an earlier head names is not there any more."""
    stored: StoredCheckpoint | None = yield InTransaction(lambda s: _of(asked, record, s).find_from(head.number))
    if stored is None:
        raise RecordTamperedError(asked.namespace, record, "cut", checkpoint=head.number)
    if stored.checkpoint.number != head.number or stored.checkpoint.hash.hex() != head.hash:
        raise RecordTamperedError(asked.namespace, record, "edited", checkpoint=head.number)


def _of(asked: Asked, record: RecordName, session: Session) -> CheckpointRepository:
    return CheckpointRepository(session, asked.namespace, record)
