"""What a process has to know to go on serving values from its memory: what has changed, and that it may still read."""

from dataclasses import dataclass

from sqlalchemy.orm import Session

from secretstore.domain.names import Key, Namespace
from secretstore.domain.records import Change
from secretstore.errors import PermissionDeniedError
from secretstore.orm.event_repository import EventRepository
from secretstore.orm.key_repository import DataKeyRepository
from secretstore.orm.repository import SecretRepository
from secretstore.service.changes import EVERY_CHANGE, ChangeReader

_PAGE = 500
# Whoever is further behind lets go of everything instead of reading on.
_MOST_PAGES = 20
_NO_KEY = Key("")


class RecordClosedError(Exception):
    """The record of changes cannot be read here: the role may not number changes, or the server is a standby."""


@dataclass(frozen=True, slots=True)
class Mark:
    """How far the record of a namespace was read, with the change at that place, and which data keys there were.

    The change itself is kept because a number alone would not show that another server has taken over, on which the
    numbers have begun again from an earlier one.
    """

    number: int
    change: Change | None
    data_key_ids: frozenset[str]


@dataclass(frozen=True, slots=True)
class News:
    """The keys that have changed since a mark, or None where everything may have; and the next mark."""

    keys: frozenset[str] | None
    mark: Mark


def read_news(session: Session, namespace: str, mark: Mark | None) -> News:
    """Return what has changed since a mark, in a transaction that is `READ COMMITTED`.

    Raises `PermissionDeniedError` where values may not be read any more, and `RecordClosedError`.
    """
    name = Namespace(namespace)
    # Nothing has this key: it is the right that is asked for.
    SecretRepository(session, namespace=namespace).find_value_to_keep(_NO_KEY)
    data_key_ids = frozenset(DataKeyRepository(session, name).list_ids())
    try:
        return _read(session, ChangeReader(name, EVERY_CHANGE), mark, data_key_ids)
    except PermissionDeniedError:
        pass
    raise RecordClosedError


def _read(session: Session, reader: ChangeReader, mark: Mark | None, data_key_ids: frozenset[str]) -> News:
    # What others number may come too late for what is served from memory, and a part of the record is not enough.
    if not EventRepository(session, reader.namespace).may_number():
        raise RecordClosedError
    # What was shredded is in no record of changes; what is rotated or destroyed for want of use reads as before.
    if mark is None or not mark.data_key_ids <= data_key_ids:
        return _begin_anew(session, reader, data_key_ids)
    changes = _changes_since(session, reader, mark)
    if changes is None:
        return _begin_anew(session, reader, data_key_ids)
    keys = frozenset(change.key for change in changes)
    return News(keys, Mark(changes[-1].seq, changes[-1], data_key_ids) if changes else _with(mark, data_key_ids))


def _changes_since(session: Session, reader: ChangeReader, mark: Mark) -> list[Change] | None:
    """Return the changes after a mark, or None where they are too many, or do not follow it."""
    changes: list[Change] = []
    after = mark.number if mark.change is None else mark.number - 1
    for _ in range(_MOST_PAGES):
        page = reader.read(session, after, _PAGE)
        changes += page.changes
        after = page.after
        if page.is_last:
            return _after(mark, changes)
    return None


def _after(mark: Mark, changes: list[Change]) -> list[Change] | None:
    if mark.change is None:
        return changes
    return changes[1:] if changes and changes[0] == mark.change else None


def _begin_anew(session: Session, reader: ChangeReader, data_key_ids: frozenset[str]) -> News:
    number = reader.start(session)
    last = reader.read(session, number - 1, 1).changes if number else ()
    return News(None, Mark(number, last[0] if last else None, data_key_ids))


def _with(mark: Mark, data_key_ids: frozenset[str]) -> Mark:
    return Mark(mark.number, mark.change, data_key_ids)
