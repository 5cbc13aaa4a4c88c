"""JSON of any length, read a member at a time."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from secretstore import ExportedSecret, InvalidSecretKeyError, InvalidSecretValueError
from secretstore.cli.formats import FileFormat, read_secrets
from secretstore.cli.json_text import MAX_CHARACTERS, JsonReader

VALUE = "hunter2-of-the-test"
NO_OBJECT = "no object"
unhurried = settings(deadline=None)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def pieces(text: str, size: int) -> Iterator[str]:
    """A text in pieces of a size."""
    return (text[place : place + size] for place in range(0, len(text), size))


def answer(text: str, size: int) -> object:
    """What is read of a text, or why it is refused."""
    reader = JsonReader(pieces(text, size))
    try:
        read = [(name, reader.value()) for name in reader.members(NO_OBJECT)]
        reader.check_end()
    except InvalidSecretValueError as error:
        assert error.__context__ is None  # noqa: PT017 - not every text is refused
        return str(error)
    return read


def read(text: str, size: int = 1 << 16) -> list[ExportedSecret]:
    """The secrets of a JSON file."""
    return list(read_secrets(pieces(text, size), FileFormat.JSON))


@unhurried
@given(data=st.dictionaries(st.text(), values), size=st.integers(1, 40), indent=st.none() | st.integers(0, 3))
def test_members_are_read_whatever_the_pieces(data: dict[str, Any], size: int, indent: int | None) -> None:
    """Names and values are those that the whole text has, in its order."""
    text = json.dumps(data, indent=indent, ensure_ascii=size % 2 == 0)

    assert repr(answer(text, size)) == repr(list(json.loads(text).items()))


@unhurried
@given(inside=st.text(alphabet='{}[]:,"\\ \n0123456789-.eEtrufalsn', max_size=30), size=st.integers(1, 20))
@example(inside='"a": 1.5e+', size=1)
@example(inside='"a": "\\ud83d\\ude0', size=1)
@example(inside='"a": -Infinity', size=3)
@example(inside='"a": 1}x', size=1)
def test_what_is_wrong_is_told_by_the_same_place_whatever_the_pieces(inside: str, size: int) -> None:
    """Lines and columns are those of the whole text, which are Python's own."""
    text = "{" + "".join(f'"{line}": [{line}],\n ' for line in range(20)) + inside + "}"
    told = answer(text, size)

    assert told == answer(text, len(text))
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        place = f"see line {error.lineno}, column {error.colno}"
        # What Python would take comes first, and later releases have another place for a last comma.
        assert place in str(told) or "two members" in str(told) or "NaN" in str(told) or "comma" in error.msg  # noqa: PT017 - not every text is refused


def test_what_is_wrong_is_told_before_the_rest_is_read() -> None:
    """A slip at the beginning of a long file costs no memory."""
    left = iter(pieces('{"a": 1, b' + " " * 10_000_000, 1000))
    reader = JsonReader(left)

    names = reader.members(NO_OBJECT)
    assert (next(names), reader.value()) == ("a", 1)
    with pytest.raises(InvalidSecretValueError, match="line 1, column 10"):
        next(names)
    assert len(list(left)) > 9000


def labelled(count: int) -> str:
    """The secrets of a file with labels that is longer than any value."""
    entry = json.dumps({"value": VALUE * 50, "labels": {"a": "b"}, "expires_at": None})
    return "{" + ",\n".join(f'"k{number:05}": {entry}' for number in range(count)) + "}"


LONG = labelled(MAX_CHARACTERS // 1000 + 100)


@pytest.mark.parametrize(
    "text",
    [f'{{"secretstore": 1, "secrets": {LONG}}}', f'{{"secrets": {LONG}, "secretstore": 1}}'],
    ids=["usual order", "other order"],
)
def test_a_long_file_with_labels_is_read_secret_by_secret(text: str) -> None:
    """Each has its labels, and memory never holds all of the text."""
    given_pieces = pieces(text, 1 << 16)
    secrets = read_secrets(given_pieces, FileFormat.JSON)
    first = next(secrets)

    assert (first.key, first.value, first.labels) == ("k00000", VALUE * 50, {"a": "b"})
    assert [secret.key for secret in secrets] == [f"k{number:05}" for number in range(1, MAX_CHARACTERS // 1000 + 100)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f'{{"secretstore": 1, "secrets": {LONG}, "more": 1}}', "'secrets' in the file is longer than any value"),
        (f'{{"secretstore": "1", "secrets": {LONG}}}', "'secrets' in the file is longer than any value"),
        (f'{{"secrets": {LONG}}}', "'secrets' in the file is longer than any value"),
        (f'{{"secretstore": 2, "secrets": {LONG}}}', "format is newer than 1"),
        (f'{{"secrets": {LONG}, "secretstore": 2}}', "format is newer than 1"),
        (f'{{"secretstore": 1, "secrets": {json.dumps(LONG)}}}', "'secrets' in the file is not one object"),
        (f'{{"secretstore": 1, "secrets": {LONG[:-1]}', "is not JSON: see line"),
        (f'{{"a": {LONG}}}', "holds a value that is longer than any that can be stored"),
        (f'{{"secretstore": 1, "secrets": {LONG[:-2]}, "more": 1}}}}}}', "is not an object of just"),
    ],
    ids=["third", "text", "alone", "newer", "newer behind", "no object", "breaks off", "plain", "wrong secret"],
)
def test_what_is_wrong_with_a_long_file_is_told(text: str, said: str) -> None:
    """As of a short one; what would be a plain file has a value that nobody can store."""
    with pytest.raises((InvalidSecretValueError, InvalidSecretKeyError), match=said) as caught:
        read(text)
    assert "hunter2" not in str(caught.value)


def test_a_short_file_with_one_member_more_is_plain() -> None:
    """Whatever comes first."""
    for text in ('{"secretstore": 1, "secrets": {}, "more": 2}', '{"more": 2, "secrets": {}, "secretstore": 1}'):
        assert {secret.key: secret.value for secret in read(text, 3)} == {"secretstore": 1, "secrets": {}, "more": 2}
