"""`secretstore copy` and `secretstore diff` of two providers: what is written, what is shown, and what never is."""

import json
import stat
from datetime import timedelta
from pathlib import Path

import pytest

from secretstore import SecretClient
from tests.e2e.conftest import CommandLine, Result

VALUE = "hunter2-of-the-test"
OURS = {"app.a": VALUE, "app.b": {"password": VALUE}, "app.c": 1.0, "other": VALUE}


def place(cli: CommandLine, namespace: str) -> str:
    """The URL of a namespace of the store."""
    url = cli.environment["SECRETSTORE_DATABASE_URL"]
    return f"{url}{'&' if '?' in url else '?'}namespace={namespace}"


@pytest.fixture
def source(store: SecretClient) -> SecretClient:
    """What is copied."""
    filled = store.namespace("from")
    filled.set_secrets(OURS)
    return filled


@pytest.fixture
def target(store: SecretClient) -> SecretClient:
    """Where it is copied to: one is the same, one another, one is only there."""
    filled = store.namespace("to")
    filled.set_secrets({"app.b": {"password": "old"}, "app.c": 1.0, "app.d": VALUE})
    return filled


@pytest.fixture
def moving(cli: CommandLine) -> CommandLine:
    """The command line that knows both."""
    return cli.with_(SECRETSTORE_FROM_URL=place(cli, "from"), SECRETSTORE_TO_URL=place(cli, "to"))


def all_of(store: SecretClient) -> dict[str, object]:
    """All values."""
    return store.get_secrets_by_prefix("")


def kinds(done: Result) -> dict[str, str]:
    """How each secret that was shown differs."""
    return {one["key"]: one["kind"] for one in json.loads(done.out)["secrets"]}


def test_a_dry_run_writes_nothing_and_shows_what_would_change(
    moving: CommandLine, source: SecretClient, target: SecretClient
) -> None:
    """Keys, kinds and versions are shown, with exit code 0, and no value anywhere."""
    before = all_of(target)

    done = moving("copy", "--prefix", "app.", "--dry-run")
    table = moving("copy", "--prefix", "app.", "--dry-run", "--format", "table")

    assert (done.code, table.code) == (0, 0)
    assert kinds(done) == {"app.a": "added", "app.b": "changed", "app.d": "extra"}
    assert json.loads(done.out)["counts"] == {"added": 1, "changed": 1, "same": 1, "extra": 1, "unreadable": 0}
    assert table.err == "1 added, 1 changed, 1 same, 1 extra\ndry run: nothing was written\n"
    assert table.out.splitlines()[2].split() == ["app.b", "changed", "value", "1", "1"]
    assert VALUE not in "".join(one.out + one.err for one in (done, table))
    assert all_of(target) == before


def test_a_copy_is_complete_and_the_next_one_writes_nothing(
    moving: CommandLine, source: SecretClient, target: SecretClient
) -> None:
    """What is missing or other is written, the extra one stays, and running it again finds all the same."""
    done = moving("copy", "--verify")
    changes = target.last_change_number()
    again = moving("copy", "--verify")

    assert (done.code, done.err, again.code) == (0, "", 0)
    assert all_of(target) == OURS | {"app.d": VALUE}
    assert kinds(again) == {"app.d": "extra"}
    assert target.last_change_number() == changes
    assert VALUE not in done.out + done.err + again.out


def test_a_map_puts_keys_elsewhere(moving: CommandLine, source: SecretClient, store: SecretClient) -> None:
    """Only keys with the prefix are copied, to where the map says."""
    done = moving("copy", "--prefix", "app.", "--map", "old/{rest}")

    assert done.code == 0
    assert list(all_of(store.namespace("to"))) == ["old/a", "old/b", "old/c"]


def test_extra_ones_are_deleted_where_that_is_confirmed(
    moving: CommandLine, source: SecretClient, target: SecretClient
) -> None:
    """Without --yes a program is refused; with it they go, and the report says so."""
    refused = moving("copy", "--delete-extra")
    assert (refused.code, refused.out) == (2, "")
    assert "add --yes" in refused.err
    assert "app.d" in all_of(target)

    done = moving("copy", "--delete-extra", "--yes")

    assert done.code == 0
    assert all_of(target) == OURS
    assert [one["outcome"] for one in json.loads(done.out)["secrets"]] == ["written", "written", "deleted", "written"]


