"""Secrets to the text of a file and back: `.env`, JSON and YAML."""

import io
import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml
from dotenv import dotenv_values
from hypothesis import example, given, settings
from hypothesis import strategies as st

from secretstore import ExportedSecret
from secretstore.cli.exit_codes import CommandError, ExitCode
from secretstore.cli.formats import FileFormat, dump, read_secrets
from secretstore.cli.yaml_text import to_yaml

VALUE = "hunter2-of-the-test"
AT = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=timezone(timedelta(hours=5, minutes=30)))

# What one version of YAML or another takes for something else than text, and what files like to lose.
TRICKY = [
    *("", " ", "~", "null", "Null", "no", "No", "yes", "on", "off", "y", "N", "true", "TRUE", "False"),
    *("1", "-1", "+1", "0", "00", "0755", "0o17", "0x1F", "0b1", "1_000", "1:20", "12:30:45", "1.5", ".5", "1.", "1e3"),
    *("1E5", "0189", "08", ".inf", "-.INF", ".nan", "2026-01-02", "2026-01-02 03:04:05", "2026-1-2T3:4:5Z", "9" * 100),
    *(
        "<<",
        "=",
        "*a",
        "&a",
        "!!int 1",
        "%YAML 1.1",
        "---",
        "...",
        "- a",
        "a: b",
        "a #b",
        "#",
        "? ",
        "[",
        "{}",
        "|",
        ">",
    ),
    *(
        "a\n",
        "a\n\n",
        "\n",
        "\na",
        " a",
        "a ",
        "\ta",
        "a\tb",
        "a\r",
        "a\rb",
        "a\r\nb\r\n",
        "a\x85b",
        "\u2028",
        "a\u2029",
    ),
    *(
        "a\n b\n",
        "a\n\n  b",
        "\ufeff",
        "\ufeffa",
        "a\ufeff",
        "\0",
        "\x7f",
        "\x1b[2J",
        "\ud7ff",
        "\ue000",
        "\ufffe",
        "\U0010ffff",
    ),
    *(
        "'",
        "''",
        "\\",
        "\\\\",
        "\\'",
        "'\\",
        "a\\n",
        "a\\",
        '"',
        '\\"',
        "${HOME}",
        "$(id)",
        "`id`",
        "a=b",
        "export a",
        "🔑",
    ),
    *("-----BEGIN KEY-----\nMC4CAQAw=\n-----END KEY-----\n", "long " * 100, "'\nB='x"),
]

texts = st.text() | st.sampled_from(TRICKY)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
    max_leaves=8,
)
keys = (
    st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=40)
    | st.sampled_from(TRICKY)
    | st.text("aé=#'\"\\ .", min_size=1, max_size=5)
).filter(lambda key: key != "" and len(key) <= 512 and key == key.strip() and not any(map(is_control, key)))
labels = st.dictionaries(
    keys.filter(lambda key: len(key) <= 128), texts.filter(lambda text: "\0" not in text), max_size=3
)
# A year away from both ends, beyond which there is no UTC.
times = st.none() | st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1), timezones=st.just(UTC) | st.timezones())  # noqa: DTZ001 - bounds
unhurried = settings(deadline=None)
OBJECTS = (FileFormat.JSON, FileFormat.YAML)


def parse(text: str, given_format: FileFormat) -> list[ExportedSecret]:
    """The secrets of a file that comes in small pieces."""
    return list(read_secrets((text[place : place + 7] for place in range(0, len(text), 7)), given_format))


def is_control(character: str) -> bool:
    """Tell whether no key may hold a character."""
    return character < " " or "\x7f" <= character < "\xa0"


def plain(**secrets: Any) -> list[ExportedSecret]:
    """Return secrets as a plain file has them."""
    return [ExportedSecret(key=key, value=value, labels=None, expires_at=None) for key, value in secrets.items()]


def exactly(secrets: list[ExportedSecret]) -> list[object]:
    """Return what tells secrets apart, also 1 from 1.0 and from true; times of two zones are compared as UTC."""
    return [
        (secret.key, repr(secret.value), secret.labels, secret.expires_at and secret.expires_at.astimezone(UTC))
        for secret in secrets
    ]


