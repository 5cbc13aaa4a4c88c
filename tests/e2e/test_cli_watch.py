"""`secretstore watch`: changes as they come, for programs and for people, and how it ends."""

import json
import signal
import subprocess
import sys
from collections.abc import Sequence

import psycopg
import pytest
import yaml

from secretstore import SecretClient
from tests.e2e.conftest import DEADLINE_SECONDS, CommandLine
from tests.e2e.following import LISTENERS, MEMBERS, end, following, next_change
from tests.support.threads import number, wait_until

VALUE = "hunter2-of-the-test"
# It has looked once.
LOOKED = (
    "SELECT count(*) FROM pg_stat_activity AS reader JOIN pg_stat_activity AS listener USING (datname)"
    " WHERE datname = current_database() AND listener.query LIKE 'LISTEN%' AND reader.query = 'COMMIT'"
    " AND reader.state = 'idle' AND reader.backend_start > listener.query_start"
)


def keys_of(lines: str) -> list[str]:
    """Return the keys of lines of JSON."""
    return [json.loads(line)["key"] for line in lines.splitlines()]


def test_a_change_is_a_line_at_once(listening_cli: CommandLine, store: SecretClient, raw: psycopg.Connection) -> None:
    """Each comes while the watch goes on, whole and without its value; what was there before does not come."""
    store.set_secret("before", 1)
    with following(listening_cli, raw, "watch") as child:
        info = store.set_secret("ключ", VALUE)
        first = next_change(child)
        store.delete_secret("ключ")
        second = next_change(child)
        code, out, _ = end(child, signal.SIGINT)

    assert list(first) == MEMBERS
    assert list(first.values())[:7] == [2, "default", "ключ", 1, "set", "postgres", info.updated_at.isoformat()]
    assert [second[name] for name in ("seq", "key", "version", "action")] == [3, "ключ", 1, "delete"]
    assert (code, out) == (130, "")


@pytest.mark.parametrize(("number_of_signal", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_watch_that_is_ended_says_how_to_go_on(
    *,
    listening_cli: CommandLine,
    store: SecretClient,
    raw: psycopg.Connection,
    number_of_signal: signal.Signals,
    code: int,
) -> None:
    """After Ctrl-C or SIGTERM, the command that it prints gives what comes next, and nothing twice."""
    other = store.namespace("the other")
    with following(listening_cli, raw, "watch", "a b", "--namespace", "the other") as child:
        other.set_secrets({"a b.1": VALUE, "a b.2": VALUE, "c": VALUE})
        assert [next_change(child)["key"] for _ in range(2)] == ["a b.1", "a b.2"]
        # It looks again only when it is done with a line, which it has to be: what is in its midst comes once more.
        shown = raw.execute("SELECT clock_timestamp()").fetchone()
        assert shown is not None
        wait_until(raw, f"{LOOKED} AND reader.query_start > '{shown[0].isoformat()}'", 1)
        ended = end(child, number_of_signal)
    other.set_secret("a b.3", VALUE)

    told = "to go on: secretstore watch 'a b' --after 2 --namespace 'the other'\n"
    assert ended == (code, "", told)
    assert keys_of(listening_cli("watch", "a b", "--after", "2", "--namespace", "the other", "--once").out) == ["a b.3"]


def test_a_watch_to_which_nothing_came_says_where_it_began(
    listening_cli: CommandLine, store: SecretClient, raw: psycopg.Connection
) -> None:
    """The place is known before the first change, or is the one that was given."""
    store.set_secrets({"a": VALUE, "b": VALUE})
    for arguments, place in ((), 2), (("--after", "7"), 7):
        with following(listening_cli, raw, "watch", *arguments) as child:
            wait_until(raw, LOOKED, 1)
            ended = end(child, signal.SIGINT)
        wait_until(raw, f"SELECT 1 - ({LISTENERS})", 1)
        assert ended == (130, "", f"to go on: secretstore watch --after {place} --namespace default\n")


def test_a_watch_that_goes_on_misses_nothing(
    listening_cli: CommandLine, store: SecretClient, raw: psycopg.Connection
) -> None:
    """With --after the changes since then come first, and then those that follow."""
    store.set_secrets({"a": VALUE, "b": VALUE, "c": VALUE})
    with following(listening_cli, raw, "watch", "--after", "1") as child:
        assert [next_change(child)["key"] for _ in range(2)] == ["b", "c"]
        store.set_secret("d", VALUE)
        assert next_change(child)["seq"] == 4


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], ["a", "b", "c"]),
        (["--after", "0"], ["a", "b", "c"]),
        (["--after", "2"], ["c"]),
        (["--after", "3"], []),
        (["b"], ["b"]),
        (["-n", "other"], ["d"]),
    ],
)
def test_what_there_is_comes_once(
    cli: CommandLine, store: SecretClient, arguments: Sequence[str], expected: list[str]
) -> None:
    """With --once it ends by itself, with 0, also where there is nothing."""
    store.set_secrets({"a": VALUE, "b": VALUE, "c": VALUE})
    store.namespace("other").set_secret("d", VALUE)

    done = cli("watch", "--once", *arguments)

    assert (done.code, keys_of(done.out), done.err) == (0, expected, "")


def test_a_long_record_comes_whole(cli: CommandLine, store: SecretClient) -> None:
    """More than a page of changes, and just two pages of them."""
    store.set_secrets({f"k{place:04}": 1 for place in range(1000)})

    assert len(cli("watch", "--once").out.splitlines()) == 1000
    store.set_secret("z", 1)
    assert keys_of(cli("watch", "--once").out)[-1] == "z"


