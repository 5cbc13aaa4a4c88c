"""Tells of changes once they are committed, whoever commits.

A service says what it changes as it does so; what is rolled back, also to a savepoint, is forgotten.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from sqlalchemy import event
from sqlalchemy.orm import Session, SessionTransaction, scoped_session

from secretstore.domain.names import Key, Namespace
from secretstore.orm.execute import session_of

_OF_SESSION = "secretstore.committed"


@dataclass(frozen=True, slots=True)
class Changed:
    """Keys of a namespace that were changed together."""

    namespace: Namespace
    keys: tuple[Key, ...]


# Is called for what was just changed, or what was just committed; it returns at once and raises nothing.
OnChange: TypeAlias = Callable[[Changed], object]


def after_commit(session: Session | scoped_session[Session], tell: OnChange) -> OnChange:
    """Return what to call for each change on a caller's session: it calls `tell` once the change is committed."""

    def changed(change: Changed) -> None:
        # Listening on a registry of sessions would be listening on all of them.
        own = session_of(session)
        # Only now, so that a session that is only read is left as it is.
        _collected(own).add(own, change, tell)

    return changed


@dataclass(frozen=True, slots=True)
class _Entry:
    change: Changed
    tell: OnChange
    savepoint: SessionTransaction | None


@dataclass(slots=True)
class _Collected:
    """What the transaction of a session has changed until now."""

    entries: list[_Entry] = field(default_factory=list)
    released: SessionTransaction | None = None

    def add(self, session: Session, change: Changed, tell: OnChange) -> None:
        self.entries.append(_Entry(change, tell, session.get_nested_transaction()))

    def on_commit(self, session: Session) -> None:
        """SQLAlchemy calls it after the release of a savepoint too."""
        self.released = session.get_nested_transaction()
        if self.released is not None:
            return
        entries, self.entries = self.entries, []
        for entry in entries:
            entry.tell(entry.change)

    def on_end(self, session: Session, transaction: SessionTransaction) -> None:
        """What a savepoint held goes to the one around it where it was released, and is forgotten where it was not."""
        if transaction.nested:
            self._end_savepoint(transaction, session.get_nested_transaction())
        elif transaction.parent is None:
            self.entries = []

    def _end_savepoint(self, savepoint: SessionTransaction, around: SessionTransaction | None) -> None:
        is_released, self.released = savepoint is self.released, None
        self.entries = [
            replace(entry, savepoint=around) if entry.savepoint is savepoint else entry
            for entry in self.entries
            if is_released or entry.savepoint is not savepoint
        ]


def _collected(session: Session) -> _Collected:
    found = session.info.get(_OF_SESSION)
    if isinstance(found, _Collected):
        return found
    collected = _Collected()
    session.info[_OF_SESSION] = collected
    event.listen(session, "after_commit", collected.on_commit)
    event.listen(session, "after_transaction_end", collected.on_end)
    return collected
