"""`secretstore patch`: parts of a value are changed, and nothing of it is shown."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from secretstore import SecretClient
from tests.e2e.conftest import CommandLine

VALUE = "hunter2-of-the-test"
STORED = {"password": "old", "port": 5432, "tls": {"on": True, "ca": None}}


@pytest.mark.parametrize("source", ["pipe", "dash", "file"])
def test_a_patch_changes_what_it_names(
    *, cli: CommandLine, store: SecretClient, written: Callable[[str, bytes], str], source: str
) -> None:
    """From a pipe, by - and from a file: members are set and removed, the rest stays, labels and expiry too."""
    store.set_secret("k", STORED, labels={"a": "1"}, ttl=timedelta(days=1))
    patch = f'{{"password": "{VALUE}", "port": null, "tls": {{"on": false}}}}\n'.encode()
    arguments = {"pipe": [], "dash": ["-"], "file": ["--file", written("patch.json", patch)]}[source]

    done = cli("patch", "k", *arguments, stdin=patch)

    info = store.describe_secret("k")
    assert info is not None
    assert info.expires_at is not None
    assert (done.code, done.out) == (0, "")
    assert done.err.startswith("stored k, version 2, which expires at 20")
    assert store.get_secret("k") == {"password": VALUE, "tls": {"on": False, "ca": None}}
    assert info.labels == {"a": "1"}


def test_a_patch_as_an_argument_is_taken_with_a_warning(cli: CommandLine, store: SecretClient) -> None:
    """In argv it may hold a value: the warning says where that shows, and not what it is."""
    store.set_secret("k", STORED)

    done = cli("patch", "k", f'"{VALUE}"')

    assert (done.code, done.out) == (0, "")
    assert done.err.startswith("warning: ")
    assert VALUE not in done.err
    assert store.get_secret("k") == VALUE


def test_a_typed_patch_is_not_shown(cli: CommandLine, store: SecretClient) -> None:
    """On a terminal it is asked for twice, and no letter of it appears."""
    store.set_secret("k", STORED)

    terminal = cli.on_terminal("patch", "k")
    for prompt in ("value (hidden): ", "the same again: "):
        terminal.wait_for(prompt)
        terminal.child.sendline(f'{{"password": "{VALUE}"}}')
    done = terminal.finish()

    assert (done.code, "hunter2" in done.out) == (0, False)
    assert store.get_secret("k") == {**STORED, "password": VALUE}


def test_a_conflict_changes_nothing(cli: CommandLine, store: SecretClient) -> None:
    """A version other than the expected one is exit code 4."""
    store.set_secret("k", STORED)

    done = cli("patch", "k", "--expected-version", "2", stdin=f'"{VALUE}"'.encode())

    assert (done.code, done.out) == (4, "")
    assert done.err.startswith("error: expected version 2 at 'k'")
    assert VALUE not in done.err
    assert store.get_secret("k") == STORED
    assert cli("patch", "k", "--expected-version", "1", stdin=b"{}").code == 0


def test_what_is_missing_is_not_patched(cli: CommandLine) -> None:
    """A patch makes no secret: the exit code is 3."""
    done = cli("patch", "nobody", stdin=f'"{VALUE}"'.encode())

    assert (done.code, done.out) == (3, "")
    assert done.err == "error: there is no secret 'nobody' in namespace 'default'\n"


@pytest.mark.parametrize("piped", [b"", VALUE.encode(), b'{"a": "hunter2", "a": 1}', b'["hunter2", NaN]'])
def test_what_is_no_json_is_refused_without_being_shown(cli: CommandLine, store: SecretClient, piped: bytes) -> None:
    """Exit code 2, and one line that says where it is wrong, not what is there."""
    store.set_secret("k", STORED)

    done = cli("patch", "k", stdin=piped)

    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert done.err.startswith("error: the value is not JSON: ")
    assert "hunter2" not in done.err
    assert store.get_secret("k") == STORED


@pytest.mark.parametrize("arguments", [[f"--{VALUE}"], ["{}", VALUE], ["--expected-version", VALUE]])
def test_a_wrong_call_is_told_without_its_arguments(bare_cli: CommandLine, arguments: list[str]) -> None:
    """A call that is wrong ends with 2, and repeats nothing that may be a value."""
    done = bare_cli("patch", "k", *arguments)

    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert VALUE not in done.err
