"""`secretstore get --at` and `--resolve`: a value as it was, and with what its references point at."""

import json

import pytest
import yaml

from secretstore import SecretClient
from tests.e2e.conftest import CommandLine

VALUE = "hunter2-of-the-test"
APP = {"url": "https://db.example", "password": {"$ref": "db#/password"}}


def resolved(password: str) -> dict[str, str]:
    """Return the value of the application with a password in it."""
    return {"url": "https://db.example", "password": password}


@pytest.fixture
def then(store: SecretClient) -> str:
    """A moment after which the password was changed."""
    store.set_secret("db", {"password": VALUE})
    moment = store.set_secret("app", APP).updated_at.isoformat()
    store.set_secret("db", {"password": "new"})
    return moment


def test_references_are_followed_where_that_is_asked_for(cli: CommandLine, store: SecretClient, then: str) -> None:
    """A value is printed as it is stored, or with what its references point at, whole or one field of it."""
    assert json.loads(cli("get", "app").out) == APP
    assert json.loads(cli("get", "app", "--resolve").out) == resolved("new")
    assert cli("get", "app", "--resolve", "--field", "password").out == "new\n"
    assert yaml.safe_load(cli("get", "app", "--resolve", "--format", "yaml").out) == resolved("new")


def test_a_value_is_printed_as_it_was(cli: CommandLine, store: SecretClient, then: str) -> None:
    """Later versions, and that it was deleted, are not there yet; references lead to what was there then."""
    store.delete_secret("app")

    assert cli("get", "app").code == 3
    assert json.loads(cli("get", "db", "--at", then).out) == {"password": VALUE}
    assert json.loads(cli("get", "app", "--at", then).out) == APP
    assert json.loads(cli("get", "app", "--at", then, "--resolve").out) == resolved(VALUE)
    assert cli("get", "app", "--at", then, "--resolve", "--field", "password").out == f"{VALUE}\n"


def test_a_table_tells_the_version_of_then(cli: CommandLine, store: SecretClient, then: str) -> None:
    """It is masked, as always, and with --reveal it shows the value of then."""
    masked = cli("get", "db", "--at", then, "--format", "table")
    shown = cli("get", "app", "--at", then, "--resolve", "--reveal", "--format", "table")

    rows = dict(line.split(maxsplit=1) for line in masked.out.splitlines())
    assert (masked.code, rows["version"], rows["value"]) == (0, "1", "********")
    assert VALUE not in masked.out
    assert (shown.code, VALUE in shown.out) == (0, True)


@pytest.mark.parametrize("option", ["--resolve", "--at"])
def test_a_terminal_shows_asterisks(cli: CommandLine, then: str, option: str) -> None:
    """Neither option shows a value on a terminal."""
    arguments = [option, then] if option == "--at" else [option]

    done = cli.on_terminal("get", "db", *arguments).finish()

    assert done.code == 0
    assert "********" in done.out
    assert VALUE not in done.out
    assert '"new"' not in done.out


@pytest.mark.parametrize("wanted", ["json", "table"])
def test_what_was_not_there_ends_with_3(cli: CommandLine, store: SecretClient, then: str, wanted: str) -> None:
    """Before the first version there was no secret, and what is gone for good by now is told as that."""
    before = cli("get", "db", "--at", "2000-01-01T00:00Z", "--format", wanted)
    store.destroy_versions("db", [1])
    gone = cli("get", "db", "--at", then, "--format", wanted)

    assert (before.code, before.out, before.err.count("\n")) == (3, "", 1)
    assert "there is no secret 'db'" in before.err
    assert (gone.code, gone.out, gone.err.count("\n")) == (3, "", 1)
    assert "version 1 of 'db' in namespace 'default' was current then, and its value is gone" in gone.err


def test_a_reference_that_leads_nowhere_ends_with_2(cli: CommandLine, store: SecretClient, then: str) -> None:
    """The value breaks a rule: one line names the way, and nothing of a value."""
    store.set_secret("db", VALUE)

    done = cli("get", "app", "--resolve", "--format", "table")

    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert "'app' → 'db#/password' leads nowhere" in done.err
    assert VALUE not in done.err


def test_a_time_that_is_not_sure_is_a_wrong_call(bare_cli: CommandLine) -> None:
    """Without an offset it could be any of many moments: the exit code is 2, and the line says so."""
    done = bare_cli("get", "k", "--at", "2026-08-01T12:00")

    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert "needs an offset" in done.err
