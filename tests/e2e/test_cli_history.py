"""`secretstore history`, `diff`, `rollback` and `max-versions`: what was, and what of it is kept."""

import json
from datetime import UTC, datetime, timedelta

import pytest
import yaml

from secretstore import SecretClient
from secretstore.crypto.local import generate_master_key
from tests.e2e.conftest import CommandLine

VALUE = "hunter2-of-the-test"
OLD = {"password": VALUE, "port": 5432, "hosts": ["a"], "gone": None}
NEW = {"password": f"{VALUE}-2", "port": 5432, "hosts": ["a", "b"]}


@pytest.fixture
def written(store: SecretClient) -> SecretClient:
    """A store with a secret of three versions, of which the first is destroyed."""
    store.set_secret("k", 1)
    store.set_secret("k", OLD, labels={"team": "web"})
    store.set_secret("k", NEW, ttl=timedelta(days=1))
    store.destroy_versions("k", [1])
    return store


def states(cli: CommandLine) -> dict[int, str]:
    """Return the state of each version of the secret, in the order that they are listed."""
    return {record["version"]: record["state"] for record in json.loads(cli("history", "k").out)}


def test_versions_are_listed_newest_first(cli: CommandLine, written: SecretClient) -> None:
    """In a pipe all that is known of each version is printed, with its state, and no key that opens it is needed."""
    done = cli.with_(SECRETSTORE_KEYS=generate_master_key("stranger"))("history", "k")

    records = json.loads(done.out)
    known = [info.version for info in written.list_versions("k")]
    assert (done.code, done.err) == (0, "")
    assert [record["version"] for record in records] == known == [3, 2, 1]
    assert [record["state"] for record in records] == ["current", "old", "destroyed"]
    assert [record["labels"] for record in records] == [{"team": "web"}, {"team": "web"}, {}]
    assert [record["expires_at"] is None for record in records] == [False, True, True]
    assert [record["destroyed_at"] is None for record in records] == [True, True, False]
    assert VALUE not in done.out


def test_versions_are_listed_for_a_person(cli: CommandLine, written: SecretClient) -> None:
    """A terminal gets a table."""
    shown = cli.on_terminal("history", "k").finish().out

    assert shown.split()[:6] == ["version", "created_at", "created_by", "labels", "expires_at", "state"]
    assert [line.split()[-1] for line in shown.splitlines() if "20" in line] == ["current", "old", "destroyed"]


def test_of_a_secret_that_is_gone_no_version_is_current(cli: CommandLine, written: SecretClient) -> None:
    """Deleted or expired, it has a history, in which no version is the one that readers see."""
    written.delete_secret("k")
    deleted = states(cli)
    written.undelete_secret("k")
    back = states(cli)
    written.set_secret("k", 4, expires_at=datetime.now(UTC) - timedelta(days=1))

    assert deleted == {3: "old", 2: "old", 1: "destroyed"}
    assert back == {3: "current", 2: "old", 1: "destroyed"}
    assert states(cli) == {4: "old", 3: "old", 2: "old", 1: "destroyed"}


def test_what_never_was_has_no_history(cli: CommandLine) -> None:
    """Where there never was a version, the exit code is 3."""
    done = cli("history", "nobody")

    assert (done.code, done.out, done.err) == (3, "", "error: there is no secret 'nobody'\n")


@pytest.mark.parametrize("wanted", ["json", "yaml", "table"])
def test_a_difference_is_told_without_values(cli: CommandLine, written: SecretClient, wanted: str) -> None:
    """In every format, also in a pipe, the paths are shown, the values are not, and stderr says how to see them."""
    done = cli("diff", "k", "2", "3", "--format", wanted)

    assert (done.code, done.err) == (0, "the values are hidden; add --reveal to see them\n")
    assert all(path in done.out for path in ("/password", "/hosts/1", "/gone"))
    assert "/port" not in done.out
    assert "********" in done.out
    assert VALUE not in done.out
    assert '"b"' not in done.out


def test_a_terminal_shows_a_difference_without_values(cli: CommandLine, written: SecretClient) -> None:
    """On a terminal it is a table with asterisks."""
    shown = cli.on_terminal("diff", "k", "2", "3").finish().out

    assert shown.split()[:4] == ["path", "kind", "old", "new"]
    assert ["/password", "changed", "********", "********"] in [line.split() for line in shown.splitlines()]
    assert VALUE not in shown


