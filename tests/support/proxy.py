"""A door in front of the server that can break a connection at the moment of its COMMIT."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import psycopg

from tests.support.server import Server
from tests.support.threads import DEADLINE_SECONDS

# `before`: the server never gets the COMMIT.  `after`: it carries it out, and its answer is lost.  `held`: it gets it after
# the client has seen its connection break.
Fault = Literal["before", "after", "held"]

_COMMIT = b"COMMIT\0"


class Door:
    """Forwards bytes between clients and the server, each connection in threads of its own."""

    def __init__(self, server: Server, folder: str) -> None:
        self._server = server
        self._folder = folder
        self._fault: Fault | None = None
        self._release = threading.Event()
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(Path(folder) / ".s.PGSQL.5432"))
        self._listening.listen()
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def url(self, database: str) -> str:
        """Return the URL of a database behind the door."""
        return self._server.url(database, host=self._folder, hostaddr="", port="5432")

    def break_next_commit(self, fault: Fault) -> None:
        """Break the connection that sends the next COMMIT."""
        self._fault = fault

    @property
    def has_broken(self) -> bool:
        """Whether the last fault has been used up."""
        return self._fault is None

    def release(self) -> None:
        """Let the COMMIT that is held go on to the server."""
        self._release.set()

    def close(self) -> None:
        """End every connection and every thread."""
        self._release.set()
        for one in (self._listening, *self._sockets):
            _end(one)
        for thread in self._threads:
            thread.join(DEADLINE_SECONDS)
        for one in (self._listening, *self._sockets):
            one.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, server = self._listening.accept()[0], self._connect()
                self._sockets += [client, server]
                swallows = threading.Event()
                for pump in (self._to_server, self._to_client):
                    self._threads.append(threading.Thread(target=pump, args=(client, server, swallows)))
                    self._threads[-1].start()

    def _connect(self) -> socket.socket:
        with psycopg.connect(self._server.admin_url) as found:
            host, port, address = found.info.host, found.info.port, found.info.hostaddr
        if not host.startswith("/"):
            return socket.create_connection((address, port))
        server = socket.socket(socket.AF_UNIX)
        server.connect(f"{host}/.s.PGSQL.{port}")
        return server

    def _to_server(self, client: socket.socket, server: socket.socket, swallows: threading.Event) -> None:
        with suppress(OSError):
            while sent := client.recv(65536):
                fault, self._fault = (self._fault, None) if _COMMIT in sent else (None, self._fault)
                if fault == "before":
                    break
                if fault == "after":
                    swallows.set()
                if fault == "held":
                    _end(client)
                    self._release.wait(DEADLINE_SECONDS)
                server.sendall(sent)
        if not swallows.is_set():
            _end(server)

    def _to_client(self, client: socket.socket, server: socket.socket, swallows: threading.Event) -> None:
        with suppress(OSError):
            while (answered := server.recv(65536)) and not swallows.is_set():
                client.sendall(answered)
        _end(client)
        _end(server)


@contextmanager
def open_door(server: Server) -> Iterator[Door]:
    """Open a door, and close it at the end of the block."""
    with TemporaryDirectory(prefix="secretstore-door-") as folder:
        door = Door(server, folder)
        try:
            yield door
        finally:
            door.close()


def _end(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
