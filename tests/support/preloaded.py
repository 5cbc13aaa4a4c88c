"""The program, loaded once and forked for each command.

To load the program takes most of a short command's time.  Here one process loads it and waits; a child is forked for each
command, takes the caller's pipes, environment and folder for its own, runs `secretstore` as `python -m secretstore` does,
and ends as an interpreter ends: with what is to be done at its exit, and the exit code of its own.

What differs from a process that was started for the command: the modules that commands load late are there, whatever a
module does while it is loaded was done once and before, `sys.path` and the seed of hashes are those of the process that
waits, and what Python reads of the environment at its start (`READ_AT_THE_START`) cannot be another.  Tests of that start
the program afresh, as do those that need a terminal or send signals.
"""

import gc
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from threading import Lock

ROOT = Path(__file__).parents[2]
PROGRAM = "secretstore"
READ_AT_THE_START = ("LANG", "LC_", "PSYCOPG_", "PYTHON", "TERMINAL_WIDTH", "TYPER_")
LOADING_SECONDS = 60
# Most are loaded late, by some commands or by what they use.
LOADED = (
    "secretstore.cli.app",
    *(f"secretstore.keyrings.{name}" for name in ("aws", "vault")),
    *("secretstore.connecting", "secretstore.health", "secretstore.migrate", "secretstore.moving"),
    *(f"secretstore.service.{name}" for name in ("applying", "spooling")),
    *("alembic.command", "alembic.runtime.environment", "rich.progress", "rich.table"),
    *("sqlalchemy.dialects.postgresql.psycopg", "typer.rich_utils"),
)


@dataclass(frozen=True)
class Command:
    """What a child is forked for; its three streams are file descriptors."""

    streams: list[int]
    arguments: list[str]
    environment: dict[str, str]
    folder: str


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it wrote."""

    code: int
    out: bytes
    err: bytes


class PreloadedProgram:
    """Runs commands in forks of one process, which is started for the first of them; one at a time."""

    def __init__(self, environment: Mapping[str, str], measuring: Mapping[str, str]) -> None:
        self.environment = dict(environment)
        self._measuring = dict(measuring)
        self._lock = Lock()
        self._waiting: tuple[subprocess.Popen[bytes], socket.socket] | None = None

    def run(
        self, arguments: tuple[str, ...], environment: Mapping[str, str], *, stdin: bytes = b"", timeout: float
    ) -> Ended:
        """Run a command with pipes, and wait for its end."""
        if _early(environment) != _early(self.environment):
            raise ValueError(f"Python reads at its start {', '.join(READ_AT_THE_START)}: run the command afresh")
        request = {"arguments": arguments, "environment": dict(environment), "folder": str(Path.cwd())}
        (given_in, our_in), (our_out, given_out), (our_err, given_err) = os.pipe(), os.pipe(), os.pipe()
        with self._lock, ThreadPoolExecutor(3) as pool:
            feeding = pool.submit(_feed, our_in, stdin)
            out, err = pool.submit(_drain, our_out), pool.submit(_drain, our_err)
            code = self._ask(request, [given_in, given_out, given_err], timeout)
            feeding.result()
            return Ended(code, out.result(), err.result())

    def end(self) -> None:
        """End the process that waits."""
        if self._waiting:
            process, channel = self._waiting
            self._waiting = None
            channel.close()
            process.communicate()

    def _ask(self, request: Mapping[str, object], streams: list[int], timeout: float) -> int:
        """Have a command run on its streams, which are closed here, and return its exit code."""
        try:
            try:
                channel = self._channel()
                channel.settimeout(timeout)
                socket.send_fds(channel, [b"\n"], streams)
            finally:
                for stream in streams:
                    os.close(stream)
            channel.sendall(json.dumps(request).encode() + b"\n")
            with channel.makefile() as answers:
                return int(answers.readline())
        except BaseException as error:
            # What is left of this command is no answer to the next one.
            error.add_note(self._broken_off())
            raise

    def _broken_off(self) -> str:
        """End the process that waits, and its child, at once; return what it complained of."""
        if not self._waiting:
            return ""
        process, channel = self._waiting
        self._waiting = None
        channel.close()
        # Until it has been waited for, the number is its own.
        os.killpg(process.pid, signal.SIGKILL)
        return process.communicate()[1].decode()

    def _channel(self) -> socket.socket:
        if not self._waiting:
            ours, theirs = socket.socketpair()
            ours.settimeout(LOADING_SECONDS)
            with theirs:
                self._waiting = self._start(theirs.fileno()), ours
            if not ours.recv(1):
                raise RuntimeError("the program cannot be loaded")
        return self._waiting[1]

    def _start(self, channel: int) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-m", __name__, str(channel)],
            # Python looks at once what its streams are, and those of the children are pipes.
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.environment | self._measuring,
            cwd=ROOT,
            pass_fds=[channel],
            start_new_session=True,
        )


def _early(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: text for name, text in environment.items() if name.startswith(READ_AT_THE_START)}


def _feed(pipe: int, data: bytes) -> None:
    # A command need not read what it is given.
    with suppress(BrokenPipeError), open(pipe, "wb", buffering=0) as stream:
        view = memoryview(data)
        while view:
            view = view[stream.write(view) :]


def _drain(pipe: int) -> bytes:
    with open(pipe, "rb") as stream:
        return stream.read()


def serve(channel: socket.socket) -> Command | None:
    """Fork a child for each command that is asked for; return the command in the child, None where no more come."""
    while streams := socket.recv_fds(channel, 1, 3)[1]:
        with channel.makefile() as requests:
            command = Command(streams, **json.loads(requests.readline()))
        child = os.fork()
        if not child:
            return command
        for stream in streams:
            os.close(stream)
        _, status = os.waitpid(child, 0)
        channel.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
    return None


def become(command: Command) -> None:
    """Make of this process what a command sees of its own when Python has started."""
    for standard, stream in enumerate(command.streams):
        os.dup2(stream, standard)
        os.close(stream)
    os.environ.clear()
    os.environ.update(command.environment)
    os.chdir(command.folder)
    sys.argv[1:] = command.arguments


def wait_for_command(channel: int) -> Command | None:
    """Load the program, and serve; a child returns with its command."""
    for module in LOADED:
        import_module(module)
    # What is there for good is not looked at by each child's collector, which would copy it.
    gc.freeze()
    with socket.socket(fileno=channel) as asked:
        # No command has to be quick because the program is not there yet.
        asked.sendall(b"\n")
        return serve(asked)


if __name__ == "__main__":
    wanted = wait_for_command(int(sys.argv[1]))
    if wanted:
        become(wanted)
        runpy.run_module(PROGRAM, run_name="__main__", alter_sys=True)
