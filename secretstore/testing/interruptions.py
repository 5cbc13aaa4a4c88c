"""Networks that break when a test says so: relays on 127.0.0.1 that stand before a real server.

`HttpRelay` takes HTTP/1.1 without TLS request by request, and `TcpRelay` takes bytes.  Both can hang, cut an answer in its
middle, and be gone; an `HttpRelay` can also give an answer of its own.  What is broken stays so until `heal`.
"""

import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from email.message import Message
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler
from socketserver import BaseServer
from types import MappingProxyType
from typing import Literal, Self, cast

_CHUNK_BYTES = 65536
_SERVER_SECONDS = 30.0
_OF_ONE_CONNECTION = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What an HTTP server answers."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({"Content-Type": "application/json"}))


_Trouble = Answer | Literal["hang", "cut"] | None


class Relay(ABC):
    """Listens on a port of its own, in threads of its own, and gives on what comes; also a context manager.

    `after` lets so many requests through before the trouble begins, and `times` ends it after so many.
    """

    def __init__(self) -> None:
        self.port = 0
        self._lock = threading.Lock()
        self._healed = threading.Event()
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listening: socket.socket | None = None
        self._requests = 0
        self._trouble: _Trouble = None
        self._after = 0
        self._times: int | None = None
        self.heal()

    @property
    def requests(self) -> int:
        """How many requests have come."""
        return self._requests

    def hang(self, *, after: int = 0, times: int | None = None) -> None:
        """Take requests, pass none of them on, and never answer."""
        self._begin("hang", after, times)

    def cut(self, *, after: int = 0, times: int | None = None) -> None:
        """Let the server carry out what is asked, and close the connection in the middle of its answer."""
        self._begin("cut", after, times)

    def refuse(self) -> None:
        """Close all connections, and listen no longer."""
        listening, self._listening = self._listening, None
        self._healed.set()
        with self._lock:
            ending = [one for one in (listening, *self._sockets) if one is not None]
        for one in ending:
            _end(one)
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def heal(self) -> None:
        """End all trouble; connections that hang are closed."""
        self._healed.set()
        self._begin(None, 0, None)
        if self._listening is None:
            self._listening = socket.create_server(("127.0.0.1", self.port))
            self.port = self._listening.getsockname()[1]
            self._start(self._accept, self._listening)

    def close(self) -> None:
        """End every connection and every thread."""
        self.refuse()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def _serve(self, client: socket.socket) -> None:
        """Talk with a client until one of both ends it."""

    def _begin(self, trouble: _Trouble, after: int, times: int | None) -> None:
        with self._lock:
            self._trouble, self._after, self._times = trouble, after, times
            if trouble == "hang" and self._healed.is_set():
                self._healed = threading.Event()

    def _next(self) -> _Trouble:
        """Count a request, and return what is to be done to it."""
        with self._lock:
            self._requests += 1
            if self._after:
                self._after -= 1
                return None
            if self._times is not None:
                self._times -= 1
                if self._times < 0:
                    self._trouble = None
            return self._trouble

    def _wait(self) -> None:
        self._healed.wait()

    def _accept(self, listening: socket.socket) -> None:
        with suppress(OSError), listening:
            while self._listening is listening:
                client, _ = listening.accept()
                self._start(self._talk, client)

    def _talk(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            self._keep(client)
            if self._listening is not None:
                self._serve(client)
        self._sockets.discard(client)

    def _keep(self, one: socket.socket) -> None:
        with self._lock:
            self._sockets.add(one)

    def _start(self, work: Callable[..., None], *arguments: object) -> threading.Thread:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread


class HttpRelay(Relay):
    """Stands before an HTTP server."""

    def __init__(self, port: int, *, host: str = "127.0.0.1") -> None:
        self.server = (host, port)
        super().__init__()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def answer(self, answer: Answer, *, after: int = 0, times: int | None = None) -> None:
        """Give this answer, and pass nothing on."""
        self._begin(answer, after, times)

    def _serve(self, client: socket.socket) -> None:
        with suppress(HTTPException):
            _Request(client, ("", 0), cast("BaseServer", self))


class _Request(BaseHTTPRequestHandler):
    """Takes the requests of one connection; `self.server` is the relay."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _answer(self) -> None:
        relay = cast("HttpRelay", cast("object", self.server))
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        trouble = relay._next()  # noqa: SLF001 - the other half of the relay
        if trouble == "hang":
            relay._wait()  # noqa: SLF001 - ditto
            self.close_connection = True
        elif isinstance(trouble, Answer):
            self._send(trouble, is_cut=False)
        else:
            self._send(self._asked(relay.server, sent), is_cut=trouble == "cut")

    do_DELETE = do_GET = do_HEAD = do_LIST = do_OPTIONS = do_PATCH = do_POST = do_PUT = _answer  # noqa: N815 - as asked for

    def _asked(self, server: tuple[str, int], sent: bytes) -> Answer:
        connection = HTTPConnection(*server, timeout=_SERVER_SECONDS)
        try:
            connection.request(self.command, self.path, sent or None, _kept(self.headers))
            answered = connection.getresponse()
            return Answer(status=answered.status, headers=_kept(answered.headers), body=answered.read())
        finally:
            connection.close()

    def _send(self, answer: Answer, *, is_cut: bool) -> None:
        body = b"" if self.command == "HEAD" else answer.body
        self.close_connection = self.close_connection or is_cut
        if is_cut and not body:
            return
        self.send_response_only(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if is_cut else body)


class TcpRelay(Relay):
    """Stands before a server of whatever protocol, at a host and port or at a socket's path.

    A request is what comes in one go, and its answer is cut at its first bytes.
    """

    def __init__(self, server: tuple[str, int] | str) -> None:
        self.server = server
        super().__init__()

    def _serve(self, client: socket.socket) -> None:
        with self._connected() as server:
            self._keep(server)
            is_cut = threading.Event()
            back = self._start(self._back, server, client, is_cut)
            self._forth(client, server, is_cut)
            if not is_cut.is_set():
                _end(server)
            back.join()
            _end(client)
        self._sockets.discard(server)

    def _connected(self) -> socket.socket:
        if isinstance(self.server, str):
            server = socket.socket(socket.AF_UNIX)
            server.connect(self.server)
        else:
            server = socket.create_connection(self.server, _SERVER_SECONDS)
            server.settimeout(None)
        return server

    def _forth(self, client: socket.socket, server: socket.socket, is_cut: threading.Event) -> None:
        with suppress(OSError):
            while sent := client.recv(_CHUNK_BYTES):
                trouble = self._next()
                if trouble == "hang":
                    self._wait()
                    return
                if trouble == "cut":
                    is_cut.set()
                server.sendall(sent)

    def _back(self, server: socket.socket, client: socket.socket, is_cut: threading.Event) -> None:
        with suppress(OSError):
            while answered := server.recv(_CHUNK_BYTES):
                if is_cut.is_set():
                    client.sendall(answered[: len(answered) // 2])
                    break
                client.sendall(answered)
        _end(client)
        _end(server)


def _kept(headers: Message) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in _OF_ONE_CONNECTION}


def _end(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
