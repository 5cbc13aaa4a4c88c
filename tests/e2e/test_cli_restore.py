"""`secretstore restore`: secrets as they were, what is shown of it, and what cannot come back."""

import json
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from secretstore import SecretClient
from tests.e2e.conftest import CommandLine
from tests.support.stored import EVENTS, now, rows

VALUE = "hunter2-of-the-test"


@pytest.fixture
def then(store: SecretClient, raw: psycopg.Connection) -> str:
    """A moment after which much was changed."""
    store.set_secrets({"a.changed": {"p": VALUE}, "a.deleted": 1, "b": "then"}, labels={"of": "then"})
    moment = now(raw).isoformat()
    store.set_secrets({"a.changed": {"p": "now"}, "a.later": VALUE, "b": "now"})
    store.delete_secret("a.deleted")
    return moment


def test_secrets_are_restored(cli: CommandLine, store: SecretClient, then: str) -> None:
    """What differs is written and counted; what was not there then is named, and stays."""
    done = cli("restore", "--at", then)

    assert (done.code, done.err) == (0, "")
    assert "hunter2" not in done.out
    assert json.loads(done.out) == {
        "differences": [
            {"key": "a.changed", "kind": "changed"},
            {"key": "a.deleted", "kind": "added"},
            {"key": "a.later", "kind": "extra"},
            {"key": "b", "kind": "changed"},
        ],
        "counts": {"added": 1, "changed": 2, "labels": 0, "unchanged": 0, "extra": 1, "deleted": 0},
        "gone": [],
        "expired": [],
    }
    assert store.get_secrets_by_prefix("") == {
        "a.changed": {"p": VALUE},
        "a.deleted": 1,
        "a.later": VALUE,
        "b": "then",
    }


def test_a_dry_run_writes_nothing(cli: CommandLine, raw: psycopg.Connection, then: str) -> None:
    """It shows the places in values, masked unless --reveal, on a terminal and in a pipe; --prune asks nobody then."""
    before = rows(raw, EVENTS)
    masked = cli("restore", "--at", then, "--dry-run", "--prune")
    shown = cli("restore", "--at", then, "--dry-run", "--prefix", "a.c", "--reveal", "--format", "yaml")
    seen = cli.on_terminal("restore", "--at", then, "--dry-run").finish()

    assert (masked.code, shown.code, seen.code) == (0, 0, 0)
    assert "hunter2" not in masked.out + masked.err + seen.out
    assert json.loads(masked.out)["counts"]["deleted"] == 1
    assert f"new: {VALUE}" in shown.out
    assert "/p" in seen.out
    assert "1 added, 2 changed, 1 extra" in seen.out
    assert rows(raw, EVENTS) == before


def test_pruning_is_confirmed_and_stays_within_the_prefix(cli: CommandLine, store: SecretClient, then: str) -> None:
    """Without a person --yes is needed; a person types the name of the namespace."""
    refused = cli("restore", "--at", then, "--prefix", "a.", "--prune")
    assert (refused.code, refused.out) == (2, "")
    assert "whose key begins with a. that was not there then; to do it, add --yes" in refused.err
    terminal = cli.on_terminal("restore", "--at", then, "--prefix", "a.", "--prune")
    terminal.wait_for("type default to do it")
    assert store.get_secrets_by_prefix("a.") == {"a.changed": {"p": "now"}, "a.later": VALUE}
    terminal.child.sendline("default")
    done = terminal.finish()

    assert done.code == 0
    assert "this deletes 1 secret of namespace default, not there then: a.later" in done.out
    assert store.get_secrets_by_prefix("") == {"a.changed": {"p": VALUE}, "a.deleted": 1, "b": "now"}
    assert cli("restore", "--at", then, "--prune", "--yes").code == 0
    assert store.get_secret("b") == "then"


def test_what_cannot_come_back_is_named(
    cli: CommandLine, store: SecretClient, raw: psycopg.Connection, then: str
) -> None:
    """Values that are gone or have expired are named on stderr and end with 1, after all others were restored."""
    store.destroy_versions("b", [1])
    store.set_secret("brief", 1, expires_at=datetime.now(UTC) + timedelta(seconds=0.5))
    moment = now(raw).isoformat()
    store.set_secret("brief", 2)
    raw.execute("SELECT pg_sleep(0.6)")

    done = cli("restore", "--at", then)
    later = cli("restore", "--at", moment, "--dry-run")

    assert done.code == 1
    assert "warning: the value that b had then is gone" in done.err
    assert done.err.endswith("error: not restored: 1 secret\n")
    assert json.loads(done.out)["gone"] == ["b"]
    assert store.get_secrets_by_prefix("") == {
        "a.changed": {"p": VALUE},
        "a.deleted": 1,
        "a.later": VALUE,
        "b": "now",
        "brief": 2,
    }
    assert later.code == 1
    assert "warning: the value that brief had then has expired since" in later.err


def test_a_time_is_needed(bare_cli: CommandLine) -> None:
    """Without --at, or with a time that is not sure, the call is wrong."""
    for arguments in ([], ["--at", "2026-08-01T12:00"]):
        done = bare_cli("restore", *arguments)
        assert (done.code, done.out) == (2, "")
        assert done.err.startswith("error: ")
