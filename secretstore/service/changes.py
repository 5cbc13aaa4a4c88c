"""Reads the record of changes in an order that misses nothing; see decision 8."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypedDict

from sqlalchemy.orm import Session

from secretstore.domain.accesses import ATTEMPTS, OUTCOMES
from secretstore.domain.names import Key, Namespace, parse_actor, parse_key, parse_prefix
from secretstore.domain.records import ACTIONS, Access, Change
from secretstore.orm.event_repository import EventRepository, Wanted
from secretstore.orm.models import AccessEvent
from secretstore.service.checks import checked_time
from secretstore.service.flows import Flow, InTransaction

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
    if action is not None:
        _check_word(action, ACTIONS, "no change")
    return Wanted(
        prefix=parse_prefix(prefix), with_data_keys=with_data_keys, action=action, **_parsed(key, actor, since)
    )


def wanted_accesses(
    prefix: str,
    *,
    key: str | None,
    actor: str | None,
    action: str | None,
    outcome: str | None,
    since: datetime | None,
) -> Wanted:
    """Return which accesses are wanted, once all of it is found to be legal."""
    if action is not None:
        _check_word(action, (*ATTEMPTS, *ACTIONS), "no access")
    if outcome is not None:
        _check_word(outcome, OUTCOMES, "no outcome")
    return Wanted(prefix=parse_prefix(prefix), action=action, outcome=outcome, **_parsed(key, actor, since))


class _Parsed(TypedDict):
    key: Key | None
    actor: str | None
    since: datetime | None


def _parsed(key: str | None, actor: str | None, since: datetime | None) -> _Parsed:
    return {
        "key": None if key is None else parse_key(key),
        "actor": None if actor is None else parse_actor(actor),
        "since": None if since is None else checked_time(since, name="since"),
    }


def _check_word(word: str, words: Sequence[str], no_such: str) -> None:
    if word not in words:
        raise ValueError(f"{no_such} is {word!r}; it is one of {', '.join(words)}")


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


def list_accesses(namespace: Namespace, wanted: Wanted, *, after: int, limit: int) -> Flow[list[Access]]:
    """Number what was committed by now, and return a page of accesses after a number."""

    def read(session: Session) -> list[Access]:
        events = EventRepository(session, namespace, AccessEvent)
        _number_all(events)
        return events.list_accesses_after(after, wanted, limit=limit)

    found: list[Access] = yield InTransaction(read)
    return found


def last_access_number(namespace: Namespace) -> Flow[int]:
    """Return the number of the last access until now."""

    def read(session: Session) -> int:
        events = EventRepository(session, namespace, AccessEvent)
        _number_all(events)
        return events.last_number()

    number: int = yield InTransaction(read)
    return number


def _number_all(events: EventRepository) -> None:
    while events.number(_NUMBERED_AT_ONCE) == _NUMBERED_AT_ONCE:
        pass
