"""Current values by key: whoever wants one at the same time shares one call, and where wanted the answer is kept.

A place tells nobody of changes, so a value that is kept is served until the shorter of `ttl_seconds` and
`max_stale_seconds` is over since it was asked for, or until it expires.  That there is no secret is kept, too.  What goes
through this provider lets go of its key at once.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar, cast

from secretstore.cache import CacheConfig, CacheStatistics
from secretstore.cache.entries import Entries
from secretstore.cache.loading import get_or_load
from secretstore.crypto.envelope import ValuePlace
from secretstore.domain.providers import Ability, ProvidedInfo, ProvidedSecret, SecretProvider, Version
from secretstore.providers.delegating import Delegating
from secretstore.service.keeping import Found

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Kept(Found):
    """What is kept of a key; None where there is no secret."""

    secret: ProvidedSecret | None = None


class Cached(Delegating):
    """Shares the reads of a provider, and keeps what they bring where there is a `config` and it is able to be cached."""

    def __init__(
        self,
        provider: SecretProvider,
        config: CacheConfig | None = None,
        *,
        clock: Callable[[], float] | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        super().__init__(provider)
        self._keeps = config is not None and Ability.CACHE in provider.abilities
        self._entries = Entries(config or CacheConfig(), clock=clock, chance=chance)

    def read(self, key: str, *, version: Version | None = None) -> ProvidedSecret | None:
        """Return a secret."""
        if version is not None:
            return super().read(key, version=version)
        return cast("Kept", get_or_load(self._entries, self.name, key, lambda: self._load(key))).secret

    def kept(self, key: str) -> Kept | None:
        """Return what is kept of a secret and may be served; asks nobody, and never waits."""
        # What is no text, and perhaps cannot be looked up, is refused elsewhere.
        found = self._entries.get(self.name, key) if type(key) is str else None
        return cast("Kept | None", found)

    def write(
        self,
        key: str,
        value_json: bytes,
        *,
        expected_version: int | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> ProvidedInfo:
        """Write a secret."""
        write = super().write
        return self._change(key, lambda: write(key, value_json, expected_version=expected_version, labels=labels))

    def delete(self, key: str) -> bool:
        """Delete a secret."""
        delete = super().delete
        return self._change(key, lambda: delete(key))

    def undelete(self, key: str) -> ProvidedInfo:
        """Bring a deleted secret back."""
        undelete = super().undelete
        return self._change(key, lambda: undelete(key))

    def destroy_versions(self, key: str, versions: Sequence[Version]) -> int:
        """Take the values of versions away for good."""
        destroy = super().destroy_versions
        return self._change(key, lambda: destroy(key, versions))

    def close(self) -> None:
        """Let go of everything, and close the other one."""
        self._entries.clear()
        super().close()

    def statistics(self) -> CacheStatistics | None:
        """Return what the cache did, and how it is; None where nothing is kept."""
        return self._entries.statistics() if self._keeps else None

    def _load(self, key: str) -> Kept:
        began = datetime.now(UTC)
        secret = self._provider.read(key)
        # Nobody listens here who would let go of what is too old.
        self._entries.spaces()
        place = ValuePlace(self.name, key, 0)
        if secret is None:
            return Kept(place, None, None if self._keeps else 0.0)
        return Kept(place, secret.value_json, self._seconds_left(secret.info, began), secret)

    def _seconds_left(self, info: ProvidedInfo, moment: datetime) -> float | None:
        if not self._keeps:
            return 0.0
        return None if info.expires_at is None else (info.expires_at - moment).total_seconds()

    def _change(self, key: str, do: Callable[[], T]) -> T:
        try:
            return do()
        finally:
            # After a failure, too, nobody knows what is there.
            self._entries.drop(self.name, [key])
