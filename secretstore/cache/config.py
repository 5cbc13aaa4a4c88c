"""What a cache may hold and for how long, and what it says of itself."""

import math
from dataclasses import dataclass, fields

from secretstore.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheConfig:
    """A cache of the values that a client reads: how much it holds, for how long, and how old a value may get.

    It holds at most `max_entries` and about `max_bytes`; a value larger than an eighth of that is not kept.  An entry is
    read again after `ttl_seconds`, shortened by up to a tenth at random so that not all of them end at once.  A process
    that cannot hear of changes serves nothing that it read, or found to be unchanged, more than `max_stale_seconds` ago.
    The record of changes is asked every `heartbeat_seconds`.
    """

    __module__ = "secretstore"

    max_entries: int = 10_000
    max_bytes: int = 64 * 1024 * 1024
    ttl_seconds: float = 300.0
    max_stale_seconds: float = 30.0
    heartbeat_seconds: float = 5.0

    def __post_init__(self) -> None:
        for field in fields(self):
            _check(field.name, getattr(self, field.name), whole=field.type is int)
        if self.heartbeat_seconds >= self.max_stale_seconds:
            raise ConfigurationError("heartbeat_seconds of a cache is less than its max_stale_seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheStatistics:
    """What a cache did since the process began, and how it is.

    `stale` says that for `max_stale_seconds` nothing was found to be unchanged, so that what is served was read a moment
    ago or not at all.  `listening` says that notices of changes arrive.
    """

    __module__ = "secretstore"

    hits: int
    misses: int
    loads: int
    entries: int
    bytes: int
    evictions: int
    invalidations: int
    stale: bool
    listening: bool


def _check(name: str, value: object, *, whole: bool) -> None:
    kinds = int if whole else int | float
    if not isinstance(value, kinds) or isinstance(value, bool) or not math.isfinite(value) or value <= 0:
        raise ConfigurationError(f"{name} of a cache is a {'whole ' if whole else ''}number greater than 0")
