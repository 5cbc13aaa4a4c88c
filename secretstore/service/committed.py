"""Tells after a commit what has changed by it: of the outermost transaction of a session, and only if it was committed."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias, cast

from sqlalchemy import event
from sqlalchemy.orm import Session, SessionTransaction, scoped_session

# Of more than these none is named.
MOST_KEYS = 1000

_INFO = "secretstore changes"


@dataclass(frozen=True, slots=True)
class Changed:
    """The keys of a namespace that have changed, or None where they are not known."""

    namespace: str
    keys: frozenset[str] | None


OnCommit: TypeAlias = Callable[[Changed], object]
_Gathered: TypeAlias = dict[tuple[OnCommit, str], set[str] | None]


def tell_after_commit(session: Session, on_commit: OnCommit, namespace: str, keys: Iterable[str] | None) -> None:
    """Call a function with what changes in the session's transaction, once that is committed."""
    if isinstance(session, scoped_session):
        # Listening on the registry would be listening on all of its sessions.
        session = session()
    gathered = cast("_Gathered | None", session.info.get(_INFO))
    if gathered is None:
        gathered = session.info[_INFO] = {}
        event.listen(session, "after_commit", _tell)
        event.listen(session, "after_transaction_end", _forget)
    before = gathered.get((on_commit, namespace), set())
    after = None if keys is None or before is None else before.union(keys)
    gathered[on_commit, namespace] = None if after is None or len(after) > MOST_KEYS else after


def _tell(session: Session) -> None:
    # The end of a savepoint is told in the same way.
    if session.in_nested_transaction():
        return
    for (on_commit, namespace), keys in _taken(session):
        on_commit(Changed(namespace, None if keys is None else frozenset(keys)))


def _forget(session: Session, transaction: SessionTransaction) -> None:
    if transaction.parent is None:
        _taken(session)


def _taken(session: Session) -> list[tuple[tuple[OnCommit, str], set[str] | None]]:
    gathered = cast("_Gathered", session.info.get(_INFO, {}))
    taken = list(gathered.items())
    gathered.clear()
    return taken
