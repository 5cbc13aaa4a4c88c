"""What a provider has to offer: a place that secrets can be read from, and perhaps written to."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

# A number where the place counts its versions, a text where it names them.
Version = int | str


class Ability(StrEnum):
    """What a provider can do beside reading, listing and describing; what it cannot is a `ProviderError`."""

    __module__ = "secretstore"

    WRITE = "write a secret"
    CREATE = "write a secret only where there is none"
    CHECK_AND_SET = "write a secret only over an expected version"
    LABELS = "keep labels"
    DELETE = "delete a secret"
    UNDELETE = "undelete a secret"
    VERSIONS = "read older versions"
    DESTROY = "destroy versions"
    CACHE = "be cached"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvidedInfo:
    """What a provider knows of a secret, or of one of its versions, without the value; None is what it does not know.

    Times carry a time zone.
    """

    __module__ = "secretstore"

    provider: str
    key: str
    version: Version | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    created_at: datetime | None = None
    updated_at: datetime | None = None
    expires_at: datetime | None = None
    destroyed_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvidedSecret:
    """A value as JSON text in UTF-8, and what is known of it."""

    __module__ = "secretstore"

    value_json: bytes = field(repr=False)
    info: ProvidedInfo


class SecretProvider(Protocol):
    """A place for secrets; every method may wait for a server, and may be called from many threads.

    Missing is None, and never confused with the value null.  A secret that the place has deleted or that has expired is
    missing.  What the place refuses is a `PermissionDeniedError`; every other failure of it is a `ProviderError`, with
    `is_temporary` where the same call may succeed later.  Keys arrive checked by `secretstore.domain.names`; one that the
    place cannot hold is an `InvalidSecretKeyError`, and a value that it cannot hold an `InvalidSecretValueError`, both
    raised before anything is written.  No error shows a value.
    `secretstore.testing.SecretProviderContract` tries all of this.
    """

    @property
    def name(self) -> str:
        """The kind of place and where it is, as in its URL, without anything secret; it stays the same."""

    @property
    def abilities(self) -> frozenset[Ability]:
        """What it can do beside reading, listing and describing."""

    def read(self, key: str, *, version: Version | None = None) -> ProvidedSecret | None:
        """Return a secret."""

    def read_many(self, keys: Collection[str]) -> dict[str, ProvidedSecret]:
        """Return those of the secrets that there are, in as few calls as the place allows."""

    def list_keys(self, prefix: str = "", *, after: str | None = None, limit: int | None = None) -> list[str]:
        """Return keys in the order of their code points, those behind `after`, and all that there are without a limit."""

    def describe(self, key: str) -> ProvidedInfo | None:
        """Return what is known of a secret, without reading its value where the place allows that."""

    def write(
        self,
        key: str,
        value_json: bytes,
        *,
        expected_version: int | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> ProvidedInfo:
        """Write a secret; labels that are None stay as they are.

        `expected_version` 0 means that there must be none.  Raises `VersionConflictError` where another version is found.
        """

    def delete(self, key: str) -> bool:
        """Delete a secret, in a way that can be undone where it is able to undelete; False where there was none."""

    def undelete(self, key: str) -> ProvidedInfo:
        """Bring a deleted secret back, or raise `SecretNotFoundError`."""

    def list_versions(self, key: str) -> list[ProvidedInfo]:
        """Return what is known of the versions, newest first, destroyed ones too; an empty list where there is no secret."""

    def destroy_versions(self, key: str, versions: Sequence[Version]) -> int:
        """Take the values of versions away for good, and return how many were still there.

        Raises `SecretNotFoundError` where there is no such version; then none is destroyed.
        """

    def close(self) -> None:
        """Give connections back; it is not used afterwards."""


# As people import it; inside, a type checker would take it for a member of the protocol.
SecretProvider.__module__ = "secretstore"
