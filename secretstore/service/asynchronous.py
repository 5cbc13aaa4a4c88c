"""The awaited faces of `SecretService`: they lend their session to its one body."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime, timedelta
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, overload

from sqlalchemy.ext.asyncio import AsyncSession

from secretstore.crypto.keyring import KeyRing
from secretstore.domain.accesses import OnRead
from secretstore.domain.records import SecretInfo, VersionInfo
from secretstore.orm.repository import SecretRepository
from secretstore.service.checks import checked_time, kept
from secretstore.service.committed import OnChange
from secretstore.service.data_keys import KeyServerCall, PatientKeyRing
from secretstore.service.keeping import Found
from secretstore.service.reading import PastSecrets, SecretReader
from secretstore.service.synchronous import Notify, SecretService
from secretstore.service.typed import MAX_VALUE_BYTES

T = TypeVar("T")
D = TypeVar("D")
P = ParamSpec("P")


class AsyncRun(Protocol):
    """Calls a method of a service with a session lent to it."""

    def __call__(
        self, method: Callable[Concatenate[SecretService, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> Awaitable[T]:
        """Return what the method returns."""


class AsyncSecretReader(ABC):
    """The methods of `SecretReader`, awaited; a subclass says from which source they read."""

    @abstractmethod
    async def _read(self, method: Callable[Concatenate[SecretReader, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a method of a reader with a session lent to it."""

    async def _cached(self, key: str) -> Found | None:  # noqa: ARG002 - for those that have a cache
        """Return the current value from a cache, where there is one."""
        return None

    @overload
    async def get_secret(
        self, key: str, as_type: type[T], *, version: int | None = None, default: None = None, resolve: bool = False
    ) -> T | None: ...
    @overload
    async def get_secret(
        self, key: str, as_type: type[T], *, version: int | None = None, default: D, resolve: bool = False
    ) -> T | D: ...
    @overload
    async def get_secret(
        self, key: str, as_type: Any = None, *, version: int | None = None, default: Any = None, resolve: bool = False
    ) -> Any: ...
    async def get_secret(
        self, key: str, as_type: Any = None, *, version: int | None = None, default: Any = None, resolve: bool = False
    ) -> Any:
        """See `SecretService.get_secret`."""
        if version is None and not resolve and (found := await self._cached(key)) is not None:
            return found.value(as_type, default)
        return await self._read(
            SecretReader.get_secret, key, as_type, version=version, default=default, resolve=resolve
        )

    @overload
    async def get_secret_or_raise(
        self, key: str, as_type: type[T], *, version: int | None = None, resolve: bool = False
    ) -> T: ...
    @overload
    async def get_secret_or_raise(
        self, key: str, as_type: Any = None, *, version: int | None = None, resolve: bool = False
    ) -> Any: ...
    async def get_secret_or_raise(
        self, key: str, as_type: Any = None, *, version: int | None = None, resolve: bool = False
    ) -> Any:
        """See `SecretService.get_secret_or_raise`."""
        if version is None and not resolve and (found := await self._cached(key)) is not None:
            return found.value_or_raise(as_type)
        return await self._read(SecretReader.get_secret_or_raise, key, as_type, version=version, resolve=resolve)

    @overload
    async def get_secrets(self, keys: Iterable[str], as_type: type[T], *, resolve: bool = False) -> dict[str, T]: ...
    @overload
    async def get_secrets(
        self, keys: Iterable[str], as_type: Any = None, *, resolve: bool = False
    ) -> dict[str, Any]: ...
    async def get_secrets(self, keys: Iterable[str], as_type: Any = None, *, resolve: bool = False) -> dict[str, Any]:
        """See `SecretService.get_secrets`."""
        return await self._read(SecretReader.get_secrets, kept(keys), as_type, resolve=resolve)

    @overload
    async def get_secrets_by_prefix(
        self,
        prefix: str,
        as_type: type[T],
        *,
        after: str | None = None,
        limit: int | None = None,
        resolve: bool = False,
    ) -> dict[str, T]: ...
    @overload
    async def get_secrets_by_prefix(
        self,
        prefix: str,
        as_type: Any = None,
        *,
        after: str | None = None,
        limit: int | None = None,
        resolve: bool = False,
    ) -> dict[str, Any]: ...
    async def get_secrets_by_prefix(
        self,
        prefix: str,
        as_type: Any = None,
        *,
        after: str | None = None,
        limit: int | None = None,
        resolve: bool = False,
    ) -> dict[str, Any]:
        """See `SecretService.get_secrets_by_prefix`."""
        return await self._read(
            SecretReader.get_secrets_by_prefix, prefix, as_type, after=after, limit=limit, resolve=resolve
        )

    async def describe_secret(self, key: str) -> SecretInfo | None:
        """See `SecretService.describe_secret`."""
        return await self._read(SecretReader.describe_secret, key)


