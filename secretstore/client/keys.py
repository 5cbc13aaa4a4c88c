"""The keys of a store, changed while it is in use; each step is a transaction of its own."""

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from secretstore.crypto.keyring import KeyRing
from secretstore.domain.acting import ANYBODY, Actors
from secretstore.domain.key_records import DataKeyInfo, MasterKeyInfo, Reencryption
from secretstore.domain.names import Namespace
from secretstore.service import master_keys, rotation
from secretstore.service.flows import Flow, OnProgress, unseen

T = TypeVar("T")


class Driver(Protocol):
    """Carries out the steps of a flow."""

    def __call__(self, flow: Flow[T]) -> T:
        """Return what the flow returns."""


class AsyncDriver(Protocol):
    """Carries out the steps of a flow in a loop."""

    def __call__(self, flow: Flow[T]) -> Awaitable[T]:
        """Return what the flow returns."""


class Keys:
    """The keys of a store, as `client.keys`: master keys of all of it, and data keys of the client's namespace.

    Whatever is broken off can be begun again, and may run in many processes at once.  `on_progress` is called with how
    much is done, and how much there is to do.
    """

    def __init__(
        self,
        keyring: KeyRing,
        namespace: Namespace,
        drive: Driver,
        *,
        actors: Actors = ANYBODY,
        let_go: Callable[[], object] = unseen,
    ) -> None:
        self.namespace = namespace
        self._keyring = keyring
        self._drive = drive
        self._actors = actors
        self._let_go = let_go

    def list_master_keys(self) -> list[MasterKeyInfo]:
        """Return the master keys of the ring in their order, and then those that the store needs and the ring lacks."""
        return self._drive(master_keys.list_master_keys(self._keyring))

    def list_data_keys(self, *, of_all_namespaces: bool = False) -> list[DataKeyInfo]:
        """Return what is known of the data keys of the namespace, or of all; counts values."""
        return self._drive(rotation.list_data_keys(self.namespace, of_all=of_all_namespaces))

    def list_namespaces(self) -> list[str]:
        """Return the namespaces that have a data key."""
        return self._drive(rotation.find_namespaces())

    def check_complete(self) -> None:
        """Raise `MasterKeyError` where the store needs a master key that the ring lacks."""
        self._drive(master_keys.check_complete(self._keyring))

    def check_removable(self, master_key_id: str) -> None:
        """Raise `KeyInUseError` where a master key cannot be taken out of the ring."""
        self._drive(master_keys.check_removable(self._keyring, master_key_id))

    def rewrap(self, *, everything: bool = False, on_progress: OnProgress = unseen) -> int:
        """Wrap data keys by the first master key of the ring, in all namespaces; return how many were changed.

        Those that it wraps already are left out, unless `everything` is wanted, as after a rotation inside a key server.
        A data key that does not open is passed over, and told of in a `MasterKeyError` at the end.
        """
        return self._drive(
            master_keys.rewrap(self._keyring, everything=everything, on_progress=on_progress, actors=self._actors)
        )

    def rotate(self, *, on_progress: OnProgress = unseen) -> Reencryption:
        """Give the namespace a new data key, and re-encrypt all its values under it, current and old ones.

        Readers and writers go on.  Versions, times and labels stay as they are.  The data key before is retired, and
        `destroy` removes it.
        """
        return self._drive(rotation.rotate(self._keyring, self.namespace, on_progress, actors=self._actors))

    def reencrypt(self, *, on_progress: OnProgress = unseen) -> Reencryption:
        """Re-encrypt what a rotation that was broken off, or a slow writer, has left under older data keys."""
        return self._drive(rotation.reencrypt(self._keyring, self.namespace, on_progress))

    def count_to_reencrypt(self, *, after_rotation: bool = False) -> int:
        """Return how many values `reencrypt` would rewrite, or a rotation."""
        return self._drive(rotation.count_to_reencrypt(self.namespace, with_active=after_rotation))

    def destroy(self, data_key_id: str) -> None:
        """Remove a retired data key for good; raises `KeyInUseError` while any value, old or deleted ones too, needs it."""
        self._drive(rotation.destroy(self._keyring, self.namespace, data_key_id, self._let_go, actors=self._actors))

    def shred(self, *, on_progress: OnProgress = unseen) -> int:
        """Destroy the data keys of the namespace and all its values, for good; return how many values there were.

        Danger: nothing brings them back but a backup of the database together with the master key.  Keys, labels and times
        stay, and reading is a `DecryptionError` that says why.  What is written afterwards gets a new data key.
        """
        return self._drive(
            rotation.shred(self._keyring, self.namespace, on_progress, self._let_go, actors=self._actors)
        )


class AsyncKeys:
    """As `Keys`, awaited; what may wait for a key server or takes the processor for long runs in a thread."""

    def __init__(
        self,
        keyring: KeyRing,
        namespace: Namespace,
        drive: AsyncDriver,
        *,
        actors: Actors = ANYBODY,
        let_go: Callable[[], object] = unseen,
    ) -> None:
        self.namespace = namespace
        self._keyring = keyring
        self._drive = drive
        self._actors = actors
        self._let_go = let_go

    async def list_master_keys(self) -> list[MasterKeyInfo]:
        """See `Keys.list_master_keys`."""
        return await self._drive(master_keys.list_master_keys(self._keyring))

    async def list_data_keys(self, *, of_all_namespaces: bool = False) -> list[DataKeyInfo]:
        """See `Keys.list_data_keys`."""
        return await self._drive(rotation.list_data_keys(self.namespace, of_all=of_all_namespaces))

    async def list_namespaces(self) -> list[str]:
        """See `Keys.list_namespaces`."""
        return await self._drive(rotation.find_namespaces())

    async def check_complete(self) -> None:
        """See `Keys.check_complete`."""
        await self._drive(master_keys.check_complete(self._keyring))

    async def check_removable(self, master_key_id: str) -> None:
        """See `Keys.check_removable`."""
        await self._drive(master_keys.check_removable(self._keyring, master_key_id))

    async def rewrap(self, *, everything: bool = False, on_progress: OnProgress = unseen) -> int:
        """See `Keys.rewrap`."""
        return await self._drive(
            master_keys.rewrap(self._keyring, everything=everything, on_progress=on_progress, actors=self._actors)
        )

    async def rotate(self, *, on_progress: OnProgress = unseen) -> Reencryption:
        """See `Keys.rotate`."""
        return await self._drive(rotation.rotate(self._keyring, self.namespace, on_progress, actors=self._actors))

    async def reencrypt(self, *, on_progress: OnProgress = unseen) -> Reencryption:
        """See `Keys.reencrypt`."""
        return await self._drive(rotation.reencrypt(self._keyring, self.namespace, on_progress))

    async def count_to_reencrypt(self, *, after_rotation: bool = False) -> int:
        """See `Keys.count_to_reencrypt`."""
        return await self._drive(rotation.count_to_reencrypt(self.namespace, with_active=after_rotation))

    async def destroy(self, data_key_id: str) -> None:
        """See `Keys.destroy`."""
        await self._drive(
            rotation.destroy(self._keyring, self.namespace, data_key_id, self._let_go, actors=self._actors)
        )

    async def shred(self, *, on_progress: OnProgress = unseen) -> int:
        """See `Keys.shred`."""
        return await self._drive(
            rotation.shred(self._keyring, self.namespace, on_progress, self._let_go, actors=self._actors)
        )
