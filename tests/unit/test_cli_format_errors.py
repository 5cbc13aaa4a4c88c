"""Files that are refused: each error says where, and never what."""

import json
import traceback

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secretstore.cli.formats import FileFormat
from secretstore.errors import InvalidSecretKeyError, InvalidSecretValueError
from tests.unit.test_cli_formats import parse

VALUE = "hunter2-of-the-test"
ENTRY = f'{{"value": "{VALUE}", "labels": {{}}, "expires_at": null}}'
unhurried = settings(deadline=None)


def refusal(text: str, given_format: str) -> str:
    """Why a file is refused; the error keeps nothing of what led to it, nor of a value."""
    with pytest.raises((InvalidSecretValueError, InvalidSecretKeyError)) as caught:
        parse(text, FileFormat(given_format))
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    assert "hunter2" not in "".join(traceback.format_exception_only(caught.value))
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"A=1\n\n# c\n{VALUE}\n", "line 4 has no ="),
        (f"A=1\r\n\r\nexport {VALUE}", "line 3 has no ="),
        (f"A='x\ny'\nB='{VALUE}\nC=2\n", "line 3 is not NAME=value"),
        (f"A='x' {VALUE}\n", "line 1 is not NAME=value"),
        (f"A=1\n={VALUE}\n", "line 2 is not NAME=value"),
        (f'A="{VALUE}\n', "line 1 is not NAME=value"),
        (f"{VALUE}=1\n\n{VALUE}='\n2'\n", "line 3 has a name that an earlier line has too"),
        (f"A=1\n'{VALUE} '=1\n", "line 2 of the file: its name breaks a rule of keys"),
        (f"A=1\n{VALUE * 100}=1\n", "line 2 of the file: its name breaks a rule of keys"),
    ],
    ids=["no =", "export only", "quote not closed", "words after", "no name", "double", "twice", "space", "long"],
)
def test_a_wrong_line_of_env_is_told_by_its_number(text: str, said: str) -> None:
    """The line is named, also after blank lines, and nothing of it is shown, because a slip can make a value a name."""
    assert said in refusal(text, "env")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f'{{"a": {{"b": "{VALUE}",\n "b": 1}}}}', "two members of the same name"),
        (f'{{"a": ["{VALUE}", NaN]}}', "NaN and infinities"),
        (f'{{"a":\n {VALUE}}}', "line 2, column 2"),
        ("", "line 1, column 1"),
        (f'["{VALUE}"]', "not one object of keys and values"),
        (f'"{VALUE}"', "not one object of keys and values"),
        (f'{{"": "{VALUE}"}}', "this one is empty"),
        (f'{{"a ": "{VALUE}"}}', "key 'a ' begins or ends with white space"),
    ],
    ids=["twice", "nan", "syntax", "empty", "list", "text", "empty key", "space"],
)
def test_wrong_json_is_told_by_its_place(text: str, said: str) -> None:
    """Syntax is told by line, and rules of keys by the key."""
    words = refusal(text, "json")

    assert said in words
    assert "the value" not in words


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"a: {VALUE}\na: 1\n", "line 2: an object has two members of the same name"),
        (f"a:\n  b: {VALUE}\n  b: 1\n", "line 3: an object has two members of the same name"),
        (f"a: &x {VALUE}\nb: *x\n", "line 2: an alias (*) is not taken"),
        ("a: &a [1]\nb: &b [*a, *a]\nc: [*b, *b]\n", "line 2: an alias (*) is not taken"),
        ("a: &a [*a]\n", "line 1: an alias (*) is not taken"),
        (f"a: &x {{b: {VALUE}}}\nc:\n  <<: *x\n", "line 3: an alias (*) is not taken"),
        (f"a: 1\nc:\n  <<: {{b: {VALUE}}}\n", "line 3: a merge key (<<) is not taken"),
        (f"a: 1\n1: {VALUE}\n", "line 2: a name is not text"),
        (f"a: 1\ntrue: {VALUE}\n", "line 2: a name is not text"),
        (f"a: 1\n~: {VALUE}\n", "line 2: a name is not text"),
        (f"a: 1\n? [{VALUE}]\n: 1\n", "line 2: a name is not text"),
        (f"a:\n  ? !!int {VALUE}\n", "line 2: a name is not text"),
        (f"a: 1\nb: !!set {{{VALUE}}}\n", "line 2: it has a tag (!) of another type"),
        ("a: !!binary aHVudGVyMg==\n", "line 1: it has a tag (!) of another type"),
        ("a: !!timestamp 2026-01-02\n", "line 1: it has a tag (!) of another type"),
        (f"a: !!omap [b: {VALUE}]\n", "line 1: it has a tag (!) of another type"),
        (f"a: !!python/object/apply:os.system ['{VALUE}']\n", "line 1: it has a tag (!) of another type"),
        (f"a: !{VALUE} 1\n", "line 1: it has a tag (!) of another type"),
        (f"a: !!str [{VALUE}]\n", "line 1: it has a tag (!) of another type"),
        (f"a: !!int {VALUE}\n", "line 1: the tag (!!) does not fit"),
        ("a: !!bool yes\n", "line 1: the tag (!!) does not fit"),
        ("a: 1\nb: 1e999\n", "line 2: a number is too large"),
        ("a: 1\nb: " + "1" * 10_000, "line 2: a number is too large or too long"),
        (f'a: 1\nb: "{VALUE}\\UFFFFFFFF"\n', "line 2: an escape or a directive"),
        (f'a: 1\nb: "{VALUE}\\U00110000"\n', "line 2: an escape or a directive"),
        (f"a: 1\nb: {VALUE}\0\n", "line 2 holds a character"),
        (f"a: 1\n b: {VALUE}\n", "line 2, column 3"),
        (f"a: '{VALUE}\n", "line 2, column 1"),
        (f"a: 1\n---\nb: {VALUE}\n", "line 2, column 1"),
        ("a: " + "[" * 2000, "nested too deep"),
        ("", "not one object of keys and values"),
        ("# nothing\n", "not one object of keys and values"),
        (f"- {VALUE}\n", "not one object of keys and values"),
        (f"'': {VALUE}\n", "this one is empty"),
    ],
)
def test_wrong_yaml_is_told_by_its_place(text: str, said: str) -> None:
    """What JSON could not say, or could not say twice, is refused by line."""
    assert said in refusal(text, "yaml")


