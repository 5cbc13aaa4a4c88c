"""The PostgreSQL that the tests run on: a URL, else a container, else the embedded server.

SECRETSTORE_TEST_DATABASE_URL  a server where the role may create databases
SECRETSTORE_TEST_SERVER        `container` or `embedded`: use this one or fail
SECRETSTORE_TEST_IMAGE         the container's image
SECRETSTORE_TEST_CURSOR        set to anything: all statements go by psycopg's cursor, see tests/conftest.py
SECRETSTORE_TEST_POOLER        `pgbouncer`: the databases of the tests are reached through a real PgBouncer in transaction
                               mode (`pooler.py`); for tests/e2e.  What makes and drops databases, and what looks from
                               outside at what the server does (`raw`), goes direct.  So do, by their nature: the
                               embedded servers that tests start themselves; LISTEN, of which a pooler delivers nothing
                               (the fixture `listening_cli`; a watch without it is tried in test_pooler.py); libpq's
                               `options`, which PgBouncer refuses; and a login that PostgreSQL itself has to refuse.
"""

import gc
import itertools
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote, urlencode

import psycopg
from psycopg.conninfo import conninfo_to_dict

from tests.support.pooler import running_pooler

# A database is copied for each test: in memory, and file by file, that takes a quarter of the time.
_IN_MEMORY = Path("/dev/shm")
_NEEDED_BYTES = 4 * 2**30
_FILE_COPY_SINCE = 150_000
DEFAULT_IMAGE = "postgres:18-alpine"
_COUNTER = itertools.count(1)


@dataclass(frozen=True)
class ServerChoice:
    """Which server the run uses, and how that was decided."""

    kind: str
    source: str
    pooled: bool = False

    def __str__(self) -> str:
        name = f"{self.kind} ({self.source})" if self.source else self.kind
        return f"{name}, through PgBouncer in transaction mode" if self.pooled else name


@dataclass(frozen=True)
class Server:
    """A running server and how to reach a database on it."""

    admin_url: str
    # Kept: to connect for each database that is made or dropped would take half as long again.
    admin: psycopg.Connection = field(repr=False)
    pooler_url: str = ""
    # How `CREATE DATABASE` copies: file by file writes out everything first, which only a throw-away server does quickly.
    copying: str = ""

    def url(self, database: str, **changes: str) -> str:
        """Return the URL of a database, with other libpq parameters where given; through the pooler if there is one."""
        return _url_of(self.pooler_url or self.admin_url, database, changes)

    def direct_url(self, database: str, **changes: str) -> str:
        """Return the URL of a database past the pooler."""
        return _url_of(self.admin_url, database, changes)

    def execute(self, statement: str) -> None:
        """Run one statement outside a transaction, past SQLAlchemy."""
        self.admin.execute(statement.encode())

    @contextmanager
    def database(self, template: str = "template1") -> Iterator[str]:
        """Give the name of a new database, and drop it afterwards."""
        name = f"secretstore_test_{os.getpid()}_{next(_COUNTER)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template} {self.copying}")
        try:
            yield name
        finally:
            self.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _url_of(server_url: str, database: str, changes: dict[str, str]) -> str:
    parameters = {**conninfo_to_dict(server_url), "dbname": database, **changes}
    name = quote(str(parameters.pop("dbname")), safe="")
    return f"postgresql:///{name}?{urlencode({key: str(value) for key, value in parameters.items()})}"


def choose_server() -> ServerChoice:
    """Decide on a server without starting it."""
    wanted = os.environ.get("SECRETSTORE_TEST_POOLER", "")
    if wanted not in ("", "pgbouncer"):
        raise ValueError("SECRETSTORE_TEST_POOLER knows only pgbouncer")
    return replace(_choose_kind(), pooled=bool(wanted))


def _choose_kind() -> ServerChoice:
    if os.environ.get("SECRETSTORE_TEST_DATABASE_URL"):
        return ServerChoice("url", "SECRETSTORE_TEST_DATABASE_URL")
    wanted = os.environ.get("SECRETSTORE_TEST_SERVER")
    image = os.environ.get("SECRETSTORE_TEST_IMAGE", DEFAULT_IMAGE)
    if wanted == "container":
        return ServerChoice("container", image)
    if wanted == "embedded":
        return ServerChoice("embedded", "as SECRETSTORE_TEST_SERVER says")
    problem = _why_no_container(image)
    return ServerChoice("embedded", problem) if problem else ServerChoice("container", image)


@contextmanager
def running_server(choice: ServerChoice) -> Iterator[Server]:
    """Start the server of a choice, and its pooler, and stop them afterwards."""
    with _running(choice) as server, ExitStack() as stack:
        if choice.pooled:
            yield replace(server, pooler_url=stack.enter_context(running_pooler(server.admin_url)))
        else:
            yield server


@contextmanager
def _running(choice: ServerChoice) -> Iterator[Server]:
    starting = {"url": _given, "container": _container, "embedded": _embedded}[choice.kind]
    with starting(choice.source) as url, psycopg.connect(url, autocommit=True) as admin:
        server = Server(url, admin)
        yield server if choice.kind == "url" else _hurried(server)


@contextmanager
def _given(variable: str) -> Iterator[str]:
    yield os.environ[variable]


def _why_no_container(image: str) -> str:
    with warnings.catch_warnings():
        # Where no engine answers, Docker's client lets go of a socket without closing it, and a later test would fail.
        warnings.simplefilter("ignore", ResourceWarning)
        problem = _ask_docker(image)
        gc.collect()
    return problem


def _ask_docker(image: str) -> str:
    import docker
    from docker.errors import DockerException

    try:
        client = docker.from_env(timeout=60)
    except DockerException:
        return "no Docker engine answers"
    with closing(client):
        try:
            client.images.get(image)
        except DockerException:
            try:
                client.images.pull(image)
            except DockerException:
                return f"Docker has no image {image}"
    return ""


@contextmanager
def _container(image: str) -> Iterator[str]:
    from testcontainers.community.postgres import PostgresContainer

    made = PostgresContainer(image, username="postgres", password="only-for-tests", driver=None)
    # Past the image's own volume, which lies on a disk.
    with made.with_env("PGDATA", "/in-memory/data").with_tmpfs_mount("/in-memory") as container:
        yield container.get_connection_url()


@contextmanager
def _embedded(_: str) -> Iterator[str]:
    from secretstore.embedded import EmbeddedFolder, EmbeddedServer

    folders = tempfile.TemporaryDirectory(prefix="secretstore-tests-", dir=_quick_folder(), ignore_cleanup_errors=True)
    with folders as folder:
        embedded = EmbeddedServer(EmbeddedFolder(Path(folder) / "postgresql"))
        try:
            yield embedded.url
        finally:
            embedded.stop()


def _hurried(server: Server) -> Server:
    """Return the same in a hurry: nothing on a throw-away server has to survive a crash."""
    for setting in ("fsync", "synchronous_commit", "full_page_writes"):
        server.execute(f"ALTER SYSTEM SET {setting} = off")
    server.execute("SELECT pg_reload_conf()")
    copies_files = server.admin.info.server_version >= _FILE_COPY_SINCE
    return replace(server, copying="STRATEGY = FILE_COPY" if copies_files else "")


def _quick_folder() -> str | None:
    """Return where a server's data lie in memory, if there is room; None is the system's temporary folder."""
    there = _IN_MEMORY.is_dir() and os.access(_IN_MEMORY, os.W_OK)
    return str(_IN_MEMORY) if there and shutil.disk_usage(_IN_MEMORY).free >= _NEEDED_BYTES else None
