"""`postgresql:` and `embedded:`: the secrets of this library's own store, in one namespace; it can do everything."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

from secretstore.client.synchronous import SecretClient
from secretstore.domain.names import Key
from secretstore.domain.providers import Ability, ProvidedInfo, ProvidedSecret, Version
from secretstore.domain.records import SecretInfo, VersionInfo
from secretstore.errors import (
    DecryptionError,
    MasterKeyError,
    SchemaOutOfDateError,
    SecretStoreError,
    StoreUnavailableError,
)
from secretstore.providers.base import Provider
from secretstore.service.texts import SecretText, read_text_of_version, read_texts, write_text


class PostgresProvider(Provider):
    """The secrets of a client; what PostgreSQL or its keys fail at is a `ProviderError`, and all other errors stay.

    `close` closes the client.
    """

    abilities = frozenset(Ability)

    def __init__(self, client: SecretClient, *, name: str | None = None) -> None:
        self._client = client
        self.name = name or f"postgresql:?namespace={client._options.namespace}"

    def read(self, key: str, *, version: Version | None = None) -> ProvidedSecret | None:
        """Return a secret."""
        if version is None:
            return self.read_many([key]).get(key)
        if not isinstance(version, int):
            return None
        with self._told("read a secret"):
            found = self._client._run(read_text_of_version, Key(key), version)
        return None if found is None else self._secret(found)

    def read_many(self, keys: Collection[str]) -> dict[str, ProvidedSecret]:
        """Return those of the secrets that there are, in one statement."""
        with self._told("read secrets"):
            found = self._client._read(read_texts, [Key(key) for key in dict.fromkeys(keys)])
        return {key: self._secret(one) for key, one in found.items()}

    def list_keys(self, prefix: str = "", *, after: str | None = None, limit: int | None = None) -> list[str]:
        """Return keys in the order of their code points."""
        with self._told("list keys"):
            return self._client.list_secret_keys(prefix, after=after, limit=limit)

    def describe(self, key: str) -> ProvidedInfo | None:
        """Return what is known of a secret; never decrypts."""
        with self._told("describe a secret"):
            found = self._client.describe_secret(key)
        return None if found is None else self._info(found)

    def write(
        self,
        key: str,
        value_json: bytes,
        *,
        expected_version: int | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> ProvidedInfo:
        """Write a secret; the new version does not expire."""
        with self._told("write a secret"):
            written = self._client._run(write_text, key, value_json, expected_version=expected_version, labels=labels)
        return self._info(written)

    def delete(self, key: str) -> bool:
        """Delete a secret, which can be undone."""
        with self._told("delete a secret"):
            return self._client.delete_secret(key)

    def undelete(self, key: str) -> ProvidedInfo:
        """Bring a deleted secret back."""
        with self._told("undelete a secret"):
            return self._info(self._client.undelete_secret(key))

    def list_versions(self, key: str) -> list[ProvidedInfo]:
        """Return what is known of the versions, also of a deleted secret, newest first."""
        with self._told("list versions"):
            return [self._info(version) for version in self._client.list_versions(key)]

    def destroy_versions(self, key: str, versions: Sequence[Version]) -> int:
        """Take values away for good; without its current version a secret is deleted."""
        with self._told("destroy versions"):
            self.require_versions(key, versions, {info.version for info in self._client.list_versions(key)})
            return self._client.destroy_versions(key, [int(version) for version in versions]) if versions else 0

    def close(self) -> None:
        """Close the client."""
        self._client.close()

    @contextmanager
    def _told(self, operation: str) -> Iterator[None]:
        failed = None
        try:
            yield
        except (DecryptionError, MasterKeyError, SchemaOutOfDateError, StoreUnavailableError) as error:
            failed = self.failed(operation, str(error), is_temporary=_is_temporary(error))
        if failed is not None:
            raise failed

    def _secret(self, found: SecretText) -> ProvidedSecret:
        return ProvidedSecret(value_json=found.text, info=self._info(found.info))

    def _info(self, info: SecretInfo | VersionInfo) -> ProvidedInfo:
        return ProvidedInfo(
            provider=self.name,
            key=info.key,
            version=info.version,
            labels=info.labels,
            created_at=info.created_at,
            updated_at=info.updated_at if isinstance(info, SecretInfo) else info.created_at,
            expires_at=info.expires_at,
            destroyed_at=info.destroyed_at if isinstance(info, VersionInfo) else None,
        )


def _is_temporary(error: SecretStoreError) -> bool:
    return isinstance(error, StoreUnavailableError) or getattr(error, "is_temporary", False)