@pytest.mark.parametrize("wanted", OBJECTS)
@unhurried
@given(secrets=st.dictionaries(keys, values, max_size=4))
def test_a_plain_file_brings_back_every_value(wanted: FileFormat, secrets: dict[str, Any]) -> None:
    """Whatever the store can hold comes back from JSON and YAML with its type, in the order given."""
    given_secrets = plain(**secrets)

    assert exactly(parse(dump(given_secrets, wanted, with_labels=False), wanted)) == exactly(given_secrets)


@pytest.mark.parametrize("wanted", OBJECTS)
@unhurried
@given(secrets=st.dictionaries(keys, st.tuples(values, labels, times), max_size=3))
@example(secrets={"secretstore": (1, {}, None), "secrets": ({}, {}, None)})
def test_a_file_with_labels_brings_back_everything(wanted: FileFormat, secrets: dict[str, Any]) -> None:
    """Values, labels and times of expiry come back from JSON and YAML."""
    given_secrets = [
        ExportedSecret(key=key, value=value, labels=named, expires_at=time)
        for key, (value, named, time) in secrets.items()
    ]

    assert exactly(parse(dump(given_secrets, wanted, with_labels=True), wanted)) == exactly(given_secrets)


@pytest.mark.parametrize("wanted", OBJECTS)
@pytest.mark.parametrize("text", TRICKY, ids=ascii)
def test_a_text_that_looks_like_something_else_stays_a_text(wanted: FileFormat, text: str) -> None:
    """Numbers, dates, booleans and nulls in quotes are texts, as values and as names, whatever their line ends."""
    given_secrets = plain(a=text, b={text: [text, 1]})

    assert parse(dump(given_secrets, wanted, with_labels=False), wanted) == given_secrets


@pytest.mark.parametrize("value", [2**200, -(2**63), 10**4299, 1e300, 5e-324, -0.0, 0.1 + 0.2, 1e16, 1e-7], ids=repr)
def test_numbers_come_back_exactly(value: float) -> None:
    """Long whole numbers lose no digit, and floats stay floats."""
    for wanted in OBJECTS:
        assert exactly(parse(dump(plain(a=value), wanted, with_labels=False), wanted)) == exactly(plain(a=value))


def test_the_deepest_value_comes_back() -> None:
    """A hundred levels are no more than both formats can do."""
    value: list[Any] = []
    for _ in range(99):
        value = [value]

    for wanted in OBJECTS:
        assert parse(dump(plain(a=value), wanted, with_labels=True), wanted)[0].value == value


@unhurried
@given(values)
def test_other_readers_of_yaml_find_the_same_data(value: object) -> None:
    """PyYAML, which reads YAML 1.1, finds what was written."""
    assert repr(yaml.safe_load(to_yaml(value))) == repr(value)


@pytest.mark.parametrize("text", ["1e3", "0o17", "0189", "+.5e2", "1_0e2", "y", "N", "190:20:30", "2026-1-2"])
def test_what_readers_of_yaml_differ_in_is_written_in_quotes(text: str) -> None:
    """YAML 1.2 has other numbers than YAML 1.1, and the first readers had other booleans."""
    assert to_yaml([text]) == f"- '{text}'"


def test_yaml_writes_out_what_stands_in_two_places() -> None:
    """No file of ours has an alias, which parse would refuse."""
    shared = {"tier": ["gold"]}

    assert parse(dump(plain(a=shared, b=shared), FileFormat.YAML, with_labels=False), FileFormat.YAML) == plain(
        a=shared, b=shared
    )


def test_files_look_as_people_write_them() -> None:
    """A plain file is lines of names and values, ends with one line end, and keeps the order and other alphabets."""
    secrets = plain(b="x", a="é")

    assert dump(secrets, FileFormat.ENV, with_labels=False) == "b='x'\na='é'\n"
    assert dump(secrets, FileFormat.JSON, with_labels=False) == '{\n  "b": "x",\n  "a": "é"\n}\n'
    assert dump(secrets, FileFormat.YAML, with_labels=False) == "b: x\na: é\n"
    for wanted in FileFormat:
        assert parse(dump([], wanted, with_labels=False), wanted) == []


