"""`secretstore audit`: the record of changes for people, for files and for programs that follow it."""

import csv
import io
import json
import signal

import psycopg
import pytest

from secretstore import SecretClient, acting_as
from tests.e2e.conftest import CommandLine
from tests.e2e.following import MEMBERS, end, following, next_change
from tests.support.server import Server
from tests.support.threads import wait_until

VALUE = "hunter2-of-the-test"
LOOKED = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query = 'COMMIT' AND state = 'idle'"
)
ROLE = "secretstore_test_auditor"


@pytest.fixture
def recorded(store: SecretClient) -> SecretClient:
    """Changes by two actors, numbered as they were made."""
    with acting_as("user:alice", request_id="r-1"):
        store.set_secret("a", VALUE)
        store.set_secret("b, c", VALUE)
    store.list_changes()
    with acting_as("user:bob"):
        store.delete_secret("a")
        store.list_changes()
        store.keys.rotate()
    return store


def keys_and_actions(lines: str) -> list[tuple[str, str]]:
    """Return what lines of JSON tell of."""
    return [(one["key"], one["action"]) for one in map(json.loads, lines.splitlines())]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), [("a", "set"), ("b, c", "set"), ("a", "delete"), ("", "rotate")]),
        (("--key", "a"), [("a", "set"), ("a", "delete")]),
        (("--actor", "user:bob"), [("a", "delete"), ("", "rotate")]),
        (("--action", "set", "--limit", "1"), [("a", "set")]),
        (("--after", "2", "--since", "1h"), [("a", "delete"), ("", "rotate")]),
        (("--since", "2999-01-01T00:00Z"), []),
    ],
    ids=("all", "key", "actor", "action", "after", "since"),
)
@pytest.mark.usefixtures("recorded")
def test_a_list_is_what_was_asked_for(cli: CommandLine, options: tuple[str, ...], expected: list[object]) -> None:
    """Each option leaves what fits it, the oldest first, a JSON object a line."""
    done = cli("audit", "list", *options)

    assert (done.code, done.err) == (0, "")
    assert keys_and_actions(done.out) == expected


@pytest.mark.parametrize("options", [("--action", "sett"), ("--since", "yesterday"), ("--outcome", "denied")])
def test_what_cannot_be_asked_is_refused(cli: CommandLine, options: tuple[str, ...]) -> None:
    """A misspelt word is a usage error of one line."""
    done = cli("audit", "list", *options)

    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)


@pytest.mark.usefixtures("recorded")
def test_a_person_sees_columns(cli: CommandLine) -> None:
    """On a table an empty request id is empty."""
    head, first, *_, last = cli("audit", "list", "--format", "table").out.splitlines()

    assert head.split() == ["seq", "occurred_at", "action", "version", "actor", "request_id", "key"]
    assert first.split()[-5:] == ["set", "1", "user:alice", "r-1", "a"]
    assert (last.split()[-3:], "None" in last) == (["rotate", "0", "user:bob"], False)


def test_an_export_has_everything_and_no_value(cli: CommandLine, recorded: SecretClient) -> None:
    """As lines of JSON and as CSV it is what Python reads, and goes on after a number."""
    changes = recorded.list_changes(with_data_keys=True)
    lines = cli("audit", "export")
    table = cli("audit", "export", "--format", "csv")

    found = [json.loads(line) for line in lines.out.splitlines()]
    assert [list(one) for one in found] == [MEMBERS] * 4
    assert [(one["seq"], one["occurred_at"]) for one in found] == [
        (one.seq, one.occurred_at.isoformat()) for one in changes
    ]
    rows = list(csv.DictReader(io.StringIO(table.out)))
    assert rows == [{name: "" if member is None else str(member) for name, member in one.items()} for one in found]
    assert VALUE not in lines.out + table.out
    assert cli("audit", "export", "--after", "3").out == lines.out.splitlines(keepends=True)[3]


