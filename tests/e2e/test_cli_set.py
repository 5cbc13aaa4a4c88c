"""`secretstore set`: where a value comes from, and that it goes nowhere else."""

from collections.abc import Callable

import pytest

from secretstore import SecretClient
from tests.e2e.conftest import CommandLine

VALUE = "hunter2-of-the-test"


@pytest.mark.parametrize(
    ("arguments", "piped", "stored"),
    [(["k"], b"v\n\n", "v\n"), (["k", "-"], b"v\r\n", "v"), (["k", "--allow-empty"], b"\n", "")],
)
def test_exactly_one_line_end_of_stdin_is_dropped(
    *, cli: CommandLine, store: SecretClient, arguments: list[str], piped: bytes, stored: str
) -> None:
    """A piped value loses one line end and nothing else."""
    assert cli("set", *arguments, stdin=piped).code == 0

    assert store.get_secret("k") == stored


def test_a_file_is_stored_to_its_last_byte(
    cli: CommandLine, store: SecretClient, written: Callable[[str, bytes], str]
) -> None:
    """A value from a file keeps its line end, and only the version is told, on stderr."""
    done = cli("set", "tls", "--file", written("key.pem", f"{VALUE}\n".encode()))

    assert (done.code, done.out, done.err) == (0, "", "stored tls, version 1\n")
    assert store.get_secret("tls") == f"{VALUE}\n"


def test_a_value_as_an_argument_is_stored_with_a_warning(cli: CommandLine, store: SecretClient) -> None:
    """A value in argv is taken, and the warning names history and process list but not the value."""
    done = cli("set", "k", VALUE)

    assert (done.code, done.out) == (0, "")
    assert done.err.startswith("warning: ")
    assert "history" in done.err
    assert "list of processes" in done.err
    assert VALUE not in done.err
    assert store.get_secret("k") == VALUE


def test_json_is_stored_as_the_value_it_is(cli: CommandLine, store: SecretClient) -> None:
    """With --json an object is stored as an object."""
    assert cli("set", "k", "--json", stdin=b'{"port": 5432, "tags": ["a"]}').code == 0

    assert store.get_secret("k") == {"port": 5432, "tags": ["a"]}


@pytest.mark.parametrize(
    ("arguments", "piped", "said"),
    [
        ([], b"\n", "--allow-empty"),
        ([], b"\xff" + VALUE.encode(), "not UTF-8"),
    ],
    ids=["line end", "bytes"],
)
def test_what_is_no_value_is_refused_without_being_shown(
    *, cli: CommandLine, store: SecretClient, arguments: list[str], piped: bytes, said: str
) -> None:
    """A value that cannot be stored ends with 2 and one line, which says why and shows nothing of it."""
    done = cli("set", "k", *arguments, stdin=piped)

    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert done.err.startswith("error: the value is ")
    assert said in done.err
    assert "hunter2" not in done.err
    assert store.get_secret_count() == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["k", "-", "--file", "/dev/null"],
        ["k", f"--{VALUE}"],
        ["k", "--expected-version", VALUE],
    ],
    ids=["two sources", "a dash", "no number"],
)
def test_a_wrong_call_is_told_without_its_arguments(bare_cli: CommandLine, arguments: list[str]) -> None:
    """A call that is wrong ends with 2, and repeats nothing that may be the value."""
    done = bare_cli("set", *arguments)

    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert done.err.startswith("error: ")
    assert VALUE not in done.err


def test_a_conflict_ends_with_4_and_changes_nothing(cli: CommandLine, store: SecretClient) -> None:
    """A version other than the expected one is exit code 4, and the stored value stays."""
    store.set_secret("k", "old")

    done = cli("set", "k", "--expected-version", "0", stdin=VALUE.encode())

    assert (done.code, done.out) == (4, "")
    assert done.err.startswith("error: expected no secret at 'k'")
    assert VALUE not in done.err
    assert store.get_secret("k") == "old"


def test_a_typed_value_is_not_shown(cli: CommandLine, store: SecretClient) -> None:
    """On a terminal the value is asked for twice, and no letter of it appears."""
    terminal = cli.on_terminal("set", "k")
    for prompt in ("value (hidden): ", "the same again: "):
        terminal.wait_for(prompt)
        terminal.child.sendline(VALUE)
    done = terminal.finish()

    assert done.code == 0
    assert "stored k, version 1" in done.out
    assert "hunter2" not in done.out
    assert store.get_secret("k") == VALUE


def test_two_typed_values_that_differ_are_refused(cli: CommandLine, store: SecretClient) -> None:
    """A slip of the finger at a hidden prompt stores nothing."""
    terminal = cli.on_terminal("set", "k")
    for prompt, typed in (("value (hidden): ", VALUE), ("the same again: ", "hunter3")):
        terminal.wait_for(prompt)
        terminal.child.sendline(typed)
    done = terminal.finish()

    assert done.code == 2
    assert "error: the two values differ" in done.out
    assert "hunter" not in done.out
    assert store.get_secret_count() == 0


@pytest.mark.parametrize(("key", "code"), [("\x03", 130), ("\x04", 1)], ids=["ctrl-c", "ctrl-d"])
def test_a_prompt_can_be_left(bare_cli: CommandLine, key: str, code: int) -> None:
    """Ctrl-C at the prompt ends with 130 and no word; Ctrl-D is a failure that is told."""
    terminal = bare_cli.on_terminal("set", "k")
    terminal.wait_for("value (hidden): ")
    terminal.child.send(key)
    done = terminal.finish()

    assert done.code == code
    assert ("error: " in done.out) == (code == 1)
    assert "Traceback" not in done.out
