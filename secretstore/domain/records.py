"""Frozen answers to callers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

# What a change of a secret can be, of data keys, and of the rights of roles.
ACTIONS = (
    *("set", "patch", "rollback", "restore", "import", "labels", "delete", "undelete", "destroy", "purge"),
    *("rotate", "rewrap", "destroy_data_key", "shred", "grant", "revoke", "drop"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretInfo:
    """What is known of a secret without its value; times carry a time zone.

    `updated_at` is the time of the last change of any kind, and `created_at` that of the first version.
    """

    __module__ = "secretstore"

    namespace: str
    key: str
    version: int
    labels: Mapping[str, str]
    created_at: datetime
    updated_at: datetime
    created_by: str
    expires_at: datetime | None
    deleted_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionInfo:
    """What is known of a version without its value, and the labels that it had last; a destroyed one has no value."""

    __module__ = "secretstore"

    namespace: str
    key: str
    version: int
    labels: Mapping[str, str]
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    destroyed_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedSecret:
    """A secret with its value and what goes with it; labels are None where nothing is said of them, nor of expiry."""

    __module__ = "secretstore"

    key: str
    value: Any = field(repr=False)
    labels: Mapping[str, str] | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretDifference:
    """How a secret differs from what it is to be; values are None where there is none.

    `extra` secrets are those of which nothing is said; they are deleted only where that is asked for, and then `deleted`.
    """

    __module__ = "secretstore"

    key: str
    kind: Literal["added", "changed", "labels", "unchanged", "extra", "deleted"]
    old: Any = field(repr=False, default=None)
    new: Any = field(repr=False, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Restoration:
    """What a restore wrote or would write, and the keys that it had to leave out.

    The values of `gone` ones were pruned, destroyed or purged since; those of `expired` ones have expired since.
    """

    __module__ = "secretstore"

    differences: tuple[SecretDifference, ...]
    gone: tuple[str, ...]
    expired: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Collection:
    """How many secrets were purged, and how many versions of others were pruned."""

    purged: int
    pruned: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What every record of something that happened says; `seq` counts those of one kind in a namespace, without gaps.

    `database_role` has logged in, and `application_name` is what its connection calls itself; both are None of changes
    that were made before they were recorded.
    """

    seq: int
    namespace: str
    key: str
    version: int
    action: str
    actor: str
    occurred_at: datetime
    outcome: str = "done"
    request_id: str | None = None
    application_name: str | None = None
    database_role: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change(Event):
    """A committed change of a secret, of the data keys of its namespace, or of rights to it.

    `seq` counts the changes of a namespace; of one key a later change has a higher one.  `action` is one of `ACTIONS`;
    `version` is the version that was written or destroyed, or else the last one.  A change of data keys or of rights has an
    empty key and version 0; the outcome of the latter names the role, and what it was given or lost, and that of a `drop` the
    numbers of the accesses that are gone.
    """

    __module__ = "secretstore"


@dataclass(frozen=True, slots=True, kw_only=True)
class Access(Event):
    """A read of a value, or a call that was refused or failed.

    `action` is what was tried: one of `ATTEMPTS`, or of `ACTIONS`.  `outcome` is `done`, `missing` where there was no such
    secret, `denied`, or `failed`.  `version` is what was read, or 0; the key is empty where no single one was asked for.
    """

    __module__ = "secretstore"
