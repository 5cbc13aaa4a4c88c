"""How a row of trigger.dev opens, and why one does not."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from secretstore.errors import ConfigurationError, MasterKeyError
from secretstore.integrations import triggerdev
from secretstore.integrations.triggerdev import SkipReason, SkipRow, SourceRow, open_value, parse_encryption_key
from tests.support.triggerdev import ENCRYPTION_KEY, sealed

KEY = parse_encryption_key(ENCRYPTION_KEY)
MARKER = "hunter2-marker"


def row(value: str | None, version: str = "2") -> SourceRow:
    """A row with a value and a version."""
    moment = datetime(2024, 1, 1, tzinfo=UTC)
    return SourceRow("k", value, version, moment, moment)


def envelope(**changes: Any) -> str:
    """A stored value of version 2, changed or with parts left out."""
    parts = {**sealed(json.dumps({"accessToken": MARKER})), **changes}
    return json.dumps({name: part for name, part in parts.items() if part is not ...})


def refused(source: SourceRow, *, allow_plaintext: bool = True) -> SkipReason:
    """Why a row is skipped; neither words nor context hold its value."""
    with pytest.raises(SkipRow) as caught:
        open_value(source, KEY, allow_plaintext=allow_plaintext)
    assert MARKER not in f"{caught.value!r} {caught.value.words}"
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    return caught.value.reason


@pytest.mark.parametrize(
    "value", [{"accessToken": "ü\n", "scopes": ["a"]}, {}, [], "text", "", 0, 1.5, True, None, 2**70, {"a": {"b": []}}]
)
def test_a_sealed_value_opens(value: object) -> None:
    """What trigger.dev sealed comes out as the JSON value that it was."""
    opened = open_value(row(json.dumps(sealed(json.dumps(value)))), KEY)

    assert (opened, type(opened)) == (value, type(value))
    assert open_value(row(json.dumps(sealed(json.dumps(value, ensure_ascii=False)))), KEY) == value


def test_what_node_sealed_opens() -> None:
    """Bytes that Node made once, with trigger.dev's own calls, open."""
    # createCipheriv("aes-256-gcm", ENCRYPTION_KEY, nonce) over JSON.stringify({accessToken: "hunter2"})
    stored = {
        "nonce": "000102030405060708090a0b",
        "ciphertext": "94b78135c225a712cbb2216bbabdecfff3483a2ffe54a0c2ea",
        "tag": "d67965e9039bf7475b71003fbca20829",
    }

    assert open_value(row(json.dumps(stored)), KEY) == {"accessToken": "hunter2"}


def test_hex_may_be_upper_case_and_further_members_do_not_matter() -> None:
    """Node reads both cases, and its check of the object lets others pass."""
    parts = {name: part.upper() for name, part in sealed("[1]").items()}

    assert open_value(row(json.dumps({**parts, "more": 1})), KEY) == [1]


MALFORMED = [
    envelope(nonce=...),
    envelope(ciphertext=...),
    envelope(tag=...),
    envelope(nonce=1),
    envelope(tag=None),
    envelope(ciphertext=["00"]),
    envelope(nonce="zz" * 12),
    envelope(nonce="00" * 11),
    envelope(nonce="00" * 13),
    envelope(nonce="00 " * 12),
    envelope(nonce=""),
    envelope(tag="00" * 15),
    envelope(tag="00" * 17),
    envelope(tag="0" * 31),
    envelope(ciphertext=""),
    envelope(ciphertext="000"),
    envelope(ciphertext=MARKER),
    envelope(ciphertext="\u0660\u0660"),
    json.dumps([MARKER]),
    json.dumps(MARKER),
    "null",
    "{}",
    f'{{"nonce": "{MARKER}',
    "[" * 100_000,
    "",
    None,
]


@pytest.mark.parametrize("stored", MALFORMED, ids=range(len(MALFORMED)))
def test_a_malformed_value_is_told_as_such(stored: str | None) -> None:
    """Whatever is not nonce, ciphertext and tag in hex of the right lengths is malformed."""
    assert refused(row(stored)) is SkipReason.MALFORMED


@pytest.mark.parametrize("name", ["nonce", "ciphertext", "tag"])
def test_a_changed_value_does_not_open(name: str) -> None:
    """One bit of any part, and the value does not open."""
    parts = sealed(json.dumps(MARKER))
    changed = bytes.fromhex(parts[name])
    parts[name] = bytes([changed[0] ^ 1, *changed[1:]]).hex()

    assert refused(row(json.dumps(parts))) is SkipReason.DOES_NOT_OPEN


def test_another_key_does_not_open() -> None:
    """A value of another trigger.dev is told as such."""
    assert refused(row(json.dumps(sealed(json.dumps(MARKER), "another-key-of-32-characters-xxx")))) is (
        SkipReason.DOES_NOT_OPEN
    )


