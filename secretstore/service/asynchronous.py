"""The awaited faces of `SecretService`: they lend their session to its one body."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Concatenate, ParamSpec, TypeVar, overload

from sqlalchemy.ext.asyncio import AsyncSession

from secretstore.crypto.keyring import KeyRing
from secretstore.domain.records import SecretInfo
from secretstore.orm.repository import SecretRepository
from secretstore.service.data_keys import KeyServerCall, PatientKeyRing
from secretstore.service.synchronous import SecretService
from secretstore.service.typed import MAX_VALUE_BYTES

T = TypeVar("T")
D = TypeVar("D")
P = ParamSpec("P")


class AsyncSecretMethods(ABC):
    """The methods of `SecretService`, awaited; a subclass says on which session they run."""

    @abstractmethod
    async def _run(self, method: Callable[Concatenate[SecretService, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a method of a service with a session lent to it."""

    @overload
    async def get_secret(
        self, key: str, as_type: type[T], *, version: int | None = None, default: None = None
    ) -> T | None: ...
    @overload
    async def get_secret(self, key: str, as_type: type[T], *, version: int | None = None, default: D) -> T | D: ...
    @overload
    async def get_secret(
        self, key: str, as_type: Any = None, *, version: int | None = None, default: Any = None
    ) -> Any: ...
    async def get_secret(
        self, key: str, as_type: Any = None, *, version: int | None = None, default: Any = None
    ) -> Any:
        """See `SecretService.get_secret`."""
        return await self._run(SecretService.get_secret, key, as_type, version=version, default=default)

    @overload
    async def get_secret_or_raise(self, key: str, as_type: type[T], *, version: int | None = None) -> T: ...
    @overload
    async def get_secret_or_raise(self, key: str, as_type: Any = None, *, version: int | None = None) -> Any: ...
    async def get_secret_or_raise(self, key: str, as_type: Any = None, *, version: int | None = None) -> Any:
        """See `SecretService.get_secret_or_raise`."""
        return await self._run(SecretService.get_secret_or_raise, key, as_type, version=version)

    async def set_secret(
        self,
        key: str,
        value: object,
        *,
        expected_version: int | None = None,
        labels: Mapping[str, str] | None = None,
        expires_at: datetime | None = None,
    ) -> SecretInfo:
        """See `SecretService.set_secret`."""
        return await self._run(
            SecretService.set_secret,
            key,
            value,
            expected_version=expected_version,
            labels=labels,
            expires_at=expires_at,
        )

    async def set_secrets(
        self, values: Mapping[str, object], *, labels: Mapping[str, str] | None = None
    ) -> dict[str, SecretInfo]:
        """See `SecretService.set_secrets`."""
        return await self._run(SecretService.set_secrets, values, labels=labels)

    async def delete_secret(self, key: str) -> bool:
        """See `SecretService.delete_secret`."""
        return await self._run(SecretService.delete_secret, key)

    async def delete_secrets(self, keys: Iterable[str]) -> int:
        """See `SecretService.delete_secrets`."""
        return await self._run(SecretService.delete_secrets, keys)

    async def list_secret_keys(
        self, prefix: str = "", *, after: str | None = None, limit: int | None = None
    ) -> list[str]:
        """See `SecretService.list_secret_keys`."""
        return await self._run(SecretService.list_secret_keys, prefix, after=after, limit=limit)

    async def get_secret_count(self, prefix: str = "") -> int:
        """See `SecretService.get_secret_count`."""
        return await self._run(SecretService.get_secret_count, prefix)

    @overload
    async def get_secrets(self, keys: Iterable[str], as_type: type[T]) -> dict[str, T]: ...
    @overload
    async def get_secrets(self, keys: Iterable[str], as_type: Any = None) -> dict[str, Any]: ...
    async def get_secrets(self, keys: Iterable[str], as_type: Any = None) -> dict[str, Any]:
        """See `SecretService.get_secrets`."""
        return await self._run(SecretService.get_secrets, keys, as_type)

    @overload
    async def get_secrets_by_prefix(
        self, prefix: str, as_type: type[T], *, after: str | None = None, limit: int | None = None
    ) -> dict[str, T]: ...
    @overload
    async def get_secrets_by_prefix(
        self, prefix: str, as_type: Any = None, *, after: str | None = None, limit: int | None = None
    ) -> dict[str, Any]: ...
    async def get_secrets_by_prefix(
        self, prefix: str, as_type: Any = None, *, after: str | None = None, limit: int | None = None
    ) -> dict[str, Any]:
        """See `SecretService.get_secrets_by_prefix`."""
        return await self._run(SecretService.get_secrets_by_prefix, prefix, as_type, after=after, limit=limit)

    async def describe_secret(self, key: str) -> SecretInfo | None:
        """See `SecretService.describe_secret`."""
        return await self._run(SecretService.describe_secret, key)

    async def list_secrets(
        self,
        prefix: str = "",
        *,
        labels: Mapping[str, str] | None = None,
        after: str | None = None,
        limit: int | None = None,
    ) -> list[SecretInfo]:
        """See `SecretService.list_secrets`."""
        return await self._run(SecretService.list_secrets, prefix, labels=labels, after=after, limit=limit)


class AsyncSecretService(AsyncSecretMethods):
    """Secrets of one namespace on your `AsyncSession`, in your transaction; as `SecretService`, awaited."""

    def __init__(
        self,
        session: AsyncSession,
        keyring: KeyRing,
        *,
        namespace: str = "default",
        actor: str | None = None,
        max_value_bytes: int = MAX_VALUE_BYTES,
    ) -> None:
        self._session = session
        repository = SecretRepository(session.sync_session, namespace=namespace)
        patient = PatientKeyRing(keyring)
        self._service = SecretService(repository, patient, actor=actor, max_value_bytes=max_value_bytes)

    async def _run(self, method: Callable[Concatenate[SecretService, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        while True:
            try:
                return await self._session.run_sync(lambda _: method(self._service, *args, **kwargs))
            except KeyServerCall as needed:
                make = needed.make
            # Your transaction stays open meanwhile, but the loop goes on.
            await asyncio.to_thread(make)