@pytest.mark.parametrize(("wanted", "read"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_a_difference_is_revealed(cli: CommandLine, written: SecretClient, wanted: str, read: object) -> None:
    """With --reveal each path has what was there, and what is; null stands for nothing."""
    done = cli("diff", "k", "2", "3", "--reveal", "--format", wanted)

    assert callable(read)
    assert (done.code, done.err) == (0, "")
    assert read(done.out) == [
        {"path": "/password", "kind": "changed", "old": VALUE, "new": f"{VALUE}-2"},
        {"path": "/hosts/1", "kind": "added", "old": None, "new": "b"},
        {"path": "/gone", "kind": "removed", "old": None, "new": None},
    ]


def test_a_revealed_table_tells_texts_from_numbers(cli: CommandLine, store: SecretClient) -> None:
    """As a table the values are JSON, and a side that is not there is empty."""
    store.set_secret("k", {"a": "1"})
    store.set_secret("k", {"a": 1, "b": [None]})

    lines = cli("diff", "k", "1", "2", "--reveal", "--format", "table").out.splitlines()

    assert [line.split() for line in lines[1:]] == [["/a", "changed", '"1"', "1"], ["/b", "added", "[null]"]]


def test_no_difference_is_an_empty_list(cli: CommandLine, store: SecretClient) -> None:
    """Two versions of one value end with 0, an empty list, and a word."""
    store.set_secret("k", 1)
    store.set_secret("k", 1)

    done = cli("diff", "k", "1", "2")

    assert (done.code, done.out, done.err) == (0, "[]\n", "versions 1 and 2 do not differ\n")


@pytest.mark.parametrize("version", ["1", "9"], ids=["destroyed", "never"])
def test_a_version_without_a_value_ends_with_3(cli: CommandLine, written: SecretClient, version: str) -> None:
    """There is nothing to compare with, nor to go back to, in a version that was destroyed or never was."""
    compared, rolled_back = cli("diff", "k", version, "3"), cli("rollback", "k", version)

    for done in compared, rolled_back:
        assert (done.code, done.out) == (3, "")
        assert done.err == f"error: there is no secret 'k' in version {version} in namespace 'default'\n"


@pytest.mark.parametrize(
    "arguments", [("diff", "k", "1"), ("diff", "k", "0", VALUE), ("rollback", "k", "0"), ("rollback", "k", "9" * 30)]
)
def test_a_version_that_cannot_be_is_a_wrong_call(bare_cli: CommandLine, arguments: tuple[str, ...]) -> None:
    """Missing, zero or beyond all numbers is exit code 2, before anything is opened."""
    done = bare_cli(*arguments)

    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert VALUE not in done.err


def test_a_rollback_is_a_new_version(cli: CommandLine, written: SecretClient) -> None:
    """The old value comes back as the next version, with the expiry of now, and nothing of it is shown."""
    expires_at = written.list_versions("k")[0].expires_at
    assert expires_at is not None

    done = cli("rollback", "k", "2")

    expiry = expires_at.astimezone(UTC).isoformat(" ", "seconds")
    assert (done.code, done.out) == (0, "")
    assert done.err == f"stored version 2 of k as version 4, which expires at {expiry}\n"
    assert written.get_secret("k") == OLD


def test_nothing_rolls_back_what_is_deleted(cli: CommandLine, written: SecretClient) -> None:
    """A deleted secret is exit code 3: it is undeleted first."""
    written.delete_secret("k")

    assert cli("rollback", "k", "2").code == 3


def test_the_number_of_versions_is_limited(cli: CommandLine, store: SecretClient) -> None:
    """Of a namespace or of one secret, which comes first; the next write removes what is too much."""
    of_all, of_one = cli("max-versions", "2"), None
    store.set_secrets({"k": 1, "other": 1})
    of_one = cli("max-versions", "1", "--key", "k")
    for n in (2, 3):
        store.set_secrets({"k": n, "other": n})

    assert [(done.code, done.out, done.err) for done in (of_all, of_one)] == [
        (0, "", "of each secret of namespace default 2 versions will be kept; older ones go when it is written next\n"),
        (0, "", "of k 1 version will be kept; older ones go when it is written next\n"),
    ]
    assert [len(store.list_versions(key)) for key in ("k", "other")] == [1, 2]


def test_a_limit_is_taken_away(cli: CommandLine, store: SecretClient) -> None:
    """With `all`, a secret follows its namespace again, and a namespace keeps all."""
    store.set_secret("k", 1)
    store.set_max_versions(2)
    store.set_max_versions(1, key="k")

    assert cli("max-versions", "all", "--key", "k").err == "k has no limit of its own\n"
    for n in (2, 3):
        store.set_secret("k", n)
    assert len(store.list_versions("k")) == 2
    assert cli("max-versions", "all").err == "of each secret of namespace default all versions are kept\n"
    store.set_secret("k", 4)
    assert len(store.list_versions("k")) == 3


def test_a_limit_that_cannot_be_changes_nothing(cli: CommandLine) -> None:
    """Zero and words are exit code 2; a limit of a secret that is not there is 3."""
    assert [cli("max-versions", limit).code for limit in ("0", "none")] == [2, 2]
    assert cli("max-versions", "1", "--key", "nobody").code == 3