@pytest.mark.parametrize("text", ["", MARKER, f'{{"a": "{MARKER}"', "NaN", "[Infinity]", "-Infinity", "[" * 100_000])
def test_what_opens_and_is_not_json_is_told_as_such(text: str) -> None:
    """A sealed text that is not JSON is its own reason; so is a plain one."""
    stored = sealed(text or " ")

    assert refused(row(json.dumps(stored))) is SkipReason.NOT_JSON
    assert refused(row(text, "1")) is SkipReason.NOT_JSON


def test_sealed_bytes_that_are_not_text_are_not_json() -> None:
    """JSON is UTF-8, and nothing else is guessed."""
    for data in (f'"{MARKER}"'.encode("utf-16"), f'"{MARKER}'.encode() + b'\xff"'):
        assert refused(row(json.dumps(sealed(data)))) is SkipReason.NOT_JSON


def test_plain_values_are_opened_only_where_that_is_allowed() -> None:
    """Version 1 is plain JSON."""
    plain = row(json.dumps({"a": MARKER}), "1")

    assert open_value(plain, KEY, allow_plaintext=True) == {"a": MARKER}
    assert refused(plain, allow_plaintext=False) is SkipReason.PLAINTEXT


@pytest.mark.parametrize("version", ["", "0", "3", "02", " 2", "\u0661"])
def test_an_unknown_version_is_told_as_such(version: str) -> None:
    """Nothing is guessed of a version that is not known."""
    assert refused(row(envelope(), version)) is SkipReason.UNKNOWN_VERSION


@pytest.mark.parametrize("key", ["", "x" * 31, "x" * 33, "ü" * 32, "\ud800" * 33], ids=ascii)
def test_a_key_of_another_length_is_refused(key: str) -> None:
    """Node takes the characters as UTF-8, and needs 32 bytes; the error does not repeat them."""
    with pytest.raises(MasterKeyError, match="has 32 bytes, and the one that is given has") as caught:
        parse_encryption_key(key)
    assert not key or key not in str(caught.value)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


def test_a_key_is_its_utf8_bytes() -> None:
    """16 letters of two bytes are a key too."""
    assert open_value(row(json.dumps(sealed("1", "ü" * 16))), parse_encryption_key("ü" * 16)) == 1


@pytest.fixture
def in_tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The process is somewhere else than in UTC."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_a_time_without_zone_is_utc_wherever_this_runs(in_tokyo: None) -> None:
    """Prisma's columns have no time zone, and hold UTC; a time with a zone stays the same moment."""
    tokyo = timezone(timedelta(hours=9))

    assert triggerdev._utc(datetime(2024, 1, 1, 0, 0, 0)) == datetime(2024, 1, 1, tzinfo=UTC)  # noqa: DTZ001 - as read
    assert triggerdev._utc(datetime(2024, 1, 1, 9, tzinfo=tokyo)) == datetime(2024, 1, 1, tzinfo=UTC)


def test_no_repr_shows_value_or_key() -> None:
    """A row and a key can be printed."""
    shown = f"{row(envelope())!r} {row(json.dumps(MARKER), '1')!r} {KEY!r}"

    assert not [part for part in (MARKER, ENCRYPTION_KEY, "ciphertext") if part in shown]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://db/app", ("postgresql://db/app", "public")),
        ("postgresql://u:p%3F@db/app?schema=trigger", ("postgresql://u:p%3F@db/app", "trigger")),
        ("postgresql://db/app?schema=My%20Own&sslmode=require", ("postgresql://db/app?sslmode=require", "My Own")),
        (
            "postgres://db/app?connection_limit=5&pool_timeout=2&connect_timeout=3&pgbouncer=true",
            ("postgres://db/app?connect_timeout=3", "public"),
        ),
        ("postgresql:///app?host=%2Ftmp&schema=a", ("postgresql:///app?host=%2Ftmp", "a")),
    ],
)
def test_what_only_prisma_knows_is_taken_off_a_url(url: str, expected: tuple[str, str]) -> None:
    """A URL of Prisma becomes one of libpq, and the schema is read from it."""
    assert triggerdev._without_prisma(url) == expected


@pytest.mark.parametrize("url", ["mysql://u:hunter2-marker@db/app", "hunter2-marker", "embedded", ""])
def test_a_url_that_is_none_of_postgresql_is_refused(url: str) -> None:
    """The error does not repeat it."""
    with (
        pytest.raises(ConfigurationError, match="does not begin with postgresql://") as caught,
        triggerdev.open_table(url),
    ):
        pass
    assert MARKER not in str(caught.value)