@pytest.mark.parametrize("arguments", [[], ["--after", "0"]], ids=["from now on", "from the beginning"])
def test_a_reader_that_leaves_ends_it_quietly(
    listening_cli: CommandLine, store: SecretClient, raw: psycopg.Connection, arguments: list[str]
) -> None:
    """As in `| head -1`: no word, exit code 0, and at once, although no other change comes."""
    with following(listening_cli, raw, "watch", *arguments) as child:
        store.set_secret("a", VALUE)
        assert next_change(child)["key"] == "a"
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.close()
        assert child.wait(DEADLINE_SECONDS) == 0
        assert child.stderr.read() == b""


def test_a_reader_that_leaves_in_the_midst_ends_it_quietly(cli: CommandLine, store: SecretClient) -> None:
    """Far more than a pipe holds is broken off by `head` without a word."""
    store.set_secrets({f"k{place:04}": 1 for place in range(2000)})
    command = '"$0" -W error -m secretstore watch --once | head -n 1; exit "${PIPESTATUS[0]}"'

    done = subprocess.run(
        ["bash", "-c", command, sys.executable],
        capture_output=True,
        env=cli.environment,
        timeout=DEADLINE_SECONDS,
        check=False,
    )

    assert (done.returncode, keys_of(done.stdout.decode()), done.stderr) == (0, ["k0000"], b"")


def test_a_terminal_shows_columns(cli: CommandLine, store: SecretClient) -> None:
    """A header at once, and a line for each change; Ctrl-C says how to go on."""
    terminal = cli.on_terminal("watch", "--after", "0", columns=60)
    terminal.wait_for("occurred_at")
    store.set_secret("a.rather.long.key.that.is.not.cut.off.nor.broken", VALUE)
    terminal.wait_for("nor.broken")
    terminal.child.send("\x03")
    done = terminal.finish()

    header, line, *_ = done.out.splitlines()
    assert done.code == 130
    assert header.split() == ["seq", "occurred_at", "action", "version", "actor", "key"]
    assert line.split()[0] == "1"
    assert line.split()[-4:] == ["set", "1", "postgres", "a.rather.long.key.that.is.not.cut.off.nor.broken"]
    assert header.index("actor") == line.index("postgres")
    assert "to go on: secretstore watch --after 1 --namespace default" in done.out


def test_a_name_cannot_steer_a_terminal(cli: CommandLine, store: SecretClient, raw: psycopg.Connection) -> None:
    """The record has what raw SQL puts there, and a column shows it without its effects."""
    store.set_secret("a", VALUE)
    raw.execute("UPDATE secretstore.change_event SET actor = %s", ["\x1b[2J\nx"])

    (_, line) = cli("watch", "--once", "--format", "table").out.splitlines()

    assert line.split()[-2:] == [r"\x1b[2J\nx", "a"]


def test_lines_of_yaml_are_one_list(cli: CommandLine, store: SecretClient) -> None:
    """However many have come, all of them together can be read."""
    store.set_secrets({"a": VALUE, "b": VALUE})

    listed = yaml.safe_load(cli("watch", "--once", "--format", "yaml").out)

    assert [(one["seq"], one["key"]) for one in listed] == [(1, "a"), (2, "b")]


@pytest.mark.parametrize("arguments", [["--after", "-1"], ["--after", "x"], ["--after", "9" * 30], ["\x01"]])
def test_what_cannot_be_watched_is_a_wrong_call(cli: CommandLine, arguments: list[str]) -> None:
    """A place that is no number, and a prefix that no key has, are exit code 2 and one line."""
    done = cli("watch", "--once", *arguments)

    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)


def test_whoever_may_not_number_sees_what_others_have(
    listening_cli: CommandLine, store: SecretClient, raw: psycopg.Connection
) -> None:
    """A role without the right to update the record reads it, and changes nothing."""
    store.set_secret("a", VALUE)
    assert store.last_change_number() == 1
    store.set_secret("b", VALUE)
    raw.execute("CREATE ROLE cli_only_reads LOGIN")
    raw.execute("GRANT USAGE ON SCHEMA secretstore TO cli_only_reads")
    raw.execute("GRANT SELECT ON ALL TABLES IN SCHEMA secretstore TO cli_only_reads")
    try:
        done = listening_cli.with_(PGOPTIONS="-c role=cli_only_reads")("watch", "--once")
    finally:
        raw.execute("DROP OWNED BY cli_only_reads")
        raw.execute("DROP ROLE cli_only_reads")

    assert (done.code, json.loads(done.out)["key"], done.err) == (0, "a", "")
    assert number(raw, "SELECT count(*) FROM secretstore.change_event WHERE seq IS NOT NULL") == 1


TOLD_TWICE = """
import os, signal
from secretstore.cli import changes

redirect, struck = os.dup2, []

def redirect_late(*descriptors):
    if not struck:
        struck.append(True)
        signal.raise_signal(signal.SIGPIPE)
    redirect(*descriptors)

os.dup2 = redirect_late
with changes.until_nobody_reads():
    raise BrokenPipeError
assert struck
"""


def test_that_nobody_reads_may_be_told_twice(bare_cli: CommandLine) -> None:
    """A write fails, and the signal comes while that is seen to: the end is as quiet."""
    done = subprocess.run(
        [sys.executable, "-c", TOLD_TWICE],
        capture_output=True,
        env=bare_cli.environment,
        timeout=DEADLINE_SECONDS,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, b"")