class AsyncPastSecrets(AsyncSecretReader):
    """As `PastSecrets`, awaited."""

    __module__ = "secretstore"

    def __init__(self, run: AsyncRun, moment: datetime) -> None:
        self._service_run = run
        self._moment = moment
        checked_time(moment, name="the moment")

    async def list_secret_keys(
        self, prefix: str = "", *, after: str | None = None, limit: int | None = None
    ) -> list[str]:
        """See `PastSecrets.list_secret_keys`."""
        return await self._run(PastSecrets.list_secret_keys, prefix, after=after, limit=limit)

    async def get_secret_count(self, prefix: str = "") -> int:
        """See `PastSecrets.get_secret_count`."""
        return await self._run(PastSecrets.get_secret_count, prefix)

    async def list_secrets(
        self,
        prefix: str = "",
        *,
        labels: Mapping[str, str] | None = None,
        after: str | None = None,
        limit: int | None = None,
    ) -> list[SecretInfo]:
        """See `PastSecrets.list_secrets`."""
        return await self._run(PastSecrets.list_secrets, prefix, labels=labels, after=after, limit=limit)

    async def _run(self, method: Callable[Concatenate[PastSecrets, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        @wraps(method)
        def of_then(service: SecretService, /, *args: P.args, **kwargs: P.kwargs) -> T:
            return method(service.as_of(self._moment), *args, **kwargs)

        return await self._service_run(of_then, *args, **kwargs)

    async def _read(self, method: Callable[Concatenate[SecretReader, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._run(method, *args, **kwargs)


class AsyncSecretMethods(AsyncSecretReader):
    """The methods of `SecretService`, awaited; a subclass says on which session they run."""

    @abstractmethod
    async def _run(self, method: Callable[Concatenate[SecretService, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a method of a service with a session lent to it."""

    async def _read(self, method: Callable[Concatenate[SecretReader, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._run(method, *args, **kwargs)

    def as_of(self, moment: datetime) -> AsyncPastSecrets:
        """Return the secrets as they were at a moment, which needs a time zone, to be read; see `PastSecrets`."""
        return AsyncPastSecrets(self._run, moment)

    async def set_secret(
        self,
        key: str,
        value: object,
        *,
        expected_version: int | None = None,
        labels: Mapping[str, str] | None = None,
        expires_at: datetime | None = None,
        ttl: timedelta | None = None,
    ) -> SecretInfo:
        """See `SecretService.set_secret`."""
        return await self._run(
            SecretService.set_secret,
            key,
            value,
            expected_version=expected_version,
            labels=labels,
            expires_at=expires_at,
            ttl=ttl,
        )

    async def set_secrets(
        self, values: Mapping[str, object], *, labels: Mapping[str, str] | None = None
    ) -> dict[str, SecretInfo]:
        """See `SecretService.set_secrets`."""
        return await self._run(SecretService.set_secrets, values, labels=labels)

    async def patch_secret(self, key: str, patch: object, *, expected_version: int | None = None) -> SecretInfo:
        """See `SecretService.patch_secret`."""
        return await self._run(SecretService.patch_secret, key, patch, expected_version=expected_version)

    async def rollback_secret(self, key: str, to_version: int) -> SecretInfo:
        """See `SecretService.rollback_secret`."""
        return await self._run(SecretService.rollback_secret, key, to_version)

    async def delete_secret(self, key: str) -> bool:
        """See `SecretService.delete_secret`."""
        return await self._run(SecretService.delete_secret, key)

    async def delete_secrets(self, keys: Iterable[str]) -> int:
        """See `SecretService.delete_secrets`."""
        return await self._run(SecretService.delete_secrets, kept(keys))

    async def undelete_secret(self, key: str) -> SecretInfo:
        """See `SecretService.undelete_secret`."""
        return await self._run(SecretService.undelete_secret, key)

    async def set_labels(
        self, key: str, labels: Mapping[str, str], *, expected_version: int | None = None
    ) -> SecretInfo:
        """See `SecretService.set_labels`."""
        return await self._run(SecretService.set_labels, key, labels, expected_version=expected_version)

    async def patch_labels(self, key: str, changes: Mapping[str, str | None]) -> SecretInfo:
        """See `SecretService.patch_labels`."""
        return await self._run(SecretService.patch_labels, key, changes)

    async def destroy_versions(self, key: str, versions: Iterable[int]) -> int:
        """See `SecretService.destroy_versions`."""
        return await self._run(SecretService.destroy_versions, key, kept(versions))

    async def purge_secret(self, key: str) -> bool:
        """See `SecretService.purge_secret`."""
        return await self._run(SecretService.purge_secret, key)

    async def list_versions(self, key: str) -> list[VersionInfo]:
        """See `SecretService.list_versions`."""
        return await self._run(SecretService.list_versions, key)

    async def list_secret_keys(
        self, prefix: str = "", *, include_deleted: bool = False, after: str | None = None, limit: int | None = None
    ) -> list[str]:
        """See `SecretService.list_secret_keys`."""
        return await self._run(
            SecretService.list_secret_keys, prefix, include_deleted=include_deleted, after=after, limit=limit
        )

    async def get_secret_count(self, prefix: str = "", *, include_deleted: bool = False) -> int:
        """See `SecretService.get_secret_count`."""
        return await self._run(SecretService.get_secret_count, prefix, include_deleted=include_deleted)

    async def list_secrets(
        self,
        prefix: str = "",
        *,
        labels: Mapping[str, str] | None = None,
        include_deleted: bool = False,
        expired: bool = False,
        expiring_within: timedelta | None = None,
        unchanged_for: timedelta | None = None,
        after: str | None = None,
        limit: int | None = None,
    ) -> list[SecretInfo]:
        """See `SecretService.list_secrets`."""
        return await self._run(
            SecretService.list_secrets,
            prefix,
            labels=labels,
            include_deleted=include_deleted,
            expired=expired,
            expiring_within=expiring_within,
            unchanged_for=unchanged_for,
            after=after,
            limit=limit,
        )

    async def set_max_versions(self, max_versions: int | None, *, key: str | None = None) -> None:
        """See `SecretService.set_max_versions`."""
        await self._run(SecretService.set_max_versions, max_versions, key=key)


class AsyncSecretService(AsyncSecretMethods):
    """Secrets of one namespace on your `AsyncSession`, in your transaction; as `SecretService`, awaited."""

    __module__ = "secretstore"

    def __init__(  # noqa: PLR0913 - options, by keyword
        self,
        session: AsyncSession,
        keyring: KeyRing,
        *,
        namespace: str = "default",
        actor: str | None = None,
        require_actor: bool = False,
        max_value_bytes: int = MAX_VALUE_BYTES,
        notify: Notify = "transaction",
        on_change: OnChange | None = None,
        on_read: OnRead | None = None,
    ) -> None:
        self._session = session
        repository = SecretRepository(session.sync_session, namespace=namespace)
        patient = PatientKeyRing(keyring)
        self._service = SecretService(
            repository,
            patient,
            actor=actor,
            require_actor=require_actor,
            max_value_bytes=max_value_bytes,
            notify=notify,
            on_change=on_change,
            on_read=on_read,
        )

    async def _run(self, method: Callable[Concatenate[SecretService, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        while True:
            try:
                return await self._session.run_sync(lambda _: method(self._service, *args, **kwargs))
            except KeyServerCall as needed:
                make = needed.make
            # Your transaction stays open meanwhile, but the loop goes on.
            await asyncio.to_thread(make)
