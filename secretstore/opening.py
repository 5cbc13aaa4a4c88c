"""From a URL to a provider: those of this library, and those that others install."""

import importlib
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from importlib.metadata import EntryPoint, entry_points
from typing import cast

from secretstore.cache import CacheConfig
from secretstore.domain.observing import Observer
from secretstore.domain.providers import SecretProvider
from secretstore.errors import ConfigurationError
from secretstore.providers.addresses import scheme_of
from secretstore.providers.backing_off import BackingOff
from secretstore.providers.cached import Cached
from secretstore.providers.chain import ChainProvider, Link
from secretstore.providers.observed import ObservedProvider

# Others' providers are entry points of this group, named by their scheme: functions from a URL to a provider.
GROUP = "secretstore.providers"

Open = Callable[[str], SecretProvider]

# What may stand before a URL in a chain.
_OPTIONAL = "optional"
_WRITE = "write"

# The one place that is named without a colon, as `connect` takes it.
_EMBEDDED = "embedded"

# Each is imported when it is first asked for, and its SDK with it.
_OURS = {
    "aws-secretsmanager": "secretstore.providers.aws_secrets_manager:open_aws_secrets_manager",
    "aws-ssm": "secretstore.providers.aws_ssm:open_aws_ssm",
    "dotenv": "secretstore.providers.dotenv:open_dotenv",
    _EMBEDDED: "secretstore.connecting:open_postgres",
    "env": "secretstore.providers.environment:open_environment",
    "file": "secretstore.providers.files:open_files",
    "memory": "secretstore.providers.memory:open_memory",
    "postgres": "secretstore.connecting:open_postgres",
    "postgresql": "secretstore.connecting:open_postgres",
    "postgresql+psycopg": "secretstore.connecting:open_postgres",
    "vault": "secretstore.providers.vault:open_vault",
}


def open_provider(url: str, *, observer: Observer | None = None) -> SecretProvider:
    """Return the provider of a URL; nothing connects before the first call.

    `observer` is told of every call.
    The schemes are those of this library and the entry points `secretstore.providers` of what is installed beside it.
    Raises `ConfigurationError` where no provider takes the URL, and `ImportError` naming the extra that it needs.
    """
    scheme = url if url == _EMBEDDED else scheme_of(url)
    opened = _ours(scheme) if scheme in _OURS else _theirs(scheme)
    return _observed(opened(url), observer)


def open_chain(
    urls: str | Iterable[str], *, cache: CacheConfig | None = None, observer: Observer | None = None
) -> ChainProvider:
    """Return the providers of URLs as one that asks them in order; a text has white space between them.

    `optional:` before a URL marks a link that may be down, `write:` the one that changes go to.  One that was down is
    left alone for a while, see `BackingOff`.  With `cache` the answers of each link that is able to be cached are kept.
    `observer` is told of every call of a link.
    Danger: where an optional link is down, those behind it answer, perhaps with another value.
    Raises as `open_provider` does.
    """
    marked = [_marks_of(text) for text in (urls.split() if isinstance(urls, str) else urls)]
    with ExitStack() as opened:
        links: list[Link] = []
        for marks, url in marked:
            provider = _observed(open_provider(url), observer)
            opened.callback(provider.close)
            links.append(Link(Cached(BackingOff(provider), cache), optional=_OPTIONAL in marks))
        written = [link.name for (marks, _), link in zip(marked, links, strict=True) if _WRITE in marks]
        if len(written) > 1:
            raise ConfigurationError(f"a chain writes to one link, not to {' and '.join(written)}")
        chain = ChainProvider(links, write_to=written[0] if written else None)
        opened.pop_all()
    return chain


# As people import them.
open_chain.__module__ = open_provider.__module__ = "secretstore"


def _observed(provider: SecretProvider, observer: Observer | None) -> SecretProvider:
    return provider if observer is None else ObservedProvider(provider, observer)


def _ours(scheme: str) -> Open:
    module, _, name = _OURS[scheme].partition(":")
    return cast("Open", getattr(importlib.import_module(module), name))


def _theirs(scheme: str) -> Open:
    points = entry_points(group=GROUP, name=scheme)
    if not points:
        known = ", ".join(sorted({*_OURS, *entry_points(group=GROUP).names}))
        raise ConfigurationError(f"no provider takes URLs with {scheme}:, only with {known}")
    if len(points) > 1:
        raise ConfigurationError(f"{_named(points)} all take URLs with {scheme}:; keep one of them installed")
    (point,) = points
    try:
        return cast("Open", point.load())
    except AttributeError as error:
        problem = error
    raise ConfigurationError(f"{_named(points)} has no {point.value} to take URLs with {scheme}:") from problem


def _named(points: Iterable[EntryPoint]) -> str:
    return " and ".join(sorted(point.dist.name if point.dist else point.value for point in points))


def _marks_of(text: str) -> tuple[frozenset[str], str]:
    """Return the marks before a URL, and the URL."""
    mark, colon, rest = text.partition(":")
    if not colon or mark not in {_OPTIONAL, _WRITE}:
        return frozenset(), text
    others, url = _marks_of(rest)
    return others | {mark}, url
