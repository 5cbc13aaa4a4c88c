"""Reads files that others may change meanwhile, or may have put there to harm."""

import os
import stat
from dataclasses import dataclass, field
from datetime import UTC, datetime

# Waits for nobody to write into a pipe, and gives no descriptor to programs that are started.
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC


class NotRegularError(OSError):
    """What is there is a folder, a pipe, a socket or a device."""


class TooLargeError(OSError):
    """There are more bytes than are to be read."""


@dataclass(frozen=True, slots=True)
class FileContents:
    """What a file held, and since when."""

    data: bytes = field(repr=False)
    changed_at: datetime


def read_regular(path: str, *, max_bytes: int, flags: int = 0, folder: int | None = None) -> FileContents:
    """Return what is in a regular file; `folder` is a descriptor that the path begins at.

    Raises `OSError`: `NotRegularError` and `TooLargeError` beside those of the system.
    """
    descriptor = os.open(path, _FLAGS | flags, dir_fd=folder)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise NotRegularError
        # The size may be that of a moment ago, or none at all.
        data = _at_most(descriptor, max_bytes + 1)
    finally:
        os.close(descriptor)
    if len(data) > max_bytes:
        raise TooLargeError
    return FileContents(data, changed_at(status))


def changed_at(status: os.stat_result) -> datetime:
    """Return when a file was last written."""
    return datetime.fromtimestamp(status.st_mtime, UTC)


def _at_most(descriptor: int, size: int) -> bytes:
    parts = []
    while size > 0 and (part := os.read(descriptor, size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
