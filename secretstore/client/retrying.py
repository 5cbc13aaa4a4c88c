"""Runs the transactions of a client again, as a whole, where that may help and is safe.

An error before COMMIT was sent means that nothing was done.  Where the connection is lost during COMMIT nobody knows, and so
the database is asked: every change has an event with an id that was made here, and to claim that id tells whether the
transaction was committed.  Decision 10 says more.
"""

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar, cast
from uuid import UUID

from sqlalchemy.orm import Session

from secretstore.client.patience import Patience
from secretstore.domain.names import Namespace
from secretstore.errors import SecretStoreError, StoreUnavailableError
from secretstore.orm.event_repository import EventRepository
from secretstore.service.committed import Changed, OnChange

T = TypeVar("T")

_LOGGER = logging.getLogger("secretstore.client")

# As long as it may take until another server is the primary.
RETRY_SECONDS = 30.0


@dataclass(slots=True)
class Written:
    """What a transaction has written, and an event by which it can be known again; None where it was only a read."""

    event_id: UUID | None = None
    changes: list[Changed] = field(default_factory=list)


Work = Callable[[Session, Written], T]


@dataclass(slots=True)
class Retrying:
    """How long a client and its siblings try again, how often they did, and whether they ever reached the database."""

    seconds: float
    chance: Callable[[], float] = field(default=random.random, repr=False)
    has_reached: bool = False
    # Of those that are counted at once one may be lost.
    retries: int = 0

    def allows(self, error: StoreUnavailableError) -> bool:
        """Return whether to try again; a wrong URL fails at once, because it never led anywhere."""
        self.has_reached = self.has_reached or not error.was_unreached
        return error.is_transient and self.has_reached


class Trial(Generic[T]):
    """One transaction of a client, which may take several tries.

    `is_repeatable` says that it may run twice, if its first COMMIT is in doubt and it wrote no event.
    """

    def __init__(
        self,
        work: Work[T],
        namespace: Namespace,
        retrying: Retrying,
        *,
        tell: OnChange | None = None,
        is_repeatable: bool = True,
    ) -> None:
        self._work = work
        self._namespace = namespace
        self._retrying = retrying
        self._tell = tell
        self._is_repeatable = is_repeatable
        self._patience = Patience(retrying.seconds, chance=retrying.chance)
        self._written = Written()
        self._is_committing = False
        self._answer: T | None = None
        self.is_in_doubt = False

    def run(self, session: Session) -> None:
        """Do the work; the caller commits straight afterwards."""
        self._written = Written()
        try:
            self._answer = self._work(session, self._written)
        except StoreUnavailableError as error:
            if error.was_unreached:
                # The connection leads to a server that is not, or no longer, the primary.
                session.invalidate()
            raise
        self._is_committing = True

    def was_committed(self, session: Session) -> bool:
        """Return whether the try that is in doubt was committed; the caller rolls back."""
        assert self._written.event_id is not None  # noqa: S101 - for the type checker: else there is no doubt
        events = EventRepository(session, self._namespace)
        self.is_in_doubt = events.was_recorded(self._written.event_id)
        return self.is_in_doubt

    def end(self) -> T:
        """Tell of what was changed, and return the answer, now that it is committed."""
        self._retrying.has_reached = True
        if self._tell is not None:
            for change in self._written.changes:
                self._tell(change)
        return cast("T", self._answer)

    def pause_after(self, error: SecretStoreError) -> float:
        """Return for how many seconds to wait before the next try, or raise an error."""
        was_committing, self._is_committing = self._is_committing, False
        if was_committing and isinstance(error, StoreUnavailableError) and error.was_lost:
            self._doubt(error)
        told = _in_doubt() if self.is_in_doubt else error
        if not isinstance(error, StoreUnavailableError) or not self._retrying.allows(error):
            raise told
        pause = self._patience.next_pause(told)
        self._retrying.retries += 1
        _LOGGER.info(
            "trying again in %.2f s: %s",
            pause,
            told,
            extra={"secretstore_namespace": self._namespace, "secretstore_pause_seconds": pause},
        )
        return pause

    def _doubt(self, error: StoreUnavailableError) -> None:
        self.is_in_doubt = self._written.event_id is not None
        if not self.is_in_doubt and not self._is_repeatable:
            raise error


def _in_doubt() -> StoreUnavailableError:
    return StoreUnavailableError(
        "the connection to PostgreSQL broke during COMMIT, and it could not be found out whether the change was made; "
        "read it again before you repeat it",
        was_lost=True,
    )
