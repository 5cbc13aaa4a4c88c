"""`secretstore gc`: what it takes away, what asks first because it cannot be undone, and how it is broken off."""

import signal
import subprocess
import sys

import psycopg
import pytest

from secretstore import SecretClient
from tests.e2e.conftest import DEADLINE_SECONDS, PROGRAM, CommandLine
from tests.support.threads import number, wait_until_blocked

VERSIONS = "SELECT count(*) FROM secretstore.secret_version"
AGE = "UPDATE secretstore.secret_store SET deleted_at = now() - make_interval(days => %s) WHERE deleted_at IS NOT NULL"


@pytest.fixture
def littered(store: SecretClient, raw: psycopg.Connection) -> SecretClient:
    """Two namespaces: two secrets were deleted 31 days ago in the first and one in the other; three versions are too many."""
    other = store.namespace("other")
    for value in range(4):
        store.set_secrets({"old 1": value, "old 2": value, "live": value})
    other.set_secrets({"old 3": 1, "live": 1})
    store.set_max_versions(1)
    store.delete_secrets(["old 1", "old 2"])
    other.delete_secret("old 3")
    raw.execute(AGE, [31])
    return store


def test_a_dry_run_tells_and_changes_nothing(cli: CommandLine, littered: SecretClient, raw: psycopg.Connection) -> None:
    """It needs nobody's yes, and says just what the run after it does."""
    before = number(raw, VERSIONS)
    planned = cli("gc", "--all", "--dry-run")

    assert (planned.code, planned.out) == (0, "")
    assert planned.err.splitlines() == [
        "would purge 2 secrets, prune 3 versions of namespace default",
        "would purge 1 secret, prune 0 versions of namespace other",
    ]
    assert number(raw, VERSIONS) == before
    done = cli("gc", "--all", "--yes")
    assert done.err == planned.err.replace("would purge", "purged").replace("prune ", "pruned ")


def test_a_program_that_collects_says_yes(cli: CommandLine, littered: SecretClient, raw: psycopg.Connection) -> None:
    """Without --yes nothing is changed; with it one namespace is collected, and says so."""
    before = number(raw, VERSIONS)
    refused = cli("gc")
    assert (refused.code, refused.out) == (2, "")
    assert refused.err == "error: this removes secrets and versions for good; to do it, add --yes\n"
    assert number(raw, VERSIONS) == before

    done, again = cli("gc", "--yes"), cli("gc", "--yes")

    assert (done.code, done.out, done.err) == (0, "", "purged 2 secrets, pruned 3 versions of namespace default\n")
    assert (again.code, again.err) == (0, "purged 0 secrets, pruned 0 versions of namespace default\n")
    assert littered.list_secret_keys(include_deleted=True) == ["live"]
    assert littered.namespace("other").list_secret_keys(include_deleted=True) == ["live", "old 3"]


@pytest.mark.parametrize(("time", "purged"), [("32d", 0), ("30d12h", 2)])
def test_the_time_is_the_caller_s(cli: CommandLine, littered: SecretClient, time: str, purged: int) -> None:
    """Only what was deleted at least so long ago is purged."""
    done = cli("gc", "--deleted-for", time, "--yes")

    assert done.code == 0
    assert done.err.startswith(f"purged {purged} secrets, ")
    assert littered.get_secret_count(include_deleted=True) == 3 - purged


def test_what_was_deleted_lately_stays(cli: CommandLine, littered: SecretClient, raw: psycopg.Connection) -> None:
    """Without a time it is thirty days."""
    raw.execute(AGE, [29])
    assert cli("gc", "--yes").err.startswith("purged 0 secrets")
    raw.execute(AGE, [31])
    assert cli("gc", "--yes").err.startswith("purged 2 secrets")


@pytest.mark.parametrize(("of_all", "word", "left"), [((), "default", 2), (("--all",), "all", 1)], ids=["one", "all"])
def test_collecting_asks(
    *, cli: CommandLine, littered: SecretClient, of_all: tuple[str, ...], word: str, left: int
) -> None:
    """On a terminal it says how much, and the name is typed; anything else changes nothing."""
    wrong = cli.on_terminal("gc", *of_all)
    wrong.wait_for(f"type {word} to do it")
    wrong.child.sendline("yes")
    done = wrong.finish()
    assert done.code == 1
    how_much = "3 secrets and prunes 3 versions" if of_all else "2 secrets and prunes 3 versions"
    assert f"warning: this purges {how_much}, and cannot be undone" in done.out
    assert littered.get_secret_count(include_deleted=True) == 3

    right = cli.on_terminal("gc", *of_all)
    right.wait_for(f"type {word} to do it")
    right.child.sendline(word)
    done = right.finish()
    assert done.code == 0
    assert "collecting" in done.out
    assert "purged 2 secrets, pruned 3 versions of namespace default" in done.out
    counts = [one.get_secret_count(include_deleted=True) for one in (littered, littered.namespace("other"))]
    assert counts == [1, left]


@pytest.mark.parametrize(("key", "code"), [("\x03", 130), ("\x04", 1)], ids=["ctrl-c", "ctrl-d"])
def test_the_question_can_be_left(cli: CommandLine, littered: SecretClient, key: str, code: int) -> None:
    """Ctrl-C and Ctrl-D at the question change nothing."""
    terminal = cli.on_terminal("gc")
    terminal.wait_for("to do it")
    terminal.child.send(key)

    assert terminal.finish().code == code
    assert littered.get_secret_count(include_deleted=True) == 3


def test_where_there_is_nothing_nobody_is_asked(cli: CommandLine, store: SecretClient) -> None:
    """A person is told, and that is all."""
    store.set_secret("live", 1)

    done = cli.on_terminal("gc").finish()

    assert done.code == 0
    assert "there is nothing to collect" in done.out
    assert "to do it" not in done.out


@pytest.mark.parametrize("number_of_signal", [signal.SIGINT, signal.SIGTERM])
def test_what_is_broken_off_is_run_again(
    *,
    cli: CommandLine,
    store: SecretClient,
    database_url: str,
    raw: psycopg.Connection,
    number_of_signal: signal.Signals,
) -> None:
    """What is done stays done, it says so, and the next run does the rest."""
    keys = [f"k{place:04}" for place in range(1000)]
    store.set_secrets(dict.fromkeys(keys, 1))
    store.delete_secrets(keys)
    raw.execute(AGE, [31])
    command = [sys.executable, *PROGRAM, "gc", "--yes"]
    with psycopg.connect(database_url) as holder:
        # The first page holds five hundred.
        holder.execute("SELECT version FROM secretstore.secret_store WHERE key = 'k0700' FOR UPDATE")
        with subprocess.Popen(command, stderr=subprocess.PIPE, env=cli.environment) as child:
            wait_until_blocked(raw)
            child.send_signal(number_of_signal)
            _, told = child.communicate(timeout=DEADLINE_SECONDS)

    assert child.returncode == 128 + number_of_signal
    assert told == b"what is done stays done; run it again to do the rest\n"
    assert number(raw, VERSIONS) == 500
    assert cli("gc", "--yes").err == "purged 500 secrets, pruned 0 versions of namespace default\n"


@pytest.mark.parametrize(
    "arguments", [["--deleted-for", "0d"], ["--deleted-for", "x"], ["--deleted-for", "-1d"], ["--all", "-n", "other"]]
)
def test_a_contradiction_is_a_wrong_call(bare_cli: CommandLine, arguments: list[str]) -> None:
    """A time that is none, and two kinds of namespaces, are exit code 2, before anything is opened."""
    done = bare_cli("gc", "--dry-run", *arguments)

    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
