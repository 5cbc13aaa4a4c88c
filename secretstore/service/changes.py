"""Reads the record of changes in an order that misses nothing; see decision 8."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from secretstore.domain.names import Namespace, parse_actor, parse_key, parse_prefix
from secretstore.domain.records import ACTIONS, Change
from secretstore.orm.event_repository import EventRepository, Wanted
from secretstore.service.checks import checked_time

EVERY_CHANGE = Wanted(with_data_keys=True)

_NUMBERED_AT_ONCE = 1000


def wanted_changes(
    prefix: str,
    *,
    with_data_keys: bool,
    key: str | None = None,
    actor: str | None = None,
    action: str | None = None,
    since: datetime | None = None,
) -> Wanted:
    """Return which changes are wanted, once all of it is found to be legal."""
    if action is not None and action not in ACTIONS:
        raise ValueError(f"no change is {action!r}; it is one of {', '.join(ACTIONS)}")
    return Wanted(
        prefix=parse_prefix(prefix),
        with_data_keys=with_data_keys,
        key=None if key is None else parse_key(key),
        actor=None if actor is None else parse_actor(actor),
        action=action,
        since=None if since is None else checked_time(since, name="since"),
    )


@dataclass(frozen=True, slots=True)
class ChangePage:
    """Changes in the order of their numbers, and the number after which the next page begins."""

    changes: tuple[Change, ...]
    after: int
    is_last: bool


@dataclass(frozen=True, slots=True)
class ChangeReader:
    """Reads the changes that are wanted, in transactions that are `READ COMMITTED`."""

    namespace: Namespace
    wanted: Wanted

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
        changes = events.list_after(after, self.wanted, limit=limit)
        is_last = len(changes) < limit
        # Changes of other keys are behind too, so that nobody looks at them again.
        seen = [after, *(change.seq for change in changes), *([last] if is_last else [])]
        return ChangePage(tuple(changes), max(seen), is_last)


def _number_all(events: EventRepository) -> None:
    while events.number(_NUMBERED_AT_ONCE) == _NUMBERED_AT_ONCE:
        pass
