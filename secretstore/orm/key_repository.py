"""Runs the statements on data keys, and on the envelopes under them, on a session that belongs to the caller."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import Executable, Result
from sqlalchemy.orm import Session

from secretstore.domain.key_records import DataKeyInfo, StoredDataKey
from secretstore.domain.names import Namespace
from secretstore.domain.protocols import DataKeyPlace
from secretstore.orm import key_statements as statements
from secretstore.orm.execute import execute
from secretstore.orm.key_statements import ValueTable
from secretstore.orm.models import DataKey
from secretstore.orm.visibility import may_update

_WHY_KEPT = {
    "active": "it is the active one",
    "audit": "it authenticates the record of changes",
    None: "there is none of this id",
}


@dataclass(frozen=True, slots=True)
class DataKeysOfNamespace:
    """The data keys of a namespace that open values."""

    active: StoredDataKey | None
    retired: tuple[StoredDataKey, ...]


@dataclass(frozen=True, slots=True)
class MasterKeyUse:
    """How many data keys a master key wraps, since when, and the first namespace of theirs."""

    id: str
    data_keys: int
    since: datetime
    namespace: str


@dataclass(frozen=True, slots=True)
class SealedValue:
    """An envelope, as the JSON text that PostgreSQL has for it, and the version of a secret that it is of."""

    key: str
    version: int
    data_key_id: str
    text: str

    @property
    def envelope(self) -> object:
        """The envelope as an object, or None where someone has put something there that Python cannot read."""
        with suppress(ValueError, RecursionError):
            return json.loads(self.text)
        return None


@dataclass(frozen=True, slots=True)
class Replacement:
    """A new envelope, as JSON text, for one that was read."""

    seen: SealedValue
    envelope: str


class DataKeyRepository:
    """The data keys of one namespace, on the caller's session, whose transaction stays the caller's."""

    def __init__(self, session: Session, namespace: Namespace) -> None:
        self._session = session
        self._namespace = namespace

    def find_wrapped(self, data_key_id: str) -> Mapping[str, object] | None:
        """Return a data key as it is stored."""
        found = self._execute(statements.select_wrapped_data_key(), data_key_id=data_key_id)
        wrapped: Mapping[str, object] | None = found.scalar_one_or_none()
        return wrapped

    def list_stored(self) -> DataKeysOfNamespace:
        """Return the data keys that can be opened."""
        rows = self._execute(statements.select_data_keys_of_namespace()).all()
        stored = [(StoredDataKey(DataKeyPlace(row.namespace, row.id), row.wrapped), row.is_active) for row in rows]
        return DataKeysOfNamespace(
            active=next((key for key, is_active in stored if is_active), None),
            retired=tuple(key for key, is_active in stored if not is_active),
        )

    def list_ids(self) -> list[str]:
        """Return the ids of the data keys that open values, in no order."""
        return list(self._execute(statements.select_data_key_ids()).scalars())

    def find_audit(self) -> StoredDataKey | None:
        """Return the key that authenticates checkpoints, if there is one."""
        return next(iter(_stored(self._execute(statements.select_audit_keys()))), None)

    def add_audit(self, data_key_id: str, wrapped: Mapping[str, object]) -> None:
        """Store a key that authenticates checkpoints, unless the namespace has one by then."""
        self._execute(statements.insert_audit_key(), data_key_id=data_key_id, wrapped=wrapped)

    def list_infos(self) -> list[DataKeyInfo]:
        """Return what is known of the data keys of the namespace; counts its values."""
        return _infos(self._execute(statements.select_infos(of_all=False)))

    def add(self, data_key_id: str, wrapped: Mapping[str, object]) -> None:
        """Store a data key as the active one, unless the namespace has one by then."""
        self._execute(statements.insert_data_key(), data_key_id=data_key_id, wrapped=wrapped)

    def replace_active(self, data_key_id: str, wrapped: Mapping[str, object]) -> None:
        """Retire the active data key, if there is one, and store another in its place."""
        self._execute(statements.retire_active_data_key())
        self.add(data_key_id, wrapped)

    def retire_used_up(self, data_key_id: str) -> bool:
        """Retire a data key unless someone else has done so or is about to; return whether it was done here."""
        retired = self._execute(statements.retire_used_up_data_key(), data_key_id=data_key_id)
        return retired.scalar_one_or_none() is not None

    def may_retire(self) -> bool:
        """Return whether this role may retire data keys; one that is limited to some keys of secrets may not."""
        return may_update(self._session, DataKey.__tablename__, DataKey.state.key)

    def lock_active(self, data_key_id: str) -> bool:
        """Keep a data key from being taken away until the transaction ends; return whether it is still active."""
        locked = self._execute(statements.lock_active_data_key(), data_key_id=data_key_id)
        return locked.scalar_one_or_none() is not None

    def record_use(self, data_key_id: str, seals: int) -> int:
        """Record so many seals, and return how many are recorded by now."""
        total = self._execute(statements.record_use(), data_key_id=data_key_id, seals=seals, use_id=uuid4())
        return int(total.scalar_one())

    def update_wrapped(self, data_key_id: str, seen: Mapping[str, object], wrapped: Mapping[str, object]) -> bool:
        """Put a data key's new wrapping in the place of the one that was read; return whether it was still there."""
        updated = self._execute(
            statements.update_wrapped_data_key(), data_key_id=data_key_id, seen=seen, wrapped=wrapped
        )
        return updated.scalar_one_or_none() is not None

    def destroy(self, data_key_id: str) -> str | None:
        """Remove a retired data key that no value needs; return what it is that keeps it, or None if it is gone.

        Waits for those who seal with it, and nobody can begin to.
        """
        state: str | None = self._execute(statements.lock_data_key(), data_key_id=data_key_id).scalar_one_or_none()
        if state != "retired":
            return _WHY_KEPT[state]
        if self._execute(statements.select_is_needed(), data_key_id=data_key_id).scalar_one():
            return "values need it, old or deleted ones perhaps"
        self._execute(statements.delete_data_key(), data_key_id=data_key_id)
        return None

    def shred(self, wrapped: Mapping[str, object]) -> list[str]:
        """Put `wrapped` in the place of every data key, and return the ids of all that were ever shredded."""
        self._execute(statements.lock_data_keys())
        self._execute(statements.shred_data_keys(), wrapped=wrapped)
        return list(self._execute(statements.select_shredded_data_keys()).scalars())

    def count_sealed(self, data_key_ids: Sequence[str]) -> int:
        """Return how many values there are under some data keys, those of history too."""
        found = self._execute(statements.select_count_of_sealed(), data_key_ids=list(data_key_ids))
        return int(found.scalar_one())

    def list_sealed(
        self, table: ValueTable, data_key_ids: Sequence[str], *, after: tuple[str, int], limit: int
    ) -> list[SealedValue]:
        """Return a page of envelopes under some data keys; `after` is a key and a version."""
        rows = self._execute(
            statements.select_page_of_sealed(table),
            data_key_ids=list(data_key_ids),
            after_key=after[0],
            after_version=after[1],
            limit=limit,
        )
        return [SealedValue(row.key, row.version, row.data_key_id, row.text) for row in rows]

    def replace_envelopes(self, table: ValueTable, replacements: Sequence[Replacement], *, skip_locked: bool) -> int:
        """Put new envelopes in the place of those that were read, and return how many were still the same."""
        replaced = self._execute(
            statements.replace_envelopes(table, skip_locked=skip_locked),
            keys=[one.seen.key for one in replacements],
            versions=[one.seen.version for one in replacements],
            seen=[one.seen.text for one in replacements],
            envelopes=[one.envelope for one in replacements],
        )
        return int(replaced.scalar_one())

    def _execute(self, statement: Executable, **parameters: object) -> Result[Any]:
        return execute(self._session, statement, namespace=self._namespace, **parameters)


