"""The command line as a person and as a program use it: real processes, real terminals.

Most commands run in forks of a process that has loaded the program (`tests/support/preloaded.py` says what differs), which
takes a fraction of the time.  Started afresh is what is about the start itself, what goes on until it is ended or starts a
server, what is on a terminal, and each command at least once.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pexpect
import pytest

from tests.support.preloaded import PreloadedProgram
from tests.support.server import Server

PROGRAM = ("-W", "error", "-m", "secretstore")
DEADLINE_SECONDS = 60
ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True)
class Result:
    """What a command left."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class CommandLine:
    """Runs `secretstore` in an environment of its own."""

    environment: dict[str, str] = field(repr=False)
    preloaded: PreloadedProgram = field(repr=False)

    def __call__(self, *arguments: str, stdin: bytes = b"") -> Result:
        """Run a command with pipes, in a fork of a process that has loaded the program."""
        done = self.preloaded.run(arguments, self.environment, stdin=stdin, timeout=DEADLINE_SECONDS)
        return Result(done.code, done.out.decode(), done.err.decode())

    def afresh(self, *arguments: str, stdin: bytes = b"") -> Result:
        """Run a command with pipes, as a user starts it."""
        done = subprocess.run(
            [sys.executable, *PROGRAM, *arguments],
            input=stdin,
            capture_output=True,
            env=self.environment,
            timeout=DEADLINE_SECONDS,
            check=False,
        )
        return Result(done.returncode, done.stdout.decode(), done.stderr.decode())

    def on_terminal(self, *arguments: str, columns: int = 160) -> "Terminal":
        """Start a command on a pseudo-terminal."""
        return Terminal([*PROGRAM, *arguments], self.environment | {"TERM": "xterm-256color"}, columns)

    def with_(self, **changes: str | None) -> "CommandLine":
        """Return the same with other variables; None takes one away."""
        merged = {**self.environment, **changes}
        return replace(self, environment={name: text for name, text in merged.items() if text is not None})


class Terminal:
    """A command on a pseudo-terminal."""

    def __init__(self, arguments: list[str], environment: dict[str, str], columns: int) -> None:
        self.child: pexpect.spawn[str] = pexpect.spawn(
            sys.executable,
            arguments,
            env=environment,
            encoding="utf-8",
            timeout=DEADLINE_SECONDS,
            dimensions=(60, columns),
        )
        self.shown = ""

    def wait_for(self, words: str) -> None:
        """Wait until words are shown."""
        self.child.expect_exact(words)
        self.shown += f"{self.child.before}{words}"

    def finish(self) -> Result:
        """Wait for the end; both streams are in `out`, without their colours."""
        self.child.expect(pexpect.EOF)
        self.shown += str(self.child.before)
        self.child.close()
        assert self.child.exitstatus is not None
        return Result(self.child.exitstatus, ANSI.sub("", self.shown), "")


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder whose name leaves room for a socket's path."""
    with tempfile.TemporaryDirectory(prefix="ss-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def preloaded(measuring: dict[str, str]) -> Iterator[PreloadedProgram]:
    """The program as it is loaded once for a whole run, and measured where the tests are."""
    program = PreloadedProgram({"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}, measuring)
    yield program
    program.end()


@pytest.fixture
def bare_cli(short_path: Path, preloaded: PreloadedProgram) -> CommandLine:
    """The command line of a newcomer: nothing is set, and the home folder is a new one."""
    folders = {"HOME": short_path, "XDG_DATA_HOME": short_path / "data", "TMPDIR": short_path}
    named = {name: str(folder) for name, folder in folders.items()}
    return CommandLine({**preloaded.environment, **named}, preloaded)


@pytest.fixture
def cli(bare_cli: CommandLine, database_url: str, master_key: str) -> CommandLine:
    """The command line with a database and a key ring."""
    return bare_cli.with_(SECRETSTORE_DATABASE_URL=database_url, SECRETSTORE_KEYS=master_key)


@pytest.fixture
def listening_cli(cli: CommandLine, server: Server, database: str) -> CommandLine:
    """The same past a pooler, which delivers no notice."""
    return cli.with_(SECRETSTORE_DATABASE_URL=server.direct_url(database))


@pytest.fixture
def written(short_path: Path) -> Callable[[str, bytes], str]:
    """A function that writes a file and returns its path."""

    def write(name: str, data: bytes) -> str:
        (short_path / name).write_bytes(data)
        return str(short_path / name)

    return write
