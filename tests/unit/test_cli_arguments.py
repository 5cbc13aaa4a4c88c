"""Durations, times, versions and labels as people write them."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secretstore.cli.arguments import (
    parse_count,
    parse_duration,
    parse_expected_version,
    parse_label_texts,
    parse_limit,
    parse_since,
    parse_time,
    parse_version,
)
from secretstore.cli.exit_codes import CommandError, ExitCode
from secretstore.errors import InvalidSecretKeyError

VALUE = "hunter2-of-the-test"
LONG_DIGITS = "9" * 5000


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("90d", timedelta(days=90)),
        ("12h", timedelta(hours=12)),
        ("30m", timedelta(minutes=30)),
        ("45s", timedelta(seconds=45)),
        ("1d12h", timedelta(days=1, hours=12)),
        ("0d90m", timedelta(minutes=90)),
        ("364999d23h59m59s", timedelta(days=365_000) - timedelta(seconds=1)),
    ],
)
def test_a_duration_is_the_sum_of_its_parts(text: str, duration: timedelta) -> None:
    """Days, hours, minutes and seconds, alone and together, also where one is larger than the next unit."""
    assert parse_duration(text) == duration


@given(st.integers(0, 300_000), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
def test_each_unit_counts_as_what_it_is(days: int, hours: int, minutes: int, seconds: int) -> None:
    """All four together mean the duration that they say."""
    duration = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)

    if duration:
        assert parse_duration(f"{days}d{hours}h{minutes}m{seconds}s") == duration


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "0s",
            "90",
            "d",
            "-1d",
            "+1d",
            "1.5h",
            "1d 12h",
            " 1d",
            "1d\n",
            "12h1d",
            "1d1d",
            "1w",
            "1D",
            "\N{ARABIC-INDIC DIGIT ONE}d",
            VALUE,
        ),
        *("365000d", "99999999d", "999999999d", f"{LONG_DIGITS}d", f"{LONG_DIGITS}s"),
    ],
    ids=lambda text: repr(text[:12]),
)
def test_what_is_no_duration_is_refused_without_being_shown(text: str) -> None:
    """Nothing, too much, other units and another order are usage errors that say how a duration is written."""
    assert_refused(parse_duration, text, "90d, 12h, 30m, 45s or 1d12h")


@pytest.mark.parametrize(
    "text", ["2026-08-01T12:00Z", "2026-08-01T14:00+02:00", "2026-08-01 06:30:00.000-05:30", "20260801T120000Z"]
)
def test_a_time_is_read_with_its_offset(text: str) -> None:
    """The forms of ISO 8601 that people write mean one moment, which comes in UTC."""
    moment = parse_time(text)

    assert moment == datetime(2026, 8, 1, 12, tzinfo=UTC)
    assert moment.tzinfo is UTC


@pytest.mark.parametrize("text", ["2026-08-01T12:00", "2026-08-01", "2026-08-01 12:00:00.5"])
def test_a_time_without_an_offset_is_refused_with_that_reason(text: str) -> None:
    """Whose noon it would be is not guessed."""
    assert_refused(parse_time, text, "needs an offset")


@pytest.mark.parametrize(
    "text", ["", "noon", VALUE, "2026-13-01T12:00Z", "9999-12-31T23:59-14:00", "0001-01-01T00:00+14:00", LONG_DIGITS]
)
def test_what_is_no_time_is_refused_without_being_shown(text: str) -> None:
    """Words, months that are none, and moments beyond all calendars are usage errors that say how a time is written."""
    assert_refused(parse_time, text, "ISO 8601")


def test_versions_and_limits_are_numbers() -> None:
    """A version is 1 or more; an expected one may be 0, and a limit all of them."""
    assert [parse_expected_version("0"), parse_expected_version("1")] == [0, 1]
    assert [parse_version("1"), parse_version("9" * 18), parse_limit("3"), parse_limit("all")] == [
        1,
        10**18 - 1,
        3,
        None,
    ]


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "1.0", "1 ", "ALL", "9" * 19, LONG_DIGITS, "\N{ARABIC-INDIC DIGIT ONE}", VALUE]
)
def test_what_is_no_number_is_refused_without_being_shown(text: str) -> None:
    """Zero, signs, and what no bigint holds are usage errors."""
    if text != "0":
        assert_refused(parse_expected_version, text, "1 or more, or 0")
    assert_refused(parse_version, text, "1 or more")
    assert_refused(parse_limit, text, "1 or more, or all")


def test_labels_are_divided_at_the_first_sign() -> None:
    """A text may hold the sign again, and be empty; no labels are none, which is not the same as no label."""
    assert parse_label_texts(["a=1", "b=x=y", "c="]) == {"a": "1", "b": "x=y", "c": ""}
    assert parse_label_texts([]) is None
    assert parse_label_texts(None) is None


@pytest.mark.parametrize("texts", [[VALUE], ["a=1", VALUE], [f"a={VALUE}", "a=1"]], ids=["alone", "second", "twice"])
def test_what_is_no_label_is_refused_without_being_shown(texts: list[str]) -> None:
    """A label without a sign, and one name twice, are usage errors."""
    assert_refused(parse_label_texts, texts, "a label is ")


def test_a_label_that_breaks_a_limit_is_refused_before_it_is_sent() -> None:
    """The library's own rules hold, and its error shows no text of a label."""
    with pytest.raises(InvalidSecretKeyError) as caught:
        parse_label_texts([f"={VALUE}"])

    assert VALUE not in str(caught.value)


def assert_refused(parse: Callable[..., object], given: object, said: str) -> None:
    """Check that something is refused as a usage error, of which no part and no context shows what it was."""
    with pytest.raises(CommandError, match=said) as caught:
        parse(given)

    assert caught.value.code is ExitCode.USAGE
    assert "hunter2" not in str(caught.value)
    assert len(str(caught.value)) < 200
    assert caught.value.__context__ is None


def test_since_is_a_time_or_so_long_ago() -> None:
    """A duration counts from now backwards, and a time is itself."""
    before = datetime.now(UTC)
    assert before <= parse_since("1h") + timedelta(hours=1) <= datetime.now(UTC)
    assert parse_since("2026-08-01T14:00+02:00") == datetime(2026, 8, 1, 12, tzinfo=UTC)
    assert_refused(parse_since, "2026-08-01", "a time needs an offset")


@pytest.mark.parametrize("text", ["0", "-1", "many", "1.5", LONG_DIGITS])
def test_a_number_of_lines_is_positive(text: str) -> None:
    """Nothing else is taken for one."""
    assert parse_count("12") == 12
    assert_refused(parse_count, text, "a number of lines is 1 or more")
