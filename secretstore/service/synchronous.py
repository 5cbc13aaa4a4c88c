"""The service: every method of the library, on the caller's session."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, TypeAlias

from secretstore.crypto.aead import Aead
from secretstore.crypto.envelope import ValuePlace, seal_value
from secretstore.crypto.keyring import KeyRing
from secretstore.domain.accesses import OnRead
from secretstore.domain.acting import Actors
from secretstore.domain.names import Key, parse_key, parse_keys, parse_labels, parse_prefix
from secretstore.domain.records import SecretInfo, VersionInfo
from secretstore.errors import (
    SecretNotFoundError,
    StoreUnavailableError,
    VersionConflictError,
)
from secretstore.orm.event_repository import EventRepository
from secretstore.orm.key_repository import DataKeyRepository
from secretstore.orm.past_repository import PastRepository
from secretstore.orm.repository import Head, Heads, LockedHead, LockedHeads, NewVersion, SecretRepository, Selection
from secretstore.orm.statements import Show
from secretstore.service.checks import (
    checked_expiry,
    checked_limit,
    checked_span,
    checked_time,
    checked_ttl,
    checked_version,
    known_version,
    parse_page,
)
from secretstore.service.committed import Changed, OnChange
from secretstore.service.data_keys import DataKeys, PatientKeyRing
from secretstore.service.merge_patch import merge_patch
from secretstore.service.reading import OpenedValue, PastSecrets, SecretReader
from secretstore.service.typed import MAX_VALUE_BYTES, from_json_as, name_of_value, to_json

# `transaction`: other processes are told of a change when it is committed; `after_commit`: a moment later, of many at once.
Notify: TypeAlias = Literal["transaction", "after_commit", "off"]

# The first go locks every head, so the second finds them as they stay.
_GOES = 3


@dataclass(frozen=True, slots=True)
class NewValue:
    """A value to be written, and what goes with it; without labels a secret keeps those that it has."""

    text: bytes = field(repr=False)
    labels: Mapping[str, str] | None = None
    expires_at: datetime | None = None
    ttl: timedelta | None = None

    def expiry(self, moment: datetime) -> datetime | None:
        """Return when a version that is written now expires."""
        return self.expires_at if self.ttl is None else moment + self.ttl


class SecretService(SecretReader):
    """Secrets of one namespace on your session, in your transaction: nothing is committed, flushed or closed for you.

    It reads what the transaction has written.  After an error of PostgreSQL the transaction has failed, as after any
    failed statement: roll it back.  Errors are those of `secretstore.errors`.
    """

    __module__ = "secretstore"

    def __init__(
        self,
        repository: SecretRepository,
        keyring: KeyRing | PatientKeyRing,
        *,
        actor: str | None = None,
        require_actor: bool = False,
        max_value_bytes: int = MAX_VALUE_BYTES,
        notify: Notify = "transaction",
        on_change: OnChange | None = None,
        on_read: OnRead | None = None,
    ) -> None:
        if notify == "after_commit" and on_change is None:
            raise ValueError("notices after the commit are a client's: use client.bind(session)")
        stored_keys = DataKeyRepository(repository.session, repository.namespace)
        self._sealing = DataKeys(stored_keys, repository.namespace, keyring)
        super().__init__(repository, repository.namespace, self._sealing, on_read=on_read)
        self._repository = repository
        self._events = EventRepository(repository.session, repository.namespace)
        # Asked before anything is sent.
        self._acting = Actors(actor, require_actor).acting
        self._max_value_bytes = max_value_bytes
        self._notify = notify
        self._on_change = on_change

    def as_of(self, moment: datetime) -> PastSecrets:
        """Return the secrets as they were at a moment, which needs a time zone, to be read."""
        checked_time(moment, name="the moment")
        past = PastRepository(self._repository.session, self._namespace, moment)
        return PastSecrets(past, self._namespace, self._data_keys, on_read=self._on_read)

    def set_secret(
        self,
        key: str,
        value: object,
        *,
        expected_version: int | None = None,
        labels: Mapping[str, str] | None = None,
        expires_at: datetime | None = None,
        ttl: timedelta | None = None,
    ) -> SecretInfo:
        """Write a value as the next version of a secret.

        With `expected_version` only over that version, and with 0 only where there is no such secret; otherwise
        `VersionConflictError`.  Two writers at once get two versions, one after the other.
        `labels` are not encrypted; without them the secret keeps those it has.  The secret reads as missing from
        `expires_at` on, which needs a time zone, or after `ttl`; without either the new version does not expire.
        """
        wanted = parse_key(key)
        expiry = checked_expiry(expires_at), checked_ttl(ttl, expires_at)
        new = NewValue(self._to_json(wanted, value), parse_labels(labels), *expiry)
        return self._write({wanted: new}, expected_version=checked_version(expected_version))[key]

    def set_secrets(
        self, values: Mapping[str, object], *, labels: Mapping[str, str] | None = None
    ) -> dict[str, SecretInfo]:
        """Write many values, all or none, in a number of statements that does not grow with them."""
        parsed = parse_labels(labels)
        keys = {parse_key(key): value for key, value in values.items()}
        return self._write({key: NewValue(self._to_json(key, value), parsed) for key, value in keys.items()})

    def patch_secret(self, key: str, patch: object, *, expected_version: int | None = None) -> SecretInfo:
        """Change parts of a value by a JSON merge patch (RFC 7396), and write the result as the next version.

        A member that is null in the patch is removed.  Whoever writes at the same time is waited for, and the patch is
        applied to what they wrote; with `expected_version` it is a `VersionConflictError`.  Raises
        `SecretNotFoundError` where there is no such secret.  Labels and expiry stay as they are.
        """
        wanted = parse_key(key)
        changes = from_json_as(self._to_json(wanted, patch), None, name=wanted)
        head, _ = self._lock_live(wanted, checked_version(expected_version))
        before = self._find_to_write(wanted, None)
        patched = merge_patch(from_json_as(before.text, None, name=before.place), changes)
        new = NewValue(self._to_json(wanted, patched), None, head.expires_at)
        return self._write({wanted: new}, action="patch")[key]

    def rollback_secret(self, key: str, to_version: int) -> SecretInfo:
        """Write the value of an older version as the next version; labels and expiry stay as they are.

        Raises `SecretNotFoundError` where there is no such secret, or no value of that version any more.
        """
        wanted, version = parse_key(key), known_version(to_version)
        head, _ = self._lock_live(wanted)
        text = self._find_to_write(wanted, version).text
        return self._write({wanted: NewValue(text, None, head.expires_at)}, action="rollback")[key]

    def delete_secret(self, key: str) -> bool:
        """Delete a secret, which can be undone; return whether there was one."""
        return self._delete([parse_key(key)]) == 1

    def delete_secrets(self, keys: Iterable[str]) -> int:
        """Delete many secrets, and return how many there were."""
        return self._delete(parse_keys(keys))

    def undelete_secret(self, key: str) -> SecretInfo:
        """Bring a deleted secret back as it was; one that is there stays as it is.

        Raises `SecretNotFoundError` where there is none, or its value was destroyed.
        """
        wanted = parse_key(key)
        head, locked = self._lock(wanted)
        if head.can_be_undeleted:
            info = self._repository.undelete(wanted, moment=locked.moment, by=self._acting())
            self._tell([wanted], head.version)
            return info
        found = self._repository.find_info(wanted)
        if found is None:
            raise SecretNotFoundError(self._namespace, key)
        return found

    def set_labels(self, key: str, labels: Mapping[str, str], *, expected_version: int | None = None) -> SecretInfo:
        """Give a secret these labels in the place of those that it has; this is no new version.

        Labels are not encrypted.  With `expected_version` only where that is the version; otherwise
        `VersionConflictError`.  Raises `SecretNotFoundError` where there is no such secret.
        """
        parsed, expected = parse_labels(labels) or {}, checked_version(expected_version)
        return self._change_labels(parse_key(key), lambda _: parsed, expected)

    def patch_labels(self, key: str, changes: Mapping[str, str | None]) -> SecretInfo:
        """Add, change or take away (None) single labels of a secret, whoever else does so at once; no new version.

        Raises `SecretNotFoundError` where there is no such secret.
        """
        added = parse_labels({name: text for name, text in changes.items() if text is not None}) or {}

        def patched(labels: Mapping[str, str]) -> dict[str, str]:
            left = {name: text for name, text in labels.items() if name not in changes}
            return parse_labels({**left, **added}) or {}

        return self._change_labels(parse_key(key), patched, None)

    def destroy_versions(self, key: str, versions: Iterable[int]) -> int:
        """Remove the ciphertexts of some versions for good, and return how many were still there.

        The rows stay, and say so.  Without its current version a secret is deleted, and cannot be undeleted.  Raises
        `SecretNotFoundError` where there is no such version; then none is destroyed.
        """
        wanted, numbers = parse_key(key), sorted({known_version(version) for version in versions})
        head, locked = self._lock(wanted)
        there = {info.version for info in self._repository.list_versions(wanted)}
        missing = next((number for number in numbers if number not in there), None)
        if missing is not None:
            raise SecretNotFoundError(self._namespace, key, missing)
        if head.version in numbers and not head.is_deleted:
            self._repository.delete([wanted], moment=locked.moment, by=self._acting())
        destroyed = self._repository.destroy(wanted, numbers, moment=locked.moment, by=self._acting())
        if destroyed:
            self._tell([wanted], head.version)
        return len(destroyed)

    def purge_secret(self, key: str) -> bool:
        """Remove a secret with all its versions for good; return whether there was anything.

        The numbers of its versions never come back, and the record of changes stays.
        """
        wanted = parse_key(key)
        by = self._acting()
        locked = self._repository.lock([wanted])
        if locked is None:
            self._repository.check_may([wanted], "delete")
            return False
        if not self._repository.list_versions(wanted):
            return False
        self._repository.purge([wanted], moment=locked.moment, by=by)
        self._tell([wanted], locked.by_key[wanted].version)
        return True

    def list_versions(self, key: str) -> list[VersionInfo]:
        """Return what is known of every version of a secret, also of a deleted one, newest first; never decrypts."""
        wanted = parse_key(key)
        found = self._repository.list_versions(wanted)
        if not found:
            # Whoever deletes sees which versions there are.
            self._repository.check_may([wanted], "history", "delete")
        return found

    def list_secret_keys(
        self, prefix: str = "", *, include_deleted: bool = False, after: str | None = None, limit: int | None = None
    ) -> list[str]:
        """Return keys in the order of their bytes; the next page comes `after` the last key of this one."""
        return self._repository.list_keys(parse_page(prefix, after, limit), _shown(include_deleted=include_deleted))

    def get_secret_count(self, prefix: str = "", *, include_deleted: bool = False) -> int:
        """Return how many secrets there are whose keys begin with `prefix`."""
        return self._repository.count(parse_prefix(prefix), _shown(include_deleted=include_deleted))

    def list_secrets(
        self,
        prefix: str = "",
        *,
        labels: Mapping[str, str] | None = None,
        include_deleted: bool = False,
        expired: bool = False,
        expiring_within: timedelta | None = None,
        unchanged_for: timedelta | None = None,
        after: str | None = None,
        limit: int | None = None,
    ) -> list[SecretInfo]:
        """Return a page of records without values; never decrypts.

        Of those secrets only that carry all of `labels`; that are `expired`, and so read as missing; that expire within
        a time; whose value has not changed for a time.
        """
        if expired and (include_deleted or expiring_within is not None):
            raise ValueError("a list shows either expired secrets or those that are there")
        selection = Selection(
            show=Show.EXPIRED if expired else _shown(include_deleted=include_deleted),
            labels=parse_labels(labels) or {},
            expiring_within=checked_span(expiring_within),
            unchanged_for=checked_span(unchanged_for),
        )
        return self._repository.list_infos(parse_page(prefix, after, limit), selection)

    def set_max_versions(self, max_versions: int | None, *, key: str | None = None) -> None:
        """Set how many versions are kept of each secret of the namespace, or of one.

        None: of a namespace all of them, of a secret as many as its namespace keeps.  Older ones are removed for good,
        each time in the transaction of the write that makes them too many.  Raises `SecretNotFoundError` where there is
        no such secret.
        """
        self._acting()
        limit = checked_limit(max_versions)
        if key is None:
            self._repository.limit_namespace(limit)
        elif not self._repository.limit_secret(wanted := parse_key(key), limit):
            self._repository.check_may([wanted], "write", "delete")
            raise SecretNotFoundError(self._namespace, key)

    def _find_to_write(self, key: Key, version: int | None) -> OpenedValue:
        """Return a value from which the next version is made; nobody is given it, so that it is no read."""
        opened = self._open_one(key, version)
        if opened is None:
            self._repository.check_may([key], "read" if version is None else "history")
            raise SecretNotFoundError(self._namespace, key, version)
        return opened

    def _change_labels(
        self, key: Key, change: Callable[[Mapping[str, str]], Mapping[str, str]], expected_version: int | None
    ) -> SecretInfo:
        head, moment = self._lock_live(key, expected_version)
        info = self._repository.set_labels(key, change(head.labels), moment=moment, by=self._acting())
        self._tell([key], head.version)
        return info

    def _write(
        self, values: Mapping[Key, NewValue], *, action: str = "set", expected_version: int | None = None
    ) -> dict[str, SecretInfo]:
        by = self._acting()
        left, written = sorted(values), dict[str, SecretInfo]()
        if not left:
            return written
        heads, data_key = self._prepare_to_seal(left)
        for go in range(_GOES):
            seen = None if expected_version is None else self._expected_head(heads, left[0], expected_version)
            infos = self._repository.write(
                [self._sealed(data_key, heads, key, values[key]) for key in left],
                moment=heads.moment,
                keeps_labels=any(values[key].labels is None for key in left),
                was_deleted=None if seen is None else seen.is_deleted,
                by=by,
                action=action,
                is_locked=go > 0,
            )
            self._prune(heads, infos)
            written.update((info.key, info) for info in infos)
            left = sorted(values.keys() - written.keys())
            if not left:
                self._tell(list(values), max(info.version for info in written.values()))
                return {key: written[key] for key in values}
            heads = self._find_heads(left)
        raise StoreUnavailableError(
            f"PostgreSQL did not store all secrets of namespace {self._namespace!r}; look for triggers on its tables"
        )

    def _to_json(self, key: Key, value: object) -> bytes:
        return to_json(value, name=name_of_value(self._namespace, key), max_bytes=self._max_value_bytes)

    def _sealed(self, data_key: Aead, heads: Heads, key: Key, new: NewValue) -> NewVersion:
        version = heads.of(key).version + 1
        envelope = seal_value(data_key, new.text, ValuePlace(self._namespace, key, version)).as_json()
        return NewVersion(key, version, envelope, new.labels or {}, new.expiry(heads.moment))

    def _prune(self, heads: Heads, infos: list[SecretInfo]) -> None:
        limits = {Key(info.key): (heads.of(Key(info.key)).max_versions, info.version) for info in infos}
        up_to = {key: version - limit for key, (limit, version) in limits.items() if limit and version > limit}
        if up_to:
            self._repository.prune(up_to)

    def _prepare_to_seal(self, keys: list[Key]) -> tuple[Heads, Aead]:
        """Return heads, and the data key that seals until the end of the write, whatever happens to it meanwhile.

        Whatever may have to wait for a key server happens here, before anything is written.
        """
        heads = self._find_heads(keys)
        if self._sealing.renew_if_used_up(heads.data_key_id, seals=len(keys)):
            heads = self._find_heads(keys)
        return heads, self._sealing.get(heads.data_key_id)

    def _find_heads(self, keys: list[Key]) -> Heads:
        heads = self._repository.find_heads(keys)
        if heads is None:
            self._sealing.add_first()
            heads = self._repository.find_heads(keys)
        if heads is None:
            raise StoreUnavailableError(
                f"PostgreSQL did not store the first data key of namespace {self._namespace!r}; look for triggers and "
                "row-level security on its tables"
            )
        return heads

    def _expected_head(self, heads: Heads, key: Key, expected_version: int) -> Head:
        head = heads.of(key)
        if not head.version:
            self._repository.check_may([key], "write")
        if head.live_version != expected_version:
            raise VersionConflictError(self._namespace, key, expected_version, head.live_version)
        return head

    def _lock(self, key: Key) -> tuple[LockedHead, LockedHeads]:
        self._acting()
        locked = self._repository.lock([key])
        if locked is None:
            self._repository.check_may([key], "write", "delete")
            raise SecretNotFoundError(self._namespace, key)
        return locked.by_key[key], locked

    def _lock_live(self, key: Key, expected_version: int | None = None) -> tuple[LockedHead, datetime]:
        self._acting()
        locked = self._repository.lock([key])
        if locked is None:
            self._repository.check_may([key], "write")
        head = None if locked is None else locked.by_key[key]
        live_version = 0 if head is None else head.live_version
        if expected_version is not None and live_version != expected_version:
            raise VersionConflictError(self._namespace, key, expected_version, live_version)
        if locked is None or head is None or not head.is_live:
            raise SecretNotFoundError(self._namespace, key)
        return head, locked.moment

    def _delete(self, keys: list[Key]) -> int:
        by = self._acting()
        locked = self._repository.lock(keys)
        missing = [key for key in keys if locked is None or key not in locked.by_key]
        if missing:
            self._repository.check_may(missing, "delete")
        live = [] if locked is None else [key for key, head in locked.by_key.items() if head.is_live]
        if locked is not None and live:
            self._repository.delete(live, moment=locked.moment, by=by)
            self._tell(live, locked.by_key[live[0]].version)
        return len(live)

    def _tell(self, keys: list[Key], version: int) -> None:
        if self._on_change is not None:
            self._on_change(Changed(self._namespace, tuple(keys)))
        if self._notify == "transaction":
            # Of many keys none is named: a listener has to look anyway, and a notice has no room for them.
            named = {"key": keys[0], "version": version} if len(keys) == 1 else {}
            self._events.notify(**named)


def _shown(*, include_deleted: bool) -> Show:
    return Show.DELETED_TOO if include_deleted else Show.LIVE
