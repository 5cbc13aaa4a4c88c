"""`secretstore undelete`, `destroy` and `purge`: what can be undone, and what asks first because it cannot."""

import json

import pytest

from secretstore import SecretClient
from tests.e2e.conftest import CommandLine

VALUE = "hunter2-of-the-test"


@pytest.fixture
def written(store: SecretClient) -> SecretClient:
    """A store with a secret of three versions."""
    for n in (1, 2, 3):
        store.set_secret("k", f"{VALUE}-{n}")
    return store


def destroyed(store: SecretClient) -> list[int]:
    """Return which versions of the secret are destroyed."""
    return sorted(info.version for info in store.list_versions("k") if info.destroyed_at is not None)


def test_undeleting_goes_on_past_what_is_gone(cli: CommandLine, written: SecretClient) -> None:
    """Deleted secrets are back, one that is there stays, the others are named, and the exit code is 3."""
    written.set_secrets({"there": 1, "gone": 1})
    written.destroy_versions("gone", [1])
    written.delete_secret("k")

    done = cli("undelete", "gone", "k", "nobody", "there")

    assert (done.code, done.out) == (3, "")
    assert done.err.splitlines() == [
        "k is there, in version 3",
        "there is there, in version 1",
        "error: there is no deleted secret 'gone', 'nobody'",
    ]
    assert written.get_secret("k") == f"{VALUE}-3"


def test_undeleting_what_was_deleted_is_all_it_takes(cli: CommandLine, written: SecretClient) -> None:
    """`delete` and `undelete` leave the secret as it was, with exit code 0."""
    assert cli("delete", "k").code == 0

    done = cli("undelete", "k")

    assert (done.code, done.out, done.err) == (0, "", "k is there, in version 3\n")
    assert written.get_secret("k") == f"{VALUE}-3"


def test_a_program_that_destroys_says_yes(cli: CommandLine, written: SecretClient) -> None:
    """Without a terminal and without --yes nothing is changed and the exit code is 2; with it the values are gone."""
    refused = cli("destroy", "k", "1", "2")
    assert (refused.code, refused.out) == (2, "")
    assert refused.err == "error: this destroys versions 1, 2 of k; to do it, add --yes\n"
    assert destroyed(written) == []

    done = cli("destroy", "k", "2", "1", "2", "--yes")
    again = cli("destroy", "k", "1", "--yes")

    assert (done.code, done.out, done.err) == (0, "", "destroyed 2 versions of k\n")
    assert (again.code, again.err) == (0, "destroyed 0 versions of k; 1 version before\n")
    assert destroyed(written) == [1, 2]
    assert written.get_secret("k") == f"{VALUE}-3"


def test_destroying_asks_for_the_key(cli: CommandLine, written: SecretClient) -> None:
    """On a terminal the key is typed; another one changes nothing."""
    wrong = cli.on_terminal("destroy", "k", "1")
    wrong.wait_for("type k to do it")
    wrong.child.sendline("K")
    done = wrong.finish()
    assert done.code == 1
    assert "warning: this destroys version 1 of k, and cannot be undone" in done.out
    assert "error: that is not k; nothing was changed" in done.out
    assert destroyed(written) == []

    right = cli.on_terminal("destroy", "k", "1")
    right.wait_for("type k to do it")
    right.child.sendline("k")
    done = right.finish()
    assert done.code == 0
    assert "destroyed 1 version of k" in done.out
    assert "current" not in done.out
    assert VALUE not in done.out
    assert destroyed(written) == [1]


def test_that_the_current_version_goes_is_told_before(cli: CommandLine, written: SecretClient) -> None:
    """Whoever is asked knows by then that the secret is deleted for good."""
    terminal = cli.on_terminal("destroy", "k", "3", "1")
    terminal.wait_for("type k to do it")
    assert "version 3 is the current one: the secret is deleted then, and cannot be undeleted" in terminal.shown
    terminal.child.sendline("k")

    assert terminal.finish().code == 0
    assert written.get_secret("k") is None
    assert cli("undelete", "k").code == 3


