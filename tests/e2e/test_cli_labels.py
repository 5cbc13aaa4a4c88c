"""`secretstore label`, and labels given to `set` and `list`."""

import json
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
import yaml
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from secretstore import SecretClient
from secretstore.crypto.local import generate_master_key
from tests.e2e.conftest import CommandLine
from tests.support.threads import wait_until_blocked

VALUE = "hunter2-of-the-test"


def test_labels_come_with_a_value(cli: CommandLine, store: SecretClient) -> None:
    """`set --label` gives labels in the place of those that are there; without one they stay."""
    assert cli("set", "k", "--label", "team=web", "--label", "note=a=b", stdin=b"1").code == 0
    assert cli("set", "k", stdin=b"2").code == 0
    kept = store.describe_secret("k")
    assert cli("set", "k", "--label", "owner=", stdin=b"3").code == 0
    replaced = store.describe_secret("k")

    assert kept is not None
    assert replaced is not None
    assert (kept.labels, replaced.labels) == ({"team": "web", "note": "a=b"}, {"owner": ""})


@pytest.mark.parametrize("label", [VALUE, f"={VALUE}"], ids=["no sign", "no name"])
def test_a_wrong_label_stores_nothing(cli: CommandLine, store: SecretClient, label: str) -> None:
    """What is no label ends `set` with 2 and one line that does not repeat it."""
    done = cli("set", "k", "--label", label, stdin=b"1")

    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert VALUE not in done.err
    assert store.get_secret_count() == 0


def test_secrets_are_found_by_labels(cli: CommandLine, store: SecretClient) -> None:
    """`list --label` shows those secrets that carry all the labels that are given."""
    for key, labels in {"a": {"x": "1", "y": "1"}, "b": {"x": "1"}, "c": {"x": "2", "y": "1"}}.items():
        store.set_secret(key, 1, labels=labels)

    one, two = cli("list", "--label", "x=1"), cli("list", "--label", "x=1", "--label", "y=1")

    assert [[record["key"] for record in json.loads(done.out)] for done in (one, two)] == [["a", "b"], ["a"]]
    assert cli("list", "--label", "x").code == 2


def test_single_labels_are_changed(cli: CommandLine, store: SecretClient) -> None:
    """Some are added, one is changed, one is taken away, the rest stay, and no key is needed for it."""
    store.set_secret("k", 1, labels={"a": "1", "b": "1", "c": "1"})
    stranger = cli.with_(SECRETSTORE_KEYS=generate_master_key("stranger"))

    done = stranger("label", "k", "b=2", "d=1", "--remove", "c")

    info = store.describe_secret("k")
    assert info is not None
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out) == info.labels == {"a": "1", "b": "2", "d": "1"}
    assert info.version == 1


def test_labels_are_shown(cli: CommandLine, store: SecretClient) -> None:
    """Without a change they are printed, in every format, and none of them can steer the terminal."""
    store.set_secret("k", 1, labels={"team": "web", "evil": "\x1b[2J"})
    changes = len(store.list_versions("k"))

    terminal = cli.on_terminal("label", "k")
    shown = terminal.finish().out

    assert yaml.safe_load(cli("label", "k", "--format", "yaml").out) == {"team": "web", "evil": "\x1b[2J"}
    assert sorted(line.split() for line in shown.splitlines() if line) == [["evil", "\\x1b[2J"], ["team", "web"]]
    assert "\x1b[2J" not in terminal.shown
    assert len(store.list_versions("k")) == changes


def test_all_labels_are_taken_away(cli: CommandLine, store: SecretClient) -> None:
    """--clear leaves those that are given with it, or none; that a label to remove was not there is told."""
    store.set_secret("k", 1, labels={"a": "1", "b": "1"})

    assert json.loads(cli("label", "k", "c=1", "--clear").out) == {"c": "1"}
    typo = cli("label", "k", "--remove", "d")
    assert (typo.code, json.loads(typo.out), typo.err) == (0, {"c": "1"}, "warning: there was no label 'd'\n")
    none = cli("label", "k", "--clear")
    assert (none.code, json.loads(none.out), none.err) == (0, {}, "k has no labels\n")


@pytest.mark.parametrize(
    "arguments", [["a"], ["a=1", "a=2"], ["a=1", "--remove", "a"], ["--clear", "--remove", "a"], ["=1"]]
)
def test_contradictions_are_wrong_calls(cli: CommandLine, store: SecretClient, arguments: list[str]) -> None:
    """What is no label, or cannot be done together, ends with 2 and changes nothing."""
    info = store.set_secret("k", 1, labels={"a": "0"})

    done = cli("label", "k", *arguments)

    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert store.describe_secret("k") == info


@pytest.mark.parametrize("arguments", [[], ["a=1"]], ids=["show", "change"])
def test_a_missing_secret_has_no_labels(cli: CommandLine, arguments: list[str]) -> None:
    """Where there is no secret the exit code is 3."""
    done = cli("label", "nobody", *arguments)

    assert (done.code, done.out, done.err) == (3, "", "error: there is no secret 'nobody'\n")


def test_labels_of_a_version_that_is_replaced_meanwhile_are_a_conflict(
    cli: CommandLine, store: SecretClient, engine: Engine, raw: psycopg.Connection
) -> None:
    """What another writer stores between reading and writing is exit code 4, and their labels stay."""
    store.set_secret("k", 1, labels={"a": "1"})

    with ThreadPoolExecutor(1) as pool, Session(engine) as session, session.begin():
        store.bind(session).set_secret("k", 2, labels={"b": "1"})
        labelling = pool.submit(cli, "label", "k", "c=1")
        wait_until_blocked(raw)
    done = labelling.result()

    info = store.describe_secret("k")
    assert info is not None
    assert (done.code, done.out, done.err.count("\n")) == (4, "", 1)
    assert (info.version, info.labels) == (2, {"b": "1"})
