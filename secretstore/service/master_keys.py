"""What depends on master keys, and the change from one to another; values are not touched."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from sqlalchemy.orm import Session

from secretstore.crypto.keyring import KeyRing
from secretstore.domain.acting import ANYBODY, Acting, Actors
from secretstore.domain.key_records import DataKeyInfo, MasterKeyInfo, StoredDataKey
from secretstore.domain.names import parse_namespace
from secretstore.errors import DecryptionError, KeyInUseError, MasterKeyError
from secretstore.orm.event_repository import EventRepository
from secretstore.orm.key_repository import (
    DataKeyRepository,
    MasterKeyUse,
    list_all_data_key_infos,
    list_data_keys_to_rewrap,
    list_master_key_uses,
)
from secretstore.service.flows import Flow, InTransaction, OnProgress, Outside

PAGE = 100

_BEFORE_EVERYTHING = ("", "")


@dataclass(frozen=True, slots=True)
class _Rewrapped:
    """A data key in its new wrapping, or why it has none."""

    stored: StoredDataKey
    wrapped: dict[str, object] | None
    problem: str = ""


def rewrap(keyring: KeyRing, *, everything: bool, on_progress: OnProgress, actors: Actors = ANYBODY) -> Flow[int]:
    """Wrap data keys by the first master key: those that another one wraps, or all; return how many were changed.

    A data key that does not open is passed over, and told of in a `MasterKeyError` at the end.
    """
    by = actors.acting()
    not_under = None if everything else keyring.master_keys[0].id
    uses: list[MasterKeyUse] = yield InTransaction(list_master_key_uses)
    total = sum(use.data_keys for use in uses if use.id != not_under)
    after, seen, changed, problems = _BEFORE_EVERYTHING, 0, 0, list[str]()
    while page := (
        yield InTransaction(partial(list_data_keys_to_rewrap, not_under=not_under, after=after, limit=PAGE))
    ):
        rewrapped: list[_Rewrapped] = yield Outside(partial(_rewrap_page, keyring, page))
        changed += yield InTransaction(partial(_update, rewrapped, by))
        problems += [one.problem for one in rewrapped if one.problem]
        after, seen = (page[-1].place.namespace, page[-1].place.data_key_id), seen + len(page)
        on_progress(min(seen, total), total)
    if problems:
        raise MasterKeyError(f"{changed} data keys were re-wrapped, {len(problems)} were not: {problems[0]}")
    return changed


def list_master_keys(keyring: KeyRing) -> Flow[list[MasterKeyInfo]]:
    """Return the master keys of the ring in their order, and then those that the store needs and the ring lacks."""
    uses: list[MasterKeyUse] = yield InTransaction(list_master_key_uses)
    data_keys: list[DataKeyInfo] = yield InTransaction(list_all_data_key_infos)
    used = {use.id: use for use in uses}
    fingerprints = {key.id: key.fingerprint for key in keyring.master_keys}
    first = keyring.master_keys[0].id
    return [
        MasterKeyInfo(
            id=key_id,
            state="missing" if key_id not in fingerprints else "wraps" if key_id == first else "unwraps",
            fingerprint=fingerprints.get(key_id),
            data_keys=used[key_id].data_keys if key_id in used else 0,
            values=sum(key.values for key in data_keys if key.master_key_id == key_id),
            since=used[key_id].since if key_id in used else None,
        )
        for key_id in dict.fromkeys((*fingerprints, *used))
    ]


def check_complete(keyring: KeyRing) -> Flow[None]:
    """Raise `MasterKeyError` where the store needs a master key that the ring lacks."""
    uses: list[MasterKeyUse] = yield InTransaction(list_master_key_uses)
    in_ring = [key.id for key in keyring.master_keys]
    missing = [use for use in uses if use.id not in in_ring]
    if missing:
        raise MasterKeyError(
            f"the key ring ({', '.join(in_ring)}) lacks master key {_named(missing)}; add it to SECRETSTORE_KEYS, and run "
            "`secretstore keys rewrap` before it is taken out"
        )


def check_removable(keyring: KeyRing, master_key_id: str) -> Flow[None]:
    """Raise `KeyInUseError` where a master key cannot be taken out of the ring."""
    uses: list[MasterKeyUse] = yield InTransaction(list_master_key_uses)
    needed = [use for use in uses if use.id == master_key_id]
    if needed:
        raise KeyInUseError(
            f"master key {_named(needed)}, is still needed; put another one first into the ring of every process, run "
            "`secretstore keys rewrap`, and check again"
        )
    if keyring.master_keys[0].id == master_key_id:
        raise KeyInUseError(
            f"master key {master_key_id!r} stands first in the ring, and the next new data key would be wrapped by it; put "
            "another one first into the ring of every process"
        )


def _rewrap_page(keyring: KeyRing, page: Sequence[StoredDataKey]) -> list[_Rewrapped]:
    return [_rewrap_one(keyring, stored) for stored in page]


def _rewrap_one(keyring: KeyRing, stored: StoredDataKey) -> _Rewrapped:
    try:
        return _Rewrapped(stored, dict(keyring.rewrap(stored.wrapped, stored.place)))
    except DecryptionError as error:
        return _Rewrapped(stored, None, str(error))
    except MasterKeyError as error:
        if error.is_temporary:
            # The next one would wait for the same server.
            raise
        return _Rewrapped(stored, None, str(error))


def _update(rewrapped: Iterable[_Rewrapped], by: Acting, session: Session) -> int:
    changed = [one.stored.place.namespace for one in rewrapped if _update_one(one.stored, one.wrapped, session)]
    for namespace in sorted(set(changed)):
        EventRepository(session, parse_namespace(namespace)).record("rewrap", by)
    return len(changed)


def _update_one(stored: StoredDataKey, wrapped: Mapping[str, object] | None, session: Session) -> bool:
    if wrapped is None:
        return False
    repository = DataKeyRepository(session, parse_namespace(stored.place.namespace))
    return repository.update_wrapped(stored.place.data_key_id, stored.wrapped, wrapped)


def _named(uses: Sequence[MasterKeyUse]) -> str:
    return ", ".join(
        f"{use.id!r}, which wraps {use.data_keys} data key{'s' if use.data_keys > 1 else ''} "
        f"(one is of namespace {use.namespace!r})"
        for use in uses
    )
