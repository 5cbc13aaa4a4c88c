"""What is known of keys; nothing of it is secret."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from secretstore.domain.protocols import DataKeyPlace


@dataclass(frozen=True, slots=True)
class StoredDataKey:
    """A data key as it is stored, and where it stands."""

    place: DataKeyPlace
    wrapped: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataKeyInfo:
    """What is known of a data key; `seals` is an estimate, which is within a few per cent where it matters.

    One of state `audit` encrypts no values: it authenticates the checkpoints of the record.
    """

    namespace: str
    id: str
    state: Literal["active", "audit", "retired", "shredded"]
    master_key_id: str | None
    values: int
    seals: int
    created_at: datetime
    wrapped_at: datetime
    retired_at: datetime | None
    shredded_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MasterKeyInfo:
    """What depends on a master key; `since` is when the oldest of its data keys was wrapped."""

    id: str
    state: Literal["wraps", "unwraps", "missing"]
    fingerprint: str | None
    data_keys: int
    values: int
    since: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reencryption:
    """What became of a namespace's values: `unreadable` ones were changed by someone, and stay as they are."""

    namespace: str
    data_key_id: str
    values: int
    unreadable: int
    examples: tuple[str, ...]
