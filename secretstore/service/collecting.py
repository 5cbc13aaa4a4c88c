"""Collects what nobody needs any more: secrets that are long deleted or expired, and versions beyond their limit."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from secretstore.domain.acting import Actors
from secretstore.domain.names import Key, Namespace
from secretstore.domain.records import Collection
from secretstore.orm.event_repository import EventRepository
from secretstore.orm.repository import SecretRepository
from secretstore.service.committed import Changed, OnChange, after_commit
from secretstore.service.flows import Flow, InTransaction

_PAGE = 500


@dataclass(frozen=True, slots=True)
class Collector:
    """Whose secrets to collect, and how."""

    namespace: Namespace
    actors: Actors
    notifies: bool
    dry_run: bool
    tell: OnChange | None = None

    def collect(self, deleted_for: timedelta, on_progress: Callable[[int], object]) -> Flow[Collection]:
        """Purge what was deleted or expired before so long, and prune, a page in each transaction."""
        if deleted_for < timedelta():
            raise ValueError("secrets are collected after some time, which is not negative")
        if not self.dry_run:
            self.actors.acting()
        now: datetime = yield InTransaction(lambda session: self._secrets(session).now())
        before = now - deleted_for
        purged = yield from self._pages(lambda session, after: self._purge(session, before, after), on_progress)
        pruned = yield from self._pages(
            lambda session, after: self._prune(session, before, after), lambda done: on_progress(purged + done)
        )
        return Collection(purged, pruned)

    def _pages(self, collect: Callable[[Session, str], "_Page"], on_progress: Callable[[int], object]) -> Flow[int]:
        done, after = 0, ""
        while True:
            page: _Page = yield InTransaction(lambda session: collect(session, after))  # noqa: B023 - called at once
            done += page.collected
            on_progress(done)
            if page.last is None:
                return done
            after = page.last

    def _purge(self, session: Session, before: datetime, after: str) -> "_Page":
        secrets = self._secrets(session)
        keys = secrets.list_to_purge(before=before, after=after, limit=_PAGE)
        last = keys[-1] if keys else None
        if self.dry_run or not keys:
            return _Page(len(keys), last)
        locked = secrets.lock(keys)
        # Looked at once more, because one may have been undeleted or purged before it was locked.
        still = set(secrets.list_to_purge(before=before, after=after, limit=_PAGE))
        wanted = [key for key in keys if key in still]
        if locked is not None and wanted:
            secrets.purge(wanted, moment=locked.moment, by=self.actors.acting())
            self._tell(session, wanted)
        return _Page(len(wanted), last)

    def _prune(self, session: Session, before: datetime, after: str) -> "_Page":
        secrets = self._secrets(session)
        excesses = secrets.list_to_prune(before=before, after=after, limit=_PAGE)
        last = excesses[-1].key if excesses else None
        if self.dry_run or not excesses:
            return _Page(sum(excess.versions for excess in excesses), last)
        return _Page(secrets.prune({excess.key: excess.up_to for excess in excesses}), last)

    def _secrets(self, session: Session) -> SecretRepository:
        return SecretRepository(session, namespace=self.namespace)

    def _tell(self, session: Session, keys: list[Key]) -> None:
        if self.tell is not None:
            after_commit(session, self.tell)(Changed(self.namespace, tuple(keys)))
        if self.notifies:
            EventRepository(session, self.namespace).notify()


@dataclass(frozen=True, slots=True)
class _Page:
    """How much one page was, and its last key; None behind the last page."""

    collected: int
    last: str | None
