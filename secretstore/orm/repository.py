"""Runs the statements of one namespace on a session that belongs to the caller."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Executable, Result, Row
from sqlalchemy.orm import Session

from secretstore.domain.acting import Acting
from secretstore.domain.names import Key, Namespace, parse_namespace
from secretstore.domain.records import SecretInfo, VersionInfo
from secretstore.orm import statements, write_statements
from secretstore.orm.execute import execute, fetch
from secretstore.orm.reads import Page, SecretReads, State, StoredValue, info_of, state_of
from secretstore.orm.statements import Show


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
    max_versions: int | None = None

    @property
    def live_version(self) -> int:
        """The version that readers see, or 0."""
        return self.version if self.is_live else 0


_NEVER_WRITTEN = Head()


@dataclass(frozen=True, slots=True)
class Heads:
    """The active data key of the namespace, the heads of some keys, and a moment after their last changes."""

    data_key_id: str
    by_key: Mapping[Key, Head]
    moment: datetime

    def of(self, key: Key) -> Head:
        """Return the head of a key, also of one that was never written."""
        return self.by_key.get(key, _NEVER_WRITTEN)


@dataclass(frozen=True, slots=True)
class LockedHead:
    """A secret that nobody else changes until the transaction ends, deleted ones too."""

    version: int
    has_value: bool
    is_deleted: bool
    is_live: bool
    expires_at: datetime | None
    labels: Mapping[str, str]

    @property
    def live_version(self) -> int:
        """The version that readers see, or 0."""
        return self.version if self.is_live else 0

    @property
    def can_be_undeleted(self) -> bool:
        """Whether it was deleted, and its value is still there."""
        return self.is_deleted and self.has_value


@dataclass(frozen=True, slots=True)
class LockedHeads:
    """Locked secrets, and a moment after their last changes."""

    by_key: Mapping[Key, LockedHead]
    moment: datetime


@dataclass(frozen=True, slots=True)
class NewVersion:
    """A sealed value to be written."""

    key: Key
    version: int
    envelope: str
    labels: Mapping[str, str] = field(default_factory=dict)
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Excess:
    """How many versions of a key are beyond its limit, and the last of them."""

    key: Key
    up_to: int
    versions: int


@dataclass(frozen=True, slots=True)
class Times:
    """When a secret was first written, and when it last changed, in the place that it comes from."""

    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which secrets a list shows."""

    show: Show = Show.LIVE
    labels: Mapping[str, str] = field(default_factory=dict)
    expiring_within: timedelta | None = None
    unchanged_for: timedelta | None = None

    def parameters(self) -> dict[str, object]:
        """Return what the statement of the same selection needs."""
        wanted = {
            "labels": self.labels or None,
            "expiring_within": self.expiring_within,
            "unchanged_for": self.unchanged_for,
        }
        return {name: value for name, value in wanted.items() if value is not None}


