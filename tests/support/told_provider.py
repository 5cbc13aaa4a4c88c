"""A place in memory that counts its calls, and does what a test tells it to."""

from collections.abc import Callable, Mapping
from threading import Lock

from secretstore import ProvidedInfo, ProvidedSecret
from secretstore.domain.providers import Version
from secretstore.providers.memory import MemoryProvider


class ToldProvider(MemoryProvider):
    """Calls `during` in every read and write, and fails for a while if it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self.writes = 0
        self.is_down = False
        self.during: Callable[[], object] = lambda: None
        self._counting = Lock()

    def read(self, key: str, *, version: Version | None = None) -> ProvidedSecret | None:
        """Return a secret."""
        with self._counting:
            self.reads += 1
        found = super().read(key, version=version)
        self._do("read a secret")
        return found

    def write(
        self,
        key: str,
        value_json: bytes,
        *,
        expected_version: int | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> ProvidedInfo:
        """Write a secret."""
        with self._counting:
            self.writes += 1
        self._do("write a secret")
        return super().write(key, value_json, expected_version=expected_version, labels=labels)

    def _do(self, operation: str) -> None:
        self.during()
        if self.is_down:
            raise self.failed(operation, "it is down", is_temporary=True)


def told_place() -> ToldProvider:
    """Return such a place with one secret, `a`."""
    place = ToldProvider()
    place.write("a", b'"first"')
    return place
