"""The command line as a person and as a program use it: real processes, real terminals."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pexpect
import pytest

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

    def __call__(self, *arguments: str, stdin: bytes = b"") -> Result:
        """Run a command with pipes."""
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
        return CommandLine({name: text for name, text in merged.items() if text is not None})


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


@pytest.fixture
def bare_cli(short_path: Path) -> CommandLine:
    """The command line of a newcomer: nothing is set, and the home folder is a new one."""
    kept = {name: text for name, text in os.environ.items() if name == "PATH" or name.startswith("COVERAGE")}
    folders = {"HOME": short_path, "XDG_DATA_HOME": short_path / "data", "TMPDIR": short_path}
    return CommandLine({**kept, "LANG": "C.UTF-8", **{name: str(folder) for name, folder in folders.items()}})


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