class SecretRepository(SecretReads):
    """The rows of one namespace, on the caller's session.

    It never commits, rolls back, flushes or closes: the transaction is the caller's.  Statements run on the session's
    connection, so entities that the session has loaded before do not change under the caller.
    """

    __module__ = "secretstore"

    def __init__(self, session: Session, *, namespace: str = "default") -> None:
        self.session = session
        self.namespace: Namespace = parse_namespace(namespace)
        # Of an event of this transaction: whether it was committed is asked by it, where the answer to COMMIT was lost.
        self.last_event_id: UUID | None = None

    def find_stored(self, keys: Sequence[Key]) -> dict[Key, StoredSecret]:
        """Return those secrets that were ever written, deleted and expired ones too."""
        rows = self._execute(statements.select_stored(), keys=list(keys))
        return {row.key: StoredSecret(_stored_value(row), row.updated_at, row.is_deleted, row.is_live) for row in rows}

    def find_states(self, keys: Sequence[Key]) -> list[State]:
        """Return all that a file has of those secrets that are there, in no order."""
        return [state_of(row) for row in self._execute(statements.select_states(), keys=list(keys))]

    def list_keys(self, page: Page, show: Show = Show.LIVE) -> list[str]:
        """Return a page of keys."""
        return list(self._execute(statements.select_page_of_keys(show), **page.parameters()).scalars())

    def list_infos(self, page: Page, selection: Selection) -> list[SecretInfo]:
        """Return a page of records without values."""
        statement = statements.select_page_of_infos(
            selection.show,
            by_labels=bool(selection.labels),
            expiring=selection.expiring_within is not None,
            unchanged=selection.unchanged_for is not None,
        )
        return [info_of(row) for row in self._execute(statement, **page.parameters(), **selection.parameters())]

    def list_versions(self, key: Key) -> list[VersionInfo]:
        """Return what is known of every version of a secret, newest first."""
        return [VersionInfo(**row._asdict()) for row in self._execute(statements.select_versions(), key=key)]

    def count(self, prefix: str, show: Show = Show.LIVE) -> int:
        """Return how many secrets have keys with a prefix."""
        parameters = Page(prefix).parameters()
        del parameters["limit"]
        return int(self._execute(statements.select_count(show), **parameters).scalar_one())

    def find_heads(self, keys: Sequence[Key]) -> Heads | None:
        """Return heads and the active data key, locked against its end; None where the namespace has none."""
        rows = self._fetch(statements.select_heads(), {"keys": keys})
        if not rows:
            return None
        found = {
            row.key: Head(row.version, row.is_deleted, row.is_live, row.max_versions)
            for row in rows
            if row.key is not None
        }
        return Heads(rows[0].data_key_id, found, max(row.moment for row in rows))

    def write(
        self,
        versions: Sequence[NewVersion],
        *,
        moment: datetime,
        keeps_labels: bool,
        was_deleted: bool | None,
        by: Acting,
        action: str = "set",
        is_locked: bool = False,
        times: Sequence[Times] | None = None,
    ) -> list[SecretInfo]:
        """Write heads, history and change events; return those whose head was still the one before.

        The others are locked by now: read their heads again and write once more, with `is_locked`.  With `keeps_labels`
        the labels are those of new secrets only.
        With `times`, one for each version, it is an import: a head that changed at that time or later stays as it is.
        """
        event_ids = {new.key: uuid4() for new in versions}
        values: dict[str, object] = {
            "keys": [new.key for new in versions],
            "versions": [new.version for new in versions],
            "envelopes": [new.envelope for new in versions],
            "labels": [json.dumps(dict(new.labels)) if new.labels else "{}" for new in versions],
            "expires_ats": [new.expires_at for new in versions],
            "event_ids": list(event_ids.values()),
            "keeps_labels": keeps_labels,
            "was_deleted": was_deleted,
            "action": action,
            "actor": by.actor,
            "request_id": by.request_id,
            "moment": moment,
        }
        if times is None:
            rows = self._fetch(write_statements.write_secrets(), {**values, "is_locked": is_locked})
        else:
            rows = self._fetch(write_statements.import_secrets(), {**values, **_arrays_of(times)})
        infos = [info_of(row) for row in rows]
        if infos:
            self.last_event_id = event_ids[Key(infos[0].key)]
        return infos

    def lock(self, keys: Sequence[Key]) -> LockedHeads | None:
        """Lock those secrets that were ever written; None where none of them was."""
        rows = self._execute(write_statements.lock_heads(), keys=list(keys)).all()
        if not rows:
            return None
        heads = {row.key: _locked_head(row) for row in rows}
        return LockedHeads(heads, max(row.moment for row in rows))

    def delete(self, keys: Sequence[Key], *, moment: datetime, by: Acting) -> None:
        """Mark locked secrets as deleted."""
        self._change(write_statements.delete_secrets(), keys, moment=moment, by=by)

    def undelete(self, key: Key, *, moment: datetime, by: Acting) -> SecretInfo:
        """Take the mark from a locked secret."""
        return self._change(write_statements.undelete_secrets(), [key], moment=moment, by=by)[0]

    def set_labels(self, key: Key, labels: Mapping[str, str], *, moment: datetime, by: Acting) -> SecretInfo:
        """Give a locked secret other labels."""
        return self._change(write_statements.set_labels(), [key], moment=moment, by=by, labels=labels)[0]

    def purge(self, keys: Sequence[Key], *, moment: datetime, by: Acting) -> None:
        """Leave nothing of locked secrets but the numbers of their last versions."""
        self._change(write_statements.purge_secrets(), keys, moment=moment, by=by)

    def destroy(self, key: Key, versions: Sequence[int], *, moment: datetime, by: Acting) -> list[int]:
        """Remove the envelopes of some versions of a locked secret, and return which were still there."""
        event_ids = {version: uuid4() for version in versions}
        rows = self._execute(
            write_statements.destroy_versions(),
            key=key,
            versions=list(event_ids),
            event_ids=list(event_ids.values()),
            moment=moment,
            actor=by.actor,
            request_id=by.request_id,
        )
        destroyed: list[int] = sorted(rows.scalars())
        if destroyed:
            self.last_event_id = event_ids[destroyed[0]]
        return destroyed

    def prune(self, up_to: Mapping[Key, int]) -> int:
        """Remove the versions of each key up to a number, and return how many there were."""
        pruned = self._execute(write_statements.prune_versions(), keys=list(up_to), versions=list(up_to.values()))
        return int(pruned.scalar_one())

    def list_to_prune(self, *, before: datetime, after: str, limit: int) -> list[Excess]:
        """Return a page of keys that have more versions than they may, and were not deleted or expired before a time."""
        rows = self._execute(write_statements.select_page_to_prune(), before=before, after=after, limit=limit)
        return [Excess(row.key, row.version, row.versions) for row in rows]

    def list_to_purge(self, *, before: datetime, after: str, limit: int) -> list[Key]:
        """Return a page of keys of secrets that were deleted or expired before a time."""
        rows = self._execute(write_statements.select_page_to_purge(), before=before, after=after, limit=limit)
        return list(rows.scalars())

    def limit_namespace(self, max_versions: int | None) -> None:
        """Set how many versions of a secret the namespace keeps."""
        self._execute(write_statements.limit_namespace(), max_versions=max_versions)

    def limit_secret(self, key: Key, max_versions: int | None) -> bool:
        """Set how many versions of a secret are kept; return whether it is there."""
        limited = self._execute(write_statements.limit_secret(), key=key, max_versions=max_versions)
        return limited.scalar_one_or_none() is not None

    def now(self) -> datetime:
        """Return what time it is in the database."""
        moment: datetime = self._execute(write_statements.select_now()).scalar_one()
        return moment

    def _change(self, statement: Executable, keys: Sequence[Key], by: Acting, **parameters: object) -> list[SecretInfo]:
        event_ids = {key: uuid4() for key in keys}
        rows = self._execute(
            statement,
            keys=list(event_ids),
            event_ids=list(event_ids.values()),
            actor=by.actor,
            request_id=by.request_id,
            **parameters,
        )
        infos = [info_of(row) for row in rows]
        if infos:
            self.last_event_id = event_ids[Key(infos[0].key)]
        return infos

    def _fetch(self, statement: Executable, values: dict[str, object]) -> Sequence[Any]:
        values["namespace"] = self.namespace
        return fetch(self.session, statement, values)

    def _execute(self, statement: Executable, **parameters: object) -> Result[Any]:
        return execute(self.session, statement, namespace=self.namespace, **parameters)


def _arrays_of(times: Sequence[Times]) -> dict[str, object]:
    return {
        "created_ats": [moment.created_at for moment in times],
        "updated_ats": [moment.updated_at for moment in times],
    }


def _stored_value(row: Row[Any]) -> StoredValue:
    return StoredValue(row.key, row.version, row.value)


def _locked_head(row: Row[Any]) -> LockedHead:
    return LockedHead(**{name: member for name, member in row._asdict().items() if name not in {"key", "moment"}})
