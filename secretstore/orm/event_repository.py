"""Numbers and reads the record of changes, on a session that belongs to the caller."""

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Executable, Result
from sqlalchemy.orm import Session

from secretstore.domain.acting import Acting
from secretstore.domain.names import Key, Namespace, prefix_end
from secretstore.domain.records import Change
from secretstore.orm import event_statements as statements
from secretstore.orm.execute import execute, fetch

CHANNEL = "secretstore"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which changes are wanted: of keys that begin with a prefix, and whatever else is not None."""

    prefix: str = ""
    with_data_keys: bool = False
    key: Key | None = None
    actor: str | None = None
    action: str | None = None
    since: datetime | None = None

    def only(self) -> dict[str, object]:
        """Return what is to be equal, or at least that late."""
        given = {name: getattr(self, name) for name in ("key", "actor", "action", "since")}
        return {name: member for name, member in given.items() if member is not None}


class EventRepository:
    """The changes of one namespace, on the caller's session, whose transaction stays the caller's."""

    def __init__(self, session: Session, namespace: Namespace) -> None:
        self._session = session
        self._namespace = namespace

    def number(self, limit: int) -> int:
        """Give numbers to changes that are committed and have none, and return to how many.

        Whoever does so at the same time waits.  A later commit gets a later number, so that whoever reads by number
        misses nothing.  The transaction has to see what was committed before each of its statements (`READ COMMITTED`).
        """
        if not self._execute(statements.select_is_unnumbered()).scalar_one():
            return 0
        execute(self._session, statements.lock_numbers(), lock=_lock_of(self._namespace))
        return int(self._execute(statements.number_changes(), limit=limit).scalar_one())

    def last_number(self) -> int:
        """Return the number of the last change that has one, or 0."""
        return int(self._execute(statements.select_last_number()).scalar_one())

    def list_after(self, seq: int, wanted: Wanted, *, limit: int) -> list[Change]:
        """Return changes after a number, in the order of their numbers."""
        only = wanted.only()
        rows = self._execute(
            statements.select_page_of_changes(frozenset(only if wanted.with_data_keys else {*only, "secrets"})),
            after_seq=seq,
            prefix=wanted.prefix,
            prefix_end=prefix_end(wanted.prefix),
            limit=limit,
            **only,
        )
        return [Change(**row._asdict()) for row in rows]

    def record(self, action: str, by: Acting, *, outcome: str = "done") -> None:
        """Record a change of the data keys of the namespace, or of rights to it, in the transaction that makes it."""
        self._execute(
            statements.record_change(),
            event_id=uuid4(),
            action=action,
            actor=by.actor,
            request_id=by.request_id,
            outcome=outcome,
        )

    def is_on_standby(self) -> bool:
        """Return whether this server only follows another one, so that no change can be numbered here."""
        return bool(execute(self._session, statements.select_is_standby()).scalar_one())

    def was_recorded(self, event_id: UUID) -> bool:
        """Return whether the transaction that wrote an event was committed; waits a little while it is under way.

        Where it was not, it never will be.  The caller's transaction has to be rolled back.
        """
        execute(self._session, statements.propagate_settings())
        execute(self._session, statements.limit_waiting())
        return self._execute(statements.claim_event(), event_id=event_id).scalar_one_or_none() is None

    def notify(self, **named: object) -> None:
        """Hint to listeners that something changes in the namespace when this transaction commits."""
        payload = json.dumps({"namespace": self._namespace, **named}, ensure_ascii=False)
        send_notice(self._session, payload)

    def _execute(self, statement: Executable, **parameters: object) -> Result[Any]:
        return execute(self._session, statement, namespace=self._namespace, **parameters)


def send_notice(session: Session, payload: str) -> None:
    """Send any text to all who listen, when this transaction commits."""
    fetch(session, statements.notify(), {"channel": CHANNEL, "payload": payload})


def _lock_of(namespace: Namespace) -> int:
    digest = hashlib.sha256(b"secretstore change_event " + namespace.encode()).digest()
    return int.from_bytes(digest[:8], signed=True)
