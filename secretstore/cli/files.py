"""Files of secrets: read as text, piece by piece, and written whole or not at all, for nobody else to read."""

import codecs
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import BinaryIO, TextIO

from secretstore.cli.exit_codes import CommandError, ExitCode
from secretstore.errors import InvalidSecretValueError

STDIN = Path("-")
_PIECE_BYTES = 64 * 1024


def pieces_of(path: Path) -> Iterator[str]:
    """Give the text of a file, or of stdin, piece by piece with its line ends as they are; no error shows any of it."""
    try:
        with _opened(path) as file:
            yield from codecs.iterdecode(iter(lambda: file.read(_PIECE_BYTES), b""), "utf-8")
    except OSError as error:
        problem: Exception = CommandError(f"cannot read {path}: {error.strerror}", ExitCode.USAGE)
    except UnicodeDecodeError:
        problem = InvalidSecretValueError("the file is not UTF-8")
    else:
        return
    raise problem


def _opened(path: Path) -> AbstractContextManager[BinaryIO]:
    return nullcontext(sys.stdin.buffer) if path == STDIN else path.open("rb")


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
