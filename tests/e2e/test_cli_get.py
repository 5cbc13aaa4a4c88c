"""`secretstore get`: masked for a person, exact for a program."""

import json

import psycopg
import pytest
import yaml

from secretstore import SecretClient
from secretstore.crypto.local import generate_master_key
from tests.e2e.conftest import ANSI, CommandLine

VALUE = "hunter2-of-the-test"
CONFIG = {"hosts": [{"password": VALUE}], "port": 5432, "ü": None}


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        ([], json.dumps(CONFIG, ensure_ascii=False, indent=2) + "\n"),
        (["--plain"], json.dumps(CONFIG, ensure_ascii=False) + "\n"),
        (["--field", "hosts.0.password"], f"{VALUE}\n"),
        (["--field", "ü"], "null\n"),
    ],
    ids=["json", "plain", "text field", "null field"],
)
def test_a_pipe_gets_the_value_and_nothing_else(
    cli: CommandLine, store: SecretClient, arguments: list[str], printed: str
) -> None:
    """In a pipe stdout is the value, whole or one field of it, and stderr is empty."""
    store.set_secret("db", CONFIG)

    done = cli("get", "db", *arguments)

    assert (done.code, done.out, done.err) == (0, printed, "")


def test_yaml_comes_by_the_environment(cli: CommandLine, store: SecretClient) -> None:
    """SECRETSTORE_FORMAT chooses YAML, which reads as the value that --version names."""
    store.set_secret("db", CONFIG)
    store.set_secret("db", "newer")

    done = cli.with_(SECRETSTORE_FORMAT="yaml")("get", "db", "--version", "1")

    assert yaml.safe_load(done.out) == CONFIG


@pytest.mark.parametrize(("arguments", "shown"), [([], "********"), (["--reveal"], VALUE)])
def test_a_table_is_masked_also_in_a_pipe(
    cli: CommandLine, store: SecretClient, arguments: list[str], shown: str
) -> None:
    """A table tells key, version and time, and the value only where --reveal asks for it."""
    store.set_secret("k", VALUE)

    done = cli("get", "k", "--format", "table", *arguments)

    rows = dict(line.split(maxsplit=1) for line in done.out.splitlines())
    assert list(rows) == ["key", "version", "updated_at", "value"]
    assert (rows["key"], rows["version"], rows["value"]) == ("k", "1", shown)
    assert ("--reveal" in done.err) == (not arguments)


@pytest.mark.parametrize("arguments", [[], ["--format", "json"]], ids=["table", "json"])
def test_a_terminal_shows_asterisks(cli: CommandLine, store: SecretClient, arguments: list[str]) -> None:
    """On a terminal no format shows the value, and a hint says how to see it."""
    store.set_secret("k", VALUE)

    done = cli.on_terminal("get", "k", *arguments).finish()

    assert done.code == 0
    assert "********" in done.out
    assert "add --reveal" in done.out
    assert VALUE not in done.out


@pytest.mark.parametrize("option", ["--reveal", "--plain"])
def test_a_terminal_shows_what_is_asked_for(cli: CommandLine, store: SecretClient, option: str) -> None:
    """On a terminal --reveal and --plain show the value."""
    store.set_secret("k", VALUE)

    done = cli.on_terminal("get", "k", option).finish()

    assert done.code == 0
    assert VALUE in done.out
    assert "********" not in done.out


def test_no_color_means_no_escape_at_all(cli: CommandLine, store: SecretClient) -> None:
    """A terminal gets colours, and with NO_COLOR not one escape sequence."""
    store.set_secret("k", VALUE)
    coloured, plain = cli.on_terminal("get", "k"), cli.with_(NO_COLOR="1").on_terminal("get", "k")

    assert coloured.finish().out == plain.finish().out
    assert ANSI.search(coloured.shown)
    assert "\x1b" not in plain.shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nobody"], "there is no secret 'nobody' in namespace 'default'"),
        (["k", "--field", "a.b"], "there is no field 'a.b' in secret 'k'"),
        (["k", "-n", "other", "--format", "table"], "there is no secret 'k'"),
    ],
    ids=["key", "field", "namespace"],
)
def test_what_is_missing_ends_with_3(cli: CommandLine, store: SecretClient, arguments: list[str], said: str) -> None:
    """A missing secret, version or field is exit code 3, and one line names it."""
    store.set_secret("k", {"a": [VALUE]})

    done = cli("get", *arguments)

    assert (done.code, done.out, done.err) == (3, "", f"error: {said}\n")


@pytest.mark.parametrize("wanted", ["table", "json"])
def test_a_changed_row_ends_with_5_in_every_format(
    cli: CommandLine, store: SecretClient, raw: psycopg.Connection, wanted: str
) -> None:
    """Also where the history still has the value: what a program would read is what counts."""
    store.set_secret("k", VALUE)
    raw.execute('UPDATE secretstore.secret_store SET value = value || \'{"data": "AAAAAAAAAAAAAAAAAAAAAAAAAAAA"}\'')

    done = cli("get", "k", "--format", wanted)

    assert (done.code, done.out, done.err.count("\n")) == (5, "", 1)


@pytest.mark.parametrize("keys", [None, generate_master_key("test")], ids=["none", "wrong"])
def test_without_the_right_key_it_ends_with_5(cli: CommandLine, store: SecretClient, keys: str | None) -> None:
    """No key ring, and one with other bytes of the same id, are exit code 5."""
    store.set_secret("k", VALUE)

    done = cli.with_(SECRETSTORE_KEYS=keys)("get", "k", "--format", "table")

    assert (done.code, done.out, done.err.count("\n")) == (5, "", 1)
    assert done.err.startswith("error: ")


def test_a_raw_value_has_no_format(bare_cli: CommandLine) -> None:
    """--plain together with --format is a usage error, before anything is opened."""
    done = bare_cli("get", "k", "--plain", "--format", "json")

    assert (done.code, done.out) == (2, "")
    assert done.err == "error: --plain and --field print one raw value; leave --format out\n"