def list_data_keys_in_use(session: Session) -> list[StoredDataKey]:
    """Return the data keys of all namespaces that seal or authenticate, as a check of all of them needs them."""
    return _stored(execute(session, statements.select_data_keys_in_use()))


def list_data_keys_to_rewrap(
    session: Session, *, not_under: str | None, after: tuple[str, str], limit: int
) -> list[StoredDataKey]:
    """Return a page of the data keys of all namespaces, without those that `not_under` wraps."""
    return _stored(
        execute(
            session,
            statements.select_data_keys_to_rewrap(),
            master_key_id=not_under,
            after_namespace=after[0],
            after_id=after[1],
            limit=limit,
        )
    )


def list_master_key_uses(session: Session) -> list[MasterKeyUse]:
    """Return what each master key wraps."""
    rows = execute(session, statements.select_master_keys())
    return [MasterKeyUse(row.master_key_id, row.data_keys, row.since, row.namespace) for row in rows]


def list_all_data_key_infos(session: Session) -> list[DataKeyInfo]:
    """Return what is known of the data keys of all namespaces; counts all values."""
    return _infos(execute(session, statements.select_infos(of_all=True)))


def list_namespaces(session: Session) -> list[str]:
    """Return the namespaces that have a data key."""
    return list(execute(session, statements.select_namespaces()).scalars())


def most_seals(session: Session) -> int:
    """Return about how many seals the most used of all active data keys has made."""
    return int(execute(session, statements.select_most_used()).scalar_one())


def _stored(rows: Result[Any]) -> list[StoredDataKey]:
    return [StoredDataKey(DataKeyPlace(row.namespace, row.id), row.wrapped) for row in rows]


def _infos(rows: Result[Any]) -> list[DataKeyInfo]:
    # A value is a seal too, of which the sample may have no record yet.
    return [DataKeyInfo(**{**row._asdict(), "seals": max(int(row.seals), row.values)}) for row in rows]
