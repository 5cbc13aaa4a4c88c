"""Files of secrets: read as text, and written whole or not at all, for nobody else to read."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from secretstore.cli.exit_codes import CommandError, ExitCode
from secretstore.cli.values import contents
from secretstore.errors import InvalidSecretValueError

STDIN = Path("-")


def read_file(path: Path) -> str:
    """Return the text of a file, or of stdin, with its line ends as they are."""
    data = sys.stdin.buffer.read() if path == STDIN else contents(path)
    try:
        return data.decode()
    except UnicodeDecodeError:
        pass
    raise InvalidSecretValueError("the file is not UTF-8")


def refuse_overwriting(path: Path, *, force: bool) -> None:
    """End where a file is there already, or where something is that no file may take the place of."""
    if os.path.lexists(path) and not force:
        raise CommandError(f"{path} is there already; add --force to overwrite it", ExitCode.USAGE)
    if path.exists() and not path.is_file():
        raise CommandError(f"{path} is no file that can be overwritten", ExitCode.USAGE)


def write_whole(path: Path, text: str, *, force: bool) -> None:
    """Write a file that only its owner may read; whoever looks meanwhile finds all of it or nothing."""
    refuse_overwriting(path, force=force)
    # Where a link leads, not the link, is overwritten.
    target = path.resolve() if force else path
    try:
        _put(target, text.encode(), force=force)
    except OSError as error:
        problem = error.strerror
    else:
        return
    raise CommandError(f"cannot write {path}: {problem}", ExitCode.USAGE)


def _put(target: Path, data: bytes, *, force: bool) -> None:
    # Its mode is 0600 from its first moment on.
    descriptor, name = tempfile.mkstemp(prefix=".secretstore-", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # A link fails where another program has made the file meanwhile.
        (os.replace if force else os.link)(name, target)
    finally:
        with suppress(FileNotFoundError):
            Path(name).unlink()


@contextmanager
def new_file(path: Path) -> Iterator[TextIO]:
    """Make a file that was not there and that only its owner may read; each line is in it as soon as it is written."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        problem = error.strerror
    else:
        with os.fdopen(descriptor, "w", encoding="utf-8", buffering=1) as file:
            yield file
        return
    raise CommandError(f"cannot make {path}: {problem}", ExitCode.USAGE)
