"""Providers for the tests of copying: full ones, those that can do less, and those that fail."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from secretstore.domain.providers import Ability, ProvidedInfo, ProvidedSecret, Version
from secretstore.errors import ProviderError
from secretstore.providers.memory import MemoryProvider

MARKER = "hunter2-of-the-test"


def memory(secrets: Mapping[str, bytes] | None = None, *, name: str = "memory:source") -> MemoryProvider:
    """A place in memory with these secrets."""
    provider = MemoryProvider(name=name)
    for key, value in (secrets or {}).items():
        provider.write(key, value)
    return provider


def values(provider: MemoryProvider, prefix: str = "") -> dict[str, bytes]:
    """All that is there."""
    found = provider.read_many(provider.list_keys(prefix))
    return {key: secret.value_json for key, secret in found.items()}


class Watched(MemoryProvider):
    """A place in memory that counts its writes, may be able to do less, and lets a test step in before each call."""

    def __init__(self, *lacks: Ability, before: Callable[[str, str], None] | None = None) -> None:
        super().__init__(name="memory:target")
        self.abilities = frozenset(Ability) - set(lacks)
        self.before = before or (lambda _, __: None)
        self.written: list[str] = []

    def read(self, key: str, *, version: Version | None = None) -> ProvidedSecret | None:
        """Let the test step in, and read."""
        self.before("read", key)
        return super().read(key, version=version)

    def read_many(self, keys: Collection[str]) -> dict[str, ProvidedSecret]:
        """Let the test step in, and read."""
        for key in keys:
            self.before("read_many", key)
        return super().read_many(keys)

    def list_keys(self, prefix: str = "", *, after: str | None = None, limit: int | None = None) -> list[str]:
        """Let the test step in, and list."""
        self.before("list_keys", prefix)
        return super().list_keys(prefix, after=after, limit=limit)

    def write(self, key: str, value_json: bytes, **options: Any) -> ProvidedInfo:
        """Let the test step in, write, and keep the key."""
        self.before("write", key)
        self.require_what_a_write_needs(options.get("expected_version"), options.get("labels"))
        info = super().write(key, value_json, **options)
        self.written.append(key)
        self.before("written", key)
        return info


def busy(provider: str = "memory:target") -> ProviderError:
    """What a place that asks to wait raises."""
    return ProviderError("it asks to wait", provider=provider, operation="write", is_temporary=True)


def raising(error: Exception) -> None:
    """Raise it, where a statement cannot stand."""
    raise error


def once(operation: str, do: Callable[[], object], *, times: int = 1) -> Callable[[str, str], None]:
    """What steps in before an operation, the first time or times."""
    left = list(range(times))

    def before(asked: str, _: str) -> None:
        if asked == operation and left:
            left.pop()
            do()

    return before
