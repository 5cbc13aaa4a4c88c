"""The relays that suites break networks with: what they do to requests, and that nothing is left of them."""

import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection, HTTPException

import pytest

from secretstore.testing import Answer, HttpRelay, TcpRelay
from tests.support.served_place import Place, running_place
from tests.support.threads import DEADLINE_SECONDS, in_thread


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    """A server that speaks HTTP."""
    with running_place() as place:
        yield place


@pytest.fixture
def relay(place: Place) -> Iterator[HttpRelay]:
    """A relay before the server, which keeps one value."""
    place.values = {"a": b'"value"'}
    with HttpRelay(place.server_port) as relay:
        yield relay


@pytest.fixture
def echo() -> Iterator[TcpRelay]:
    """A relay before a server that sends back what it gets."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=_echo, args=(listening,))
        thread.start()
        with TcpRelay(listening.getsockname()) as relay:
            yield relay
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(DEADLINE_SECONDS)


def _echo(listening: socket.socket) -> None:
    while True:
        try:
            client, _ = listening.accept()
        except OSError:
            return
        with client:
            while got := client.recv(100):
                client.sendall(got)


def asked(port: int, method: str = "GET", *, timeout: float = 5.0) -> tuple[int, bytes]:
    """Return the status and the body of an answer."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=timeout)) as connection:
        connection.request(method, "/a")
        response = connection.getresponse()
        return response.status, response.read()


def echoed(port: int, text: bytes = b"abcdef", *, timeout: float = 5.0) -> bytes:
    """Return what comes back until the connection ends, or as much as was sent."""
    with socket.create_connection(("127.0.0.1", port), timeout) as connection:
        connection.sendall(text)
        return connection.recv(100)


def test_requests_are_given_on_and_counted(relay: HttpRelay, place: Place) -> None:
    """Also those of one connection."""
    with closing(HTTPConnection("127.0.0.1", relay.port, timeout=5)) as connection:
        for number in (1, 2):
            connection.request("PUT", f"/{number}", b"true")
            assert connection.getresponse().read() == b"{}"
            assert relay.requests == number
    assert place.values["2"] == b"true"


def test_trouble_begins_and_ends_when_it_is_told(relay: HttpRelay) -> None:
    """After one request, and for two."""
    relay.answer(Answer(status=429, body=b"slow"), after=1, times=2)

    assert [asked(relay.port)[0] for _ in range(5)] == [200, 429, 429, 200, 200]
    relay.answer(Answer(status=429))
    relay.heal()
    assert asked(relay.port) == (200, b'{"value": "\\"value\\""}')


def test_an_answer_is_cut_after_the_server_has_done_it(relay: HttpRelay, place: Place) -> None:
    """Half of the body comes, and the server has carried out what was asked."""
    relay.cut()
    with pytest.raises(HTTPException):
        asked(relay.port, "DELETE")

    assert place.values == {}


def test_what_hangs_is_let_go_by_healing(relay: HttpRelay, place: Place) -> None:
    """Nothing of it reaches the server."""
    relay.hang()
    with pytest.raises(TimeoutError):
        asked(relay.port, timeout=0.05)
    with in_thread(lambda: asked(relay.port, "DELETE")) as waiting:
        while relay.requests < 2:
            assert not waiting.done()
        relay.heal()
        with pytest.raises(HTTPException):
            waiting.result(DEADLINE_SECONDS)
    assert place.values


def test_nobody_listens_until_it_is_healed(relay: HttpRelay) -> None:
    """On the same port as before."""
    port = relay.port
    relay.refuse()
    with pytest.raises(ConnectionRefusedError):
        asked(port)
    relay.heal()

    assert asked(port)[0] == 200


def test_a_server_that_is_gone_ends_the_connection(relay: HttpRelay) -> None:
    """The relay does not answer for it."""
    relay.server = ("127.0.0.1", 1)
    with pytest.raises((HTTPException, ConnectionError)):
        asked(relay.port)


def test_bytes_are_given_on_and_cut(echo: TcpRelay) -> None:
    """Half of an answer, and then the end."""
    assert echoed(echo.port) == b"abcdef"
    echo.cut(times=1)
    assert echoed(echo.port) == b"abc"
    assert echoed(echo.port) == b"abcdef"


def test_bytes_hang(echo: TcpRelay) -> None:
    """No answer comes, and the connection ends when all is well again."""
    echo.hang()
    with pytest.raises(TimeoutError):
        echoed(echo.port, timeout=0.05)
    with in_thread(lambda: echoed(echo.port)) as waiting:
        while echo.requests < 2:
            assert not waiting.done()
        echo.heal()
        assert waiting.result(DEADLINE_SECONDS) == b""


def test_a_relay_that_is_closed_leaves_no_thread(place: Place) -> None:
    """Also where requests hang."""
    before = threading.active_count()
    with HttpRelay(place.server_port) as relay:
        relay.hang()
        with pytest.raises(TimeoutError):
            asked(relay.port, timeout=0.05)

    assert threading.active_count() <= before
