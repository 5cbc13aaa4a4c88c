"""`secretstore embedded`, and the embedded server that a newcomer gets."""

import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from tests.e2e.conftest import CommandLine


def servers_in(folder: Path) -> list[int]:
    """Return the processes whose command line names a folder."""
    return [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if process.pid != os.getpid() and any(str(folder) in part for part in process.info["cmdline"] or ())
    ]


@pytest.fixture
def newcomer(bare_cli: CommandLine, short_path: Path) -> Iterator[CommandLine]:
    """The command line in a new home; a server that a failed test left is stopped."""
    yield bare_cli
    bare_cli.afresh("embedded", "stop")
    assert servers_in(short_path) == []


def test_the_first_command_of_a_newcomer_works(newcomer: CommandLine, short_path: Path) -> None:
    """With nothing set, `set` and `get` use a server and a key ring of their own, say so, and leave no process."""
    written, read = newcomer.afresh("set", "k", stdin=b"v"), newcomer.afresh("get", "k", "--plain")

    place = short_path / "data" / "secretstore" / "postgresql"
    said = f"no database is named, so this uses the embedded PostgreSQL in {place}\n"
    assert (written.code, written.out, written.err) == (0, "", f"{said}stored k, version 1\n")
    assert (read.code, read.out, read.err) == (0, "v\n", said)
    assert servers_in(short_path) == []


def test_a_started_server_outlives_its_command(newcomer: CommandLine, short_path: Path) -> None:
    """`embedded start` prints a URL that works until `embedded stop`, through other commands that come and go."""
    started = newcomer.afresh("embedded", "start")
    assert (started.code, started.out.count("\n")) == (0, 1)

    assert newcomer.afresh("set", "k", stdin=b"v").code == 0
    status = newcomer.afresh("embedded", "status")
    with psycopg.connect(started.out.strip()) as connection:
        stored = connection.execute("SELECT key FROM secretstore.secret_store").fetchall()
    stopped = newcomer.afresh("embedded", "stop")

    assert (status.code, status.out.startswith("running, process ")) == (0, True)
    assert stored == [("k",)]
    assert (stopped.code, stopped.out, stopped.err) == (0, "", "stopped\n")
    assert servers_in(short_path) == []


def test_a_server_has_the_folder_that_is_named(newcomer: CommandLine, short_path: Path) -> None:
    """A folder can be named, and the command says how to use its server."""
    folder = short_path / "here"
    started = newcomer.afresh("embedded", "start", str(folder))
    stopped = newcomer.afresh("embedded", "stop", str(folder))

    assert f"export SECRETSTORE_DATABASE_URL=embedded://{folder}\n" in started.err
    assert (folder / "PG_VERSION").exists()
    assert (stopped.code, stopped.err) == (0, "stopped\n")


def test_a_server_that_does_not_run_is_not_started_to_be_stopped(newcomer: CommandLine, short_path: Path) -> None:
    """Where no server runs, `stop` does nothing, `status` ends with 1, and `path` only names the folder."""
    stopped, status, place = (newcomer.afresh("embedded", verb) for verb in ("stop", "status", "path"))

    assert (stopped.code, stopped.err) == (0, "not running\n")
    assert (status.code, status.out, status.err) == (1, "not running\n", "")
    assert (place.code, place.out) == (0, f"{short_path}/data/secretstore/postgresql\n")
    assert not (short_path / "data" / "secretstore").exists()


def test_stopping_is_remembered_where_the_server_has_ended_already(newcomer: CommandLine, short_path: Path) -> None:
    """After a crash of a server that was left running, `stop` lets later commands end the server again."""
    newcomer.afresh("embedded", "start")
    for process in map(psutil.Process, servers_in(short_path)):
        process.kill()
        process.wait()

    assert newcomer.afresh("embedded", "stop").err == "not running\n"
    assert newcomer.afresh("set", "k", stdin=b"v").code == 0
    assert servers_in(short_path) == []
