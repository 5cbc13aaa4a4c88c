"""What a store holds, in numbers."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """What a namespace holds: secrets by state, and how its data key and its record of changes are.

    A secret is live, expiring (live, and soon expired) or expired; deleted ones are not counted.  `data_key_age_seconds`
    and `seals` are of the active data key.  `unnumbered_changes` are those that nobody has asked for since.  `unsealed_events`,
    of both records, are in no checkpoint yet, and `checkpoint_age_seconds` is how old the last one is, or None.
    """

    namespace: str
    live: int = 0
    expiring: int = 0
    expired: int = 0
    data_key_age_seconds: float = 0.0
    seals: int = 0
    unnumbered_changes: int = 0
    unsealed_events: int = 0
    checkpoint_age_seconds: float | None = None
