"""What arguments mean: durations, times, versions, labels; no error repeats what was written."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from secretstore.cli.exit_codes import CommandError, ExitCode
from secretstore.domain.names import parse_labels

_DURATION = re.compile(
    r"(?=.)(?:(?P<days>[0-9]{1,8})d)?(?:(?P<hours>[0-9]{1,8})h)?"
    r"(?:(?P<minutes>[0-9]{1,8})m)?(?:(?P<seconds>[0-9]{1,8})s)?"
)
_LONGEST = timedelta(days=365_000)


def parse_duration(text: str) -> timedelta:
    """Return a duration such as 90d, 12h, 30m, 45s or 1d12h."""
    parts = _DURATION.fullmatch(text)
    duration = timedelta(**{unit: int(number) for unit, number in parts.groupdict("0").items()}) if parts else None
    if duration is None or not timedelta() < duration < _LONGEST:
        raise CommandError(
            "a duration is written like 90d, 12h, 30m, 45s or 1d12h; it is longer than nothing and shorter than "
            "a thousand years",
            ExitCode.USAGE,
        )
    return duration


def parse_time(text: str) -> datetime:
    """Return a time in UTC; it is written in ISO 8601, with its offset."""
    try:
        time = datetime.fromisoformat(text)
        moment = None if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        problem = "is written like 2026-08-01T12:00Z or 2026-08-01T14:00+02:00 (ISO 8601)"
    else:
        if moment is not None:
            return moment
        problem = "needs an offset, such as Z for UTC or +02:00 at its end: 2026-08-01T12:00Z"
    raise CommandError(f"a time {problem}", ExitCode.USAGE)


def parse_since(text: str) -> datetime:
    """Return a time, or so long ago as a duration says."""
    if _DURATION.fullmatch(text):
        return datetime.now(UTC) - parse_duration(text)
    return parse_time(text)


def parse_label_texts(texts: Sequence[str] | None) -> dict[str, str] | None:
    """Return labels that are written NAME=TEXT; None where there are none."""
    if not texts:
        return None
    pairs = [text.partition("=") for text in texts]
    if not all(equals for _, equals, _ in pairs):
        raise CommandError("a label is written NAME=TEXT", ExitCode.USAGE)
    labels = {name: text for name, _, text in pairs}
    if len(labels) < len(pairs):
        raise CommandError("a label is given twice", ExitCode.USAGE)
    return parse_labels(labels)


def parse_version(text: str) -> int:
    """Return the number of a version."""
    return _number(text, "a version is a number: 1 or more")


def parse_place(text: str) -> int:
    """Return the number of a change, or 0 for the beginning."""
    return _number(text, "the number of a change is 1 or more, or 0 for the beginning", least=0)


def parse_expected_version(text: str) -> int:
    """Return the number of a version, or 0 for none."""
    return _number(text, "a version to expect is a number: 1 or more, or 0 where there must be none", least=0)


def parse_count(text: str) -> int:
    """Return how many lines to print."""
    return _number(text, "a number of lines is 1 or more")


def parse_limit(text: str) -> int | None:
    """Return how many versions are kept; None: all of them."""
    return None if text == "all" else _number(text, "the number of versions to keep is 1 or more, or all")


def _number(text: str, words: str, *, least: int = 1) -> int:
    # With more digits it is no bigint of PostgreSQL.
    if re.fullmatch("[0-9]{1,18}", text) and int(text) >= least:
        return int(text)
    raise CommandError(words, ExitCode.USAGE)