def test_that_a_deleted_secret_does_not_come_back_is_told(cli: CommandLine, written: SecretClient) -> None:
    """With --yes too, and once: of a version that is gone already there is nothing to tell."""
    written.delete_secret("k")

    done, again = cli("destroy", "k", "3", "--yes"), cli("destroy", "k", "3", "--yes")

    told = "warning: version 3 is the last one: the secret cannot be undeleted\n"
    assert (done.code, done.err) == (0, f"{told}destroyed 1 version of k\n")
    assert (again.code, again.err) == (0, "destroyed 0 versions of k; 1 version before\n")


def test_a_version_that_never_was_destroys_none(cli: CommandLine, written: SecretClient) -> None:
    """One wrong number is exit code 3, before anybody is asked, and the right ones are not destroyed."""
    done = cli.on_terminal("destroy", "k", "1", "9", "8").finish()
    missing = cli("destroy", "nobody", "1", "--yes")

    assert (done.code, done.out.strip()) == (3, "error: there are no versions 8, 9 of secret 'k'")
    assert (missing.code, missing.err) == (3, "error: there is no secret 'nobody'\n")
    assert destroyed(written) == []


@pytest.mark.parametrize("arguments", [["k"], ["k", "0", "--yes"], [" k", "1", "--yes"], ["k", "x", "--yes"]])
def test_what_cannot_be_destroyed_is_a_wrong_call(bare_cli: CommandLine, arguments: list[str]) -> None:
    """No version, one that cannot be, and a key that cannot be are exit code 2, before anything is opened."""
    done = bare_cli("destroy", *arguments)

    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)


def test_a_program_that_purges_says_yes(cli: CommandLine, written: SecretClient) -> None:
    """Without --yes nothing is changed; with it nothing is left, deleted secrets too, and what was missing is named."""
    written.set_secrets({"a": 1, "b": 1})
    written.delete_secret("a")
    refused = cli("purge", "k", "a")
    assert (refused.code, refused.out) == (2, "")
    assert refused.err == "error: this removes k, a with all versions; to do it, add --yes\n"

    done = cli("purge", "k", "nobody", "a", "--yes")

    assert (done.code, done.out) == (3, "")
    assert done.err == "purged k\npurged a\nerror: there is nothing of 'nobody'\n"
    assert [record["key"] for record in json.loads(cli("list", "--deleted").out)] == ["b"]
    assert cli("history", "k").code == 3


@pytest.mark.parametrize(("keys", "word"), [(["k"], "k"), (["k", "b"], "purge")], ids=["one", "many"])
def test_purging_asks(cli: CommandLine, written: SecretClient, keys: list[str], word: str) -> None:
    """On a terminal the key is typed, or `purge` for many; anything else changes nothing."""
    written.set_secret("b", 1)
    for typed, code, left in (("yes", 1, 2), (word, 0, 2 - len(keys))):
        terminal = cli.on_terminal("purge", *keys)
        terminal.wait_for(f"type {word} to do it")
        terminal.child.sendline(typed)

        assert terminal.finish().code == code
        assert written.get_secret_count(include_deleted=True) == left


@pytest.mark.parametrize("command", [("destroy", "k", "1"), ("purge", "k")], ids=["destroy", "purge"])
@pytest.mark.parametrize(("key", "code"), [("\x03", 130), ("\x04", 1)], ids=["ctrl-c", "ctrl-d"])
def test_the_question_can_be_left(
    *, cli: CommandLine, written: SecretClient, command: tuple[str, ...], key: str, code: int
) -> None:
    """Ctrl-C and Ctrl-D at the question change nothing."""
    terminal = cli.on_terminal(*command)
    terminal.wait_for("to do it")
    terminal.child.send(key)

    assert terminal.finish().code == code
    assert len(written.list_versions("k")) == 3
    assert destroyed(written) == []
