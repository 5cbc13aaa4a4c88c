"""What keeps a client from connecting, as errors of this library that say what to do and show no password."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

import psycopg
import pytest

from secretstore import KeyRing, PermissionDeniedError, SecretStoreError, StoreUnavailableError
from tests.support.errors import assert_tells_nothing, refused_role
from tests.support.faces import open_face
from tests.support.server import Server
from tests.support.threads import DEADLINE_SECONDS

VALUE = "correct-horse-battery"
PASSWORD = "hunter2-and-more"
KINDS = ("client", "async client")

Fails = Callable[[str, type[SecretStoreError], str], None]


@pytest.fixture(params=KINDS)
def assert_fails(request: pytest.FixtureRequest, keyring: KeyRing) -> Fails:
    """Check that a client on a URL raises exactly this error, which tells neither value nor password."""

    def check(url: str, kind: type[SecretStoreError], match: str) -> None:
        with open_face(request.param, url, keyring) as face, pytest.raises(kind, match=match) as caught:
            face.set_secret("a", VALUE)
        assert type(caught.value) is kind
        assert str(caught.value).startswith("cannot connect to PostgreSQL")
        assert_tells_nothing(caught.value, VALUE, PASSWORD)

    return check


@pytest.fixture
def login(server: Server) -> Iterator[str]:
    """A role without rights that the server lets in with its password only."""
    with refused_role(server, f"LOGIN PASSWORD '{PASSWORD}'") as role, _passwords_checked(server, role):
        yield role


@contextmanager
def _passwords_checked(server: Server, role: str) -> Iterator[None]:
    """Make a server that trusts its own socket ask this role for a password; others are assumed to ask."""
    with psycopg.connect(server.admin_url, autocommit=True) as raw:
        row = raw.execute("SHOW hba_file").fetchone()
    assert row is not None
    rules = Path(row[0])
    if not rules.exists():
        yield
        return
    before = rules.read_text()
    rules.write_text(f"local all {role} scram-sha-256\n{before}")
    server.execute("SELECT pg_reload_conf()")
    _wait_until_refused(server, role)
    yield
    rules.write_text(before)
    server.execute("SELECT pg_reload_conf()")


def _wait_until_refused(server: Server, role: str) -> None:
    deadline = monotonic() + DEADLINE_SECONDS
    while monotonic() < deadline:
        try:
            psycopg.connect(server.url("postgres", user=role, password="wrong")).close()
        except psycopg.OperationalError:
            return
        sleep(0.01)
    pytest.fail("the server lets a wrong password in")


@contextmanager
def _listener(*, hangs_up: bool) -> Iterator[int]:
    """A port on which something listens that is no PostgreSQL: it hangs up at once, or never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        accept = threading.Thread(target=_hang_up, args=[listening])
        if hangs_up:
            accept.start()
        yield int(listening.getsockname()[1])
        listening.close() if not hangs_up else listening.shutdown(socket.SHUT_RDWR)
        if hangs_up:
            accept.join()


def _hang_up(listening: socket.socket) -> None:
    while True:
        try:
            listening.accept()[0].close()
        except OSError:
            return


def test_a_port_where_nothing_listens(assert_fails: Fails) -> None:
    """The error names host, port, database and role, and says to start the server."""
    assert_fails(
        f"postgresql://app:{PASSWORD}@127.0.0.1:1/shop",
        StoreUnavailableError,
        "at 127.0.0.1:1, database 'shop', as 'app': nothing listens there; start the server or correct the URL",
    )


def test_several_hosts_where_nothing_listens(assert_fails: Fails) -> None:
    """With several hosts in the URL the error is the same."""
    assert_fails(
        f"postgresql://app:{PASSWORD}@127.0.0.1:1,127.0.0.1:2/shop", StoreUnavailableError, "nothing listens there"
    )


def test_an_unknown_host(assert_fails: Fails) -> None:
    """A host name that nobody knows is not described as a connection that broke."""
    assert_fails(
        f"postgresql://app:{PASSWORD}@no-such-host.invalid/shop", StoreUnavailableError, "the host name is not known"
    )


def test_a_missing_socket(assert_fails: Fails) -> None:
    """A folder without a server's socket."""
    assert_fails(
        f"postgresql:///shop?host=/nonexistent&password={PASSWORD}", StoreUnavailableError, "there is no such socket"
    )


def test_a_server_that_is_no_postgresql(assert_fails: Fails) -> None:
    """Something hangs up at once."""
    with _listener(hangs_up=True) as port:
        assert_fails(f"postgresql://app:{PASSWORD}@127.0.0.1:{port}/shop", StoreUnavailableError, "is the URL right")


def test_a_server_that_says_nothing(assert_fails: Fails) -> None:
    """Something accepts and never answers: the client gives up after `connect_timeout`."""
    with _listener(hangs_up=False) as port:
        url = f"postgresql://app:{PASSWORD}@127.0.0.1:{port}/shop?connect_timeout=2"
        assert_fails(url, StoreUnavailableError, "it did not answer in time")


def test_a_missing_database(server: Server, assert_fails: Fails) -> None:
    """A database that is not there is to be created, or the URL corrected."""
    assert_fails(
        server.url("no_such_database"), StoreUnavailableError, "the database does not exist; create it or correct"
    )


def test_a_missing_role(server: Server, assert_fails: Fails) -> None:
    """A role that is not there; a server that asks for passwords does not tell it from a wrong password."""
    url = server.url("postgres", user="no_such_role", password=PASSWORD)
    assert_fails(url, PermissionDeniedError, "the role does not exist; create it|the role or its password is wrong")


def test_a_wrong_password(server: Server, login: str, assert_fails: Fails) -> None:
    """A wrong password is refused as a login, and is in no part of the error."""
    url = server.url("postgres", user=login, password=PASSWORD + "x")
    assert_fails(url, PermissionDeniedError, f"as '{login}': the role or its password is wrong")


def test_no_password(server: Server, login: str, assert_fails: Fails) -> None:
    """Where the server asks for a password and the URL has none, the error says where to put it."""
    url = server.url("postgres", user=login, password="")
    assert_fails(url, PermissionDeniedError, "asks for a password; put it into the URL or PGPASSFILE")


def test_a_role_that_may_not_log_in(server: Server, login: str, assert_fails: Fails) -> None:
    """A role without LOGIN."""
    server.execute(f"ALTER ROLE {login} NOLOGIN")
    assert_fails(
        server.url("postgres", user=login, password=PASSWORD), PermissionDeniedError, "the role may not log in"
    )


def test_too_many_connections(server: Server, login: str, assert_fails: Fails) -> None:
    """A role whose connections are used up exists all the same: it is told that there are too many."""
    server.execute(f"ALTER ROLE {login} CONNECTION LIMIT 0")
    assert_fails(server.url("postgres", user=login, password=PASSWORD), StoreUnavailableError, "out of connections")


def test_a_database_without_the_right_to_connect(
    server: Server, database: str, login: str, assert_fails: Fails
) -> None:
    """A database that the role may not connect to."""
    server.execute(f"REVOKE CONNECT ON DATABASE {database} FROM PUBLIC")
    assert_fails(
        server.url(database, user=login, password=PASSWORD), PermissionDeniedError, "may not connect to this database"
    )


def test_a_database_that_takes_no_connections(server: Server, database: str, assert_fails: Fails) -> None:
    """A database that is there and closed is not described as missing."""
    server.execute(f"ALTER DATABASE {database} ALLOW_CONNECTIONS false")
    assert_fails(server.url(database), StoreUnavailableError, "takes no connections now; try again later")
