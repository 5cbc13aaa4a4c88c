"""The service: every method of the library, on the caller's session."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar, overload

from secretstore.crypto.aead import Aead
from secretstore.crypto.envelope import Envelope, ValuePlace, open_value, seal_value
from secretstore.crypto.keyring import KeyRing
from secretstore.domain.names import Key, parse_key, parse_keys, parse_labels, parse_prefix
from secretstore.domain.records import SecretInfo
from secretstore.errors import (
    InvalidSecretValueError,
    SecretNotFoundError,
    StoreUnavailableError,
    VersionConflictError,
)
from secretstore.orm.key_repository import DataKeyRepository
from secretstore.orm.repository import Head, Heads, NewVersion, Page, SecretRepository, StoredValue
from secretstore.service.data_keys import DataKeyGoneError, DataKeys, PatientKeyRing
from secretstore.service.typed import MAX_VALUE_BYTES, from_json_as, to_json

T = TypeVar("T")
D = TypeVar("D")

_MISSING = object()
_MAX_VERSION = 2**63 - 1
# The first go locks every head, so the second finds them as they stay.
_GOES = 3


class SecretService:
    """Secrets of one namespace on your session, in your transaction: nothing is committed, flushed or closed for you.

    It reads what the transaction has written.  After an error of PostgreSQL the transaction has failed, as after any
    failed statement: roll it back.  Errors are those of `secretstore.errors`.
    """

    def __init__(
        self,
        repository: SecretRepository,
        keyring: KeyRing | PatientKeyRing,
        *,
        actor: str | None = None,
        max_value_bytes: int = MAX_VALUE_BYTES,
    ) -> None:
        self._repository = repository
        self._namespace = repository.namespace
        stored_keys = DataKeyRepository(repository.session, repository.namespace)
        self._data_keys = DataKeys(stored_keys, repository.namespace, keyring)
        self._actor = actor
        self._max_value_bytes = max_value_bytes

    @overload
    def get_secret(
        self, key: str, as_type: type[T], *, version: int | None = None, default: None = None
    ) -> T | None: ...
    @overload
    def get_secret(self, key: str, as_type: type[T], *, version: int | None = None, default: D) -> T | D: ...
    # Plain JSON, and what no `type[T]` can say, such as a union: only the caller knows its shape.
    @overload
    def get_secret(self, key: str, as_type: Any = None, *, version: int | None = None, default: Any = None) -> Any: ...
    def get_secret(self, key: str, as_type: Any = None, *, version: int | None = None, default: Any = None) -> Any:
        """Return the value of a secret, or `default` where there is none: never written, deleted, or expired.

        `as_type` is anything that pydantic's `TypeAdapter` takes; a value that does not fit is an
        `InvalidSecretValueError`.  Without it the value is plain JSON.  `None` is a value too: `null`.
        """
        value = self._read(key, as_type, version)
        return default if value is _MISSING else value

    @overload
    def get_secret_or_raise(self, key: str, as_type: type[T], *, version: int | None = None) -> T: ...
    @overload
    def get_secret_or_raise(self, key: str, as_type: Any = None, *, version: int | None = None) -> Any: ...
    def get_secret_or_raise(self, key: str, as_type: Any = None, *, version: int | None = None) -> Any:
        """Return the value of a secret, or raise `SecretNotFoundError`."""
        value = self._read(key, as_type, version)
        if value is _MISSING:
            raise SecretNotFoundError(self._namespace, key, version)
        return value

    def set_secret(
        self,
        key: str,
        value: object,
        *,
        expected_version: int | None = None,
        labels: Mapping[str, str] | None = None,
        expires_at: datetime | None = None,
    ) -> SecretInfo:
        """Write a value as the next version of a secret.

        With `expected_version` only over that version, and with 0 only where there is no such secret; otherwise
        `VersionConflictError`.  Two writers at once get two versions, one after the other.
        `labels` are not encrypted; without them the secret keeps those it has.  The secret reads as missing from
        `expires_at` on, which needs a time zone; without it the new version does not expire.
        """
        written = self._write(
            {parse_key(key): value},
            expected_version=_checked_version(expected_version),
            labels=parse_labels(labels),
            expires_at=_checked_time(expires_at),
        )
        return written[key]

    def set_secrets(
        self, values: Mapping[str, object], *, labels: Mapping[str, str] | None = None
    ) -> dict[str, SecretInfo]:
        """Write many values, all or none, in a number of statements that does not grow with them."""
        return self._write({parse_key(key): value for key, value in values.items()}, labels=parse_labels(labels))

    def delete_secret(self, key: str) -> bool:
        """Delete a secret, which can be undone; return whether there was one."""
        return self._repository.delete([parse_key(key)], actor=self._actor) == 1

    def delete_secrets(self, keys: Iterable[str]) -> int:
        """Delete many secrets, and return how many there were."""
        return self._repository.delete(parse_keys(keys), actor=self._actor)

    def list_secret_keys(self, prefix: str = "", *, after: str | None = None, limit: int | None = None) -> list[str]:
        """Return keys in the order of their bytes; the next page comes `after` the last key of this one."""
        return self._repository.list_keys(_parse_page(prefix, after, limit))

    def get_secret_count(self, prefix: str = "") -> int:
        """Return how many secrets there are whose keys begin with `prefix`."""
        return self._repository.count(parse_prefix(prefix))

    @overload
    def get_secrets(self, keys: Iterable[str], as_type: type[T]) -> dict[str, T]: ...
    @overload
    def get_secrets(self, keys: Iterable[str], as_type: Any = None) -> dict[str, Any]: ...
    def get_secrets(self, keys: Iterable[str], as_type: Any = None) -> dict[str, Any]:
        """Return the values of those secrets that are there, in the order asked for, in one round trip."""
        wanted = parse_keys(keys)
        found = self._open_all(lambda: self._repository.find_values(wanted), as_type)
        return {key: found[key] for key in wanted if key in found}

    @overload
    def get_secrets_by_prefix(
        self, prefix: str, as_type: type[T], *, after: str | None = None, limit: int | None = None
    ) -> dict[str, T]: ...
    @overload
    def get_secrets_by_prefix(
        self, prefix: str, as_type: Any = None, *, after: str | None = None, limit: int | None = None
    ) -> dict[str, Any]: ...
    def get_secrets_by_prefix(
        self, prefix: str, as_type: Any = None, *, after: str | None = None, limit: int | None = None
    ) -> dict[str, Any]:
        """Return a page of values, sorted by key."""
        page = _parse_page(prefix, after, limit)
        return self._open_all(lambda: self._repository.list_values(page), as_type)

    def describe_secret(self, key: str) -> SecretInfo | None:
        """Return what is known of a secret without its value; never decrypts."""
        return self._repository.find_info(parse_key(key))

    def list_secrets(
        self,
        prefix: str = "",
        *,
        labels: Mapping[str, str] | None = None,
        after: str | None = None,
        limit: int | None = None,
    ) -> list[SecretInfo]:
        """Return a page of records without values, of those secrets only that carry all of `labels`; never decrypts."""
        return self._repository.list_infos(_parse_page(prefix, after, limit), parse_labels(labels))

    def _read(self, key: str, as_type: Any, version: int | None) -> Any:
        wanted, wanted_version = parse_key(key), _checked_version(version)

        def find() -> list[StoredValue]:
            stored = self._repository.find_value(wanted, wanted_version)
            return [] if stored is None else [stored]

        return self._open_all(find, as_type).get(wanted, _MISSING)

    def _open_all(self, find: Callable[[], Sequence[StoredValue]], as_type: Any) -> dict[str, Any]:
        try:
            return {stored.key: self._open(stored, as_type) for stored in find()}
        except DataKeyGoneError:
            # Since its value was read, the data key may have been replaced and destroyed; then there is another envelope.
            return {stored.key: self._open(stored, as_type) for stored in find()}

    def _open(self, stored: StoredValue, as_type: Any) -> Any:
        place = ValuePlace(self._namespace, stored.key, stored.version)
        envelope = Envelope.parse(stored.envelope, place)
        value = open_value(self._data_keys.get(envelope.key_id), envelope, place)
        return from_json_as(value, as_type, name=place)

    def _write(
        self,
        values: Mapping[Key, object],
        *,
        expected_version: int | None = None,
        labels: Mapping[str, str] | None = None,
        expires_at: datetime | None = None,
    ) -> dict[str, SecretInfo]:
        texts = {key: self._to_json(key, value) for key, value in values.items()}
        left, written = sorted(texts), dict[str, SecretInfo]()
        if not left:
            return written
        heads, data_key = self._prepare_to_seal(left)
        for _ in range(_GOES):
            seen = None if expected_version is None else self._expected_head(heads, left[0], expected_version)
            infos = self._repository.write(
                [self._sealed(data_key, heads, key, texts[key]) for key in left],
                labels=labels,
                expires_at=expires_at,
                was_deleted=None if seen is None else seen.is_deleted,
                actor=self._actor,
            )
            written.update((info.key, info) for info in infos)
            left = sorted(texts.keys() - written.keys())
            if not left:
                return {key: written[key] for key in values}
            heads = self._find_heads(left)
        raise StoreUnavailableError(
            f"PostgreSQL did not store all secrets of namespace {self._namespace!r}; look for triggers on its tables"
        )

    def _to_json(self, key: Key, value: object) -> bytes:
        name = f"the value of {key!r} in namespace {self._namespace!r}"
        return to_json(value, name=name, max_bytes=self._max_value_bytes)

    def _sealed(self, data_key: Aead, heads: Heads, key: Key, text: bytes) -> NewVersion:
        version = heads.of(key).version + 1
        return NewVersion(key, version, seal_value(data_key, text, ValuePlace(self._namespace, key, version)).as_json())

    def _prepare_to_seal(self, keys: list[Key]) -> tuple[Heads, Aead]:
        """Return heads, and the data key that seals until the end of the write, whatever happens to it meanwhile.

        Whatever may have to wait for a key server happens here, before anything is written.
        """
        heads = self._find_heads(keys)
        if self._data_keys.renew_if_used_up(heads.data_key_id, seals=len(keys)):
            heads = self._find_heads(keys)
        return heads, self._data_keys.get(heads.data_key_id)

    def _find_heads(self, keys: list[Key]) -> Heads:
        heads = self._repository.find_heads(keys)
        if heads is None:
            self._data_keys.add_first()
            heads = self._repository.find_heads(keys)
        if heads is None:
            raise StoreUnavailableError(
                f"PostgreSQL did not store the first data key of namespace {self._namespace!r}; look for triggers and "
                "row-level security on its tables"
            )
        return heads

    def _expected_head(self, heads: Heads, key: Key, expected_version: int) -> Head:
        head = heads.of(key)
        if head.live_version != expected_version:
            raise VersionConflictError(self._namespace, key, expected_version, head.live_version)
        return head


def _parse_page(prefix: str, after: str | None, limit: int | None) -> Page:
    if limit is not None and limit < 1:
        raise ValueError(f"a limit is 1 or more, not {limit}")
    return Page(parse_prefix(prefix), "" if after is None else parse_prefix(after), limit)


def _checked_version(version: Any) -> int | None:  # whatever a caller without a type checker gave
    if version is None:
        return None
    if isinstance(version, bool) or not isinstance(version, int) or not 0 <= version <= _MAX_VERSION:
        raise ValueError("a version is a number: 1 or more, or 0 for `must not exist`")
    return version


def _checked_time(time: datetime | None) -> datetime | None:
    if time is not None and time.tzinfo is None:
        raise InvalidSecretValueError("expires_at has no time zone; write datetime.now(UTC) + …")
    return time
