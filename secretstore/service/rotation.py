"""Changes of data keys and of the values under them, online: nothing is locked for longer than a step.

Whatever is broken off, at any moment and by any means, goes on when it is begun again: all that is known of it is in the
tables.  A new key is stored before anything is sealed with it, a value is replaced only while it still is what was read,
and a data key is removed only while nothing names it.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from sqlalchemy.orm import Session

from secretstore.crypto.aead import Aead
from secretstore.crypto.envelope import Envelope, ValuePlace, open_value, seal_value, shredded
from secretstore.crypto.keyring import KeyRing
from secretstore.domain.acting import ANYBODY, Actors
from secretstore.domain.key_records import DataKeyInfo, Reencryption, StoredDataKey
from secretstore.domain.names import Namespace
from secretstore.domain.protocols import DataKeyPlace
from secretstore.errors import DecryptionError, KeyInUseError
from secretstore.orm.event_repository import EventRepository
from secretstore.orm.key_repository import (
    DataKeyRepository,
    DataKeysOfNamespace,
    Replacement,
    SealedValue,
    list_all_data_key_infos,
    list_namespaces,
)
from secretstore.orm.key_statements import ValueTable
from secretstore.orm.models import SecretStore, SecretVersion
from secretstore.service.flows import Flow, InTransaction, OnProgress, Outside

PAGE = 200
# Pages of large values have fewer rows, so that what is held at once does not grow with the size of values.
PAGE_CHARACTERS = 4 * 1024 * 1024

_FIRST_PAGE = 4
_TABLES: tuple[ValueTable, ...] = (SecretVersion, SecretStore)
_BEFORE_EVERYTHING = ("", 0)
_SHOWN_EXAMPLES = 10


def rotate(
    keyring: KeyRing, namespace: Namespace, on_progress: OnProgress, *, actors: Actors = ANYBODY
) -> Flow[Reencryption]:
    """Give a namespace a new data key, and re-encrypt all its values under it."""
    by = actors.acting()
    before: DataKeysOfNamespace = yield InTransaction(lambda s: DataKeyRepository(s, namespace).list_stored())
    if before.active is not None:
        # A ring with other bytes under the same id would make a data key that nobody else can open.
        yield from _opened(keyring, before.active)
    new = yield Outside(partial(keyring.new_data_key, namespace))

    def replace(session: Session) -> None:
        DataKeyRepository(session, namespace).replace_active(new.id, new.wrapped)
        EventRepository(session, namespace).record("rotate", by)

    yield InTransaction(replace)
    return (yield from reencrypt(keyring, namespace, on_progress))


def reencrypt(keyring: KeyRing, namespace: Namespace, on_progress: OnProgress) -> Flow[Reencryption]:
    """Re-encrypt the values that are not under the active data key of a namespace, current and old ones."""
    resealed = _Resealed(namespace)
    while True:
        data_keys: DataKeysOfNamespace = yield InTransaction(lambda s: DataKeyRepository(s, namespace).list_stored())
        if data_keys.active is None:
            return resealed.under("")
        if (yield from _reseal_under(keyring, data_keys, resealed, on_progress)):
            return resealed.under(data_keys.active.place.data_key_id)


def list_data_keys(namespace: Namespace, *, of_all: bool) -> Flow[list[DataKeyInfo]]:
    """Return what is known of the data keys of a namespace or of all; counts values."""

    def find(session: Session) -> list[DataKeyInfo]:
        return list_all_data_key_infos(session) if of_all else DataKeyRepository(session, namespace).list_infos()

    infos: list[DataKeyInfo] = yield InTransaction(find)
    return infos


def find_namespaces() -> Flow[list[str]]:
    """Return the namespaces that have a data key."""
    namespaces: list[str] = yield InTransaction(list_namespaces)
    return namespaces


def count_to_reencrypt(namespace: Namespace, *, with_active: bool) -> Flow[int]:
    """Return how many values a re-encryption would rewrite; with those under the active key, as a rotation would."""

    def count(session: Session) -> int:
        repository = DataKeyRepository(session, namespace)
        stored = repository.list_stored()
        active = [stored.active] if with_active and stored.active else []
        return repository.count_sealed([key.place.data_key_id for key in (*stored.retired, *active)])

    counted: int = yield InTransaction(count)
    return counted


def destroy(
    keyring: KeyRing,
    namespace: Namespace,
    data_key_id: str,
    let_go: Callable[[], object] = lambda: None,
    *,
    actors: Actors = ANYBODY,
) -> Flow[None]:
    """Remove a retired data key; raises `KeyInUseError` while any value, old or deleted ones too, needs it."""
    by = actors.acting()

    def remove(session: Session) -> str | None:
        kept = DataKeyRepository(session, namespace).destroy(data_key_id)
        if kept is None:
            EventRepository(session, namespace).record("destroy_data_key", by)
            _tell_of_everything(session, namespace)
        return kept

    kept: str | None = yield InTransaction(remove)
    place = DataKeyPlace(namespace, data_key_id)
    if kept:
        raise KeyInUseError(f"{place} stays: {kept}; see `secretstore keys list`, and `secretstore keys rotate`")
    keyring.forget(place)
    let_go()


def shred(
    keyring: KeyRing,
    namespace: Namespace,
    on_progress: OnProgress,
    let_go: Callable[[], object] = lambda: None,
    *,
    actors: Actors = ANYBODY,
) -> Flow[int]:
    """Destroy the data keys of a namespace, and then what they sealed; return how many values were taken away.

    The values are lost with the first step.  The others see to it that nothing is left for a process that has the data
    key in its memory.
    """
    by = actors.acting()

    def take_away(session: Session) -> list[str]:
        ids = DataKeyRepository(session, namespace).shred(shredded())
        EventRepository(session, namespace).record("shred", by)
        _tell_of_everything(session, namespace)
        return ids

    ids: list[str] = yield InTransaction(take_away)
    for data_key_id in ids:
        keyring.forget(DataKeyPlace(namespace, data_key_id))
    let_go()
    blanks = {data_key_id: json.dumps(shredded(data_key_id)) for data_key_id in ids}
    rewriting = _Rewriting(namespace, tuple(ids), lambda value: blanks[value.data_key_id])
    rewritten = yield from rewriting.run(on_progress)
    return rewritten or 0


def _tell_of_everything(session: Session, namespace: Namespace) -> None:
    # Whatever `notify` says: it is rare, and whoever keeps values in memory has to let go of all of them.
    EventRepository(session, namespace).notify(everything=True)


@dataclass(slots=True)
class _Resealed:
    """Counts what was re-encrypted, and what does not open."""

    namespace: Namespace
    values: int = 0
    unreadable: set[ValuePlace] = field(default_factory=set)

    def under(self, data_key_id: str) -> Reencryption:
        """Return what became of the values."""
        examples = sorted(map(str, self.unreadable))[:_SHOWN_EXAMPLES]
        return Reencryption(
            namespace=self.namespace,
            data_key_id=data_key_id,
            values=self.values,
            unreadable=len(self.unreadable),
            examples=tuple(examples),
        )


def _reseal_under(
    keyring: KeyRing, data_keys: DataKeysOfNamespace, resealed: _Resealed, on_progress: OnProgress
) -> Flow[bool]:
    """Re-encrypt under the active data key; return False where it was replaced meanwhile by another one."""
    assert data_keys.active is not None  # noqa: S101 - for the type checker: the caller has looked
    namespace = resealed.namespace
    active = yield from _opened(keyring, data_keys.active)
    needed = yield from _needed(namespace, data_keys.retired)
    opened: dict[str, Aead] = {}
    for stored in needed:
        opened[stored.place.data_key_id] = yield from _opened(keyring, stored)

    def reseal(value: SealedValue) -> str | None:
        place = ValuePlace(namespace, value.key, value.version)
        try:
            text = open_value(opened[value.data_key_id], Envelope.parse(value.envelope, place), place)
        except DecryptionError:
            resealed.unreadable.add(place)
            return None
        return seal_value(active, text, place).as_json()

    rewriting = _Rewriting(namespace, tuple(opened), reseal, sealing=(keyring, active.id))
    rewritten = yield from rewriting.run(on_progress)
    resealed.values += rewriting.rewritten
    return rewritten is not None


def _opened(keyring: KeyRing, stored: StoredDataKey) -> Flow[Aead]:
    at_hand = keyring.opened(*stored.place)
    return at_hand or (yield Outside(partial(keyring.open, stored.wrapped, stored.place)))


def _needed(namespace: Namespace, data_keys: Sequence[StoredDataKey]) -> Flow[list[StoredDataKey]]:
    """Return those data keys under which there are values: the others may not even open any more."""

    def find(session: Session) -> list[StoredDataKey]:
        used = {info.id for info in DataKeyRepository(session, namespace).list_infos() if info.values}
        return [key for key in data_keys if key.place.data_key_id in used]

    found: list[StoredDataKey] = yield InTransaction(find)
    return found


@dataclass(slots=True)
class _Rewriting:
    """Puts other envelopes in the place of those under some data keys, page by page, until there are none left."""

    namespace: Namespace
    data_key_ids: tuple[str, ...]
    make: Callable[[SealedValue], str | None]
    sealing: tuple[KeyRing, str] | None = None
    rewritten: int = 0

    def run(self, on_progress: OnProgress) -> Flow[int | None]:
        """Return how many were replaced, or None where the data key that seals is not the active one any more."""
        if not self.data_key_ids:
            return 0
        total = yield InTransaction(lambda session: self._repository(session).count_sealed(self.data_key_ids))
        on_progress(0, total)
        # Whoever holds a row is likely to replace it.  What is left of them is waited for in the end.
        skip_locked = True
        while found := (yield from self._pass(skip_locked, lambda: on_progress(min(self.rewritten, total), total))):
            skip_locked = False
        return None if found is None else self.rewritten

    def _pass(self, skip_locked: bool, report: Callable[[], object]) -> Flow[int | None]:  # noqa: FBT001 - private
        """Go through both tables once; return how many values there were to replace."""
        found = 0
        for table in _TABLES:
            after, limit = _BEFORE_EVERYTHING, _FIRST_PAGE
            while page := (yield InTransaction(partial(self._list, table, after, limit))):
                replacements: list[Replacement] = yield Outside(partial(self._replacements, page))
                if not (yield InTransaction(partial(self._replace, table, replacements, skip_locked=skip_locked))):
                    return None
                found += len(replacements)
                after = (page[-1].key, page[-1].version)
                limit = _next_limit(page, limit)
                report()
        return found

    def _list(self, table: ValueTable, after: tuple[str, int], limit: int, session: Session) -> list[SealedValue]:
        return self._repository(session).list_sealed(table, self.data_key_ids, after=after, limit=limit)

    def _replacements(self, page: Sequence[SealedValue]) -> list[Replacement]:
        made = [(value, self.make(value)) for value in page]
        return [Replacement(value, envelope) for value, envelope in made if envelope is not None]

    def _replace(
        self, table: ValueTable, replacements: Sequence[Replacement], session: Session, *, skip_locked: bool
    ) -> bool:
        repository = self._repository(session)
        if self.sealing is not None:
            keyring, data_key_id = self.sealing
            if not repository.lock_active(data_key_id):
                return False
            if seals := keyring.seals_to_record(len(replacements)):
                repository.record_use(data_key_id, seals)
        self.rewritten += repository.replace_envelopes(table, replacements, skip_locked=skip_locked)
        return True

    def _repository(self, session: Session) -> DataKeyRepository:
        return DataKeyRepository(session, self.namespace)


def _next_limit(page: Sequence[SealedValue], limit: int) -> int:
    """Return how many rows the next page may have, going by the size of those of the last one."""
    average = sum(len(value.text) for value in page) // len(page)
    return max(1, min(PAGE, 2 * limit, PAGE_CHARACTERS // average))
