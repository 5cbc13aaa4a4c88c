"""A gate in front of the server: shut, it breaks every connection and lets none in, until it is opened again."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg

from tests.support.server import Server
from tests.support.threads import DEADLINE_SECONDS


class Gate:
    """Forwards bytes between clients and the server, each way in a thread of its own."""

    def __init__(self, server: Server, folder: Path) -> None:
        self._server = server
        self._folder = folder
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listening: socket.socket | None = None
        self._counts = 0
        self.open()

    def url(self, database: str) -> str:
        """Return the URL of a database behind the gate."""
        return self._server.url(database, host=str(self._folder), hostaddr="", port="5432")

    @property
    def connections(self) -> int:
        """How many connections have come through."""
        return self._counts

    def open(self) -> None:
        """Let connections in."""
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(self._folder / ".s.PGSQL.5432"))
        listening.listen()
        self._listening = listening
        self._start(self._accept, listening)

    def shut(self) -> None:
        """Break all connections, and let none in."""
        listening, self._listening = self._listening, None
        if listening is not None:
            (self._folder / ".s.PGSQL.5432").unlink()
            self._sockets.append(listening)
        for one in self._sockets:
            _end(one)
        for thread in self._threads:
            thread.join(DEADLINE_SECONDS)
        for one in self._sockets:
            one.close()
        self._sockets, self._threads = [], []

    def _start(self, run: Callable[..., None], *arguments: socket.socket) -> None:
        thread = threading.Thread(target=run, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listening: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, server = listening.accept()[0], self._connect()
                self._counts += 1
                self._sockets += [client, server]
                self._start(_pump, client, server)
                self._start(_pump, server, client)

    def _connect(self) -> socket.socket:
        with psycopg.connect(self._server.admin_url) as found:
            host, port, address = found.info.host, found.info.port, found.info.hostaddr
        if not host.startswith("/"):
            return socket.create_connection((address, port))
        server = socket.socket(socket.AF_UNIX)
        server.connect(f"{host}/.s.PGSQL.{port}")
        return server


@contextmanager
def open_gate(server: Server) -> Iterator[Gate]:
    """Put up a gate, and take it away at the end of the block."""
    with TemporaryDirectory(prefix="secretstore-gate-") as folder:
        gate = Gate(server, Path(folder))
        try:
            yield gate
        finally:
            gate.shut()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    _end(source)
    _end(target)


def _end(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
