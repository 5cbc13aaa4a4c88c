"""`dotenv:///path/.env`: the lines of a `.env` file, to read, as python-dotenv reads them."""

import os
from collections.abc import Callable, Collection
from datetime import datetime

from pydantic import Secret

from secretstore.domain.names import Key
from secretstore.domain.providers import Ability, ProvidedInfo, ProvidedSecret, Version
from secretstore.errors import InvalidSecretKeyError, InvalidSecretValueError, PermissionDeniedError
from secretstore.providers.addresses import Address
from secretstore.providers.base import Provider
from secretstore.providers.formats import Format, decoded
from secretstore.providers.regular_files import FileContents, NotRegularError, TooLargeError, read_regular

MAX_BYTES = 1024 * 1024

_LARGEST_MAX_BYTES = 1024**3
_OPERATION = "read its lines"


def open_dotenv(url: str) -> "DotenvProvider":
    """Return the provider of a `dotenv:///path/.env` URL with the options `prefix`, `format` and `max_bytes`."""
    address = Address.parse(url, options=frozenset({"prefix", "format", "max_bytes"}))
    if address.host or not address.path.startswith("/"):
        address.refuse("names a file of this machine: dotenv:///srv/app/.env")
    return DotenvProvider(
        address.path,
        prefix=address.options.get("prefix", ""),
        form=address.form(Format.AUTO),
        max_bytes=address.number("max_bytes", default=MAX_BYTES, most=_LARGEST_MAX_BYTES),
    )


class DotenvProvider(Provider):
    """The names in a file that begin with `prefix`, without it; the file is read anew by each call.

    Needs the extra `dotenv`.
    """

    def __init__(self, path: str, *, prefix: str = "", form: Format = Format.AUTO, max_bytes: int = MAX_BYTES) -> None:
        self.name = f"dotenv://{path}?prefix={prefix}" if prefix else f"dotenv://{path}"
        self._path = path
        self._prefix = prefix
        self._form = form
        self._max_bytes = max_bytes
        self._parse = _parser()

    def read(self, key: str, *, version: Version | None = None) -> ProvidedSecret | None:
        """Return the text behind a name."""
        if version is not None:
            self.require(Ability.VERSIONS)
        return self.read_many([key]).get(key)

    def read_many(self, keys: Collection[str]) -> dict[str, ProvidedSecret]:
        """Return those of the secrets that there are, as they were at one moment."""
        texts, moment = self._lines()
        return {
            key: ProvidedSecret(
                value_json=decoded(texts[key], self._form, name=f"{key!r} in {self.name}"),
                info=self._info(key, moment),
            )
            for key in keys
            if key in texts
        }

    def list_keys(self, prefix: str = "", *, after: str | None = None, limit: int | None = None) -> list[str]:
        """Return the names in the file."""
        keys, _ = self._lines()
        return sorted(key for key in keys if key.startswith(prefix) and (after is None or key > after))[:limit]

    def describe(self, key: str) -> ProvidedInfo | None:
        """Return what is known of the file, where it has the name."""
        keys, moment = self._lines()
        return self._info(key, moment) if key in keys else None

    def _info(self, key: str, moment: datetime) -> ProvidedInfo:
        return ProvidedInfo(provider=self.name, key=key, updated_at=moment)

    def _lines(self) -> tuple[dict[str, Secret[str]], datetime]:
        """Return the texts by key, and when the file was written."""
        contents = self._contents()
        lines = self._parsed(self._decoded(contents.data))
        names = ((name.removeprefix(self._prefix), text) for name, text in lines if name.startswith(self._prefix))
        return {name: Secret(text) for name, text in names if name}, contents.changed_at

    def _parsed(self, text: str) -> list[tuple[Key, str]]:
        try:
            return self._parse(text)
        except (InvalidSecretKeyError, InvalidSecretValueError) as error:
            problem = str(error)
        # Some tools show the locals of every frame.
        del text
        raise self.failed(_OPERATION, problem)

    def _decoded(self, data: bytes) -> str:
        try:
            # Some editors begin a file with a mark, which is no part of it.
            return data.decode().removeprefix("\ufeff")
        except UnicodeDecodeError:
            pass
        # Some tools show the locals of every frame.
        del data
        raise self.failed(_OPERATION, "it is not UTF-8")

    def _contents(self) -> FileContents:
        try:
            return read_regular(self._path, max_bytes=self._max_bytes)
        except OSError as error:
            problem = self._problem(error)
        raise problem

    def _problem(self, error: OSError) -> Exception:
        if isinstance(error, TooLargeError):
            return self.failed(_OPERATION, f"it is larger than max_bytes={self._max_bytes}")
        if isinstance(error, NotRegularError):
            return self.failed(_OPERATION, "it is no file")
        if isinstance(error, PermissionError):
            return PermissionDeniedError(f"{self.name} may not be read by this process; look at its owner and mode")
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            return self.failed(_OPERATION, "there is no such file")
        return self.failed(_OPERATION, os.strerror(error.errno or 0), is_temporary=True)


def _parser() -> Callable[[str], list[tuple[Key, str]]]:
    try:
        from secretstore.providers.dotenv_text import parse_dotenv  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ImportError("dotenv: URLs need python-dotenv: pip install 'pg-secretstore[dotenv]'") from error
    return parse_dotenv
