"""What the rows are measured on: an embedded PostgreSQL with filled databases, clients of it, and processors of one's own."""

import os
import tempfile
import threading
from collections.abc import Container, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo
from sqlalchemy import make_url

from benchmarks.filling import Vault, fill, new_vault
from secretstore import KeyRing, migrate
from secretstore.crypto.local import LocalMasterKey, generate_master_key
from secretstore.embedded import EmbeddedFolder, EmbeddedServer
from secretstore.orm.engines import make_engine

Place: TypeAlias = Literal["one core", "two cores", "anywhere"]

# What differs from PostgreSQL's own settings; fsync and synchronous_commit stay on.  Whoever vacuums is told to between
# rows, and not while one is measured.
SETTINGS = {"shared_buffers": "2GB", "max_wal_size": "8GB", "checkpoint_timeout": "30min", "autovacuum": "off"}
MAIN = "bench"


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    secrets: int
    rounds: int
    operations: int
    batch: int
    batch_rounds: int
    growth: tuple[int, int, int]
    memory: tuple[int, int]
    import_rounds: int
    peer_operations: int


FULL = Size(
    secrets=100_000,
    rounds=41,
    operations=250,
    batch=10_000,
    batch_rounds=15,
    growth=(10_000, 100_000, 5_000_000),
    memory=(100_000, 1_000_000),
    import_rounds=15,
    peer_operations=50,
)
QUICK = Size(
    secrets=20_000,
    rounds=9,
    operations=50,
    batch=2_000,
    batch_rounds=3,
    growth=(10_000, 100_000, 200_000),
    memory=(2_000, 10_000),
    import_rounds=3,
    peer_operations=5,
)


@dataclass(slots=True)
class Placing:
    """Where this process and its backends run, and why they do not where they should."""

    client: frozenset[int]
    backends: frozenset[int]
    admin: psycopg.Connection
    problems: list[str] = field(default_factory=list)

    def pin(self) -> tuple[str, ...]:
        """Let all threads and the backends of all connections run where they should, and return what could not be done."""
        for thread in threading.enumerate():
            self.problems += pinned(thread.native_id or 0, self.client)
        for (pid,) in self.admin.execute("SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'"):
            self.problems += pinned(pid, self.backends)
        return tuple(dict.fromkeys(self.problems))


def pinned(pid: int, processors: frozenset[int]) -> list[str]:
    """Let a process (0: the calling thread) run on some processors only; return why not, if not."""
    try:
        os.sched_setaffinity(pid, processors)
    except (AttributeError, OSError) as error:
        return [f"not pinned: {error}"]
    return []


@dataclass(frozen=True, slots=True)
class Stage:
    """A running server, its main database filled, and the size of what is measured."""

    size: Size
    url: str
    keyring_text: str
    vault: Vault
    processors: tuple[int, ...]
    admin: psycopg.Connection

    @property
    def keyring(self) -> KeyRing:
        """A key ring of one's own, as in a process of one's own."""
        return KeyRing.from_text(self.keyring_text)

    @property
    def numbers(self) -> range:
        """The secrets that are there."""
        return range(self.size.secrets)

    def url_of(self, database: str) -> str:
        """Return the URL of a database."""
        return make_url(self.url).set(database=database).render_as_string(hide_password=False)

    def conninfo_of(self, database: str) -> str:
        """Return what libpq connects to a database with."""
        return make_conninfo(self.url, dbname=database)

    @contextmanager
    def empty_database(self, name: str) -> Iterator[str]:
        """Make an empty database, give its URL, and drop it at the end."""
        self.add_database(name)
        try:
            yield self.url_of(name)
        finally:
            self.admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def add_database(self, name: str) -> None:
        """Make an empty database."""
        self.admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))

    def filled(
        self, name: str, count: int, *, with_history: bool = False, readable: Container[int] | None = None
    ) -> str:
        """Make a database of so many secrets, unless it is there, and return its name."""
        found = self.admin.execute("SELECT FROM pg_database WHERE datname = %s", [name]).fetchone()
        if found is None:
            self.add_database(name)
            migrated(self.url_of(name))
            fill(self.conninfo_of(name), self.vault, count, with_history=with_history, readable=readable)
        return name

    def tidy(self) -> None:
        """Vacuum the main database, which nobody else does."""
        with psycopg.connect(self.conninfo_of(MAIN), autocommit=True) as connection:
            connection.execute("VACUUM (ANALYZE)")
            connection.execute("CHECKPOINT")

    @contextmanager
    def placed(self, place: Place) -> Iterator[Placing]:
        """Let this thread, and those that it starts, run where they should; the backends follow when they are there."""
        every = frozenset(self.processors)
        client = every if place == "anywhere" else frozenset(self.processors[:1])
        backends = frozenset(self.processors[1:2]) or every if place == "two cores" else client
        placing = Placing(client, backends, self.admin, pinned(0, client))
        if place == "two cores" and len(every) == 1:
            placing.problems.append("client and server share the one processor of this machine")
        try:
            yield placing
        finally:
            pinned(0, every)


@contextmanager
def built(size: Size) -> Iterator[Stage]:
    """Start a server in a temporary folder, fill it, and take all of it away at the end."""
    with ExitStack() as stack:
        home = stack.enter_context(tempfile.TemporaryDirectory(prefix="secretstore-bench-", ignore_cleanup_errors=True))
        folder = EmbeddedFolder(Path(home) / "postgresql")
        _set_up(folder)
        server = EmbeddedServer(folder)
        stack.callback(server.stop)
        admin = stack.enter_context(psycopg.connect(server.url, autocommit=True))
        master_key = generate_master_key("bench")
        vault = new_vault(LocalMasterKey.parse(master_key))
        stage = Stage(size, server.url, master_key, vault, _processors(), admin)
        stage.add_database(MAIN)
        migrated(stage.url_of(MAIN))
        fill(stage.conninfo_of(MAIN), vault, size.secrets, with_history=True)
        yield stage


def _set_up(folder: EmbeddedFolder) -> None:
    server = EmbeddedServer(folder)
    try:
        with psycopg.connect(server.url, autocommit=True) as connection:
            for name, value in SETTINGS.items():
                connection.execute(sql.SQL("ALTER SYSTEM SET {} = {}").format(sql.Identifier(name), sql.Literal(value)))
    finally:
        # Some of them need a new start.
        server.stop()


def _processors() -> tuple[int, ...]:
    try:
        return tuple(sorted(os.sched_getaffinity(0)))
    except AttributeError:
        return tuple(range(os.cpu_count() or 1))


def migrated(url: str) -> None:
    """Make our tables in a database."""
    engine = make_engine(url)
    try:
        migrate.upgrade(engine)
    finally:
        engine.dispose()
