"""Another process that uses an embedded server until it is told to end."""

import subprocess
import sys
from types import TracebackType
from typing import IO, Self

from secretstore.embedded import EmbeddedFolder
from tests.support.threads import DEADLINE_SECONDS

_PROGRAM = """
import sys
from pathlib import Path
from secretstore.embedded import EmbeddedFolder, EmbeddedServer

folder = EmbeddedFolder(Path(sys.argv[1]))
server = EmbeddedServer(folder)
print(folder.server_pid(), flush=True)
for line in sys.stdin:
    getattr(server, line.strip())()
    print("done", flush=True)
"""


class Lodger:
    """A process that has started a server or found it running; leaving the block ends it as a program ends."""

    def __init__(self, folder: EmbeddedFolder) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", _PROGRAM, str(folder.data)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def server_pid(self) -> int:
        """Wait until it has its server, and return that server's process id."""
        return int(self._stream(self._process.stdout).readline())

    def call(self, method: str) -> None:
        """Call a method of its server."""
        self._stream(self._process.stdin).write(f"{method}\n")
        self._stream(self._process.stdin).flush()
        assert self._stream(self._process.stdout).readline() == "done\n"

    def kill(self) -> None:
        """End it without a farewell."""
        self._process.kill()
        self._process.communicate(timeout=DEADLINE_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        if self._process.poll() is None:
            self._process.communicate(timeout=DEADLINE_SECONDS)

    @staticmethod
    def _stream(stream: IO[str] | None) -> IO[str]:
        assert stream is not None
        return stream
