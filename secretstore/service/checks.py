"""What callers give, checked before anything is sent: versions, limits, times and pages."""

from collections.abc import Collection, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from secretstore.domain.names import parse_prefix
from secretstore.errors import InvalidSecretValueError
from secretstore.orm.reads import Page

T = TypeVar("T")

_LARGEST = 2**63 - 1
_LONGEST = timedelta(days=365_000)
# In every time zone in which a session could read it, it is in a year from 1 to 9999, which is all that Python knows.
_FIRST_EXPIRY = datetime(1, 1, 2, tzinfo=UTC)
_LAST_EXPIRY = datetime(9999, 12, 30, tzinfo=UTC)


def parse_page(prefix: str, after: str | None, limit: int | None) -> Page:
    """Return a page of keys; raises `InvalidSecretKeyError`, or `ValueError` for a limit below 1."""
    if limit is not None and not 1 <= limit <= _LARGEST:
        raise ValueError(f"a limit is 1 or more, not {limit}")
    return Page(parse_prefix(prefix), "" if after is None else parse_prefix(after), limit)


def checked_version(version: Any) -> int | None:  # whatever a caller without a type checker gave
    """Return the number of a version or 0, or raise `ValueError`."""
    if version is None:
        return None
    if not _is_number(version, least=0):
        raise ValueError("a version is a number: 1 or more, or 0 for `must not exist`")
    return int(version)


def known_version(version: Any) -> int:  # ditto
    """Return the number of a version that was written, or raise `ValueError`."""
    if not _is_number(version, least=1):
        raise ValueError("a version is a number: 1 or more")
    return int(version)


def checked_limit(max_versions: Any) -> int | None:  # ditto
    """Return how many versions are kept, or raise `ValueError`."""
    if max_versions is None:
        return None
    if not _is_number(max_versions, least=1):
        raise ValueError("at least 1 version is kept: a limit is a number, 1 or more")
    return int(max_versions)


def kept(items: Iterable[T]) -> Iterable[T]:
    """Return what can be gone through again, because a transaction may be tried again."""
    return items if isinstance(items, Collection) else list(items)


def checked_seconds(seconds: float) -> float:
    """Return for how long something is tried again, or raise `ValueError`."""
    if not 0 <= seconds < float("inf"):
        raise ValueError("calls are tried again for a number of seconds, 0 or more")
    return seconds


def checked_interval(seconds: float) -> float:
    """Return how often something is done, or raise `ValueError`."""
    if not 0 < seconds < float("inf"):
        raise ValueError("it is done every so many seconds, more than 0")
    return seconds


def checked_time(time: datetime, *, name: str) -> datetime:
    """Return a time, or raise `InvalidSecretValueError` where it has no time zone."""
    if time.tzinfo is None:
        raise InvalidSecretValueError(f"{name} has no time zone; write datetime.now(UTC)")
    return time


def checked_expiry(expires_at: datetime | None, *, name: str = "expires_at") -> datetime | None:
    """Return when something expires, or raise `InvalidSecretValueError`."""
    if expires_at is None:
        return None
    if not _FIRST_EXPIRY <= checked_time(expires_at, name=name) <= _LAST_EXPIRY:
        raise InvalidSecretValueError(f"{name} is too near to the end of time; without it a secret does not expire")
    return expires_at


def checked_ttl(ttl: timedelta | None, expires_at: datetime | None) -> timedelta | None:
    """Return after how long something expires, or raise `ValueError`."""
    if ttl is None:
        return None
    if expires_at is not None:
        raise ValueError("a secret expires either at a time or after one: give expires_at or ttl, not both")
    if not timedelta() < ttl < _LONGEST:
        raise ValueError("a ttl is longer than nothing and shorter than a thousand years")
    return ttl


def checked_span(span: timedelta | None) -> timedelta | None:
    """Return how far a list looks ahead or back, or raise `ValueError`."""
    if span is not None and not timedelta() <= span < _LONGEST:
        raise ValueError("a list looks ahead or back by nothing or more, and by less than a thousand years")
    return span


def _is_number(number: Any, *, least: int) -> bool:  # ditto
    return isinstance(number, int) and not isinstance(number, bool) and least <= number <= _LARGEST
