"""Secrets of a provider, awaited: each call runs in a thread, so that no loop waits for a place."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import Any, ParamSpec, Self, TypeVar, overload

from secretstore.cache import CacheConfig, CacheStatistics
from secretstore.domain.providers import ProvidedInfo, SecretProvider, Version
from secretstore.errors import SecretNotFoundError
from secretstore.providers.cached import Kept
from secretstore.providers.clients import ProviderClient, value_of
from secretstore.service.typed import MAX_VALUE_BYTES

T = TypeVar("T")
D = TypeVar("D")
P = ParamSpec("P")


class AsyncProviderClient:
    """The methods of `ProviderClient`, awaited.  Safe to use from many tasks and loops.

    At most `threads` calls are under way, in threads of its own, so that a place that hangs keeps nobody else waiting; the
    others wait their turn.  A task that is cancelled waits no longer, but what it has begun goes on: a write may be
    carried out all the same.
    """

    __module__ = "secretstore"

    def __init__(
        self,
        provider: SecretProvider,
        *,
        max_value_bytes: int = MAX_VALUE_BYTES,
        cache: CacheConfig | None = None,
        threads: int = 8,
    ) -> None:
        self.provider = provider
        self._client = ProviderClient(provider, max_value_bytes=max_value_bytes, cache=cache)
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="secretstore-provider")

    @overload
    async def get_secret(
        self, key: str, as_type: type[T], *, version: Version | None = None, default: None = None, resolve: bool = False
    ) -> T | None: ...
    @overload
    async def get_secret(
        self, key: str, as_type: type[T], *, version: Version | None = None, default: D, resolve: bool = False
    ) -> T | D: ...
    @overload
    async def get_secret(
        self,
        key: str,
        as_type: Any = None,
        *,
        version: Version | None = None,
        default: Any = None,
        resolve: bool = False,
    ) -> Any: ...
    async def get_secret(
        self,
        key: str,
        as_type: Any = None,
        *,
        version: Version | None = None,
        default: Any = None,
        resolve: bool = False,
    ) -> Any:
        """See `ProviderClient.get_secret`."""
        kept = None if resolve else self._kept(key, version)
        if kept is not None:
            return default if kept.secret is None else value_of(kept.secret, as_type)
        return await self._call(
            self._client.get_secret, key, as_type, version=version, default=default, resolve=resolve
        )

    @overload
    async def get_secret_or_raise(
        self, key: str, as_type: type[T], *, version: Version | None = None, resolve: bool = False
    ) -> T: ...
    @overload
    async def get_secret_or_raise(
        self, key: str, as_type: Any = None, *, version: Version | None = None, resolve: bool = False
    ) -> Any: ...
    async def get_secret_or_raise(
        self, key: str, as_type: Any = None, *, version: Version | None = None, resolve: bool = False
    ) -> Any:
        """See `ProviderClient.get_secret_or_raise`."""
        kept = None if resolve else self._kept(key, version)
        if kept is not None:
            if kept.secret is None:
                raise SecretNotFoundError(self.provider.name, key)
            return value_of(kept.secret, as_type)
        return await self._call(self._client.get_secret_or_raise, key, as_type, version=version, resolve=resolve)

    @overload
    async def get_secrets(self, keys: Iterable[str], as_type: type[T], *, resolve: bool = False) -> dict[str, T]: ...
    @overload
    async def get_secrets(
        self, keys: Iterable[str], as_type: Any = None, *, resolve: bool = False
    ) -> dict[str, Any]: ...
    async def get_secrets(self, keys: Iterable[str], as_type: Any = None, *, resolve: bool = False) -> dict[str, Any]:
        """See `ProviderClient.get_secrets`."""
        return await self._call(self._client.get_secrets, keys, as_type, resolve=resolve)

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
        """See `ProviderClient.get_secrets_by_prefix`."""
        return await self._call(
            self._client.get_secrets_by_prefix, prefix, as_type, after=after, limit=limit, resolve=resolve
        )

    async def has_secret(self, key: str) -> bool:
        """See `ProviderClient.has_secret`."""
        return await self._call(self._client.has_secret, key)

    async def describe_secret(self, key: str) -> ProvidedInfo | None:
        """See `ProviderClient.describe_secret`."""
        return await self._call(self._client.describe_secret, key)

    async def list_secret_keys(
        self, prefix: str = "", *, after: str | None = None, limit: int | None = None
    ) -> list[str]:
        """See `ProviderClient.list_secret_keys`."""
        return await self._call(self._client.list_secret_keys, prefix, after=after, limit=limit)

    async def get_secret_count(self, prefix: str = "") -> int:
        """See `ProviderClient.get_secret_count`."""
        return await self._call(self._client.get_secret_count, prefix)

    async def list_secrets(
        self, prefix: str = "", *, after: str | None = None, limit: int | None = None
    ) -> list[ProvidedInfo]:
        """See `ProviderClient.list_secrets`."""
        return await self._call(self._client.list_secrets, prefix, after=after, limit=limit)

    async def set_secret(
        self,
        key: str,
        value: object,
        *,
        expected_version: int | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> ProvidedInfo:
        """See `ProviderClient.set_secret`."""
        return await self._call(self._client.set_secret, key, value, expected_version=expected_version, labels=labels)

    async def delete_secret(self, key: str) -> bool:
        """See `ProviderClient.delete_secret`."""
        return await self._call(self._client.delete_secret, key)

    async def undelete_secret(self, key: str) -> ProvidedInfo:
        """See `ProviderClient.undelete_secret`."""
        return await self._call(self._client.undelete_secret, key)

    async def list_versions(self, key: str) -> list[ProvidedInfo]:
        """See `ProviderClient.list_versions`."""
        return await self._call(self._client.list_versions, key)

    async def destroy_versions(self, key: str, versions: Iterable[Version]) -> int:
        """See `ProviderClient.destroy_versions`."""
        return await self._call(self._client.destroy_versions, key, versions)

    def cache_statistics(self) -> CacheStatistics | None:
        """See `ProviderClient.cache_statistics`."""
        return self._client.cache_statistics()

    async def close(self) -> None:
        """Close the provider; calls that are under way are not waited for."""
        try:
            # All threads of its own may wait for a place that hangs.
            await asyncio.to_thread(self._client.close)
        finally:
            self._threads.shutdown(wait=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.provider.name})"

    def _kept(self, key: str, version: Version | None) -> Kept | None:
        # What is kept needs no thread: all of them may wait for a place that is down.
        return None if version is not None else self._client._cached.kept(key)

    async def _call(self, method: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        call = partial(copy_context().run, method, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)
