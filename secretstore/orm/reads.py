"""How secrets are read, wherever the statements run; and on connections of a pool, one statement at a time."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

from sqlalchemy import Executable

from secretstore.domain.names import Key, Namespace, prefix_end
from secretstore.domain.records import SecretInfo
from secretstore.orm import key_statements, statements
from secretstore.orm.execute import fetch_outside
from secretstore.orm.lending import Lender
from secretstore.orm.visibility import check_may


class StoredValue(NamedTuple):
    """An envelope as it is stored, and where it stands; None where it is gone for good."""

    key: Key
    version: int
    envelope: Mapping[str, object] | None


# As `_make` does, without a step in Python for each row of a batch.
_stored_value = partial(tuple.__new__, StoredValue)


@dataclass(frozen=True, slots=True)
class ValueToKeep:
    """An envelope that a reader keeps, and for how many seconds it may; None for ever."""

    value: StoredValue
    seconds_left: float | None


@dataclass(frozen=True, slots=True)
class State:
    """All that a file has of a secret."""

    value: StoredValue
    labels: Mapping[str, str]
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class WholeSecret:
    """An envelope, and all that readers know of the secret beside it."""

    value: StoredValue
    info: SecretInfo


@dataclass(frozen=True, slots=True)
class Page:
    """A range of keys: those that begin with `prefix` and come after `after`."""

    prefix: str = ""
    after: str = ""
    limit: int | None = None

    def parameters(self) -> dict[str, object]:
        """Return the page as parameters of a statement."""
        return {
            "prefix": self.prefix,
            "prefix_end": prefix_end(self.prefix),
            "after": self.after,
            "limit": self.limit,
        }


class SecretReads(ABC):
    """Reads the secrets of one namespace."""

    namespace: Namespace

    @abstractmethod
    def _fetch(self, statement: Executable, values: dict[str, object]) -> Sequence[Any]:
        """Return the rows of a statement on the namespace."""

    def find_value(self, key: Key, version: int | None = None) -> StoredValue | None:
        """Return the envelope of a secret that is there, in its current or a given version.

        It is said to be of the key that was asked for, so that the row of another one would not open.
        """
        if version is not None:
            return self._find_value_of_version(key, version)
        rows = self._fetch(statements.select_value(), {"key": key})
        if not rows:
            return None
        number, envelope, is_gone = rows[0]
        return None if is_gone else _stored_value((key, number, envelope))

    def _find_value_of_version(self, key: Key, version: int) -> StoredValue | None:
        rows = self._fetch(statements.select_value_of_version(), {"key": key, "version": version})
        return StoredValue(key, version, rows[0].value) if rows else None

    def find_value_to_keep(self, key: Key) -> ValueToKeep | None:
        """Return the envelope of a secret that is there, and how long it may be kept."""
        rows = self._fetch(statements.select_value_to_keep(), {"key": key})
        return ValueToKeep(StoredValue(key, *rows[0][:2]), rows[0].seconds_left) if rows else None

    def find_values(self, keys: Sequence[Key]) -> list[StoredValue]:
        """Return the envelopes of those secrets that are there, in no order."""
        return list(map(_stored_value, self._fetch(statements.select_values(), {"keys": keys})))

    def find_whole_secrets(self, keys: Sequence[Key]) -> list[WholeSecret]:
        """Return those of the secrets that are there, whole, in no order."""
        return [_whole_of(row) for row in self._fetch(statements.select_whole_secrets(), {"keys": keys})]

    def list_values(self, page: Page) -> list[StoredValue]:
        """Return a page of envelopes by key."""
        return list(map(_stored_value, self._fetch(statements.select_page_of_values(), page.parameters())))

    def list_states(self, page: Page) -> list[State]:
        """Return a page of all that a file has of secrets."""
        return [state_of(row) for row in self._fetch(statements.select_page_of_states(), page.parameters())]

    def check_may(self, keys: Iterable[str], *abilities: str) -> None:
        """Raise `PermissionDeniedError` where the role may do none of this with keys that were not found."""
        check_may(self._fetch, self.namespace, keys, frozenset(abilities))

    def find_info(self, key: Key) -> SecretInfo | None:
        """Return what is known of a secret without its value."""
        rows = self._fetch(statements.select_info(), {"key": key})
        return info_of(rows[0]) if rows else None


class PooledReads(SecretReads):
    """Reads on connections of a pool: each statement is a transaction of its own."""

    def __init__(self, lender: Lender, namespace: Namespace) -> None:
        self.namespace = namespace
        self._lender = lender

    def find_wrapped(self, data_key_id: str) -> Mapping[str, object] | None:
        """Return a data key as it is stored."""
        rows = self._fetch(key_statements.select_wrapped_data_key(), {"data_key_id": data_key_id})
        wrapped: Mapping[str, object] | None = rows[0].wrapped if rows else None
        return wrapped

    def _fetch(self, statement: Executable, values: dict[str, object]) -> Sequence[Any]:
        values["namespace"] = self.namespace
        return fetch_outside(self._lender, statement, values)


def state_of(row: Any) -> State:  # of SQLAlchemy or of `wire`
    """Return a row as a record."""
    return State(StoredValue(row.key, row.version, row.value), row.labels, row.expires_at)


def info_of(row: Any) -> SecretInfo:  # ditto
    """Return a row as a record."""
    return SecretInfo(**row._asdict())


def _whole_of(row: Any) -> WholeSecret:  # ditto
    columns = row._asdict()
    value = StoredValue(row.key, row.version, columns.pop("value"))
    return WholeSecret(value, SecretInfo(**columns))
