"""Runs the statements of one namespace on a session that belongs to the caller."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import Executable, Result, Row
from sqlalchemy.orm import Session

from secretstore.domain.names import Key, Namespace, parse_namespace, prefix_end
from secretstore.domain.records import SecretInfo
from secretstore.orm import statements
from secretstore.orm.execute import execute


@dataclass(frozen=True, slots=True)
class StoredValue:
    """An envelope as it is stored, and where it stands."""

    key: Key
    version: int
    envelope: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class StoredSecret:
    """A secret as it is stored, also one that readers do not see, and when it last changed."""

    value: StoredValue
    updated_at: datetime
    is_deleted: bool
    is_live: bool


@dataclass(frozen=True, slots=True)
class Head:
    """What a writer has to know of a key: its version is 0 where nothing was ever written."""

    version: int = 0
    is_deleted: bool | None = None
    is_live: bool = False

    @property
    def live_version(self) -> int:
        """The version that readers see, or 0."""
        return self.version if self.is_live else 0


@dataclass(frozen=True, slots=True)
class Heads:
    """The active data key of the namespace, and the heads of some keys."""

    data_key_id: str
    by_key: Mapping[Key, Head]

    def of(self, key: Key) -> Head:
        """Return the head of a key, also of one that was never written."""
        return self.by_key.get(key, Head())


@dataclass(frozen=True, slots=True)
class NewVersion:
    """A sealed value to be written."""

    key: Key
    version: int
    envelope: str


@dataclass(frozen=True, slots=True)
class Times:
    """When a secret was first written, and when it last changed, in the place that it comes from."""

    created_at: datetime
    updated_at: datetime


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


class SecretRepository:
    """The rows of one namespace, on the caller's session.

    It never commits, rolls back, flushes or closes: the transaction is the caller's.  Statements run on the session's
    connection, so entities that the session has loaded before do not change under the caller.
    """

    def __init__(self, session: Session, *, namespace: str = "default") -> None:
        self.session = session
        self.namespace: Namespace = parse_namespace(namespace)

    def find_value(self, key: Key, version: int | None = None) -> StoredValue | None:
        """Return the envelope of a secret that is there, in its current or a given version."""
        statement = statements.select_value() if version is None else statements.select_value_of_version()
        row = self._execute(statement, key=key, **({} if version is None else {"version": version})).one_or_none()
        return None if row is None else _stored_value(row)

    def find_values(self, keys: Sequence[Key]) -> list[StoredValue]:
        """Return the envelopes of those secrets that are there, in no order."""
        return [_stored_value(row) for row in self._execute(statements.select_values(), keys=list(keys))]

    def find_stored(self, keys: Sequence[Key]) -> dict[Key, StoredSecret]:
        """Return those secrets that were ever written, deleted and expired ones too."""
        rows = self._execute(statements.select_stored(), keys=list(keys))
        return {row.key: StoredSecret(_stored_value(row), row.updated_at, row.is_deleted, row.is_live) for row in rows}

    def list_values(self, page: Page) -> list[StoredValue]:
        """Return a page of envelopes by key."""
        return [_stored_value(row) for row in self._execute(statements.select_page_of_values(), **page.parameters())]

    def list_keys(self, page: Page) -> list[str]:
        """Return a page of keys."""
        return list(self._execute(statements.select_page_of_keys(), **page.parameters()).scalars())

    def list_infos(self, page: Page, labels: Mapping[str, str] | None = None) -> list[SecretInfo]:
        """Return a page of records without values, of those secrets only that carry all of `labels`."""
        statement = statements.select_page_of_infos(by_labels=bool(labels))
        wanted = {"labels": labels} if labels else {}
        return [_info(row) for row in self._execute(statement, **page.parameters(), **wanted)]

    def find_info(self, key: Key) -> SecretInfo | None:
        """Return what is known of a secret without its value."""
        row = self._execute(statements.select_info(), key=key).one_or_none()
        return None if row is None else _info(row)

    def count(self, prefix: str) -> int:
        """Return how many secrets have keys with a prefix."""
        parameters = Page(prefix).parameters()
        del parameters["limit"]
        return int(self._execute(statements.select_count(), **parameters).scalar_one())

    def find_heads(self, keys: Sequence[Key]) -> Heads | None:
        """Return heads and the active data key, locked against its end; None where the namespace has none."""
        rows = self._execute(statements.select_heads(), keys=list(keys)).all()
        if not rows:
            return None
        found = {row.key: Head(row.version, row.is_deleted, row.is_live) for row in rows if row.key is not None}
        return Heads(rows[0].data_key_id, found)

    def write(
        self,
        versions: Sequence[NewVersion],
        *,
        labels: Mapping[str, str] | None,
        expires_at: datetime | None,
        was_deleted: bool | None,
        actor: str | None,
        times: Sequence[Times] | None = None,
    ) -> list[SecretInfo]:
        """Write heads, history and change events; return those whose head was still the one before.

        The others are locked by now: read their heads again and write once more.
        With `times`, one for each version, it is an import: a head that changed at that time or later stays as it is.
        """
        rows = self._execute(
            statements.write_secrets() if times is None else statements.import_secrets(),
            keys=[new.key for new in versions],
            versions=[new.version for new in versions],
            envelopes=[new.envelope for new in versions],
            event_ids=[uuid4() for _ in versions],
            labels=labels,
            expires_at=expires_at,
            was_deleted=was_deleted,
            actor=actor,
            **_arrays_of(times),
        )
        return [_info(row) for row in rows]

    def delete(self, keys: Sequence[Key], *, actor: str | None) -> int:
        """Mark secrets as deleted, record it, and return how many there were."""
        rows = self._execute(
            statements.delete_secrets(), keys=list(keys), event_ids=[uuid4() for _ in keys], actor=actor
        )
        return int(rows.scalar_one())

    def _execute(self, statement: Executable, **parameters: object) -> Result[Any]:
        return execute(self.session, statement, namespace=self.namespace, **parameters)


def _arrays_of(times: Sequence[Times] | None) -> dict[str, object]:
    if times is None:
        return {}
    return {
        "created_ats": [moment.created_at for moment in times],
        "updated_ats": [moment.updated_at for moment in times],
    }


def _stored_value(row: Row[Any]) -> StoredValue:
    return StoredValue(row.key, row.version, row.value)


def _info(row: Row[Any]) -> SecretInfo:
    return SecretInfo(**row._asdict())