def test_a_person_is_asked_before_extra_ones_go(
    moving: CommandLine, source: SecretClient, target: SecretClient
) -> None:
    """The question says how many, and any other word ends it."""
    terminal = moving.on_terminal("copy", "--delete-extra")
    terminal.wait_for("type delete to do it")
    terminal.child.sendline("no")
    done = terminal.finish()

    assert done.code == 1
    assert "this deletes 1 secret of postgresql://" in done.out
    assert "app.d" in all_of(target)


def test_an_empty_source_deletes_nothing_unasked(moving: CommandLine, target: SecretClient) -> None:
    """On a terminal, too, nothing goes where nothing would be copied."""
    terminal = moving.on_terminal("copy", "--delete-extra")
    terminal.wait_for("type delete to do it")
    terminal.child.sendline("delete")
    done = terminal.finish()

    assert done.code == 2
    assert "has nothing to copy" in done.out
    assert len(all_of(target)) == 3


def test_a_script_that_asks_nobody_deletes_nothing_for_an_empty_source(
    moving: CommandLine, target: SecretClient
) -> None:
    """A job with --yes whose source is not mounted ends with an error; that everything goes has a word of its own."""
    refused = moving("copy", "--delete-extra", "--yes")

    assert (refused.code, len(all_of(target))) == (2, 3)
    assert "--allow-empty-source" in refused.err
    assert moving("copy", "--delete-extra", "--yes", "--allow-empty-source").code == 0
    assert all_of(target) == {}


def test_a_person_sees_a_bar_and_a_table(moving: CommandLine, source: SecretClient, target: SecretClient) -> None:
    """The bar counts secrets, the table says what became of each, and no value is on the terminal."""
    done = moving.on_terminal("copy", "--verify").finish()

    assert done.code == 0
    assert "copying" in done.out
    assert "5/" in done.out
    assert "app.a" in done.out
    assert "2 added, 1 changed, 1 same, 1 extra" in done.out
    assert VALUE not in done.out


def test_a_report_is_for_its_owner_alone(
    moving: CommandLine, source: SecretClient, target: SecretClient, short_path: Path
) -> None:
    """Each secret is a line, with what became of it and no value; a file that is there is not overwritten."""
    path = short_path / "moved.jsonl"
    done = moving("copy", "--report", str(path))
    again = moving("copy", "--report", str(path))

    *lines, summary = [json.loads(line) for line in path.read_text().splitlines()]
    assert (done.code, again.code, again.err) == (0, 2, f"error: cannot make {path}: File exists\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert {one["key"]: one["outcome"] for one in lines} == {
        "app.a": "written",
        "app.b": "written",
        "app.c": "kept",
        "app.d": "kept",
        "other": "written",
    }
    assert summary["counts"]["added"] == 2
    assert VALUE not in path.read_text()


def test_what_stays_behind_is_said(moving: CommandLine, source: SecretClient) -> None:
    """A copy does not expire, and the command says so."""
    source.set_secret("app.a", VALUE, ttl=timedelta(days=1))

    done = moving("copy", "--prefix", "app.a")

    assert (done.code, json.loads(done.out)["left_behind"]) == (0, {"expiry": 1})
    assert done.err.startswith("warning: the expiry of 1 secret is left behind: in postgresql://")


def test_a_secret_that_fails_is_named(moving: CommandLine, source: SecretClient, target: SecretClient) -> None:
    """All others are copied, and the command ends with 1."""
    source.set_secret("x" * 512, VALUE)

    done = moving("copy", "--map", "old/{key}")

    failed = [one for one in json.loads(done.out)["secrets"] if one["outcome"] == "failed"]
    assert (done.code, done.err) == (1, "error: 1 of 5 secrets failed; see why beside each\n")
    assert "at most 512" in failed[0]["problem"]
    assert VALUE not in done.out
    assert target.get_secret("old/app.a") == VALUE


def test_a_difference_is_a_failed_check(moving: CommandLine, source: SecretClient, target: SecretClient) -> None:
    """`diff` of two providers ends with 8 where they differ and with 0 where not, and shows no value."""
    done = moving("diff")
    assert (done.code, done.err) == (8, "error: the providers differ\n")
    assert kinds(done) == {"app.a": "added", "app.b": "changed", "app.d": "extra", "other": "added"}
    assert VALUE not in done.out

    same = moving("diff", "--prefix", "app.c")
    assert (same.code, kinds(same), same.err) == (0, {}, "")
