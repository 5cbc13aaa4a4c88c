"""A real PgBouncer in transaction mode, in front of the server of a run.

The program on PATH is taken as it is; else Debian's package is fetched into a folder in the system's temporary folder,
which needs no root.  It listens on a socket in a folder of its own.
"""

import fcntl
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

PACKAGES = ("pgbouncer", "libc-ares2", "libevent-2.1-7")
POOL_SIZE = 4
DEADLINE_SECONDS = 60
# It is part of a socket's name, and no port is taken.
_PORT = 6432

# No parameter of a connection is let pass that a client of ours does not need; `options` is refused, as it is by default.
_SETTINGS = """\
[databases]
* = {target}

[pgbouncer]
pool_mode = transaction
default_pool_size = {pool_size}
max_client_conn = 500
auth_type = trust
auth_file = {folder}/users
listen_addr =
listen_port = {port}
unix_socket_dir = {folder}
logfile = {folder}/log
pidfile = {folder}/pid
server_login_retry = 0
"""


@dataclass(frozen=True)
class Program:
    """PgBouncer and where its libraries are."""

    path: Path
    libraries: Path | None = None

    @property
    def environment(self) -> dict[str, str]:
        """The environment that it starts in."""
        return {**os.environ, **({"LD_LIBRARY_PATH": str(self.libraries)} if self.libraries else {})}


@contextmanager
def running_pooler(admin_url: str, pool_size: int = POOL_SIZE) -> Iterator[str]:
    """Start PgBouncer in front of a server, and give the URL at which it takes the place of that server."""
    program = find_program()
    target = {name: str(value) for name, value in conninfo_to_dict(admin_url).items()}
    with tempfile.TemporaryDirectory(prefix="ss-pooler-", ignore_cleanup_errors=True) as name:
        folder, user = Path(name), _unprivileged(target)
        _write_settings(folder, target, pool_size)
        if user:
            _give(folder, user)
        command = [str(program.path), "-q", *(["-u", user] if user else []), str(folder / "ini")]
        url = f"postgresql:///postgres?host={folder}&port={_PORT}&user={target['user']}"
        with subprocess.Popen(command, env=program.environment, stderr=subprocess.DEVNULL) as process:
            try:
                _wait(url, process, folder / "log")
                yield url
            finally:
                process.terminate()


def find_program() -> Program:
    """Return PgBouncer, and fetch it where it is nowhere."""
    found = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}{os.pathsep}/usr/sbin")
    return (
        Program(Path(found)) if found else _fetched(Path(tempfile.gettempdir()) / f"secretstore-pooler-{os.getuid()}")
    )


def _fetched(folder: Path) -> Program:
    folder.mkdir(mode=0o755, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} is another user's")
    root = folder / "root"
    with (folder / "lock").open("w") as lock:
        # The other processes of the run fetch it, too.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.exists():
            _fetch(folder, root)
    (library,) = root.glob("usr/lib/*/libcares.so.2")
    return Program(root / "usr" / "sbin" / "pgbouncer", library.parent)


def _fetch(folder: Path, root: Path) -> None:
    """Download and unpack the packages; an index that is not there yet, or is old, can only be renewed by root."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        if _run(["apt-get", "download", *PACKAGES], name) and os.getuid() == 0:
            _run(["apt-get", "update"], name)
            _run(["apt-get", "download", *PACKAGES], name)
        packages = sorted(Path(name).glob("*.deb"))
        if len(packages) < len(PACKAGES):
            raise RuntimeError("no PgBouncer on PATH, and apt-get cannot download it; install pgbouncer")
        for package in packages:
            subprocess.run(["dpkg", "-x", package, Path(name) / "root"], check=True)
        (Path(name) / "root").rename(root)


def _run(command: list[str], folder: str) -> int:
    return subprocess.run(command, cwd=folder, capture_output=True, check=False, timeout=300).returncode


def _unprivileged(target: dict[str, str]) -> str:
    """Return whom PgBouncer becomes where we are root, whom it refuses: the one whom the server's socket admits."""
    if os.getuid() != 0:
        return ""
    folder = Path(target.get("host", ""))
    if not folder.is_absolute():
        return "nobody"
    owner = next(folder.glob(".s.PGSQL.*")).stat().st_uid
    return pwd.getpwuid(owner).pw_name if owner else "nobody"


def _write_settings(folder: Path, target: dict[str, str], pool_size: int) -> None:
    password = target.get("password", "")
    (folder / "users").write_text(f'"{target["user"]}" "{password}"\n', encoding="utf-8")
    where = make_conninfo(**{name: target[name] for name in ("host", "port") if name in target})
    settings = _SETTINGS.format(target=where, pool_size=pool_size, folder=folder, port=_PORT)
    (folder / "ini").write_text(settings, encoding="utf-8")


def _give(folder: Path, user: str) -> None:
    for path in (folder, *folder.iterdir()):
        shutil.chown(path, user)


def _wait(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Wait until it answers with the server's own answer, or fail with what it wrote."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(psycopg.OperationalError), psycopg.connect(url, autocommit=True, prepare_threshold=None) as asked:
            asked.execute("SELECT 1")
            return
        time.sleep(0.02)
    raise RuntimeError(f"PgBouncer does not start: {log.read_text(encoding='utf-8') if log.exists() else 'no log'}")
