"""`secretstore keys`: listing, checking and changing keys, as a person and as a program does it."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from secretstore import KeyRing, SecretClient
from secretstore.crypto.local import LocalMasterKey, generate_master_key
from tests.e2e.conftest import DEADLINE_SECONDS, PROGRAM, CommandLine
from tests.support.keys import stored_rows
from tests.support.threads import number, wait_until_blocked

MANY, HELD_FROM = 1000, 600
FIRST_HELD = f"k{HELD_FROM:04}"
_DATA_KEYS = "SELECT count(*) FROM secretstore.data_key"


@pytest.fixture
def filled(store: SecretClient) -> SecretClient:
    """A store with two namespaces and an old version."""
    store.set_secrets({"a": 1, "b": 2})
    store.set_secret("a", 3)
    store.namespace("other").set_secret("a", 4)
    return store


def test_keys_are_listed_with_what_depends_on_them(cli: CommandLine, filled: SecretClient, master_key: str) -> None:
    """As JSON: master keys with fingerprint and numbers, data keys of all namespaces, and not a byte of a key."""
    done = cli("keys", "list")

    listed = json.loads(done.out)
    (master,) = listed["master_keys"]
    assert done.code == 0
    assert (master["id"], master["state"], master["data_keys"], master["values"]) == ("test", "wraps", 2, 7)
    assert master["fingerprint"] == LocalMasterKey.parse(master_key).fingerprint
    data_keys = [(one["namespace"], one["state"], one["values"], one["master_key_id"]) for one in listed["data_keys"]]
    assert data_keys == [("default", "active", 5, "test"), ("other", "active", 2, "test")]
    assert master_key.partition(":")[2] not in done.out + done.err


def test_keys_are_listed_for_a_person(cli: CommandLine, filled: SecretClient) -> None:
    """As tables: with ages, of one namespace where it is named, and with the master keys that are missing."""
    ring = f"{generate_master_key('new')}"

    done = cli.with_(SECRETSTORE_KEYS=ring)("keys", "list", "--format", "table", "-n", "other")

    lines = [line.split() for line in done.out.splitlines() if line]
    assert done.code == 0
    assert lines[0] == ["master", "key", "state", "age", "data", "keys", "values", "fingerprint"]
    assert lines[1][:2] == ["new", "wraps"]
    assert lines[2] == ["test", "missing", "today", "2", "7"]
    assert lines[3] == ["namespace", "data", "key", "state", "age", "values", "seals", "master", "key"]
    assert [line[0] for line in lines[4:]] == ["other"]


def test_a_master_key_is_replaced(cli: CommandLine, filled: SecretClient, master_key: str) -> None:
    """A new one is put first, data keys are re-wrapped, the check lets the old one go, and nothing else is needed."""
    new = generate_master_key("new")
    both, alone = cli.with_(SECRETSTORE_KEYS=f"{new},{master_key}"), cli.with_(SECRETSTORE_KEYS=new)

    too_early = alone("get", "a")
    assert (too_early.code, too_early.out, too_early.err.count("\n")) == (5, "", 1)
    assert "lacks master key 'test'" in too_early.err
    assert [alone("keys", "check").code, both("keys", "check").code] == [5, 0]
    needed = both("keys", "check", "test")
    assert (needed.code, needed.out, needed.err.count("\n")) == (8, "", 1)
    assert "is still needed" in needed.err

    assert both("keys", "rewrap").err == "re-wrapped 2 data keys\n"
    assert both("keys", "rewrap").err == "re-wrapped 0 data keys\n"
    assert both("keys", "rewrap", "--all").err == "re-wrapped 2 data keys\n"
    assert [both("keys", "check", "test").code, both("keys", "check", "new").code] == [0, 8]
    assert (alone("get", "a").out, alone("get", "a", "-n", "other").out) == ("3\n", "4\n")


def test_a_rotation_tells_what_it_did(cli: CommandLine, filled: SecretClient, raw: psycopg.Connection) -> None:
    """A dry run counts and changes nothing; then one namespace, and then all; retired data keys can go."""
    rows = stored_rows(raw)
    planned = json.loads(cli("keys", "rotate", "--all", "--dry-run").out)
    assert planned == [{"namespace": "default", "values": 5}, {"namespace": "other", "values": 2}]
    assert json.loads(cli("keys", "rotate", "--dry-run", "--continue").out) == [{"namespace": "default", "values": 0}]
    assert number(raw, _DATA_KEYS) == 2

    one = cli("keys", "rotate", "--namespace", "other")
    assert (one.code, one.err) == (0, "")
    (told,) = json.loads(one.out)
    assert (told["namespace"], told["values"], told["unreadable"]) == ("other", 2, 0)
    every = cli("keys", "rotate", "--all")
    assert [(told["namespace"], told["values"]) for told in json.loads(every.out)] == [("default", 5), ("other", 2)]

    assert stored_rows(raw) == rows
    assert number(raw, _DATA_KEYS) == 5
    for arguments, destroyed, left in (("-n", "other"), 2, 3), (("--all",), 1, 2):
        done = cli("keys", "destroy", "--unused", *arguments)
        assert (done.code, done.err.count("destroyed data key "), number(raw, _DATA_KEYS)) == (0, destroyed, left)


def test_wrong_calls_are_told(cli: CommandLine, filled: SecretClient, raw: psycopg.Connection) -> None:
    """Options that contradict each other, and keys that cannot go, change nothing."""
    active = filled.keys.list_data_keys()[0].id

    assert cli("keys", "rotate", "--all", "-n", "other").code == 2
    wrong_calls = [(), (active, "--unused"), (active, "--all")]
    assert [cli("keys", "destroy", *arguments).code for arguments in wrong_calls] == [2, 2, 2]
    kept, unknown = cli("keys", "destroy", active), cli("keys", "destroy", "nonsense")
    assert (kept.code, unknown.code) == (8, 8)
    assert "it is the active one" in kept.err
    assert cli("keys", "shred").code == 2
    assert number(raw, _DATA_KEYS) == 2


def test_a_value_that_does_not_open_is_told(cli: CommandLine, filled: SecretClient, raw: psycopg.Connection) -> None:
    """The others are re-encrypted, the exit code is 5, and the place is named."""
    raw.execute("UPDATE secretstore.secret_store SET value = value || '{\"data\": \"\"}' WHERE key = 'b'")

    done = cli("keys", "rotate")

    assert (done.code, json.loads(done.out)[0]["values"], json.loads(done.out)[0]["unreadable"]) == (5, 4, 1)
    assert "warning: version 1 of 'b' in namespace 'default' does not open, and stays as it is\n" in done.err
    assert done.err.splitlines()[-1].startswith("error: not re-encrypted: 1 value; ")


@contextmanager
def rotating(cli: CommandLine, url: str, raw: psycopg.Connection) -> Iterator["subprocess.Popen[bytes]"]:
    """Start a rotation as a command, and keep it in its midst, by a transaction that holds the last of the rows."""
    command = [sys.executable, *PROGRAM, "keys", "rotate"]
    pipe = subprocess.PIPE
    with psycopg.connect(url) as holder:
        holder.execute("SELECT version FROM secretstore.secret_store WHERE key >= %s FOR UPDATE", [FIRST_HELD])
        with subprocess.Popen(command, stdout=pipe, stderr=pipe, env=cli.environment) as child:
            wait_until_blocked(raw)
            yield child


@pytest.mark.parametrize("number_of_signal", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_rotation_that_is_ended_in_its_midst_goes_on(
    *,
    cli: CommandLine,
    store: SecretClient,
    database_url: str,
    raw: psycopg.Connection,
    number_of_signal: signal.Signals,
) -> None:
    """Killed, interrupted or told to stop, it leaves everything readable, and --continue ends it."""
    values = {f"k{n:04}": n for n in range(MANY)}
    store.set_secrets(values)

    with rotating(cli, database_url, raw) as child:
        child.send_signal(number_of_signal)
        _, told = child.communicate(timeout=DEADLINE_SECONDS)

    assert child.returncode == {signal.SIGKILL: -9, signal.SIGINT: 130, signal.SIGTERM: 143}[number_of_signal]
    assert (b"keys rotate --continue --namespace default\n" in told) == (number_of_signal is not signal.SIGKILL)
    assert store.get_secrets_by_prefix("k") == values
    assert {info.state: info.values for info in store.keys.list_data_keys()} == {
        "retired": MANY - HELD_FROM,
        "active": MANY + HELD_FROM,
    }
    (done,) = json.loads(cli("keys", "rotate", "--continue").out)
    assert done["values"] == MANY - HELD_FROM
    assert cli("keys", "destroy", "--unused").code == 0
    assert [info.values for info in store.keys.list_data_keys()] == [2 * MANY]
    assert store.get_secrets_by_prefix("k") == values


def test_a_terminal_shows_a_bar_with_a_rate(cli: CommandLine, store: SecretClient) -> None:
    """How much is done, of how much, and how fast; in a pipe there is nothing of it."""
    store.set_secrets({f"k{n:04}": n for n in range(1000)})

    done = cli.on_terminal("keys", "rotate", "--format", "json").finish()
    assert done.code == 0
    assert "re-encrypting" in done.out
    assert "2000/2000" in done.out
    assert "/s" in done.out
    assert cli("keys", "rotate").err == ""


def test_shredding_asks_for_the_name(cli: CommandLine, filled: SecretClient) -> None:
    """On a terminal the name is typed; another one changes nothing, and the right one destroys every value."""
    wrong = cli.on_terminal("keys", "shred", "-n", "other")
    wrong.wait_for("type the name of the namespace to do it")
    wrong.child.sendline("othe")
    assert wrong.finish().code == 1
    assert filled.namespace("other").get_secret("a") == 4

    right = cli.on_terminal("keys", "shred", "-n", "other")
    right.wait_for("type the name of the namespace to do it")
    right.child.sendline("other")
    done = right.finish()
    assert done.code == 0
    assert "shredded 2 values of namespace other" in done.out
    lost = cli("get", "a", "-n", "other")
    assert (lost.code, lost.out) == (5, "")
    assert "was shredded" in lost.err


def test_a_program_that_shreds_says_the_name_twice(cli: CommandLine, filled: SecretClient) -> None:
    """Without --confirm, or with another name, nothing is changed; afterwards keys are listed and can be written again."""
    assert cli("keys", "shred", "-n", "default").code == 2
    assert cli("keys", "shred", "-n", "default", "--confirm", "other").code == 1
    assert filled.get_secret("a") == 3

    done = cli("keys", "shred", "-n", "default", "--confirm", "default")

    assert (done.code, done.out) == (0, "")
    assert done.err == "shredded 5 values of namespace default; nothing here opens them any more\n"
    assert cli("get", "a").code == 5
    assert [one["key"] for one in json.loads(cli("list").out)] == ["a", "b"]
    assert json.loads(cli("describe", "a").out)["version"] == 2
    assert cli("set", "a", "-", stdin=b"new\n").code == 0
    assert cli("get", "a").out == '"new"\n'
    assert cli("get", "a", "-n", "other").out == "4\n"


def test_a_key_server_that_does_not_answer_ends_with_5(cli: CommandLine, filled: SecretClient) -> None:
    """A ring whose first key is in a key server that is not there still reads what others have wrapped, and writes not."""
    local = cli.environment["SECRETSTORE_KEYS"]
    served = cli.with_(SECRETSTORE_KEYS=f"vault+http://127.0.0.1:1/transit/app,{local}", VAULT_TOKEN="unused")

    assert served("get", "a").out == "3\n"
    refused = served("set", "a", "-", "-n", "fresh", stdin=b"new")
    assert (refused.code, refused.out, refused.err.count("\n")) == (5, "", 1)
    assert "Vault at http://127.0.0.1:1 does not answer" in refused.err
    assert served("keys", "rewrap").code == 5


def test_what_was_printed_by_generate_makes_a_ring(cli: CommandLine) -> None:
    """Its id is today's date, unless one is given."""
    done = cli("keys", "generate")

    assert repr(KeyRing.from_text(done.out)).startswith("KeyRing(k20")


def test_a_rotation_without_all_master_keys_changes_nothing(
    cli: CommandLine, filled: SecretClient, raw: psycopg.Connection
) -> None:
    """Values under a data key that the ring cannot open could not be re-encrypted: it is refused before it begins."""
    done = cli.with_(SECRETSTORE_KEYS=generate_master_key("new"))("keys", "rotate", "--all")

    assert (done.code, done.out, done.err.count("\n")) == (5, "", 1)
    assert "lacks master key 'test'" in done.err
    assert number(raw, _DATA_KEYS) == 2
