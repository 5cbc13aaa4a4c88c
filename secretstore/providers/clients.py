"""Secrets of a provider by the methods of the store's own client."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Self, TypeVar, overload

from secretstore.cache import CacheConfig, CacheStatistics
from secretstore.domain.names import Key, parse_key, parse_keys, parse_labels
from secretstore.domain.providers import ProvidedInfo, ProvidedSecret, SecretProvider, Version
from secretstore.errors import SecretNotFoundError
from secretstore.providers.backing_off import BackingOff
from secretstore.providers.cached import Cached
from secretstore.providers.chain import ChainProvider
from secretstore.service.checks import checked_version, parse_page
from secretstore.service.references import resolve as resolve_references
from secretstore.service.typed import MAX_VALUE_BYTES, as_json_text, from_json_as, to_json

T = TypeVar("T")
D = TypeVar("D")


class ProviderClient:
    """Secrets of a provider, typed and checked as by `SecretClient`.  Safe to use from many threads.

    With `cache` the values of single secrets are kept in memory, where the provider is able to be cached.  Reads of one
    key at the same time are one call.  After a temporary failure calls fail at once for a while, see `BackingOff`,
    except those of a chain, whose links have that of their own.
    Errors name the provider as the namespace.  A process that forks makes its client afterwards.
    """

    __module__ = "secretstore"

    def __init__(
        self, provider: SecretProvider, *, max_value_bytes: int = MAX_VALUE_BYTES, cache: CacheConfig | None = None
    ) -> None:
        self.provider = provider
        # What a chain cannot do because one of its links is down says nothing of the others.
        self._cached = Cached(provider if isinstance(provider, ChainProvider) else BackingOff(provider), cache)
        self._max_value_bytes = max_value_bytes

    @overload
    def get_secret(
        self, key: str, as_type: type[T], *, version: Version | None = None, default: None = None, resolve: bool = False
    ) -> T | None: ...
    @overload
    def get_secret(
        self, key: str, as_type: type[T], *, version: Version | None = None, default: D, resolve: bool = False
    ) -> T | D: ...
    @overload
    def get_secret(
        self,
        key: str,
        as_type: Any = None,
        *,
        version: Version | None = None,
        default: Any = None,
        resolve: bool = False,
    ) -> Any: ...
    def get_secret(
        self,
        key: str,
        as_type: Any = None,
        *,
        version: Version | None = None,
        default: Any = None,
        resolve: bool = False,
    ) -> Any:
        """Return the value of a secret, or `default` where there is none; see `SecretService.get_secret`.

        With `resolve` references lead to secrets of the same provider, which are not taken from the cache.
        """
        found = self._read(key, version, resolve=resolve)
        return default if found is None else value_of(found, as_type)

    @overload
    def get_secret_or_raise(
        self, key: str, as_type: type[T], *, version: Version | None = None, resolve: bool = False
    ) -> T: ...
    @overload
    def get_secret_or_raise(
        self, key: str, as_type: Any = None, *, version: Version | None = None, resolve: bool = False
    ) -> Any: ...
    def get_secret_or_raise(
        self, key: str, as_type: Any = None, *, version: Version | None = None, resolve: bool = False
    ) -> Any:
        """Return the value of a secret, or raise `SecretNotFoundError`."""
        found = self._read(key, version, resolve=resolve)
        if found is None:
            raise SecretNotFoundError(self.provider.name, key, version)
        return value_of(found, as_type)

    @overload
    def get_secrets(self, keys: Iterable[str], as_type: type[T], *, resolve: bool = False) -> dict[str, T]: ...
    @overload
    def get_secrets(self, keys: Iterable[str], as_type: Any = None, *, resolve: bool = False) -> dict[str, Any]: ...
    def get_secrets(self, keys: Iterable[str], as_type: Any = None, *, resolve: bool = False) -> dict[str, Any]:
        """Return the values of those secrets that are there, in the order asked for; they are not taken from the cache."""
        wanted = parse_keys(keys)
        found = self._cached.read_many(wanted)
        if resolve:
            found = self._resolved(found)
        return {key: value_of(found[key], as_type) for key in wanted if key in found}

    @overload
    def get_secrets_by_prefix(
        self,
        prefix: str,
        as_type: type[T],
        *,
        after: str | None = None,
        limit: int | None = None,
        resolve: bool = False,
    ) -> dict[str, T]: ...
    @overload
    def get_secrets_by_prefix(
        self,
        prefix: str,
        as_type: Any = None,
        *,
        after: str | None = None,
        limit: int | None = None,
        resolve: bool = False,
    ) -> dict[str, Any]: ...
    def get_secrets_by_prefix(
        self,
        prefix: str,
        as_type: Any = None,
        *,
        after: str | None = None,
        limit: int | None = None,
        resolve: bool = False,
    ) -> dict[str, Any]:
        """Return a page of values by key; what is deleted between list and read is left out."""
        return self.get_secrets(self.list_secret_keys(prefix, after=after, limit=limit), as_type, resolve=resolve)

    def has_secret(self, key: str) -> bool:
        """Return whether there is a secret, without reading its value where the provider allows that."""
        return self.describe_secret(key) is not None

    def describe_secret(self, key: str) -> ProvidedInfo | None:
        """Return what is known of a secret without its value."""
        return self._cached.describe(parse_key(key))

    def list_secret_keys(self, prefix: str = "", *, after: str | None = None, limit: int | None = None) -> list[str]:
        """Return keys in the order of their code points; the next page comes `after` the last key of this one."""
        page = parse_page(prefix, after, limit)
        return self._cached.list_keys(page.prefix, after=page.after or None, limit=page.limit)

    def get_secret_count(self, prefix: str = "") -> int:
        """Return how many secrets there are whose keys begin with `prefix`; lists them."""
        return len(self.list_secret_keys(prefix))

    def list_secrets(
        self, prefix: str = "", *, after: str | None = None, limit: int | None = None
    ) -> list[ProvidedInfo]:
        """Return a page of records without values; most providers need a call for each."""
        found = map(self._cached.describe, self.list_secret_keys(prefix, after=after, limit=limit))
        return [info for info in found if info is not None]

    def set_secret(
        self,
        key: str,
        value: object,
        *,
        expected_version: int | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> ProvidedInfo:
        """Write a value; see `SecretService.set_secret`.

        Raises `ProviderError` where the provider is not able to keep labels, or to look at versions.
        """
        wanted, version = parse_key(key), checked_version(expected_version)
        text = to_json(value, name=_name(self.provider.name, wanted), max_bytes=self._max_value_bytes)
        return self._cached.write(wanted, text, expected_version=version, labels=parse_labels(labels))

    def delete_secret(self, key: str) -> bool:
        """Delete a secret, which can be undone where the provider is able to; return whether there was one."""
        return self._cached.delete(parse_key(key))

    def undelete_secret(self, key: str) -> ProvidedInfo:
        """Bring a deleted secret back, or raise `SecretNotFoundError`."""
        return self._cached.undelete(parse_key(key))

    def list_versions(self, key: str) -> list[ProvidedInfo]:
        """Return what is known of the versions of a secret, newest first."""
        return self._cached.list_versions(parse_key(key))

    def destroy_versions(self, key: str, versions: Iterable[Version]) -> int:
        """Take the values of versions away for good, and return how many were still there."""
        return self._cached.destroy_versions(parse_key(key), list(versions))

    def cache_statistics(self) -> CacheStatistics | None:
        """Return what the cache did, and how it is; None without a cache."""
        return self._cached.statistics()

    def close(self) -> None:
        """Close the provider."""
        self._cached.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.provider.name})"

    def _read(self, key: str, version: Version | None, *, resolve: bool) -> ProvidedSecret | None:
        known = version if isinstance(version, str) else checked_version(version)
        found = self._cached.read(parse_key(key), version=known)
        return self._resolved({key: found})[key] if resolve and found is not None else found

    def _resolved(self, found: Mapping[str, ProvidedSecret]) -> dict[str, ProvidedSecret]:
        resolved = resolve_references(_plain(found), lambda keys: _plain(self._cached.read_many(keys)))
        return {key: replace(secret, value_json=as_json_text(resolved[Key(key)])) for key, secret in found.items()}


def _plain(found: Mapping[str, ProvidedSecret]) -> dict[Key, Any]:
    return {Key(key): value_of(secret, None) for key, secret in found.items()}


def value_of(found: ProvidedSecret, as_type: Any) -> Any:
    """Return the value of a secret as a type, or raise `InvalidSecretValueError`."""
    return from_json_as(found.value_json, as_type, name=_name(found.info.provider, found.info.key, found.info.version))


def _name(provider: str, key: str, version: Version | None = None) -> str:
    return f"{'the value' if version is None else f'version {version}'} of {key!r} in {provider}"
