"""`secretstore import FILE`: what is read from where, what is written, and what is shown of it."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from secretstore import SecretClient
from tests.e2e.conftest import CommandLine
from tests.support.stored import EVENTS, VERSIONS, rows

VALUE = "hunter2-of-the-test"
SOON = datetime(2099, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
TEXTS = {"A": "", "a.b": "x\r\ny\n", 'é key="#': " $HOME ${A} \\n ", "zz": "null\t😀"}
ODD = {
    "it's": "odd",
    "n": None,
    "t": True,
    "one": 1,
    "float": 1.0,
    "big": 10**30,
    "list": [[], {}, {"~/": "1"}],
    "secretstore": 1,
}
Write = Callable[[str, bytes], str]


def counts(text: str) -> dict[str, int]:
    """The kinds that were counted."""
    found: dict[str, int] = json.loads(text)["counts"]
    return {kind: number for kind, number in found.items() if number}


def typed(store: SecretClient) -> dict[str, str]:
    """All values, so that 1, 1.0 and true differ."""
    return {key: repr(value) for key, value in store.get_secrets_by_prefix("").items()}


@pytest.mark.parametrize(
    "arguments", [["--format", "env"], ["--format", "json"], ["--format", "yaml"], ["--with-labels"]]
)
def test_an_export_comes_back_the_same(cli: CommandLine, store: SecretClient, arguments: list[str]) -> None:
    """Whatever a format can hold comes back as it was in another namespace, and again there is nothing to write."""
    store.set_secrets({**TEXTS, **({} if "env" in arguments else ODD)})
    given = ["--format", arguments[1]] if arguments[0] == "--format" else []
    exported = cli("export", *arguments)
    text = exported.out.encode()

    done = cli("import", *given, "-n", "copy", stdin=text)

    assert (exported.code, done.code, exported.err, done.err) == (0, 0, "", "")
    assert typed(store.namespace("copy")) == typed(store)
    assert cli("export", *arguments, "-n", "copy").out.encode() == text
    assert counts(cli("import", "-", *given, "-n", "copy", stdin=text).out) == {"unchanged": store.get_secret_count()}


@pytest.mark.parametrize("wanted", ["json", "yaml"])
def test_labels_and_expiry_come_back(cli: CommandLine, store: SecretClient, wanted: str) -> None:
    """With labels the file restores them and the expiry, and takes labels away that it does not have."""
    store.set_secret("k", VALUE, labels={"team": "web", "no": "null"}, expires_at=SOON)
    store.set_secret("bare", 1)
    copy = store.namespace("copy")
    copy.set_secret("bare", 1, labels={"old": "1"})
    text = cli("export", "--with-labels", "--format", wanted).out.encode()

    done = cli("import", "--format", wanted, "-n", "copy", stdin=text)

    assert counts(done.out) == {"added": 1, "labels": 1}
    infos = {info.key: (dict(info.labels), info.expires_at, info.version) for info in copy.list_secrets()}
    assert infos == {"k": ({"team": "web", "no": "null"}, SOON, 1), "bare": ({}, None, 1)}


@pytest.mark.parametrize(
    ("name", "data"),
    [("s.json", b'\xef\xbb\xbf{"k": "1"}'), ("s.yml", b"k: '1'\r\n"), (".env", b"k=1\n"), ("triggerdev.env", b"k=1")],
)
def test_the_name_of_a_file_says_its_format(
    *, cli: CommandLine, store: SecretClient, written: Write, name: str, data: bytes
) -> None:
    """A first word that is no command is a file, before or behind options."""
    path = written(name, data)

    assert counts(cli("import", path).out) == {"added": 1}
    assert counts(cli("import", "--prefix", "k", path).out) == {"unchanged": 1}
    assert store.get_secret("k") == "1"


def test_a_format_is_never_guessed(cli: CommandLine, store: SecretClient, written: Write) -> None:
    """A name that says none needs --format, and what cannot be read is told without a part of it."""
    path = written("file", f"k={VALUE}\n".encode())
    refused = cli("import", path)
    wrong = [cli("import", path, "--format", "json"), cli("import", written("b.json", b"\xff" + VALUE.encode()))]
    missing = cli("import", f"{path}.json")

    assert refused.code == 2
    assert "give --format" in refused.err
    for done in (*wrong, missing):
        assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
        assert "hunter2" not in done.err
    assert store.get_secret_count() == 0
    assert cli("import", "file", path, "--format", "env").code == 0
    assert store.get_secret("k") == VALUE


def test_help_and_commands_of_the_group_stay(bare_cli: CommandLine) -> None:
    """On a terminal `import` alone shows help, and so does --help; `triggerdev` is still a command."""
    for done in (bare_cli.on_terminal("import").finish(), bare_cli("import", "--help")):
        assert "triggerdev" in done.out
        assert "import secrets.yaml --dry-run" in done.out
    assert "TRIGGERDEV_DATABASE_URL" in bare_cli("import", "triggerdev").err
    assert "--prune" in bare_cli("import", "file", "--help").out


def test_only_keys_with_the_prefix_are_taken(cli: CommandLine, store: SecretClient) -> None:
    """--prefix leaves all other keys of the file and of the store alone, also with --prune."""
    store.set_secrets({"a.old": 1, "b.old": 1})

    done = cli("import", "--prefix", "a.", "--prune", "--yes", stdin=b'{"a.new": 2, "b.new": 2}')

    assert json.loads(done.out)["differences"] == [
        {"key": "a.new", "kind": "added"},
        {"key": "a.old", "kind": "deleted"},
    ]
    assert store.get_secrets_by_prefix("") == {"a.new": 2, "b.old": 1}


def test_pruning_without_a_person_needs_yes(cli: CommandLine, store: SecretClient, raw: psycopg.Connection) -> None:
    """Nothing is written before that is said."""
    store.set_secret("k", 1)
    before = rows(raw, EVENTS)

    done = cli("import", "--prune", stdin=b'{"new": 1}')

    assert (done.code, done.out) == (2, "")
    assert "this deletes every secret that the file does not have; to do it, add --yes" in done.err
    assert rows(raw, EVENTS) == before


def test_a_person_is_asked_before_pruning(cli: CommandLine, store: SecretClient, written: Write) -> None:
    """What would be deleted is named; another word changes nothing, the name of the namespace does it."""
    store.set_secrets(dict.fromkeys(["keep", *(f"x{number}" for number in range(7))], VALUE))
    path = written("s.json", b'{"keep": "new"}')
    wrong = cli.on_terminal("import", path, "--prune")
    wrong.wait_for("type default to do it")
    wrong.child.sendline("y")
    refused = wrong.finish()

    assert refused.code == 1
    assert "this deletes 7 secrets of namespace default, not in the file: " in refused.out
    assert "x0, x1, x2, x3, x4 and 2 more" in refused.out
    assert (store.get_secret("keep"), store.get_secret_count()) == (VALUE, 8)
    right = cli.on_terminal("import", path, "--prune")
    right.wait_for("type default to do it")
    right.child.sendline("default")
    done = right.finish()
    assert done.code == 0
    assert "1 changed, 7 deleted" in done.out
    assert "hunter2" not in refused.out + done.out
    assert store.get_secrets_by_prefix("") == {"keep": "new"}
    again = cli.on_terminal("import", path, "--prune").finish()
    assert (again.code, "1 unchanged" in again.out) == (0, True)


CHANGED: dict[str, Any] = {"a/b": [1, VALUE], "same": VALUE}
DRY = json.dumps({"added": VALUE, "changed": {"a/b": [1], "same": VALUE, "new": True}, "same": 1}).encode()


def test_a_dry_run_shows_where_values_differ(cli: CommandLine, store: SecretClient, raw: psycopg.Connection) -> None:
    """Every difference has its places, masked unless --reveal, also in a pipe; nothing is written, and none is asked."""
    store.set_secrets({"changed": CHANGED, "same": 1, "gone": VALUE})
    before = [rows(raw, statement) for statement in (EVENTS, VERSIONS)]

    masked = cli("import", "--dry-run", "--prune", stdin=DRY)
    shown = cli("import", "--dry-run", "--prune", "--reveal", stdin=DRY)

    assert (masked.code, shown.code) == (0, 0)
    assert "hunter2" not in masked.out + masked.err
    assert "dry run: nothing was written" in masked.err
    assert json.loads(shown.out)["differences"] == [
        {"key": "added", "kind": "added", "parts": [{"path": "", "kind": "added", "new": VALUE}]},
        {
            "key": "changed",
            "kind": "changed",
            "parts": [
                {"path": "/a~1b/1", "kind": "removed", "old": VALUE},
                {"path": "/new", "kind": "added", "new": True},
            ],
        },
        {"key": "gone", "kind": "deleted", "parts": [{"path": "", "kind": "removed", "old": VALUE}]},
    ]
    assert counts(masked.out) == {"added": 1, "changed": 1, "unchanged": 1, "deleted": 1}
    parts = [part for one in json.loads(masked.out)["differences"] for part in one["parts"]]
    assert {part[side] for part in parts for side in ("old", "new") if side in part} == {"********"}
    assert [rows(raw, statement) for statement in (EVENTS, VERSIONS)] == before


def test_a_terminal_shows_a_table(cli: CommandLine, store: SecretClient, written: Write) -> None:
    """A dry run shows key, kind and path, masked unless --reveal; the real one no value in any case, and its progress."""
    store.set_secrets({"changed": CHANGED, "same": 1})
    path = written("s.json", DRY)

    masked = cli.on_terminal("import", path, "--dry-run").finish()
    shown = cli.on_terminal("import", path, "--dry-run", "--reveal").finish()
    done = cli.on_terminal("import", path, "--reveal").finish()

    assert (masked.code, shown.code, done.code) == (0, 0, 0)
    assert "/a~1b/1" in masked.out
    assert "1 added, 1 changed, 1 unchanged" in masked.out
    assert f'"{VALUE}"' in shown.out
    assert "hunter2" not in masked.out + done.out
    assert "importing" in done.out
    assert "/a~1b/1" not in done.out
    assert store.get_secret("added") == VALUE


def test_one_that_cannot_be_stored_stops_them_all(cli: CommandLine, store: SecretClient) -> None:
    """A value beyond a limit ends with 2, names its key and shows nothing of it; no other one is written."""
    done = cli("import", stdin=json.dumps({"good": 1, "huge": VALUE * 100_000}).encode())

    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert "'huge'" in done.err
    assert "hunter2" not in done.err
    assert store.get_secret_count() == 0


def test_a_key_that_comes_twice_stops_them_all(cli: CommandLine, store: SecretClient) -> None:
    """Wherever in the file; which of its values was meant nobody can know."""
    done = cli("import", stdin=f'{{"twice": 1, "good": 1, "twice": "{VALUE}"}}'.encode())

    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert "'twice' is given twice" in done.err
    assert "hunter2" not in done.err
    assert store.get_secret_count() == 0


def test_a_file_of_nothing_changes_nothing(cli: CommandLine, store: SecretClient) -> None:
    """An empty object is a file without secrets; an empty pipe is none, which is told."""
    store.set_secret("k", 1)

    assert counts(cli("import", stdin=b"{}").out) == {}
    assert cli("import", stdin=b"").code == 2
    assert store.get_secret("k") == 1
