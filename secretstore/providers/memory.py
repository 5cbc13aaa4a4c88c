"""`memory:`: secrets in the memory of the process, for tests of what uses a provider; it can do everything."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from threading import Lock

from secretstore.domain.providers import Ability, ProvidedInfo, ProvidedSecret, Version
from secretstore.errors import SecretNotFoundError, VersionConflictError
from secretstore.providers.addresses import Address
from secretstore.providers.base import Provider


def open_memory(url: str) -> "MemoryProvider":
    """Return an empty place of its own; the URL is `memory:` and says nothing else."""
    address = Address.parse(url)
    if address.host or address.path:
        address.refuse("is memory: alone; each is a place of its own")
    return MemoryProvider()


@dataclass(slots=True)
class _Kept:
    # Oldest first; the value of a destroyed version is None.
    versions: list[tuple[ProvidedInfo, bytes | None]] = field(default_factory=list, repr=False)
    is_deleted: bool = False

    @property
    def current(self) -> ProvidedSecret | None:
        if self.is_deleted or not self.versions:
            return None
        return _as_secret(*self.versions[-1])

    @property
    def newest(self) -> ProvidedInfo:
        return self.versions[-1][0]


class MemoryProvider(Provider):
    """Secrets in memory; many threads may use one at once.  Several get names where they have to be told apart."""

    abilities = frozenset(Ability)

    def __init__(self, *, name: str = "memory:") -> None:
        self.name = name
        self._lock = Lock()
        self._secrets: dict[str, _Kept] = {}

    def read(self, key: str, *, version: Version | None = None) -> ProvidedSecret | None:
        """Return a secret; older versions also of a deleted one."""
        with self._lock:
            kept = self._secrets.get(key)
            if kept is None:
                return None
            if version is None:
                return kept.current
            return next((_as_secret(info, value) for info, value in kept.versions if info.version == version), None)

    def read_many(self, keys: Collection[str]) -> dict[str, ProvidedSecret]:
        """Return those of the secrets that there are, as they were at one moment."""
        with self._lock:
            found = {key: kept.current for key in keys if (kept := self._secrets.get(key))}
        return {key: secret for key, secret in found.items() if secret is not None}

    def list_keys(self, prefix: str = "", *, after: str | None = None, limit: int | None = None) -> list[str]:
        """Return keys in the order of their code points."""
        with self._lock:
            keys = [key for key, kept in self._secrets.items() if kept.current and key.startswith(prefix)]
        return sorted(key for key in keys if after is None or key > after)[:limit]

    def describe(self, key: str) -> ProvidedInfo | None:
        """Return what is known of a secret."""
        secret = self.read(key)
        return None if secret is None else secret.info

    def write(
        self,
        key: str,
        value_json: bytes,
        *,
        expected_version: int | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> ProvidedInfo:
        """Write a secret."""
        with self._lock:
            kept = self._secrets.get(key, _Kept())
            current = kept.current
            found = current.info.version if current else 0
            if expected_version is not None and expected_version != found:
                raise VersionConflictError(self.name, key, expected_version, int(found or 0))
            info = self._next_info(key, kept, current, labels)
            kept.versions.append((info, value_json))
            kept.is_deleted = False
            self._secrets[key] = kept
            return info

    def delete(self, key: str) -> bool:
        """Delete a secret; its versions stay."""
        with self._lock:
            kept = self._secrets.get(key)
            if kept is None or kept.current is None:
                return False
            kept.is_deleted = True
            return True

    def undelete(self, key: str) -> ProvidedInfo:
        """Bring a deleted secret back; one that is there stays as it is."""
        with self._lock:
            kept = self._secrets.get(key)
            if kept is None or kept.newest.destroyed_at is not None:
                raise SecretNotFoundError(self.name, key)
            kept.is_deleted = False
            return kept.newest

    def list_versions(self, key: str) -> list[ProvidedInfo]:
        """Return what is known of the versions, newest first."""
        with self._lock:
            kept = self._secrets.get(key, _Kept())
            return [info for info, _ in reversed(kept.versions)]

    def destroy_versions(self, key: str, versions: Sequence[Version]) -> int:
        """Take values away for good; without its newest version a secret is missing."""
        moment = datetime.now(UTC)
        with self._lock:
            kept = self._secrets.get(key, _Kept())
            self.require_versions(key, versions, {info.version for info, _ in kept.versions})
            wanted = [
                place
                for place, (info, value) in enumerate(kept.versions)
                if info.version in versions and value is not None
            ]
            for place in wanted:
                kept.versions[place] = (replace(kept.versions[place][0], destroyed_at=moment), None)
            return len(wanted)

    def _next_info(
        self, key: str, kept: _Kept, current: ProvidedSecret | None, labels: Mapping[str, str] | None
    ) -> ProvidedInfo:
        moment = datetime.now(UTC)
        stay = current.info.labels if current else {}
        return ProvidedInfo(
            provider=self.name,
            key=key,
            version=len(kept.versions) + 1,
            labels=dict(stay if labels is None else labels),
            created_at=current.info.created_at if current else moment,
            updated_at=moment,
        )


def _as_secret(info: ProvidedInfo, value: bytes | None) -> ProvidedSecret | None:
    return None if value is None else ProvidedSecret(value_json=value, info=info)
