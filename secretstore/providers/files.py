"""`file:///run/secrets`: a folder of files, one for each secret, to read; as Docker and Kubernetes mount them.

The key `db/password` is the file `password` in the folder `db`.  Links are followed as long as they stay in the folder.
Kubernetes puts the files of one moment into a folder of their own, and the link `..data` names it; names that begin with
`..` are no keys.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from typing import TypeVar

from pydantic import Secret

from secretstore.domain.names import parse_key
from secretstore.domain.providers import Ability, ProvidedInfo, ProvidedSecret, Version
from secretstore.errors import InvalidSecretKeyError, InvalidSecretValueError, PermissionDeniedError
from secretstore.providers.addresses import Address
from secretstore.providers.base import Provider
from secretstore.providers.formats import Format, decoded
from secretstore.providers.regular_files import (
    FileContents,
    NotRegularError,
    TooLargeError,
    changed_at,
    read_regular,
)

MAX_BYTES = 1024 * 1024

_LARGEST_MAX_BYTES = 1024**3
_DATA = "..data"
_MOST_LINKS = 40
# How often Kubernetes may swap the files while one of them is looked at.
_TRIES = 10
# To pass through a folder takes less than to list it.
_PASS = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MISSING = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG})
_REFUSED = frozenset({errno.EACCES, errno.EPERM})
_TEMPORARY = frozenset(
    {errno.EIO, errno.ELOOP, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE, errno.ETIMEDOUT}
)

T = TypeVar("T")


def open_files(url: str) -> "FilesProvider":
    """Return the provider of a `file:///folder` URL with the options `format` and `max_bytes`."""
    address = Address.parse(url, options=frozenset({"format", "max_bytes"}))
    if address.host or not address.path.startswith("/"):
        address.refuse("names a folder of this machine: file:///run/secrets")
    return FilesProvider(
        address.path,
        form=address.form(Format.AUTO),
        max_bytes=address.number("max_bytes", default=MAX_BYTES, most=_LARGEST_MAX_BYTES),
    )


class FilesProvider(Provider):
    """The files beneath a folder; one line end at the end of a text is no part of it."""

    def __init__(self, folder: str, *, form: Format = Format.AUTO, max_bytes: int = MAX_BYTES) -> None:
        self.name = f"file://{folder}"
        self._folder = folder
        self._form = form
        self._max_bytes = max_bytes

    def read(self, key: str, *, version: Version | None = None) -> ProvidedSecret | None:
        """Return what is in a file; raises `InvalidSecretValueError` where it is too large or no text."""
        if version is not None:
            self.require(Ability.VERSIONS)
        names = _names_of(key)
        if names is None:
            return None
        contents = self._look(f"read {key!r}", lambda root: _contents(root, names, self._max_bytes))
        if contents is None:
            return None
        value = self._decoded(key, contents)
        return ProvidedSecret(value_json=value, info=self._info(key, contents.changed_at))

    def list_keys(self, prefix: str = "", *, after: str | None = None, limit: int | None = None) -> list[str]:
        """Return the names of the files beneath the folder; those that are no keys, or cannot be read, are left out."""
        keys = self._look("list its keys", lambda root: list(_walk(root, prefix))) or []
        return sorted(key for key in keys if key.startswith(prefix) and (after is None or key > after))[:limit]

    def describe(self, key: str) -> ProvidedInfo | None:
        """Return what is known of a file, without opening it."""
        names = _names_of(key)
        if names is None:
            return None
        status = self._look(f"describe {key!r}", lambda root: _of_file(_status(root, names)))
        return None if status is None else self._info(key, changed_at(status))

    def _decoded(self, key: str, contents: FileContents) -> bytes:
        name = f"{key!r} in {self.name}"
        text = _text_of(contents)
        if text is None:
            raise InvalidSecretValueError(f"{name} is not UTF-8")
        return decoded(text, self._form, name=name)

    def _info(self, key: str, moment: datetime) -> ProvidedInfo:
        return ProvidedInfo(provider=self.name, key=key, updated_at=moment)

    def _look(self, operation: str, look: Callable[[int], T]) -> T | None:
        """Return what is found, or None; where Kubernetes has swapped the files meanwhile, it is looked for again."""
        try:
            with _opened(self._folder, _PASS & ~os.O_NOFOLLOW) as folder:
                for _ in range(_TRIES):
                    before = _link(_DATA, folder)
                    found = _unless_missing(look, folder)
                    if _link(_DATA, folder) == before:
                        return found
            problem: Exception = self.failed(operation, "its files change all the time", is_temporary=True)
        except OSError as error:
            problem = self._problem(operation, error)
        raise problem

    def _problem(self, operation: str, error: OSError) -> Exception:
        if isinstance(error, TooLargeError):
            return InvalidSecretValueError(
                f"{self.name} failed to {operation}: it is larger than max_bytes={self._max_bytes}"
            )
        if isinstance(error, NotRegularError):
            return self.failed(operation, "it is a pipe, a socket or a device, and no file")
        if isinstance(error, _OutsideError):
            return self.failed(operation, "its link leads out of the folder; name the folder that holds the files")
        if error.errno in _REFUSED:
            return PermissionDeniedError(
                f"{self.name} may not {operation}: this process has no right to; look at its owner and mode"
            )
        problem = "there is no such folder" if error.errno in _MISSING else os.strerror(error.errno or 0)
        return self.failed(operation, problem, is_temporary=error.errno in _TEMPORARY)


class _OutsideError(OSError):
    """A link leads out of the folder, or in a circle."""


def _names_of(key: str) -> list[str] | None:
    names = key.split("/")
    return None if any(name in {"", "."} or name.startswith("..") for name in names) else names


def _text_of(contents: FileContents) -> Secret[str] | None:
    try:
        return Secret(_without_line_end(contents.data.decode()))
    except UnicodeDecodeError:
        return None


def _without_line_end(text: str) -> str:
    return text.removesuffix("\n").removesuffix("\r") if text.endswith("\n") else text


def _unless_missing(look: Callable[[int], T], folder: int) -> T | None:
    try:
        return look(folder)
    except OSError as error:
        if error.errno not in _MISSING:
            raise
    return None


@contextmanager
def _opened(name: str, flags: int, folder: int | None = None) -> Iterator[int]:
    descriptor = os.open(name, flags, dir_fd=folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _link(name: str, folder: int) -> str | None:
    """Return where a link leads; None where there is no link."""
    try:
        return os.readlink(name, dir_fd=folder)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOENT}:
            raise
    return None


def _follow(root: int, names: Sequence[str], opened: ExitStack) -> tuple[int, str]:
    """Return the folder, and the name in it, that names lead to; every link on the way is followed, but not out of the root."""
    way, pending, links = [root], list(reversed(names)), 0
    while pending:
        name = pending.pop()
        if name == "..":
            way.pop()
            if not way:
                raise _OutsideError
        elif (target := _link(name, way[-1])) is not None:
            links += 1
            if links > _MOST_LINKS or target.startswith("/"):
                raise _OutsideError
            pending += [part for part in reversed(target.split("/")) if part not in {"", "."}]
        elif pending:
            way.append(opened.enter_context(_opened(name, _PASS, way[-1])))
        else:
            return way[-1], name
    return way[-1], "."


def _status(root: int, names: Sequence[str]) -> os.stat_result:
    """Return what is known of what names lead to."""
    with ExitStack() as opened:
        folder, name = _follow(root, names, opened)
        return os.stat(name, dir_fd=folder, follow_symlinks=False)


def _of_file(status: os.stat_result) -> os.stat_result | None:
    """Return what is known of a file; a folder is none, and everything else is refused."""
    if stat.S_ISDIR(status.st_mode):
        return None
    if not stat.S_ISREG(status.st_mode):
        raise NotRegularError
    return status


def _contents(root: int, names: Sequence[str], max_bytes: int) -> FileContents | None:
    with ExitStack() as opened:
        folder, name = _follow(root, names, opened)
        # To open a device may already do something.
        if _of_file(os.stat(name, dir_fd=folder, follow_symlinks=False)) is None:
            return None
        return read_regular(name, max_bytes=max_bytes, flags=os.O_NOFOLLOW, folder=folder)


def _walk(
    root: int, prefix: str, names: tuple[str, ...] = (), above: frozenset[tuple[int, int]] = frozenset()
) -> Iterator[str]:
    """Yield keys that may begin with a prefix; `above` are the folders on the way, which a link may lead back to."""
    found = _unless_missing(lambda folder: _entries(folder, names), root)
    if found is None or found[0] in above:
        return
    here, entries = found
    for inner in ((*names, entry) for entry in entries):
        key = "/".join(inner)
        if not _is_key(key) or not (key.startswith(prefix) or prefix.startswith(f"{key}/")):
            continue
        status = _status_of_entry(root, inner)
        if status is not None and stat.S_ISREG(status.st_mode):
            yield key
        elif status is not None and stat.S_ISDIR(status.st_mode):
            yield from _walk(root, prefix, inner, above | {here})


def _status_of_entry(root: int, names: Sequence[str]) -> os.stat_result | None:
    try:
        return _unless_missing(lambda folder: _status(folder, names), root)
    except _OutsideError:
        return None


def _entries(root: int, names: Sequence[str]) -> tuple[tuple[int, int], list[str]]:
    """Return what tells a folder from all others, and the names in it."""
    with ExitStack() as opened:
        folder, name = _follow(root, names, opened)
        descriptor = opened.enter_context(_opened(name, _LIST, folder))
        status = os.fstat(descriptor)
        entries = opened.enter_context(os.scandir(descriptor))
        return (status.st_dev, status.st_ino), [entry.name for entry in entries]


def _is_key(text: str) -> bool:
    try:
        parse_key(text)
    except InvalidSecretKeyError:
        return False
    return _names_of(text) is not None