def test_a_file_with_labels_has_exactly_its_members() -> None:
    """The number of the format and the secrets are at the top; each secret has its value, labels and time."""
    secrets = [
        ExportedSecret(key="k", value=None, labels={"team": "a"}, expires_at=AT),
        ExportedSecret(key="bare", value=[1], labels=None, expires_at=None),
    ]
    expected = {
        "secretstore": 1,
        "secrets": {
            "k": {"value": None, "labels": {"team": "a"}, "expires_at": "2026-01-02T03:04:05.000006+05:30"},
            "bare": {"value": [1], "labels": {}, "expires_at": None},
        },
    }

    assert json.loads(dump(secrets, FileFormat.JSON, with_labels=True)) == expected
    assert yaml.safe_load(dump(secrets, FileFormat.YAML, with_labels=True)) == expected


@pytest.mark.parametrize(
    "data",
    [
        {"secretstore": 1},
        {"secretstore": 1, "secrets": {}, "more": 1},
        {"secretstore": "1", "secrets": {}},
        {"secretstore": True, "secrets": {}},
        {"secretstore": 1.0, "secrets": {}},
        {"secretstore": 0, "secrets": {}},
    ],
    ids=str,
)
def test_what_only_resembles_a_file_with_labels_is_plain(data: dict[str, Any]) -> None:
    """A plain file may hold secrets of these names: only the two members, with a number, make a file with labels."""
    for wanted in OBJECTS:
        assert exactly(parse(dump(plain(**data), wanted, with_labels=False), wanted)) == exactly(plain(**data))


def test_a_plain_file_that_would_be_taken_for_one_with_labels_is_not_written() -> None:
    """Two secrets of just these names, one of them a whole number, need a file with labels."""
    for wanted in OBJECTS:
        for number in (1, 2):
            with pytest.raises(CommandError, match="write it with labels") as caught:
                dump(plain(secretstore=number, secrets=VALUE), wanted, with_labels=False)
            assert caught.value.code is ExitCode.USAGE
            assert VALUE not in str(caught.value)


@unhurried
@given(st.dictionaries(keys, texts, max_size=4))
@example({"a": "x\\", "b": "y"})
@example({"a": "\r", "b": "\x85\r\n"})
def test_env_brings_back_every_text(secrets: dict[str, str]) -> None:
    """Every key without a single quote comes back with its text, whatever that is, also by python-dotenv alone."""
    # Keys with this quote are tried below: some of them cannot be said.
    secrets = {key.replace("'", "-"): text for key, text in secrets.items()}

    text = dump(plain(**secrets), FileFormat.ENV, with_labels=False)

    assert parse(text, FileFormat.ENV) == plain(**secrets)
    assert dotenv_values(stream=io.StringIO(text), interpolate=False) == secrets


@pytest.mark.parametrize(
    ("key", "written"),
    [
        ("a.b/c:d", "a.b/c:d"),
        ("a'b", "a'b"),
        ('"a"', '"a"'),
        ("export", "export"),
        ("export a", "'export a'"),
        ("a b", "'a b'"),
        ("a=b", "'a=b'"),
        ("#a", "'#a'"),
        ("a#b", "'a#b'"),
        ("a\u2028b", "'a\u2028b'"),
        ("\ufeffa", "'\ufeffa'"),
    ],
)
def test_env_puts_keys_in_quotes_where_it_has_to(key: str, written: str) -> None:
    """A key that dotenv would read otherwise stands in quotes, and no other."""
    text = dump(plain(**{key: "x"}), FileFormat.ENV, with_labels=False)

    assert text == f"{written}='x'\n"
    assert parse(text, FileFormat.ENV) == plain(**{key: "x"})


@pytest.mark.parametrize("key", ["'a", "a b'", "it's=x", "#'"])
def test_env_cannot_hold_some_keys(key: str) -> None:
    """A key that dotenv cannot say is named, with the way out."""
    with pytest.raises(CommandError, match="use JSON or YAML") as caught:
        dump(plain(a=VALUE, **{key: VALUE}), FileFormat.ENV, with_labels=False)

    assert repr(key) in str(caught.value)
    assert VALUE not in str(caught.value)
    assert caught.value.code is ExitCode.USAGE


