"""Reads the record of changes in an order that misses nothing; see decision 8."""

from dataclasses import dataclass

from sqlalchemy.orm import Session

from secretstore.domain.names import Namespace
from secretstore.domain.records import Change
from secretstore.orm.event_repository import EventRepository

_NUMBERED_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class ChangePage:
    """Changes in the order of their numbers, and the number after which the next page begins."""

    changes: tuple[Change, ...]
    after: int
    is_last: bool


@dataclass(frozen=True, slots=True)
class ChangeReader:
    """Reads the changes of the keys that begin with a prefix, in transactions that are `READ COMMITTED`."""

    namespace: Namespace
    prefix: str

    def start(self, session: Session) -> int:
        """Return the number of the last change until now."""
        events = EventRepository(session, self.namespace)
        _number_all(events)
        return events.last_number()

    def read(self, session: Session, after: int, limit: int) -> ChangePage:
        """Number what was committed by now, and return a page of changes after a number."""
        events = EventRepository(session, self.namespace)
        _number_all(events)
        last = events.last_number()
        changes = events.list_after(after, prefix=self.prefix, limit=limit)
        is_last = len(changes) < limit
        # Changes of other keys are behind too, so that nobody looks at them again.
        seen = [after, *(change.seq for change in changes), *([last] if is_last else [])]
        return ChangePage(tuple(changes), max(seen), is_last)


def _number_all(events: EventRepository) -> None:
    while events.number(_NUMBERED_AT_ONCE) == _NUMBERED_AT_ONCE:
        pass
