"""The record of what was done to secrets, as `client.audit`; each step is a transaction of its own."""

from contextlib import AbstractAsyncContextManager, AbstractContextManager
from datetime import datetime
from pathlib import Path

from secretstore.client.keys import AsyncDriver, Driver
from secretstore.client.sealing import sealing as sealing_in_thread
from secretstore.client.sealing import sealing_async
from secretstore.crypto.keyring import KeyRing
from secretstore.domain.acting import ANYBODY, Actors
from secretstore.domain.names import Namespace
from secretstore.domain.records import Access
from secretstore.domain.sealing import RECORDS, AuditHead, Dropping, RecordName, Sealing, Verification
from secretstore.service import dropping, sealing, verifying
from secretstore.service.changes import last_access_number, list_accesses, wanted_accesses
from secretstore.service.checks import checked_interval, checked_time
from secretstore.service.flows import OnProgress, unseen
from secretstore.service.verifying import Asked


class Audit:
    """The record of a namespace, as `client.audit`: that of changes and that of accesses.

    `on_progress` is called with how much is done, and how much there is to do.
    """

    def __init__(self, keyring: KeyRing, namespace: Namespace, drive: Driver, *, actors: Actors = ANYBODY) -> None:
        self.namespace = namespace
        self._keyring = keyring
        self._drive = drive
        self._actors = actors

    def list_accesses(
        self,
        prefix: str = "",
        *,
        key: str | None = None,
        actor: str | None = None,
        action: str | None = None,
        outcome: str | None = None,
        since: datetime | None = None,
        after: int = 0,
        limit: int = 500,
    ) -> list[Access]:
        """Return recorded reads, and calls that were refused or failed, after the one with that `seq`, of any key with `prefix`.

        Only those of one key, by one actor, of one kind, with one outcome, or `since` a time, which needs a time zone.
        """
        wanted = wanted_accesses(prefix, key=key, actor=actor, action=action, outcome=outcome, since=since)
        return self._drive(list_accesses(self.namespace, wanted, after=after, limit=limit))

    def last_access_number(self) -> int:
        """Return the `seq` of the last recorded access of the namespace until now, or 0."""
        return self._drive(last_access_number(self.namespace))

    def seal(self, *, on_progress: OnProgress = unseen) -> Sealing:
        """Seal every event that is committed by now and not yet sealed; nobody who writes waits for it.

        It may be broken off, begun again, and run in many processes at once.  Raises `RecordTamperedError` where the last
        checkpoint, or the row of events after it, does not hold.
        """
        return self._drive(sealing.seal(self._keyring, self.namespace, on_progress))

    def sealing(self, *, every: float = 60.0) -> AbstractContextManager[None]:
        """Seal every so many seconds in the background for as long as the block lasts, and once more at its end.

        Whatever fails is logged as a warning of `secretstore.client`, and tried again the next time.
        """
        return sealing_in_thread(self.seal, self.namespace, checked_interval(every))

    def verify(
        self,
        *,
        record: RecordName | None = None,
        first: int | None = None,
        against: AuditHead | None = None,
        on_progress: OnProgress = unseen,
    ) -> tuple[Verification, ...]:
        """Return what was found to be as it was sealed; raises `RecordTamperedError` with the first thing that is not.

        Of both records or of one, whose checkpoints are verified from the `first` on.  Whether the end was cut off, or the
        whole of it made anew, only an earlier head shows, which is given as `against`.  Memory holds a page of events.
        """
        asked = Asked(self.namespace, RECORDS if record is None else (record,), first, against)
        return self._drive(verifying.verify(self._keyring, asked, on_progress))

    def drop_accesses(self, *, before: datetime, export: Path, on_progress: OnProgress = unseen) -> Dropping:
        """Take accesses that were sealed before a time out of the record, once they are in a new file that was read back.

        The file gets a JSON object in a line for each.  Checkpoints stay, and so does the newest one's stretch of events; the
        record verifies from the first event that is kept.  Whoever may not delete gets a `PermissionDeniedError`.  Changes are
        never dropped: secrets as they were are read from them.
        """
        flow = dropping.drop_accesses(
            self._keyring,
            self.namespace,
            checked_time(before, name="before"),
            export,
            by=self._actors.acting(),
            on_progress=on_progress,
        )
        return self._drive(flow)

    def head(self) -> AuditHead:
        """Return how far the records are sealed, to be kept in a place that nobody who may change them controls."""
        return self._drive(sealing.read_head(self.namespace))


class AsyncAudit:
    """As `Audit`, awaited; what takes the processor for long runs in a thread."""

    def __init__(self, keyring: KeyRing, namespace: Namespace, drive: AsyncDriver, *, actors: Actors = ANYBODY) -> None:
        self.namespace = namespace
        self._keyring = keyring
        self._drive = drive
        self._actors = actors

    async def list_accesses(
        self,
        prefix: str = "",
        *,
        key: str | None = None,
        actor: str | None = None,
        action: str | None = None,
        outcome: str | None = None,
        since: datetime | None = None,
        after: int = 0,
        limit: int = 500,
    ) -> list[Access]:
        """See `Audit.list_accesses`."""
        wanted = wanted_accesses(prefix, key=key, actor=actor, action=action, outcome=outcome, since=since)
        return await self._drive(list_accesses(self.namespace, wanted, after=after, limit=limit))

    async def last_access_number(self) -> int:
        """See `Audit.last_access_number`."""
        return await self._drive(last_access_number(self.namespace))

    async def seal(self, *, on_progress: OnProgress = unseen) -> Sealing:
        """See `Audit.seal`."""
        return await self._drive(sealing.seal(self._keyring, self.namespace, on_progress))

    def sealing(self, *, every: float = 60.0) -> AbstractAsyncContextManager[None]:
        """See `Audit.sealing`; in a task."""
        return sealing_async(self.seal, self.namespace, checked_interval(every))

    async def verify(
        self,
        *,
        record: RecordName | None = None,
        first: int | None = None,
        against: AuditHead | None = None,
        on_progress: OnProgress = unseen,
    ) -> tuple[Verification, ...]:
        """See `Audit.verify`."""
        asked = Asked(self.namespace, RECORDS if record is None else (record,), first, against)
        return await self._drive(verifying.verify(self._keyring, asked, on_progress))

    async def drop_accesses(self, *, before: datetime, export: Path, on_progress: OnProgress = unseen) -> Dropping:
        """See `Audit.drop_accesses`."""
        flow = dropping.drop_accesses(
            self._keyring,
            self.namespace,
            checked_time(before, name="before"),
            export,
            by=self._actors.acting(),
            on_progress=on_progress,
        )
        return await self._drive(flow)

    async def head(self) -> AuditHead:
        """See `Audit.head`."""
        return await self._drive(sealing.read_head(self.namespace))
