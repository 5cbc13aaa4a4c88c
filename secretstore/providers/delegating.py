"""A provider that stands before another one."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeVar

from secretstore.domain.providers import ProvidedInfo, ProvidedSecret, SecretProvider, Version
from secretstore.providers.base import Provider

T = TypeVar("T")


class Delegating(Provider):
    """Does what another provider does, under its name; a subclass stands before every call by `_ask`."""

    def __init__(self, provider: SecretProvider) -> None:
        self._provider = provider
        self.name = provider.name
        self.abilities = provider.abilities
        self.may_hide_secrets = getattr(provider, "may_hide_secrets", False)

    def read(self, key: str, *, version: Version | None = None) -> ProvidedSecret | None:
        """Return a secret."""
        return self._ask("read a secret", lambda: self._provider.read(key, version=version))

    def read_many(self, keys: Collection[str]) -> dict[str, ProvidedSecret]:
        """Return those of the secrets that there are."""
        return self._ask("read secrets", lambda: self._provider.read_many(keys))

    def list_keys(self, prefix: str = "", *, after: str | None = None, limit: int | None = None) -> list[str]:
        """Return keys in the order of their code points."""
        return self._ask("list keys", lambda: self._provider.list_keys(prefix, after=after, limit=limit))

    def describe(self, key: str) -> ProvidedInfo | None:
        """Return what is known of a secret."""
        return self._ask("describe a secret", lambda: self._provider.describe(key))

    def write(
        self,
        key: str,
        value_json: bytes,
        *,
        expected_version: int | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> ProvidedInfo:
        """Write a secret."""
        return self._ask(
            "write a secret",
            lambda: self._provider.write(key, value_json, expected_version=expected_version, labels=labels),
        )

    def delete(self, key: str) -> bool:
        """Delete a secret."""
        return self._ask("delete a secret", lambda: self._provider.delete(key))

    def undelete(self, key: str) -> ProvidedInfo:
        """Bring a deleted secret back."""
        return self._ask("undelete a secret", lambda: self._provider.undelete(key))

    def list_versions(self, key: str) -> list[ProvidedInfo]:
        """Return what is known of the versions."""
        return self._ask("list versions", lambda: self._provider.list_versions(key))

    def destroy_versions(self, key: str, versions: Sequence[Version]) -> int:
        """Take the values of versions away for good."""
        return self._ask("destroy versions", lambda: self._provider.destroy_versions(key, versions))

    def close(self) -> None:
        """Close the other one."""
        self._provider.close()

    def _ask(self, operation: str, do: Callable[[], T]) -> T:  # noqa: ARG002 - for subclasses, which name it in errors
        return do()