def test_env_holds_texts_only() -> None:
    """Other values are refused: the first five keys are named, and the rest counted."""
    secrets = plain(text="x", a=1, b=None, c=True, d=[VALUE], e={}, f=1.5, g=2)

    with pytest.raises(CommandError, match="use JSON or YAML") as caught:
        dump(secrets, FileFormat.ENV, with_labels=False)

    assert "unlike 'a', 'b', 'c', 'd', 'e' and 2 more:" in str(caught.value)
    assert VALUE not in str(caught.value)
    assert caught.value.code is ExitCode.USAGE
    with pytest.raises(CommandError, match="unlike 'a':"):
        dump(plain(a=1), FileFormat.ENV, with_labels=False)


def test_env_has_no_room_for_labels() -> None:
    """Asking for both is a wrong call."""
    with pytest.raises(CommandError, match="labels: use JSON or YAML") as caught:
        dump([], FileFormat.ENV, with_labels=True)

    assert caught.value.code is ExitCode.USAGE


def test_env_is_read_as_people_write_it() -> None:
    """Comments, blank lines, `export`, quotes of both kinds and no quotes; nothing is put in for `${…}`."""
    text = (
        "\ufeff# first\n\nA=1\nexport B = two words # said\n"
        "C=\"x\\ny\"\r\nD='${A}\\n'\nE=\nF= # nothing\n 'G H'=\"p\nq\"\nI=a#b"
    )

    assert parse(text, FileFormat.ENV) == plain(
        **{"A": "1", "B": "two words", "C": "x\ny", "D": "${A}\\n", "E": "", "F": "", "G H": "p\nq", "I": "a#b"}
    )


def test_yaml_takes_plain_words_as_json_does() -> None:
    """Nulls, booleans and JSON's numbers are what they are, and every other plain word is text as it stands."""
    others = ["no", "Yes", "on", "0755", "1_000", "1:20", "+1", "0x1F", "0o7", ".5", "1.", ".inf", ".nan", "2026-01-02"]
    text = f"a: [null, ~, NULL, true, False, 12, -0.5, 1e3, 1.5E-2]\nb:\nc: [{', '.join(others)}]\non: |\n  x\n"

    assert exactly(parse(text, FileFormat.YAML)) == exactly(
        plain(a=[None, None, None, True, False, 12, -0.5, 1000.0, 0.015], b=None, c=others, on="x\n")
    )


def test_yaml_takes_the_tags_of_json() -> None:
    """A tag may say which of JSON's types is meant."""
    text = "a: !!str 12\nb: !!int 12\nc: !!float 12\nd: !!bool true\ne: !!null ''\nf: !!seq [!!map {}]\n"

    assert exactly(parse(text, FileFormat.YAML)) == exactly(plain(a="12", b=12, c=12.0, d=True, e=None, f=[{}]))


def test_json_is_yaml() -> None:
    """A JSON file is read the same as YAML."""
    text = '{"a": {"b": [1, 1.5, true, null, "no"]}, "\\u00e9": "\\n"}'

    assert parse(text, FileFormat.YAML) == parse(text, FileFormat.JSON)


def test_the_mark_at_the_beginning_of_a_file_is_no_part_of_it() -> None:
    """Some editors write one."""
    for given_format, text in {"env": "a=x", "json": '{"a": "x"}', "yaml": "a: x"}.items():
        assert parse(f"\ufeff{text}", FileFormat(given_format)) == plain(a="x")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (".env", "env"),
        (".env.prod", "env"),
        ("prod.env", "env"),
        ("PROD.ENV", "env"),
        ("a.json", "json"),
        (".env.json", "json"),
        ("a.yaml", "yaml"),
        ("a.yml", "yaml"),
        ("a.txt", None),
        ("env", None),
        (".envrc", None),
        ("json", None),
        ("x.env.d/secrets", None),
    ],
)
def test_the_name_of_a_file_says_its_format(name: str, expected: str | None) -> None:
    """The ending of the name decides, and nothing else of the path."""
    assert FileFormat.of_path(Path("/dir.json") / name) == (expected and FileFormat(expected))


def test_a_secret_shows_no_value() -> None:
    """The repr of a secret is safe to print."""
    assert VALUE not in repr(plain(a=VALUE))
