"""Numbers and reads the records of changes and of accesses, on a session that belongs to the caller."""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Executable, Result, Row
from sqlalchemy.orm import Session

from secretstore.domain.accesses import Stamped
from secretstore.domain.acting import Acting
from secretstore.domain.names import Key, Namespace, prefix_end
from secretstore.domain.records import Access, Change
from secretstore.orm import event_statements as statements
from secretstore.orm.event_statements import EventTable
from secretstore.orm.execute import execute, fetch
from secretstore.orm.models import ChangeEvent
from secretstore.orm.visibility import may_update

CHANNEL = "secretstore"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which events are wanted: of keys that begin with a prefix, and whatever else is not None."""

    prefix: str = ""
    with_data_keys: bool = False
    key: Key | None = None
    actor: str | None = None
    action: str | None = None
    outcome: str | None = None
    since: datetime | None = None

    def only(self) -> dict[str, object]:
        """Return what is to be equal, or at least that late."""
        given = {name: getattr(self, name) for name in ("key", "actor", "action", "outcome", "since")}
        return {name: member for name, member in given.items() if member is not None}


class EventRepository:
    """The events of one namespace, on the caller's session, whose transaction stays the caller's.

    `table` says of which record they are: that of changes, or that of accesses.
    """

    def __init__(self, session: Session, namespace: Namespace, table: EventTable = ChangeEvent) -> None:
        self._session = session
        self._namespace = namespace
        self._table = table

    def number(self, limit: int) -> int:
        """Give numbers to events that are committed and have none, and return to how many.

        Whoever does so at the same time waits.  A later commit gets a later number, so that whoever reads by number
        misses nothing.  The transaction has to see what was committed before each of its statements (`READ COMMITTED`).
        Where this role or this server may not, somebody else does.
        """
        if not self._execute(statements.select_is_unnumbered(self._table)).scalar_one() or not self.may_number():
            return 0
        execute(self._session, statements.lock_numbers(), lock=_lock_of(self._table, self._namespace))
        return int(self._execute(statements.number_events(self._table), limit=limit).scalar_one())

    def may_number(self) -> bool:
        """Return whether this role may give numbers, on a server that does not only follow another one."""
        return may_update(self._session, self._table.__tablename__, self._table.seq.key)

    def last_number(self) -> int:
        """Return the number of the last event that has one, or 0."""
        return int(self._execute(statements.select_last_number(self._table)).scalar_one())

    def list_after(self, seq: int, wanted: Wanted, *, limit: int) -> list[Change]:
        """Return changes after a number, in the order of their numbers."""
        return [Change(**row._asdict()) for row in self.list_rows_after(seq, wanted, limit=limit)]

    def list_accesses_after(self, seq: int, wanted: Wanted, *, limit: int) -> list[Access]:
        """Return accesses after a number, in the order of their numbers."""
        every = replace(wanted, with_data_keys=True)
        return [Access(**row._asdict()) for row in self.list_rows_after(seq, every, limit=limit)]

    def list_rows_after(self, seq: int, wanted: Wanted, *, limit: int) -> Sequence[Row[Any]]:
        """Return the rows of events after a number, in the order of their numbers."""
        only = wanted.only()
        found = self._execute(
            statements.select_page_of_events(
                self._table, frozenset(only if wanted.with_data_keys else {*only, "secrets"})
            ),
            after_seq=seq,
            prefix=wanted.prefix,
            prefix_end=prefix_end(wanted.prefix),
            limit=limit,
            **only,
        )
        return found.all()

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

    def record_accesses(self, accesses: Sequence[Stamped]) -> None:
        """Record accesses to secrets of the namespace; each once, however often it is asked for."""
        now = time.monotonic()
        self._execute(
            statements.record_accesses(),
            event_ids=[one.id for one in accesses],
            **{
                f"{name}s": [getattr(one.accessed, name) for one in accesses]
                for name in ("key", "version", "action", "outcome")
            },
            actors=[one.by.actor for one in accesses],
            request_ids=[one.by.request_id for one in accesses],
            ages=[timedelta(seconds=now - one.at) for one in accesses],
        )

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


def why_nothing_can_be_recorded(session: Session) -> str | None:
    """Return why this server records nothing; None where it does."""
    found = execute(session, statements.select_can_record(), setting="transaction_read_only").one()
    if found.is_standby:
        return "the server is a read-only replica"
    return "transactions are read-only here" if found.read_only == "on" else None


def send_notice(session: Session, payload: str) -> None:
    """Send any text to all who listen, when this transaction commits."""
    fetch(session, statements.notify(), {"channel": CHANNEL, "payload": payload})


def _lock_of(table: EventTable, namespace: Namespace) -> int:
    digest = hashlib.sha256(f"secretstore {table.__tablename__} {namespace}".encode()).digest()
    return int.from_bytes(digest[:8], signed=True)
