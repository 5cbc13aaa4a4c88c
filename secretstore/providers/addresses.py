"""What a provider's URL says: `scheme://user:password@host:port/path?option=value&…`, each part percent-decoded once."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NoReturn, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from secretstore.errors import ConfigurationError
from secretstore.providers.formats import Format

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):.*", re.DOTALL)
_YES_NO = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def scheme_of(url: str) -> str:
    """Return the scheme in lower case; raises `ConfigurationError` where there is none, without showing the text."""
    found = _SCHEME.fullmatch(url)
    if found is None:
        raise ConfigurationError(
            "a provider is named by a URL, for example env://?prefix=APP_ or vault://host:8200/secret/app"
        )
    return found[1].lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """The parts of a URL; user and password may be secret, and so they are not shown."""

    scheme: str
    host: str
    port: int | None
    username: str | None = field(repr=False)
    password: str | None = field(repr=False)
    path: str
    options: Mapping[str, str] = field(repr=False)

    @classmethod
    def parse(cls, url: str, *, options: frozenset[str] = frozenset()) -> Self:
        """Take a URL apart; raises `ConfigurationError` where it is none, or asks for other options than these.

        No message shows more of the URL than its scheme and the names of options.
        """
        scheme = scheme_of(url)
        try:
            parts = urlsplit(url)
            # A plus is a plus (RFC 3986); only what browsers send has it for a space.
            query = parts.query.replace("+", "%2B")
            pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
            host, port = parts.hostname or "", parts.port
        except ValueError:
            pairs, host, port = None, "", None
        if pairs is None or parts.fragment:
            raise ConfigurationError(
                f"this {scheme} URL cannot be read; write it as scheme://host:port/path?option=value"
            )
        _check_options(scheme, [name for name, _ in pairs], options)
        return cls(
            scheme=scheme,
            host=unquote(host),
            port=port,
            username=None if parts.username is None else unquote(parts.username),
            password=None if parts.password is None else unquote(parts.password),
            path=unquote(parts.path),
            options=dict(pairs),
        )

    def form(self, default: Format = Format.JSON) -> Format:
        """Return the option `format`."""
        given = self.options.get("format", default)
        if given not in set(Format):
            self.refuse(f"takes format={', '.join(Format)}")
        return Format(given)

    def flag(self, name: str, *, default: bool = False) -> bool:
        """Return an option that is true or false."""
        given = self.options.get(name)
        if given is None:
            return default
        if given.lower() not in _YES_NO:
            self.refuse(f"takes {name}=true or {name}=false")
        return _YES_NO[given.lower()]

    def number(self, name: str, *, default: int, least: int = 1, most: int) -> int:
        """Return an option that is a whole number."""
        given = self.options.get(name)
        if given is None:
            return default
        # Python refuses to convert thousands of digits.
        is_short = len(given) <= len(str(most))
        if not (is_short and given.isascii() and given.isdigit() and least <= int(given) <= most):
            self.refuse(f"takes {name}= a whole number from {least} to {most}")
        return int(given)

    def refuse(self, problem: str) -> NoReturn:
        """Raise `ConfigurationError`; `problem` follows on "a … URL"."""
        raise ConfigurationError(f"a {self.scheme} URL {problem}")


def _check_options(scheme: str, given: list[str], known: frozenset[str]) -> None:
    unknown = sorted(set(given) - known)
    if unknown:
        takes = f"takes {', '.join(sorted(known))}" if known else "takes no options"
        raise ConfigurationError(f"a {scheme} URL {takes}, not {', '.join(unknown)}")
    if len(set(given)) < len(given):
        raise ConfigurationError(f"a {scheme} URL gives an option twice")
