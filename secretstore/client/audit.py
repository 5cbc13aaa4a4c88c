"""The record of what was done to secrets, as `client.audit`; each step is a transaction of its own."""

from datetime import datetime

from secretstore.client.keys import AsyncDriver, Driver
from secretstore.crypto.keyring import KeyRing
from secretstore.domain.acting import ANYBODY, Actors
from secretstore.domain.names import Namespace
from secretstore.domain.records import Access
from secretstore.service.changes import last_access_number, list_accesses, wanted_accesses


class Audit:
    """The record of a namespace, as `client.audit`."""

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


class AsyncAudit:
    """As `Audit`, awaited."""

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
