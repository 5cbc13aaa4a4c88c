"""What is known of how the record of a namespace is sealed."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

# Changes of secrets and keys; and reads of values, with calls that were refused or failed.
RecordName = Literal["change", "access"]
RECORDS: tuple[RecordName, ...] = ("change", "access")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealing:
    """How many events were sealed, into how many checkpoints."""

    __module__ = "secretstore"

    namespace: str
    events: int
    checkpoints: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropping:
    """How many accesses were taken out of the record, and the number of the first that stays; 0 where none was."""

    __module__ = "secretstore"

    namespace: str
    events: int
    kept_from: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordHead:
    """The last checkpoint of a record; `hash` stands for it and for all before it."""

    __module__ = "secretstore"

    record: RecordName
    number: int
    last_seq: int
    hash: str
    sealed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditHead:
    """How far the record of a namespace is sealed; kept elsewhere, it shows later that nothing was cut off.

    A record of which nothing is sealed has no head.
    """

    __module__ = "secretstore"

    namespace: str
    heads: tuple[RecordHead, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What of a record was found to be as it was sealed; `unsealed` events are in no checkpoint yet, and prove nothing.

    Events before `kept_from` were dropped.
    """

    __module__ = "secretstore"

    namespace: str
    record: RecordName
    events: int
    checkpoints: int
    kept_from: int
    unsealed: int