@unhurried
@given(st.text(alphabet="ab:-?[]{},&*!|>'\"%#~<=. \n\t\r\\xuU0189\0\ufeff@`/é", max_size=40))
def test_no_yaml_ends_in_another_error(text: str) -> None:
    """Any text is a file of secrets, or is refused with our own words."""
    try:
        parse(text, FileFormat.YAML)
    except (InvalidSecretValueError, InvalidSecretKeyError) as error:
        assert error.__context__ is None  # noqa: PT017 - not every text is refused


@unhurried
@given(st.text(alphabet="aB='\"\\ #\n\r\texport$\x85", max_size=40))
def test_no_env_ends_in_another_error(text: str) -> None:
    """Any text is a file of secrets, or is refused with our own words."""
    try:
        parse(text, FileFormat.ENV)
    except (InvalidSecretValueError, InvalidSecretKeyError) as error:
        assert error.__context__ is None  # noqa: PT017 - ditto


@pytest.mark.parametrize(
    ("secrets", "said"),
    [
        (f'["{VALUE}"]', "'secrets' in the file is not one object"),
        (f'{{"": {ENTRY}}}', "this one is empty"),
        (f'{{"k": "{VALUE}"}}', "secret 'k' in the file is not an object of just"),
        (f'{{"k": {{"value": "{VALUE}", "labels": {{}}}}}}', "secret 'k' in the file is not an object of just"),
        (f'{{"k": {ENTRY[:-1]}, "more": 1}}}}', "secret 'k' in the file is not an object of just"),
        (
            f'{{"k": {ENTRY.replace("{}", "null")}}}',
            "labels of secret 'k' in the file: they are not an object of texts",
        ),
        (f'{{"k": {ENTRY.replace("{}", "[]")}}}', "labels of secret 'k' in the file: they are not an object of texts"),
        (f'{{"k": {ENTRY.replace("{}", chr(123) + chr(34) + "a" + chr(34) + ": 1}")}}}', "value of label 'a' is text"),
        (f'{{"k": {ENTRY.replace("null", "1")}}}', "'expires_at' of secret 'k'"),
        (f'{{"k": {ENTRY.replace("null", json.dumps(VALUE))}}}', "'expires_at' of secret 'k'"),
        (f'{{"k": {ENTRY.replace("null", json.dumps("2026-01-02T03:04:05"))}}}', "'expires_at' of secret 'k'"),
    ],
)
def test_a_wrong_secret_in_a_file_with_labels_is_told_by_its_key(secrets: str, said: str) -> None:
    """Each secret has exactly its three members, with labels that are legal and a time that says its offset."""
    for given_format in ("json", "yaml"):
        assert said in refusal(f'{{"secretstore": 1, "secrets": {secrets}}}', given_format)


def test_a_file_of_a_later_format_is_refused() -> None:
    """It is not read by half; the number, which may be a secret of a plain file, is not shown."""
    for given_format in ("json", "yaml"):
        words = refusal('{"secretstore": 48151623, "secrets": {}}', given_format)
        assert "format is newer than 1" in words
        assert "upgrade secretstore" in words
        assert "48151623" not in words
