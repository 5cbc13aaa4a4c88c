"""The methods that read values, of secrets as they are or as they were."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, Protocol, TypeVar, overload

from secretstore.crypto.aead import Aead
from secretstore.crypto.envelope import Envelope, ValuePlace, open_value
from secretstore.domain.accesses import Accessed, OnRead
from secretstore.domain.names import Key, Namespace, parse_key, parse_keys, parse_labels, parse_prefix
from secretstore.domain.records import SecretInfo
from secretstore.errors import SecretNotFoundError, VersionGoneError
from secretstore.orm.past_repository import PastRepository
from secretstore.orm.reads import Page, State, StoredValue
from secretstore.service.checks import checked_version, parse_page
from secretstore.service.data_keys import DataKeyFinder, DataKeyGoneError
from secretstore.service.references import resolve as resolve_references
from secretstore.service.typed import as_json_text, from_json_as

T = TypeVar("T")
D = TypeVar("D")

_MISSING = object()
# As the class does, without a step in Python for every value that is read.
_value_place = partial(tuple.__new__, ValuePlace)


class Source(Protocol):
    """Where envelopes are read."""

    def find_value(self, key: Key, version: int | None = None) -> StoredValue | None:
        """Return the envelope of a secret."""

    def find_values(self, keys: Sequence[Key]) -> list[StoredValue]:
        """Return the envelopes of many secrets."""

    def list_values(self, page: Page) -> list[StoredValue]:
        """Return a page of envelopes by key."""

    def list_states(self, page: Page) -> list[State]:
        """Return a page of all that a file has of secrets."""

    def find_info(self, key: Key) -> SecretInfo | None:
        """Return what is known of a secret without its value."""

    def check_may(self, keys: Iterable[str], *abilities: str) -> None:
        """Raise `PermissionDeniedError` where the role may do none of this with keys that were not found."""


# No tuple: tools that collect the locals of a failure take tuples apart, and would show the text.
# Nor frozen: every read makes one, and that would take it twice as long.
@dataclass(slots=True)
class OpenedValue:
    """A value as JSON text, and where it stands."""

    place: ValuePlace
    text: bytes = field(repr=False)


class SecretReader:
    """What can be read of the secrets of a namespace, from one source."""

    def __init__(
        self, source: Source, namespace: Namespace, data_keys: DataKeyFinder, *, on_read: OnRead | None = None
    ) -> None:
        self._source = source
        self._namespace = namespace
        self._data_keys = data_keys
        self._on_read = on_read

    @overload
    def get_secret(
        self, key: str, as_type: type[T], *, version: int | None = None, default: None = None, resolve: bool = False
    ) -> T | None: ...
    @overload
    def get_secret(
        self, key: str, as_type: type[T], *, version: int | None = None, default: D, resolve: bool = False
    ) -> T | D: ...
    # Plain JSON, and what no `type[T]` can say, such as a union: only the caller knows its shape.
    @overload
    def get_secret(
        self, key: str, as_type: Any = None, *, version: int | None = None, default: Any = None, resolve: bool = False
    ) -> Any: ...
    def get_secret(
        self, key: str, as_type: Any = None, *, version: int | None = None, default: Any = None, resolve: bool = False
    ) -> Any:
        """Return the value of a secret, or `default` where there is none: never written, deleted, or expired.

        `as_type` is anything that pydantic's `TypeAdapter` takes; a value that does not fit is an
        `InvalidSecretValueError`.  Without it the value is plain JSON.  `None` is a value too: `null`.
        With `resolve`, references `{"$ref": "other.key#/json/pointer"}` inside the value are replaced by what they point
        at in the same namespace; a cycle, a chain that is too long or a missing end is an `InvalidSecretValueError`.
        """
        value = self._read(key, as_type, version, resolve=resolve)
        return default if value is _MISSING else value

    @overload
    def get_secret_or_raise(
        self, key: str, as_type: type[T], *, version: int | None = None, resolve: bool = False
    ) -> T: ...
    @overload
    def get_secret_or_raise(
        self, key: str, as_type: Any = None, *, version: int | None = None, resolve: bool = False
    ) -> Any: ...
    def get_secret_or_raise(
        self, key: str, as_type: Any = None, *, version: int | None = None, resolve: bool = False
    ) -> Any:
        """Return the value of a secret, or raise `SecretNotFoundError`; see `get_secret`."""
        value = self._read(key, as_type, version, resolve=resolve)
        if value is _MISSING:
            raise SecretNotFoundError(self._namespace, key, version)
        return value

    @overload
    def get_secrets(self, keys: Iterable[str], as_type: type[T], *, resolve: bool = False) -> dict[str, T]: ...
    @overload
    def get_secrets(self, keys: Iterable[str], as_type: Any = None, *, resolve: bool = False) -> dict[str, Any]: ...
    def get_secrets(self, keys: Iterable[str], as_type: Any = None, *, resolve: bool = False) -> dict[str, Any]:
        """Return the values of those secrets that are there, in the order asked for, in one round trip.

        Where some are not, a second one tells those that are missing from those that this role may not see.
        """
        wanted = parse_keys(keys)
        found = self._read_all(lambda: self._source.find_values(wanted), as_type, resolve=resolve, asked=wanted)
        return {key: found[key] for key in wanted if key in found}

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
        """Return a page of values, sorted by key."""
        page = parse_page(prefix, after, limit)
        return self._read_all(lambda: self._source.list_values(page), as_type, resolve=resolve)

    def describe_secret(self, key: str) -> SecretInfo | None:
        """Return what is known of a secret without its value; never decrypts."""
        wanted = parse_key(key)
        found = self._source.find_info(wanted)
        if found is None:
            self._source.check_may([wanted], "list")
        return found

    def _read(self, key: str, as_type: Any, version: int | None, *, resolve: bool) -> Any:
        wanted = parse_key(key)
        opened = self._open_one(wanted, checked_version(version))
        if opened is None:
            self._source.check_may([wanted], "read" if version is None else "history")
        if self._on_read is not None:
            self._on_read([_accessed(wanted, opened)])
        if opened is None:
            return _MISSING
        if resolve:
            opened = self._resolved({wanted: opened})[wanted]
        return from_json_as(opened.text, as_type, name=opened.place)

    def _open_one(self, key: Key, version: int | None) -> OpenedValue | None:
        stored = self._source.find_value(key, version)
        if stored is None:
            return None
        try:
            return self._open(stored)
        except DataKeyGoneError:
            # Since its value was read, the data key may have been replaced and destroyed; then there is another envelope.
            stored = self._source.find_value(key, version)
            return None if stored is None else self._open(stored)

    def _read_all(
        self, find: Callable[[], Sequence[StoredValue]], as_type: Any, *, resolve: bool, asked: Sequence[Key] = ()
    ) -> dict[str, Any]:
        opened = self._open_all(find)
        self._tell_of(opened, asked)
        if resolve:
            opened = self._resolved(opened)
        return {key: from_json_as(value.text, as_type, name=value.place) for key, value in opened.items()}

    def _resolved(self, opened: Mapping[Key, OpenedValue]) -> dict[Key, OpenedValue]:
        resolved = resolve_references(_plain(opened), self._load_plain)
        return {key: OpenedValue(value.place, as_json_text(resolved[key])) for key, value in opened.items()}

    def _load_plain(self, keys: Sequence[Key]) -> dict[Key, Any]:
        opened = self._open_all(lambda: self._source.find_values(keys))
        self._tell_of(opened, keys)
        return _plain(opened)

    def _tell_of(self, opened: Mapping[Key, OpenedValue], asked: Sequence[Key]) -> None:
        # What was not asked for by name is there.
        missing = [key for key in asked if key not in opened] if len(opened) < len(asked) else []
        if missing:
            self._source.check_may(missing, "read")
        if self._on_read is not None and (opened or missing):
            self._on_read([_accessed(key, opened.get(key)) for key in (*opened, *missing)])

    def _open_all(self, find: Callable[[], Sequence[StoredValue]]) -> dict[Key, OpenedValue]:
        try:
            return self._opened(find())
        except DataKeyGoneError:
            # As above.
            return self._opened(find())

    def _opened(self, many: Sequence[StoredValue]) -> dict[Key, OpenedValue]:
        # Most of a batch have the same data key, which is looked up once.
        data_key = cache(self._data_keys.get)
        return {stored.key: self._open(stored, data_key) for stored in many}

    def _open(self, stored: StoredValue, data_key: Callable[[str], Aead] | None = None) -> OpenedValue:
        key, version, stored_envelope = stored
        place = _value_place((self._namespace, key, version))
        envelope = Envelope.parse(stored_envelope, place)
        aead = (data_key or self._data_keys.get)(envelope.key_id)
        return OpenedValue(place, open_value(aead, envelope, place))


class PastSecrets(SecretReader):
    """Secrets as they were at a moment: values, lists, labels; what was deleted since is there.

    A change counts from the moment of its statement, which is a little before its commit.  A value that is gone by now,
    because its version was pruned, destroyed or purged, is a `VersionGoneError`; it is listed and counted all the same.
    """

    __module__ = "secretstore"

    def __init__(
        self, source: PastRepository, namespace: Namespace, data_keys: DataKeyFinder, *, on_read: OnRead | None = None
    ) -> None:
        super().__init__(source, namespace, data_keys, on_read=on_read)
        self._past = source

    def _open(self, stored: StoredValue, data_key: Callable[[str], Aead] | None = None) -> OpenedValue:
        if stored.envelope is None:
            raise VersionGoneError(self._namespace, stored.key, stored.version)
        return super()._open(stored, data_key)

    def list_secret_keys(self, prefix: str = "", *, after: str | None = None, limit: int | None = None) -> list[str]:
        """Return keys in the order of their bytes; the next page comes `after` the last key of this one."""
        return self._past.list_keys(parse_page(prefix, after, limit))

    def get_secret_count(self, prefix: str = "") -> int:
        """Return how many secrets there were whose keys begin with `prefix`."""
        return self._past.count(parse_prefix(prefix))

    def list_secrets(
        self,
        prefix: str = "",
        *,
        labels: Mapping[str, str] | None = None,
        after: str | None = None,
        limit: int | None = None,
    ) -> list[SecretInfo]:
        """Return a page of records without values, of those secrets only that carried all of `labels`; never decrypts."""
        return self._past.list_infos(parse_page(prefix, after, limit), parse_labels(labels) or {})


def _accessed(key: Key, opened: OpenedValue | None) -> Accessed:
    return Accessed(key, outcome="missing") if opened is None else Accessed(key, opened.place.version)


def _plain(opened: Mapping[Key, OpenedValue]) -> dict[Key, Any]:
    return {key: from_json_as(value.text, None, name=value.place) for key, value in opened.items()}
