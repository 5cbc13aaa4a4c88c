"""The record of what was done to secrets, as `client.audit`; each step is a transaction of its own."""

from secretstore.client.keys import AsyncDriver, Driver
from secretstore.crypto.keyring import KeyRing
from secretstore.domain.acting import ANYBODY, Actors
from secretstore.domain.names import Namespace


class Audit:
    """The record of a namespace, as `client.audit`."""

    def __init__(self, keyring: KeyRing, namespace: Namespace, drive: Driver, *, actors: Actors = ANYBODY) -> None:
        self.namespace = namespace
        self._keyring = keyring
        self._drive = drive
        self._actors = actors


class AsyncAudit:
    """As `Audit`, awaited."""

    def __init__(self, keyring: KeyRing, namespace: Namespace, drive: AsyncDriver, *, actors: Actors = ANYBODY) -> None:
        self.namespace = namespace
        self._keyring = keyring
        self._drive = drive
        self._actors = actors
