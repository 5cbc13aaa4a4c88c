"""Takes old accesses out of the record, once they are in a file that was read back; see decision 20.

The file has one JSON object in a line for each event, with every column of its row, the time in microseconds since 1970.
From it the leaves of its checkpoints can be made again, which stay for good.
"""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path

from sqlalchemy.orm import Session

from secretstore.crypto.checkpoint import EVENT_COLUMNS, CheckpointKey, Field, leaf_of, root_of, split
from secretstore.crypto.keyring import KeyRing
from secretstore.domain.acting import Acting
from secretstore.domain.names import Namespace
from secretstore.domain.sealing import Dropping, RecordName
from secretstore.errors import ConfigurationError, RecordTamperedError, StoreUnavailableError
from secretstore.orm.checkpoint_repository import CheckpointRepository, StoredCheckpoint
from secretstore.orm.event_repository import EventRepository
from secretstore.service.flows import Flow, InTransaction, OnProgress, Outside
from secretstore.service.sealing import microseconds_of, open_key, pages, read_events, seal
from secretstore.service.verifying import Asked, verify

_RECORD: RecordName = "access"


@dataclass(frozen=True, slots=True)
class _Old:
    """The events that are to go."""

    first: int
    last: int


def drop_accesses(
    keyring: KeyRing, namespace: Namespace, before: datetime, to: Path, *, by: Acting, on_progress: OnProgress
) -> Flow[Dropping]:
    """Export what was sealed before a time, look whether the file has it, and only then delete it."""
    yield from seal(keyring, namespace, lambda _, __: None)
    yield from verify(keyring, Asked(namespace, (_RECORD,), None, None), on_progress)
    old: _Old | None = yield InTransaction(partial(_find_old, namespace, before))
    if old is None:
        return Dropping(namespace=namespace, events=0, kept_from=0)
    yield from _export(namespace, old, to)
    yield from _check_file(namespace, old, to)
    key = yield from open_key(keyring, namespace, _RECORD)
    yield InTransaction(partial(_drop, namespace, old, key, by=by))
    return Dropping(namespace=namespace, events=old.last - old.first + 1, kept_from=old.last + 1)


def _find_old(namespace: Namespace, before: datetime, session: Session) -> _Old | None:
    checkpoints = CheckpointRepository(session, namespace, _RECORD)
    last = checkpoints.find_last()
    if last is None:
        return None
    found = _Old(last.checkpoint.kept_from, checkpoints.find_last_sealed_before(before))
    return found if found.first <= found.last else None


def _export(namespace: Namespace, old: _Old, to: Path) -> Flow[None]:
    file = _opened(to)
    with os.fdopen(file, "w", encoding="utf-8", newline="\n") as lines:
        for wanted in pages(old.first, old.last):
            events = yield from read_events(namespace, _RECORD, wanted)
            lines.writelines(_line(event) for event in events)
        lines.flush()
        os.fsync(lines.fileno())
    _keep_name(to)


def _keep_name(file: Path) -> None:
    """Have the name of a new file survive a crash, where a folder can be told to (POSIX)."""
    if os.name == "posix":
        folder = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _opened(to: Path) -> int:
    try:
        return os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        problem = error.strerror
    raise ConfigurationError(f"the export cannot be written to {to}: {problem}")


def _line(event: Sequence[Field]) -> str:
    return json.dumps(dict(zip(EVENT_COLUMNS, event, strict=True)), ensure_ascii=False) + "\n"


def _check_file(namespace: Namespace, old: _Old, file: Path) -> Flow[None]:
    """Raise `RecordTamperedError` where the leaves of what the file holds are not those that were sealed."""
    with file.open(encoding="utf-8") as lines:
        events = _events(lines)
        seq = old.first
        while seq <= old.last:
            stored: StoredCheckpoint = yield InTransaction(partial(_covering, namespace, seq))
            yield Outside(partial(_compare, namespace, stored, events, seq))
            seq = stored.checkpoint.last_seq + 1


def _events(lines: Iterator[str]) -> Iterator[Sequence[Field]]:
    for line in lines:
        event = json.loads(line)
        yield tuple(event[name] for name in EVENT_COLUMNS)


def _covering(namespace: Namespace, seq: int, session: Session) -> StoredCheckpoint:
    stored = CheckpointRepository(session, namespace, _RECORD).find_covering(seq)
    if stored is None:
        raise RecordTamperedError(namespace, _RECORD, "removed", seq=seq)
    return stored


def _compare(namespace: str, stored: StoredCheckpoint, events: Iterator[Sequence[Field]], first: int) -> None:
    leaves, begin = split(stored.leaves), stored.checkpoint.first_seq
    for seq in range(first, stored.checkpoint.last_seq + 1):
        event = next(events, None)
        if event is None or leaf_of(_RECORD, event) != leaves[seq - begin]:
            raise RecordTamperedError(namespace, _RECORD, "edited", seq=seq)


def _drop(namespace: Namespace, old: _Old, key: CheckpointKey, session: Session, *, by: Acting) -> None:
    """Say in a checkpoint of no events that older ones are gone, delete them, and record it; nobody seals meanwhile."""
    checkpoints = CheckpointRepository(session, namespace, _RECORD)
    checkpoints.lock()
    last = checkpoints.find_last()
    if last is None or not last.checkpoint.is_authentic(key, last.mac):
        raise RecordTamperedError(namespace, _RECORD, "edited", checkpoint=last.checkpoint.number if last else 1)
    if last.checkpoint.kept_from != old.first:
        raise StoreUnavailableError(
            "someone else has dropped accesses meanwhile; nothing was dropped here, try it again"
        )
    moment = checkpoints.now()
    made = replace(
        last.checkpoint,
        number=last.checkpoint.number + 1,
        first_seq=last.checkpoint.last_seq + 1,
        kept_from=old.last + 1,
        sealed_at=microseconds_of(moment),
        root=root_of(b""),
        previous=last.checkpoint.hash,
    )
    checkpoints.add(StoredCheckpoint(made, key.authenticate(made.content)), moment)
    checkpoints.delete_events_before(old.last + 1)
    EventRepository(session, namespace).record("drop", by, outcome=f"done: accesses {old.first} to {old.last}")
