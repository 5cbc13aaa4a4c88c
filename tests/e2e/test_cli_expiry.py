"""Secrets that expire: `set --ttl` and `--expires-at`, and the lists of those that do, did, or should be renewed."""

import json
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from secretstore import SecretClient
from tests.e2e.conftest import CommandLine, Result

VALUE = "hunter2-of-the-test"
YESTERDAY = datetime.now(UTC) - timedelta(days=1)


def listed(done: Result) -> list[str]:
    """Return the keys of a list."""
    assert (done.code, done.err) == (0, "")
    return [record["key"] for record in json.loads(done.out)]


@pytest.fixture
def filled(store: SecretClient) -> SecretClient:
    """A store with a secret of each kind."""
    store.set_secrets({"kept": 1, "deleted": 1})
    store.set_secret("soon", 1, ttl=timedelta(days=1))
    store.set_secret("later", 1, ttl=timedelta(days=30))
    store.set_secret("expired", 1, expires_at=YESTERDAY)
    store.delete_secret("deleted")
    return store


def test_a_version_expires_after_a_time(cli: CommandLine, store: SecretClient) -> None:
    """--ttl counts from the write, and the time is told; the next version expires only if that is said again."""
    done = cli("set", "k", "--ttl", "1d12h", stdin=b"1")
    info = store.describe_secret("k")

    assert info is not None
    assert info.expires_at is not None
    assert info.expires_at - info.updated_at == timedelta(hours=36)
    told = info.expires_at.astimezone(UTC).isoformat(" ", "seconds")
    assert (done.code, done.out, done.err) == (0, "", f"stored k, version 1, which expires at {told}\n")
    assert cli("set", "k", stdin=b"2").err == "stored k, version 2\n"


def test_a_version_expires_at_a_time(cli: CommandLine, store: SecretClient) -> None:
    """--expires-at is a moment, wherever it was written; once it is over, the secret reads as missing."""
    done = cli("set", "k", "--expires-at", "2999-01-01T02:00+02:00", stdin=b"1")
    info = store.describe_secret("k")

    assert info is not None
    assert info.expires_at == datetime(2999, 1, 1, tzinfo=UTC)
    assert done.err == "stored k, version 1, which expires at 2999-01-01 00:00:00+00:00\n"
    assert cli("set", "k", "--expires-at", YESTERDAY.isoformat(), stdin=b"2").code == 0
    assert cli("get", "k").code == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--expires-at", "2999-01-01T00:00"], "error: a time needs an offset, such as Z for UTC or +02:00"),
        (["--expires-at", VALUE], "error: a time is written like "),
        (["--ttl", VALUE], "error: a duration is written like "),
        (["--ttl", "0s"], "error: a duration is written like "),
        (["--ttl", "1d", "--expires-at", "2999-01-01T00:00Z"], "error: give either --ttl or --expires-at, not both"),
    ],
    ids=["offset", "time", "duration", "nothing", "both"],
)
def test_an_expiry_that_cannot_be_is_told_without_its_arguments(
    bare_cli: CommandLine, arguments: list[str], said: str
) -> None:
    """It ends with 2, before a value is asked for, in one line that says how it is written and repeats nothing."""
    done = bare_cli("set", "k", *arguments, stdin=VALUE.encode())

    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert done.err.startswith(said)
    assert VALUE not in done.err


@pytest.mark.parametrize(
    ("arguments", "keys"),
    [
        ([], ["kept", "later", "soon"]),
        (["--deleted"], ["deleted", "kept", "later", "soon"]),
        (["--expired"], ["expired"]),
        (["--expiring-within", "7d"], ["soon"]),
        (["s", "--expiring-within", "60d"], ["soon"]),
    ],
    ids=" ".join,
)
def test_a_list_shows_what_is_asked_for(
    cli: CommandLine, filled: SecretClient, arguments: list[str], keys: list[str]
) -> None:
    """Without an option what is there; with one also what is deleted, or only what is expired or will be."""
    assert listed(cli("list", *arguments)) == keys


def test_values_that_are_old_are_found(cli: CommandLine, store: SecretClient, raw: psycopg.Connection) -> None:
    """--unchanged-for counts from the version, not from a change of labels."""
    store.set_secrets({"old": 1, "new": 1})
    raw.execute("UPDATE secretstore.secret_version SET created_at = created_at - interval '91 days' WHERE key = 'old'")
    store.set_labels("old", {"a": "1"})

    assert listed(cli("list", "--unchanged-for", "90d")) == ["old"]
    assert listed(cli("list", "--unchanged-for", "92d")) == []


@pytest.mark.parametrize(
    ("arguments", "more"),
    [
        ([], []),
        (["--unchanged-for", "90d"], []),
        (["--deleted"], ["deleted_at"]),
        (["--expired"], ["expires_at"]),
        (["--expiring-within", "7d"], ["expires_at"]),
        (["--expiring-within", "7d", "--deleted"], ["expires_at", "deleted_at"]),
    ],
    ids=" ".join,
)
def test_a_table_has_the_times_that_are_asked_for(
    cli: CommandLine, filled: SecretClient, arguments: list[str], more: list[str]
) -> None:
    """The columns of expiry and deletion are there only where an option is about them."""
    done = cli("list", *arguments, "--format", "table")

    header, *lines = done.out.splitlines()
    assert (done.code, done.err) == (0, "")
    assert header.split() == ["key", "version", "updated_at", "labels", *more]
    if arguments == ["--expired"]:
        assert YESTERDAY.isoformat(" ", "seconds") in lines[0]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--expired", "--deleted"],
        ["--expired", "--expiring-within", "7d"],
        ["--expiring-within", "soon"],
        ["--unchanged-for", "-1d"],
    ],
    ids=" ".join,
)
def test_contradictions_are_wrong_calls(bare_cli: CommandLine, arguments: list[str]) -> None:
    """What cannot be listed together, and what is no duration, ends with 2, before anything is opened."""
    done = bare_cli("list", *arguments)

    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
