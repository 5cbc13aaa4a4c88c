"""What goes into the record of accesses: values that were read, and calls that were refused or failed."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias
from uuid import UUID, uuid4

from secretstore.domain.acting import Acting

# `buffered`: written by the process soon after the read; `strict`: in the transaction of the read, or there is no value.
AuditReads: TypeAlias = Literal["off", "buffered", "strict"]

# What is tried, beside what is recorded as a change.
ATTEMPTS = ("get", "export", "describe", "history", "list", "limit", "reencrypt")
OUTCOMES = ("done", "missing", "denied", "failed")


@dataclass(frozen=True, slots=True)
class Accessed:
    """A key that was asked for, and what came of it; version 0 where none was reached."""

    key: str
    version: int = 0
    action: str = "get"
    outcome: str = "done"


# Is called with what was read; what it raises fails the read.
OnRead: TypeAlias = Callable[[Sequence[Accessed]], object]


@dataclass(frozen=True, slots=True)
class Stamped:
    """An access, who made it, and when, by the monotonic clock of this process; under its id it is recorded once."""

    accessed: Accessed
    by: Acting
    at: float = field(default_factory=time.monotonic)
    id: UUID = field(default_factory=uuid4)
