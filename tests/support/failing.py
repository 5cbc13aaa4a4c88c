"""A provider that fails when a test says so."""

from collections.abc import Collection, Sequence

from secretstore.domain.providers import ProvidedInfo, ProvidedSecret, Version
from secretstore.errors import ProviderError, SecretStoreError
from secretstore.providers.memory import MemoryProvider


class FailingProvider(MemoryProvider):
    """Keeps secrets in memory, notes what it is asked, and raises `problem` instead of answering where there is one."""

    def __init__(self, name: str, **secrets: str) -> None:
        super().__init__(name=name)
        self.problem: SecretStoreError | None = None
        self.asked: list[tuple[str, object]] = []
        self.closed = 0
        for key, value in secrets.items():
            self.write(key, f'"{value}"'.encode())

    def go_down(self) -> None:
        """Be unreachable from now on."""
        self.problem = ProviderError(f"{self.name} does not answer", provider=self.name, is_temporary=True)

    def read(self, key: str, *, version: Version | None = None) -> ProvidedSecret | None:
        """Read, or fail."""
        self._note("read", key)
        return super().read(key, version=version)

    def read_many(self, keys: Collection[str]) -> dict[str, ProvidedSecret]:
        """Read many, or fail."""
        self._note("read_many", list(keys))
        return super().read_many(keys)

    def list_keys(self, prefix: str = "", *, after: str | None = None, limit: int | None = None) -> list[str]:
        """List, or fail."""
        self._note("list_keys", limit)
        return super().list_keys(prefix, after=after, limit=limit)

    def describe(self, key: str) -> ProvidedInfo | None:
        """Describe, or fail."""
        self._note("describe", key)
        secret = super().read(key)
        return None if secret is None else secret.info

    def list_versions(self, key: str) -> list[ProvidedInfo]:
        """List versions, or fail."""
        self._note("list_versions", key)
        return super().list_versions(key)

    def destroy_versions(self, key: str, versions: Sequence[Version]) -> int:
        """Destroy, or fail."""
        self._note("destroy_versions", key)
        return super().destroy_versions(key, versions)

    def close(self) -> None:
        """Note it."""
        self.closed += 1

    def _note(self, operation: str, what: object) -> None:
        self.asked.append((operation, what))
        if self.problem is not None:
            raise self.problem
