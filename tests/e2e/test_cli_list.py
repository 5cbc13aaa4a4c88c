"""`secretstore list`, `describe` and `delete`: what needs no key."""

import json

import pytest

from secretstore import SecretClient
from secretstore.crypto.local import generate_master_key
from tests.e2e.conftest import CommandLine

MEMBERS = {
    *("namespace", "key", "version", "labels", "created_at"),
    *("updated_at", "created_by", "expires_at", "deleted_at"),
}


@pytest.fixture
def stranger(cli: CommandLine) -> CommandLine:
    """The command line with a key ring that opens nothing."""
    return cli.with_(SECRETSTORE_KEYS=generate_master_key("stranger"))


def test_a_list_in_a_pipe_is_json(stranger: CommandLine, store: SecretClient) -> None:
    """Piped, `list` prints all that is known of a page of secrets, and needs no key that opens them."""
    store.set_secrets(dict.fromkeys(("a.1", "a.2", "a.3", "b"), 1), labels={"team": "x"})

    done = stranger("list", "a.", "--after", "a.1", "--limit", "1")

    records = json.loads(done.out)
    assert (done.code, done.err) == (0, "")
    assert [(record["key"], record["version"], record["labels"]) for record in records] == [("a.2", 1, {"team": "x"})]
    assert set(records[0]) == MEMBERS


def test_a_list_on_a_terminal_is_a_table(cli: CommandLine, store: SecretClient) -> None:
    """On a terminal `list` shows keys, versions, times and labels, and no label can steer the terminal."""
    store.set_secret("a", 1, labels={"team": "\x1b[2J"})

    terminal = cli.on_terminal("list")
    shown = terminal.finish().out

    assert shown.split()[:4] == ["key", "version", "updated_at", "labels"]
    assert "team=\\x1b[2J" in shown
    assert "\x1b[2J" not in terminal.shown


def test_a_record_is_described(stranger: CommandLine, store: SecretClient) -> None:
    """`describe` prints what is known of one secret, without a key that opens it."""
    info = store.set_secret("a", 1)

    record = json.loads(stranger("describe", "a").out)

    assert set(record) == MEMBERS
    assert (record["key"], record["created_at"]) == ("a", info.created_at.isoformat())


def test_a_missing_record_ends_with_3(cli: CommandLine) -> None:
    """`describe` of nothing is exit code 3."""
    done = cli("describe", "a")

    assert (done.code, done.out, done.err) == (3, "", "error: there is no secret 'a'\n")


def test_deleting_goes_on_past_what_is_missing(cli: CommandLine, store: SecretClient) -> None:
    """Secrets that are there are deleted, the missing one is named, and the exit code is 3."""
    store.set_secrets({"a": 1, "b": 1, "c": 1})

    done = cli("delete", "a", "nobody", "b")

    assert (done.code, done.out) == (3, "")
    assert done.err == "deleted a\ndeleted b\nerror: there is no secret 'nobody'\n"
    assert store.list_secret_keys() == ["c"]


def test_a_key_that_cannot_be_deletes_nothing(cli: CommandLine, store: SecretClient) -> None:
    """Keys are looked at before the first one is deleted."""
    store.set_secret("a", 1)

    done = cli("delete", "a", " b")

    assert (done.code, done.err.count("\n")) == (2, 1)
    assert store.list_secret_keys() == ["a"]
