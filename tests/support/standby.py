"""A PostgreSQL and another one that follows it, both embedded."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psycopg

from secretstore.embedded import EmbeddedFolder, EmbeddedServer
from tests.support.threads import wait_until


@dataclass(frozen=True)
class Pair:
    """A server and its read-only copy, by their URLs."""

    primary_url: str
    standby_url: str

    def catch_up(self) -> None:
        """Wait until the copy has all that the server has now."""
        with psycopg.connect(self.primary_url, autocommit=True) as primary:
            row = primary.execute("SELECT pg_current_wal_lsn()").fetchone()
        assert row is not None
        with psycopg.connect(self.standby_url, autocommit=True) as standby:
            wait_until(standby, f"SELECT COALESCE(pg_last_wal_replay_lsn() >= '{row[0]}', false)::int", 1)


@contextmanager
def running_pair(home: Path) -> Iterator[Pair]:
    """Start a server, copy it, and let the copy follow."""
    primary_folder, standby_folder = EmbeddedFolder(home / "primary"), EmbeddedFolder(home / "standby")
    EmbeddedServer(primary_folder).stop()
    _copy(primary_folder.data, standby_folder.data)
    primary = EmbeddedServer(primary_folder)
    try:
        _let_follow(standby_folder.data, primary.url)
        standby = EmbeddedServer(standby_folder)
        try:
            yield Pair(primary.url, standby.url)
        finally:
            with psycopg.connect(standby.url) as connection:
                # A server that follows another one does not stop by itself.
                connection.execute("SELECT pg_promote()")
            standby.stop()
    finally:
        primary.stop()


def _copy(source: Path, target: Path) -> None:
    # With its owner, who is another user where root runs the tests.
    copier = shutil.which("cp")
    assert copier is not None
    subprocess.run([copier, "-a", str(source), str(target)], check=True)
    (target / "postmaster.pid").unlink(missing_ok=True)


def _let_follow(data: Path, url: str) -> None:
    [host] = parse_qs(urlsplit(url).query)["host"]
    with (data / "postgresql.auto.conf").open("a", encoding="utf-8") as settings:
        settings.write(f"primary_conninfo = 'host={host} user=postgres'\n")
    (data / "standby.signal").touch()