def test_an_empty_export_is_empty(cli: CommandLine) -> None:
    """Where nothing is recorded there are no lines, and in CSV the head alone."""
    assert cli("audit", "export").out == ""
    assert cli("audit", "export", "--format", "csv").out == f"{','.join(MEMBERS)}\n"


def test_an_export_of_many_pages_has_each_once(cli: CommandLine, store: SecretClient) -> None:
    """More than a page comes whole and in order."""
    store.set_secrets({f"k{place:04}": 1 for place in range(1203)})

    assert [json.loads(line)["seq"] for line in cli("audit", "export").out.splitlines()] == list(range(1, 1204))


def test_the_last_ones_are_shown(cli: CommandLine, store: SecretClient) -> None:
    """Without a number ten, and else as many as are wanted."""
    store.set_secrets({f"k{place:02}": 1 for place in range(12)})

    assert [key for key, _ in keys_and_actions(cli("audit", "tail").out)] == [f"k{place:02}" for place in range(2, 12)]
    assert keys_and_actions(cli("audit", "tail", "--lines", "1").out) == [("k11", "set")]


def test_a_tail_follows_reads(cli: CommandLine, recorded: SecretClient, raw: psycopg.Connection) -> None:
    """Which nobody is told of, and whose number says where to go on."""
    reader = SecretClient(recorded.engine, recorded._options.keyring, audit_reads="strict")
    reader.get_secrets(["none", "no other"])
    with following(cli, raw, "audit", "tail", "--reads", "-f", "--lines", "1", listens=False) as child:
        first = next_change(child)
        reader.get_secret_or_raise("b, c")
        second = next_change(child)
        # What it is in the midst of comes once more, so that it has to be done with the line, and look again.
        shown = raw.execute("SELECT clock_timestamp()").fetchone()
        assert shown is not None
        wait_until(raw, f"{LOOKED} AND query_start > '{shown[0].isoformat()}'", 1)
        code, _, err = end(child, signal.SIGINT)

    assert (first["seq"], first["outcome"]) == (2, "missing")
    assert (second["seq"], second["key"], second["action"], second["outcome"]) == (3, "b, c", "get", "done")
    assert err == "to go on: secretstore audit list --reads --after 3 --namespace default\n"
    assert code == 130


def test_a_tail_follows(listening_cli: CommandLine, recorded: SecretClient, raw: psycopg.Connection) -> None:
    """With -f it goes on with what comes, and says at its end where to go on."""
    with following(listening_cli, raw, "audit", "tail", "-f", "--lines", "1") as child:
        first = next_change(child)
        with acting_as("user:carol"):
            recorded.keys.shred()
        second = next_change(child)
        code, _, err = end(child, signal.SIGINT)

    assert first["action"] == "rotate"
    assert (second["seq"], second["action"], second["actor"]) == (5, "shred", "user:carol")
    assert err.startswith("to go on: secretstore audit list --after ")
    assert err.endswith(" --namespace default\n")
    assert code == 130


def test_the_rights_of_the_page_are_enough(
    *, cli: CommandLine, server: Server, database: str, recorded: SecretClient, raw: psycopg.Connection
) -> None:
    """An auditor reads the record by the rights that docs/audit.md names, and no value."""
    recorded.set_secret("late", 1)
    raw.execute(f"DROP ROLE IF EXISTS {ROLE}")
    raw.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD 'only-for-tests'")
    raw.execute(f"GRANT USAGE ON SCHEMA secretstore TO {ROLE}")
    raw.execute(f"GRANT SELECT, UPDATE (seq) ON secretstore.change_event TO {ROLE}")
    try:
        auditor = cli.with_(SECRETSTORE_DATABASE_URL=server.direct_url(database, user=ROLE, password="only-for-tests"))
        assert keys_and_actions(auditor("audit", "export").out)[-1] == ("late", "set")
        assert auditor("get", "late").code == 6
    finally:
        raw.execute(f"DROP OWNED BY {ROLE}")
        raw.execute(f"DROP ROLE {ROLE}")
